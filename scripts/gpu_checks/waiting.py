"""No waiting: steps without a host-device synchronisation, batches that are copied meanwhile, fused optimisers."""

import functools
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from benchmark_cnn import make_contrast_step
from gpu_checks.models import PRETRAINED, on_device, tiny_model
from gpu_checks.session import Finding, NotApplicableError, Session
from gpu_checks.timing import alternate, finish, ratio
from tiny_models import batch_of, loss_of
from tubelets.training.optimization import build_optimizer
from tubelets.training.pretraining import build_loader
from tubelets.training.recipe import DataSection, ModelSection, OptimizationSection, Recipe, RunSection

_PRETRAINING = "AutoModelForPreTraining"


def run(session: Session) -> None:
    """Check that the host never waits for the device within a step."""
    kinds = ["tubelets_videomae", "tubelet_contrast"] if session.tiny else PRETRAINED
    for model_type in kinds:
        for compiled in (False, True):
            name = f"{'compiled ' if compiled else ''}step of {model_type} does not synchronise"
            needs = 25.0 if compiled else 1.0
            session.check(name, functools.partial(_step, session, model_type, compiled), needs=needs)
    session.check("batches are pinned and copied meanwhile", functools.partial(_loading, session), needs=5)
    session.check("the recipe's AdamW and SGD are fused", functools.partial(_fused, session))
    session.check("channels last for R(2+1)D-18", functools.partial(_channels_last, session), needs=10)


@contextmanager
def no_synchronisation() -> Iterator[None]:
    """Make whatever lets the host wait for a CUDA device an error."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def training_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Any], device: str) -> None:
    """Forward under bf16 autocast, backward, clipping and the optimiser."""
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        loss = loss_of(model(**batch))
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _step(session: Session, model_type: str, compiled: bool) -> Finding:
    if not session.on_gpu:
        raise NotApplicableError("a CPU does not wait for itself; `placement` counts the waits on a device in memory")
    model = tiny_model(model_type, _PRETRAINING).to(session.device).train()
    batch = on_device(batch_of(model, _PRETRAINING), session.device)
    optimizer = build_optimizer(model, OptimizationSection(), 1e-3)
    if compiled:
        torch._dynamo.reset()
        model.compile(fullgraph=True)
    for _ in range(2):  # constants are copied to the device once, and code is compiled
        training_step(model, optimizer, batch, session.device)
    with no_synchronisation():
        for _ in range(3):
            training_step(model, optimizer, batch, session.device)
    finish(session.device)
    return Finding("three steps: forward, backward, clipping and optimiser")


def _loading(session: Session) -> Finding:
    from accelerate import Accelerator

    config = {"image_size": 32, "patch_size": 16, "num_frames": 4, "target_type": "pixel", "background": "noise"}
    recipe = Recipe(
        ModelSection("smile", config | {"objects": "shapes", "mask_ratio": 0.5}),
        DataSection("blank://16", stride=1, num_workers=1),
        OptimizationSection(global_batch_size=4),
        RunSection(output_dir="", batch_size=4),
    )
    loader = build_loader(recipe, recipe.model.build_config(), Accelerator(cpu=not session.on_gpu))
    batch = next(iter(loader))
    tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    pinned = {name: value.is_pinned() for name, value in tensors.items()}
    if not session.on_gpu:
        if any(pinned.values()):
            raise AssertionError(f"batches are pinned for a CPU: {pinned}")
        raise NotApplicableError(f"a CPU needs no copy; a batch of {', '.join(tensors)} was loaded and is not pinned")
    if not all(pinned.values()):
        raise AssertionError(f"not all tensors of a batch are pinned: {pinned}")
    with no_synchronisation():
        copied = {name: value.to(session.device, non_blocking=True) for name, value in tensors.items()}
    finish(session.device)
    for name, value in tensors.items():
        torch.testing.assert_close(copied[name].cpu(), value, rtol=0, atol=0)
    return Finding(f"{', '.join(tensors)}: pinned, and copied without waiting")


def _fused(session: Session) -> Finding:
    model = tiny_model("tubelets_videomae", _PRETRAINING).to(session.device)
    for name in ("adamw", "sgd"):
        optimizer = build_optimizer(model, OptimizationSection(optimizer=name), 1e-3)
        if not all(group["fused"] for group in optimizer.param_groups):
            raise AssertionError(f"{type(optimizer).__name__} is not fused")
        model(**on_device(batch_of(model, _PRETRAINING), session.device)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return Finding("one kernel for many parameters, in both")


def _channels_last(session: Session) -> Finding:
    shape = (2, 2, 16) if session.tiny else (32, 16, 112)
    formats = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}
    steps = {
        name: make_contrast_step(
            "r2plus1d_18", False, shape, session.device, "bf16" if session.on_gpu else "fp32", memory_format=order
        )
        for name, order in formats.items()
    }
    seconds = alternate(steps, rounds=1 if session.tiny else 7, warmup=0 if session.tiny else 3)
    factor = ratio(seconds, "contiguous", "channels last")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    words = "helps" if factor > 1.05 else "does not help"
    return Finding(f"{factor:.2f} times as fast with channels last: it {words} here", medians, met=None)
