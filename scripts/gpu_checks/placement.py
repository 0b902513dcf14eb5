"""Placement: every model and golden case on a device in memory, for machines without a GPU.

Tensors on the wrong device and waits of the host show without a GPU; kernels, precision and speed do not.
"""

import functools
from collections import Counter

import torch

from gpu_checks.correctness import golden
from gpu_checks.models import PRETRAINED, on_device, tiny_model
from gpu_checks.second_device import DEVICE_NAME, is_available, second_device
from gpu_checks.session import Finding, NotApplicableError, Session
from tiny_models import batch_of, loss_of


def run(session: Session) -> None:
    """Check that nothing is left on the CPU, and that no step asks the device for a value."""
    for model_type in PRETRAINED:
        session.check(f"step of {model_type}", functools.partial(_step, session, model_type))
    if not session.tiny:
        session.check("golden cases", functools.partial(_golden, session), needs=60)


def _refuse(session: Session) -> None:
    if session.on_gpu:
        raise NotApplicableError("this machine has a GPU, where `correctness` and `waiting` check the same")
    if not is_available():
        raise NotApplicableError(f"PyTorch {torch.__version__} cannot register a device in Python")


def _step(session: Session, model_type: str) -> Finding:
    _refuse(session)
    auto_class = "AutoModelForPreTraining"
    expected = loss_of(_training_output(model_type, auto_class, "cpu")[0]).item()
    with second_device() as record:
        output, model = _training_output(model_type, auto_class, DEVICE_NAME)
        optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], fused=True)
        loss = loss_of(output)
        found = loss.item()
        batch = on_device(batch_of(model, auto_class), DEVICE_NAME)
        record.waits.clear()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss_of(model(**batch)).backward()
        waits = Counter(record.waits)
    if waits:
        raise AssertionError(f"a step waits for the device in {dict(waits)}")
    if abs(found - expected) > 1e-4 * max(1, abs(expected)):
        raise AssertionError(f"the loss is {found}, on the CPU {expected}")
    return Finding("nothing on the wrong device; no wait in backward, clipping, optimiser and the next forward")


def _training_output(model_type: str, auto_class: str, device: str) -> tuple[object, torch.nn.Module]:
    model = tiny_model(model_type, auto_class).to(device).train()
    return model(**on_device(batch_of(model, auto_class), device)), model


def _golden(session: Session) -> Finding:
    _refuse(session)
    return golden(session, DEVICE_NAME)
