"""Reading golden cases: numbers of the official code, stored as json (with a safetensors file beside it)."""

import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from gpu_checks.second_device import DEVICE_NAME as SECOND
from gpu_checks.second_device import second_device

DEFAULT_FOLDER = Path(__file__).parent / "cases"


def golden_device() -> torch.device:
    """Where the cases are computed: `TUBELETS_TEST_DEVICE`, default cpu; float32 is computed in full precision.

    `second` is a device in memory that shows tensors on the wrong device without an accelerator, see
    `scripts/gpu_checks/second_device.py`.
    """
    name = os.environ.get("TUBELETS_TEST_DEVICE") or "cpu"
    with second_device() if name == SECOND else nullcontext():
        try:
            device = torch.zeros(1, device=name).device
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                f"TUBELETS_TEST_DEVICE is {name!r}, which is not a device of this machine; unset it, or name one "
                f"such as cuda, or {SECOND}"
            ) from error
    # The tolerances are those of float32. cuDNN would round convolutions to TF32 by default.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return device


DEVICE = golden_device()


def golden_dir() -> Path:
    """Folder with one sub-folder of cases per method: `TUBELETS_GOLDEN_DIR` when set, else `cases` beside this file."""
    folder = Path(os.environ.get("TUBELETS_GOLDEN_DIR") or DEFAULT_FOLDER)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"TUBELETS_GOLDEN_DIR is {str(folder)!r}, which is not a folder; unset it or correct it"
        )
    return folder


def case_paths(method: str) -> list[Path]:
    """Sorted json files of one method, e.g. `case_paths("smile")`; at least one.

    An empty folder is an error: parametrising over an empty list would let a test pass without having run.
    """
    paths = sorted((golden_dir() / method).glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"no golden case (*.json) in {str(golden_dir() / method)!r}")
    return paths


def load_case(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The json of a case and, on `DEVICE`, the tensors of the safetensors file of its name (empty if there is none)."""
    case = json.loads(path.read_text(encoding="utf-8"))
    path = path.with_suffix(".safetensors")
    tensors = load_file(path) if path.exists() else {}
    return case, {name: value.to(DEVICE) for name, value in tensors.items()}


def assert_close(actual: Tensor, expected: Tensor, tolerance: Mapping[str, Any] | float, name: str) -> None:
    """Fail unless `|actual - expected| <= abs + rel * |expected|` everywhere.

    Args:
        actual: tensor of any dtype; compared in float64.
        expected: tensor of the same shape.
        tolerance: `{"abs": ..., "rel": ...}`, either may be missing (then 0) but not both; a number is an absolute one.
        name: what is compared, for the message.
    """
    limits = tolerance if isinstance(tolerance, Mapping) else {"abs": tolerance}
    if "abs" not in limits and "rel" not in limits:
        raise KeyError(f"{name}: the tolerance has neither 'abs' nor 'rel' ({dict(limits)}); pass one explicitly")
    absolute, relative = float(limits.get("abs", 0.0)), float(limits.get("rel", 0.0))
    assert tuple(actual.shape) == tuple(expected.shape), f"{name}: shape {actual.shape}, expected {expected.shape}"
    ours, theirs = actual.detach().cpu().double(), expected.detach().cpu().double()
    assert torch.equal(ours.isnan(), theirs.isnan()), f"{name}: NaN in different places"
    torch.testing.assert_close(
        ours, theirs, atol=absolute, rtol=relative, equal_nan=True, msg=lambda text: f"{name}: {text}"
    )
