"""Targets and loss of masked reconstruction (sigma.md, section 3; smile.md, section 3)."""

import math
from typing import Any

import torch
from torch import Tensor


def _standardize_(values: Tensor, dims: tuple[int, ...], eps: float | Tensor) -> Tensor:
    # Two passes: on CPU five times as fast as torch.std_mean and as accurate.
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
    """Mean squared error that keeps one difference for the backward pass, in the predictions' precision.

    Under autocast, `F.mse_loss` keeps float32 copies of predictions and targets and computes a float32 gradient.
    """

    @staticmethod
    def forward(ctx: Any, predictions: Tensor, targets: Tensor) -> Tensor:
        difference = predictions.float() - targets
        ctx.save_for_backward(difference.to(predictions.dtype))
        # Squares are summed row by row first: one norm over millions of values is off by a percent in float32.
        return torch.linalg.vector_norm(difference, dim=-1).square().sum() / difference.numel()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        return difference * (gradient * (2 / difference.numel())).to(difference.dtype), None


def masked_regression_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error over clips, masked tokens and channels, in float32.

    Args:
        predictions: `(clips, masked tokens, width)`.
        targets: same shape; no gradient flows to them.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: if the shapes differ or nothing is masked.

    Example:
        >>> round(masked_regression_loss(torch.full((1, 2, 2), 2.0), torch.zeros(1, 2, 2)).item(), 4)
        4.0
    """
    if predictions.shape != targets.shape or not predictions.numel():
        raise ValueError(
            f"predictions {tuple(predictions.shape)} and targets {tuple(targets.shape)} must have the same shape and "
            "not be empty; check that both hold the masked tokens only and that the decoder's width is the target's"
        )
    loss: Tensor = _MeanSquaredError.apply(predictions, targets)  # type: ignore[no-untyped-call]
    return loss
