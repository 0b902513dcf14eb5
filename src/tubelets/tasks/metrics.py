"""Classification metrics as plain functions.

All numbers are fractions in [0, 1]. Scores may be logits or probabilities: only their order counts.
"""

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from torch import Tensor


class NaNScoresError(ValueError):
    """Scores are not numbers.

    Example:
        >>> issubclass(NaNScoresError, ValueError)
        True
    """


def check_no_nan(name: str, values: Tensor) -> None:
    """Reject values that are not numbers: sorting places them anywhere, so that metrics of them look like results.

    Args:
        name: of the values, for the message.
        values: floating point `(N, ...)`.

    Raises:
        NaNScoresError: with the number of rows that have one.

    Example:
        >>> check_no_nan("scores", torch.tensor([[float("nan"), 1.0], [0.0, 1.0]]))
        Traceback (most recent call last):
        tubelets.tasks.metrics.NaNScoresError: 1 of 2 rows ...
    """
    bad = values.isnan().flatten(1).any(dim=1) if values.ndim > 1 else values.isnan()
    if bool(bad.any()):
        raise NaNScoresError(
            f"{int(bad.sum())} of {len(bad)} rows of {name} are NaN; the model has diverged or overflowed (fp16), or "
            "its input was NaN"
        )


def _check_scores(scores: Tensor, labels: Tensor, labels_ndim: int) -> None:
    if scores.ndim != 2 or not scores.numel():
        raise ValueError(f"scores must be (N, classes) with N at least 1, got shape {tuple(scores.shape)}")
    if labels_ndim == 1 and labels.is_floating_point():
        raise ValueError(f"labels must be class indices (int64), got {labels.dtype}")
    expected = (len(scores),) if labels_ndim == 1 else tuple(scores.shape)
    if tuple(labels.shape) != expected:
        raise ValueError(f"labels must have shape {expected}, got {tuple(labels.shape)}")
    check_no_nan("scores", scores)
    if labels_ndim == 1 and not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
        raise ValueError(f"labels must lie in [0, {scores.shape[1]}), got {int(labels.min())} to {int(labels.max())}")


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of the videos whose class is among the k highest scores.

    Args:
        scores: floating point `(N, C)`.
        labels: int64 `(N,)`, in [0, C).
        k: at least 1; more than C counts as C.

    Returns:
        A fraction.

    Raises:
        ValueError: if shapes, labels or `k` do not fit, or scores are NaN.

    Example:
        >>> scores = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
        >>> top_k_accuracy(scores, torch.tensor([2, 0])), top_k_accuracy(scores, torch.tensor([2, 0]), k=2)
        (0.5, 1.0)
    """
    _check_scores(scores, labels, 1)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return float((best == labels[:, None]).any(dim=1).double().mean())


def per_class_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Top-1 accuracy of each class on its own videos.

    Args:
        scores: floating point `(N, C)`.
        labels: int64 `(N,)`, in [0, C).

    Returns:
        float64 `(C,)`; NaN for a class without a video.

    Raises:
        ValueError: if shapes or labels do not fit, or scores are NaN.

    Example:
        >>> per_class_accuracy(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 0, 1]))
        tensor([0.5000, 1.0000,    nan], dtype=torch.float64)
    """
    _check_scores(scores, labels, 1)
    correct = (scores.argmax(dim=1) == labels).double()
    counts = torch.bincount(labels, minlength=scores.shape[1]).double()
    return torch.bincount(labels, weights=correct, minlength=scores.shape[1]).double() / counts


def mean_class_accuracy(scores: Tensor, labels: Tensor, absent: str = "ignore") -> float:
    """Mean of the accuracies of the classes, all classes weighted equally.

    Args:
        scores: floating point `(N, C)`.
        labels: int64 `(N,)`, in [0, C).
        absent: how to treat a class without a video: "ignore" leaves it out, "zero" counts it as 0, as the reference
            code of the SEVERE benchmark does.

    Returns:
        A fraction.

    Raises:
        ValueError: if shapes, labels or `absent` do not fit, or scores are NaN.

    Example:
        >>> scores, labels = torch.eye(3)[[0, 1, 1]], torch.tensor([0, 0, 1])
        >>> mean_class_accuracy(scores, labels), mean_class_accuracy(scores, labels, absent="zero")
        (0.75, 0.5)

    Source: severe_benchmark.md, section 2.3.
    """
    if absent not in ("ignore", "zero"):
        raise ValueError(f"absent must be 'ignore' or 'zero', got {absent!r}")
    accuracies = per_class_accuracy(scores, labels)
    return float(accuracies.nanmean() if absent == "ignore" else accuracies.nan_to_num(0.0).mean())


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Average precision of each class over the videos, as scikit-learn computes it.

    Args:
        scores: floating point `(N, C)`.
        labels: `(N, C)`, 1 where the class is present and 0 elsewhere.

    Returns:
        float64 `(C,)`; NaN for a class without a video.

    Raises:
        ValueError: if shapes do not fit, scores are NaN or labels are not 0 and 1.

    Example:
        >>> average_precision(torch.tensor([[0.9, 0.1], [0.4, 0.2]]), torch.tensor([[0, 0], [1, 0]]))
        tensor([0.5000,    nan], dtype=torch.float64)

    Source: severe_benchmark.md, section 6.
    """
    _check_scores(scores, labels, 2)
    truth = labels.cpu().numpy()
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, got values {np.unique(truth).tolist()[:5]}")
    present = truth.any(axis=0)
    found = np.full(truth.shape[1], np.nan)
    if present.any():
        values = scores.double().cpu().numpy()
        found[present] = average_precision_score(truth[:, present], values[:, present], average=None)
    return torch.from_numpy(found)


def mean_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Mean of `average_precision` over the classes that occur.

    Args:
        scores: floating point `(N, C)`.
        labels: `(N, C)`, 1 where the class is present and 0 elsewhere.

    Returns:
        A fraction.

    Raises:
        ValueError: if shapes do not fit, scores are NaN, labels are not 0 and 1, or no class occurs.

    Example:
        >>> mean_average_precision(torch.tensor([[0.9, 0.1], [0.4, 0.2]]), torch.tensor([[0, 0], [1, 0]]))
        0.5
    """
    mean = float(average_precision(scores, labels).nanmean())
    if np.isnan(mean):
        raise ValueError(f"none of the {labels.shape[1]} classes occurs in the {len(labels)} videos")
    return mean


def confusion_matrix(scores: Tensor, labels: Tensor) -> Tensor:
    """Number of videos of each class that are predicted as each class.

    Args:
        scores: floating point `(N, C)`.
        labels: int64 `(N,)`, in [0, C).

    Returns:
        int64 `(C, C)`; rows are true classes, columns predicted ones.

    Raises:
        ValueError: if shapes or labels do not fit, or scores are NaN.

    Example:
        >>> confusion_matrix(torch.eye(2)[[0, 1, 1]], torch.tensor([0, 0, 1]))
        tensor([[1, 1],
                [0, 1]])
    """
    _check_scores(scores, labels, 1)
    predictions = scores.argmax(dim=1).cpu().numpy()
    return torch.from_numpy(
        sklearn_confusion_matrix(labels.cpu().numpy(), predictions, labels=np.arange(scores.shape[1]))
    )
