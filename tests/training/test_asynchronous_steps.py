"""A training step never reads a value back from the device, and sends it nothing but its batch.

The steps run on the meta device: to the models it is an accelerator, and its values cannot be read at all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tiny_models import CASES, FIELDS, batch_of, loss_of, tiny_model
from tubelets.data.modalities.specs import VideoSpec
from tubelets.data.transforms.mixing import Mixing
from tubelets.objectives.classification import classification_loss
from tubelets.tasks.classification.video_batches import BatchAugmentation, VideoBatch
from tubelets.training.run_log import RunningMean, scalar_outputs

META = torch.device("meta")
WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique", "_unique2")


class Unwaited(TorchDispatchMode):
    """Rejects what makes a program wait for its accelerator: reading values, and synchronous copies to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        # AdamW counts its steps in tensors on the CPU, which may be read.
        if name in WAITING and args[0].device == META:
            raise AssertionError(f"{name} waits for the device")
        result = func(*args, **kwargs)
        if name == "_to_copy" and args[0].device != result.device and not kwargs.get("non_blocking"):
            raise AssertionError(f"a copy from {args[0].device} to {result.device} waits; pass non_blocking=True")
        return result


class Unsent(TorchFunctionMode):
    """Rejects tensors of Python numbers on an accelerator, for whose copy a program waits."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and result.device == META:
            raise AssertionError("Python numbers are copied to the device; fill the tensor there")
        return result


@contextmanager
def unwaited() -> Iterator[None]:
    with Unwaited(), Unsent():
        yield


@pytest.fixture(autouse=True)
def no_autocast_of_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast does not know the meta device; switching it off means nothing there."""
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda device_type, **options: autocast("cpu", **options))


def on_device(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(META) if isinstance(value, Tensor) else value for name, value in batch.items()}


@pytest.mark.parametrize(("model_type", "auto_class"), [case for case in CASES if case[1] != "AutoModel"])
def test_a_training_step_of_every_model_waits_for_nothing(model_type: str, auto_class: str) -> None:
    model = tiny_model(model_type, auto_class).train()
    batch = batch_of(model, auto_class)
    if "labels" in batch:  # raw frames are normalised by the model, as pretraining's are
        batch |= {name: value.byte() for name, value in batch.items() if name == "pixel_values"}
    model, batch = model.to(META), on_device(batch)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], foreach=True)
    mean = RunningMean()
    with unwaited():
        for _ in range(2):
            output = model(**batch)
            loss_of(output).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            mean.add(scalar_outputs(output))


def test_a_batch_of_finetuning_is_sent_and_augmented_without_waiting() -> None:
    frames = VideoSpec(2, (8, 8))
    augment = BatchAugmentation(frames.mean, frames.std, 3, erasing=None, mixing=Mixing(), smoothing=0.1)
    prepare = VideoBatch("pixel_values", frames, META, augment)
    clips = torch.zeros(2, 2, 3, 8, 8, dtype=torch.uint8)
    with unwaited():
        batch = prepare({"pixel_values": clips, "labels": torch.tensor(0).expand(2), "seeds": [1, 2]})
        classification_loss(torch.zeros(2, 3, device=META), batch["labels"])


@pytest.mark.parametrize(
    "wait",
    [
        lambda: bool(torch.ones((), device=META) > 0),
        lambda: torch.ones((), device=META).item(),
        lambda: torch.ones(3, device=META).nonzero(),
        lambda: torch.ones(3, device=META).cpu(),
        lambda: torch.tensor([0.5, 0.25], device=META),
        lambda: torch.ones(2).to(META),
    ],
    ids=["truth", "item", "nonzero", "cpu", "tensor", "to"],
)
def test_waiting_is_noticed(wait: Any) -> None:
    with pytest.raises((AssertionError, NotImplementedError)), unwaited():
        wait()


class Masks(TorchFunctionMode):
    """Records the masks that attention gets."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            self.calls.append((kwargs or {}).get("attn_mask", args[3] if len(args) > 3 else None))
        return func(*args, **(kwargs or {}))


TRANSFORMERS = [case for case in CASES if case[1] != "AutoModel" and "num_attention_heads" in FIELDS[case[0]]]


@pytest.mark.parametrize(("model_type", "auto_class"), TRANSFORMERS)
def test_attention_has_no_mask_that_rules_out_the_fastest_kernels(model_type: str, auto_class: str) -> None:
    model = tiny_model(model_type, auto_class).train()
    batch = on_device(batch_of(model, auto_class))
    with Masks() as masks:
        model.to(META)(**batch)
    assert masks.calls
    # Attention within windows adds a bias of distances, which is part of the network.
    windows = sum(type(module).__name__ == "WindowAttention" for module in model.modules())
    assert sum(mask is not None for mask in masks.calls) == windows
