"""Picture of a confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from tubelets.visualization.figures import finish_figure, import_pyplot

# With more classes their names would not be readable.
MAX_NAMED_CLASSES = 60


def save_confusion_matrix(matrix: Tensor, class_names: Sequence[str], path: str | Path, title: str = "") -> Path:
    """Draw which share of each class is predicted as which class.

    Args:
        matrix: `(C, C)` counts, rows true classes and columns predicted ones; rows without a video stay empty.
        class_names: C names.
        path: PNG file to write.
        title: heading.

    Returns:
        The path.

    Raises:
        ValueError: if the matrix is not square or the number of names differs.
        ImportError: if matplotlib is not installed.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"a confusion matrix must be square, got shape {tuple(matrix.shape)}")
    if len(class_names) != len(matrix):
        raise ValueError(f"{len(matrix)} classes need {len(matrix)} names, got {len(class_names)}")
    pyplot = import_pyplot()
    counts = matrix.double()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
    side = min(4 + 0.25 * len(matrix), 16)
    figure, axes = pyplot.subplots(figsize=(side, side))
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if len(matrix) <= MAX_NAMED_CLASSES:
        places = range(len(class_names))
        axes.set_xticks(places, class_names, rotation=90, fontsize=7)
        axes.set_yticks(places, class_names, fontsize=7)
    figure.colorbar(image, ax=axes, fraction=0.046, label="share of the true class")
    return finish_figure(figure, path, title)
