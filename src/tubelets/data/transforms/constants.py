"""Small constant tensors on an accelerator, made there."""

from collections.abc import Sequence

import torch
from torch import Tensor


def device_vector(values: Sequence[float], device: torch.device) -> Tensor:
    """A vector of Python numbers that is filled in on the device.

    `torch.tensor(values, device=device)` copies from pageable host memory, for which an accelerator makes the program
    wait. Compiled code repeats such a copy in every step; a fill becomes a constant of its kernels.

    Args:
        values: at least one number.
        device: of the result.

    Returns:
        float32 `(len(values),)`.

    Example:
        >>> device_vector([0.5, 0.25], torch.device("cpu"))
        tensor([0.5000, 0.2500])
    """
    return torch.stack([torch.full((), value, dtype=torch.float32, device=device) for value in values])
