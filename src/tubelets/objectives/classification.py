"""The loss of classifiers, for one label per clip, several, mixed ones, or numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")
# Labels that cross entropy leaves out.
IGNORED = -100


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str | None = None) -> Tensor:
    """Cross entropy with indices or probabilities, binary cross entropy for several labels, squared error for numbers.

    Args:
        logits: `(B, classes)`, B at least 1.
        labels: int64 `(B,)` class indices (-100 leaves a clip out), float `(B, classes)` class probabilities (mixup);
            float or integer `(B, classes)` in [0, 1] for `problem_type="multi_label_classification"`; numbers of the
            logits' shape for "regression", `(B,)` if there is one.
        problem_type: the configuration's; None is "single_label_classification".

    Returns:
        Scalar, in float32.

    Raises:
        ValueError: if the batch is empty, labels are of another shape or type, or out of range (values are checked on
            CPU; an accelerator raises its own error).

    Example:
        >>> classification_loss(torch.zeros(2, 3), torch.tensor([3, 0]))
        Traceback (most recent call last):
        ...
        ValueError: labels must lie in [0, 3), got values from 0 to 3
        >>> classification_loss(torch.zeros(2, 1), torch.tensor([1.0, 3.0]), "regression")
        tensor(5.)
    """
    _check_batch(logits, labels, problem_type)
    if problem_type == "regression":
        return F.mse_loss(logits.float(), labels.float().view(logits.shape))
    several = problem_type == "multi_label_classification"
    _check_shape(logits, labels, several)
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_values(logits.shape[1], labels, several)
    if several:
        return F.binary_cross_entropy_with_logits(logits.float(), labels.float())
    return F.cross_entropy(logits.float(), labels.float() if labels.is_floating_point() else labels)


def _check_batch(logits: Tensor, labels: Tensor, problem_type: str | None) -> None:
    if problem_type not in (None, *PROBLEM_TYPES):
        raise ValueError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {problem_type!r}")
    if not len(logits):
        raise ValueError("the batch has no clips; pass at least one")
    if labels.ndim == 0 or len(labels) != len(logits):
        raise ValueError(f"labels must have a row for each of the {len(logits)} clips, got {tuple(labels.shape)}")
    if problem_type == "regression" and labels.numel() != logits.numel():
        raise ValueError(f"numbers must have shape {tuple(logits.shape)}, got {tuple(labels.shape)}")


def _check_shape(logits: Tensor, labels: Tensor, several: bool) -> None:
    if several or labels.is_floating_point():
        if labels.shape != logits.shape:
            kind = "labels of several classes" if several else "float labels"
            raise ValueError(
                f"{kind} must have shape {tuple(logits.shape)}, one value for each class, got {tuple(labels.shape)}"
            )
    elif labels.dtype != torch.int64 or labels.ndim != 1:
        raise ValueError(
            f"labels must be int64 class numbers ({len(logits)},) or float probabilities {tuple(logits.shape)}, got "
            f"{labels.dtype} {tuple(labels.shape)}"
        )


def _check_values(classes: int, labels: Tensor, several: bool) -> None:
    """Reject values out of range; reading them from an accelerator would wait for it."""
    if several or labels.is_floating_point():
        low, high = float(labels.min()), float(labels.max())
        # Mixed labels may exceed 1 by a rounding.
        if not 0 <= low <= high <= 1 + 1e-4:
            raise ValueError(f"labels of each class must lie in [0, 1], got values from {low:g} to {high:g}")
        return
    counted = labels[labels != IGNORED]
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < classes:
        raise ValueError(
            f"labels must lie in [0, {classes}), got values from {int(counted.min())} to {int(counted.max())}"
        )
