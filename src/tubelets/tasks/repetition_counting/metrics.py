"""Errors of counts (severe_benchmark.md, section 8.5)."""

import torch
from torch import Tensor


def counting_metrics(counts: Tensor, truth: Tensor) -> dict[str, float]:
    """Compare counts with the truth.

    Args:
        counts: `(N,)`.
        truth: `(N,)`, positive.

    Returns:
        `mae`, the mean of |count - truth| / truth, which tables call error; its standard deviation `mae_std` and its
        means over videos that were counted too high, `mae_over`, and too low, `mae_under`, 0 without such a video;
        `obo_accuracy`, the share of counts that are off by one at most.

    Raises:
        ValueError: if shapes differ or are empty, or a truth is not positive.

    Example:
        >>> counting_metrics(torch.tensor([4, 9]), torch.tensor([5, 6]))["obo_accuracy"]
        0.5
    """
    if counts.shape != truth.shape or not counts.numel():
        raise ValueError(f"counts and truth must have one shape (N,), got {tuple(counts.shape)}, {tuple(truth.shape)}")
    if not bool((truth > 0).all()):
        raise ValueError(f"true counts must be positive, got {int(truth.min())}")
    signed = (counts - truth).double()
    ratios = signed.abs() / truth
    return {
        "mae": float(ratios.mean()),
        "obo_accuracy": float((signed.abs() <= 1).double().mean()),
        "mae_std": float(ratios.std(correction=0)),
        "mae_over": _mean(ratios[signed > 0]),
        "mae_under": _mean(ratios[signed < 0]),
    }


def _mean(values: Tensor) -> float:
    return float(torch.nan_to_num(values.mean()))
