"""The loss of classifiers: one label per clip, several, or mixed ones."""

import torch
import torch.nn.functional as F
from torch import Tensor


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str | None = None) -> Tensor:
    """Cross entropy with indices or probabilities, or binary cross entropy for multi-label problems.

    Args:
        logits: `(B, classes)`.
        labels: int64 `(B,)` class indices, float `(B, classes)` class probabilities (mixup), or float `(B, classes)` in
            {0, 1} for `problem_type="multi_label_classification"`.
        problem_type: the configuration's.

    Returns:
        Scalar, in float32.

    Raises:
        ValueError: if logits or labels are of another shape, or labels out of range (checked on CPU; an accelerator
            raises its own error).

    Example:
        >>> classification_loss(torch.zeros(2, 3), torch.tensor([3, 0]))
        Traceback (most recent call last):
        ...
        ValueError: labels must lie in [0, 3), got values from 0 to 3
    """
    if logits.ndim != 2 or not logits.numel():
        raise ValueError(f"logits must be (B, classes) of at least one clip, got {tuple(logits.shape)}")
    several = problem_type == "multi_label_classification"
    if not labels.is_floating_point() and labels.shape != (logits.shape if several else logits.shape[:1]):
        raise ValueError(
            f"labels must be indices {tuple(logits.shape[:1])} or float {tuple(logits.shape)}, got {labels.dtype} "
            f"{tuple(labels.shape)}; give several labels per clip as float {tuple(logits.shape)} in {{0, 1}}"
        )
    if labels.is_floating_point() and labels.shape != logits.shape:
        raise ValueError(f"float labels must have shape {tuple(logits.shape)}, got {tuple(labels.shape)}")
    if labels.device.type == "cpu" and not labels.is_floating_point() and not torch.compiler.is_compiling():
        low, high = int(labels.min()), int(labels.max())
        if low < -100 or -100 < low < 0 or high >= logits.shape[1]:
            raise ValueError(f"labels must lie in [0, {logits.shape[1]}), got values from {low} to {high}")
    if several:
        return F.binary_cross_entropy_with_logits(logits.float(), labels.float())
    return F.cross_entropy(logits.float(), labels)
