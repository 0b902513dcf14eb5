"""The tiny models of the tests on a device, and how close two of their steps are."""

import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from tiny_models import CASES, batch_of, is_unused, loss_of, outputs_of, tiny_model  # noqa: E402

__all__ = ["CASES", "PRETRAINED", "ROOT", "Step", "case_name", "difference", "on_device", "tiny_model", "tiny_step"]

PRETRAINED = [model_type for model_type, auto_class in CASES if auto_class == "AutoModelForPreTraining"]


def case_name(model_type: str, auto_class: str) -> str:
    """A case in words.

    Example:
        >>> case_name("sigma", "AutoModelForPreTraining")
        'sigma, pretraining'
    """
    kind = auto_class.removeprefix("AutoModel").removeprefix("For").lower()
    return f"{model_type}, {kind or 'encoder'}"


def on_device(batch: dict[str, Any], device: str) -> dict[str, Any]:
    """A batch with its tensors on a device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}


@dataclass
class Step:
    """Loss, outputs and gradients of a forward and a backward pass, in float32 on the CPU."""

    loss: Tensor
    outputs: dict[str, Tensor]
    gradient: Tensor

    def check_finite(self) -> None:
        """Raise FloatingPointError where something is not a finite number."""
        for name, value in {**self.outputs, "loss": self.loss, "gradient": self.gradient}.items():
            if not bool(value.isfinite().all()):
                share = 1 - value.isfinite().double().mean().item()
                raise FloatingPointError(f"{share:.1%} of {name} is infinite or not a number")


def tiny_step(
    model_type: str,
    auto_class: str,
    device: str,
    precision: AbstractContextManager[Any],
    change: Any = lambda model: model,
) -> Step:
    """Run a tiny model of the tests forward and backward.

    Args:
        model_type: a registered type.
        auto_class: one of its Auto classes.
        device: where.
        precision: surrounds the forward pass.
        change: turns the model into the one that runs, such as `torch.compile`.

    Returns:
        What it computed.
    """
    model: nn.Module = tiny_model(model_type, auto_class).to(device)
    batch = on_device(batch_of(model, auto_class), device)
    run = change(model)
    with precision:
        output = run(**batch)
        loss = loss_of(output)
    loss.backward()
    gradients = [
        parameter.grad.float().flatten()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not is_unused(model_type, auto_class, name)
    ]
    outputs = {name: value for name, value in outputs_of(output).items() if value.is_floating_point()}
    return Step(
        loss.detach().float().cpu(),
        {name: value.detach().float().cpu() for name, value in outputs.items()},
        torch.cat(gradients).cpu(),
    )


def difference(step: Step, reference: Step) -> dict[str, float]:
    """How far a step is from another of the same model.

    Returns:
        `loss`, the difference in units of the reference's loss, or of 1 if that is smaller; `outputs` and `gradient`,
        norms of differences in units of the reference's norms, of outputs the largest.
    """
    loss = (step.loss - reference.loss).abs() / reference.loss.abs().clamp_min(1)
    outputs = [_relative(step.outputs[name], value) for name, value in reference.outputs.items()]
    return {
        "loss": loss.item(),
        "outputs": max(outputs),
        "gradient": _relative(step.gradient, reference.gradient),
    }


def _relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm().clamp_min(1e-12)).item()
