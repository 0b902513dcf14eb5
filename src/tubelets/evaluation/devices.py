"""Where evaluation computes, and how precisely."""

import torch

from tubelets.training.acceleration import computes_bfloat16


def evaluation_device() -> torch.device:
    """The accelerator of this machine, or the CPU if it has none.

    Example:
        >>> evaluation_device().type == "cpu" or torch.accelerator.is_available()
        True
    """
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def evaluation_precision(name: str) -> torch.dtype:
    """Type of the forward passes of evaluation.

    Args:
        name: "fp32", "bf16", or "auto": bfloat16 where an accelerator computes it, float32 elsewhere.

    Returns:
        `torch.bfloat16` or `torch.float32`.

    Raises:
        ValueError: if the name is another one.

    Example:
        >>> evaluation_precision("bf16")
        torch.bfloat16
    """
    if name not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision must be auto, fp32 or bf16, got {name!r}")
    fast = torch.accelerator.is_available() and computes_bfloat16()
    return torch.bfloat16 if name == "bf16" or (name == "auto" and fast) else torch.float32
