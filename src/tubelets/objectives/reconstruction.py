"""Targets and loss of masked reconstruction (sigma.md, section 3; smile.md, section 3)."""

import math
from typing import Any

import torch
from torch import Tensor

# Rows of predictions that are compared at a time on CPUs; some hundred kilobytes.
CPU_BLOCK_ROWS = 256


def _standardize_(values: Tensor, dims: tuple[int, ...], eps: float | Tensor) -> Tensor:
    # Two plain passes: on CPU they take a fifth of the time of torch.std_mean, and are as accurate.
    mean = values.mean(dim=dims, keepdim=True)
    count = values.numel() // mean.numel()
    values -= mean
    deviation = torch.linalg.vector_norm(values, dim=dims, keepdim=True) / math.sqrt(count - 1)
    return values.mul_(1 / (deviation + eps))


def standardize_tubes_(tubes: Tensor, eps: float | Tensor = 1e-6) -> Tensor:
    """Standardise each tube and colour channel on its own, over the pixels of the tube, in place.

    Args:
        tubes: float `(..., channels, frames, pixels)`, on any scale; overwritten.
        eps: added to the standard deviation (not to the variance); on the scale of the tubes, a number or a tensor that
            broadcasts to `(..., channels, 1, 1)`.

    Returns:
        `tubes`, now `(x - mean) / (sqrt(unbiased variance) + eps)`.

    Example:
        >>> standardize_tubes_(torch.tensor([[[0.0, 1.0]]])).round(decimals=3)
        tensor([[[-0.7070,  0.7070]]])
    """
    return _standardize_(tubes, (-2, -1), eps)


def standardize_patches(patches: Tensor, eps: float = 1e-6) -> Tensor:
    """Standardise each patch on its own, over all its values (structured_noise_masking.md, section 8).

    Args:
        patches: `(..., values)`.
        eps: added to the unbiased variance, inside the root.

    Returns:
        Same shape, float32: `(x - mean) / sqrt(variance + eps)`.

    Example:
        >>> standardize_patches(torch.tensor([[0.0, 2.0], [3.0, 3.0]])).round(decimals=3)
        tensor([[-0.7070,  0.7070],
                [ 0.0000,  0.0000]])
    """
    variance, mean = torch.var_mean(patches.float(), dim=-1, keepdim=True)
    return (patches.float() - mean) * (variance + eps).rsqrt()


def standardize_features(features: Tensor, eps: float = 1e-6) -> Tensor:
    """Standardise each feature channel over all tokens of a clip, visible and masked alike.

    Args:
        features: `(clips, tokens, width)`.
        eps: added to the standard deviation.

    Returns:
        Same shape, float32, zero mean and unit (unbiased) variance per clip and channel.

    Example:
        >>> standardize_features(torch.randn(2, 16, 4)).mean(dim=1).abs().max() < 1e-5
        tensor(True)
    """
    return _standardize_(features.to(torch.float32, copy=True), (1,), eps)


class _MeanSquaredError(torch.autograd.Function):
    """Mean squared error that keeps one difference for the backward pass, in the predictions' dtype.

    `F.mse_loss` would make float32 copies, squares and a float32 gradient, each as large as the targets.
    """

    @staticmethod
    def forward(ctx: Any, predictions: Tensor, targets: Tensor) -> Tensor:
        low = predictions.device.type == "cpu" and predictions.dtype in (torch.bfloat16, torch.float16)
        if low and not torch.compiler.is_compiling():
            difference, total = _difference_in_blocks(predictions, targets)
        else:
            difference = predictions - targets.float()
            total = torch.linalg.vector_norm(difference).square()
        ctx.save_for_backward(difference.to(predictions.dtype))
        return total / difference.numel()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        return difference * (gradient * (2 / difference.numel())).to(difference.dtype), None


def _difference_in_blocks(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions minus targets in the predictions' low precision, and the sum of squares before rounding.

    In float32 only a few rows exist at a time: on CPUs, memory of the size of the targets costs more than arithmetic.
    """
    difference = torch.empty_like(predictions)
    total = torch.zeros((), dtype=torch.float32, device=predictions.device)
    sides = (side.flatten(0, -2).split(CPU_BLOCK_ROWS) for side in (predictions, targets, difference))
    for predicted, wanted, kept in zip(*sides, strict=True):
        exact = predicted.float().sub_(wanted)
        total += torch.linalg.vector_norm(exact).square()
        kept.copy_(exact)
    return difference, total


def masked_regression_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error over clips, masked tokens and channels, in float32.

    Args:
        predictions: `(clips, masked tokens, width)`.
        targets: same shape; no gradient flows to them.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> masked_regression_loss(torch.full((1, 2, 2), 2.0), torch.zeros(1, 2, 2))
        tensor(4.)
    """
    if predictions.shape != targets.shape:
        raise ValueError(
            f"predictions {tuple(predictions.shape)} and targets {tuple(targets.shape)} must have the same shape; "
            "check that both hold the masked tokens only and that the decoder's width is the target's"
        )
    loss: Tensor = _MeanSquaredError.apply(predictions, targets)  # type: ignore[no-untyped-call]
    return loss
