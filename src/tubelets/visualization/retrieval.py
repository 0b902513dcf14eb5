"""Picture of a test of retrieval."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tubelets.visualization.figures import finish_figure, import_pyplot

# Points of a curve; more could not be told apart.
MOST_POINTS = 400


def save_recall_curves(
    ranks: Mapping[str, Tensor], items: Mapping[str, int], path: str | Path, title: str = ""
) -> Path:
    """Draw which share of the queries is answered among the first k results, for every k.

    Args:
        ranks: rank of the best correct answer of each query from 0, int64 `(Q,)`, by direction.
        items: number of results that each direction chooses from.
        path: PNG file to write.
        title: heading.

    Returns:
        The path.

    Raises:
        ValueError: if there are no ranks.
        ImportError: if matplotlib is not installed.
    """
    if not ranks or not all(len(each) for each in ranks.values()):
        raise ValueError(f"every direction needs ranks, got { ({name: len(each) for name, each in ranks.items()}) }")
    pyplot = import_pyplot()
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, each in ranks.items():
        points = torch.unique(torch.logspace(0, torch.tensor(float(items[name])).log10(), MOST_POINTS).long())
        sorted_ranks = each.double().sort().values
        shares = torch.searchsorted(sorted_ranks, points.double(), right=False).double() / len(each)
        axes.plot(points.tolist(), shares.tolist(), label=f"{name.replace('_', ' ')}, {len(each)} queries")
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel("results that are looked at")
    axes.set_ylabel("share of the queries that are answered")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return finish_figure(figure, path, title)
