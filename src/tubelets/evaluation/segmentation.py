"""Match clusters of pixels to the objects of a video and measure how well they cover them (sigma.md, section 8)."""

from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Matching = Literal["hungarian", "iou", "precision"]


def clip_miou(clusters: Tensor, objects: Tensor, matching: Matching = "hungarian") -> Tensor:
    """Mean intersection over union of a clip's objects, the background included, after matching clusters to them.

    Args:
        clusters: integer `(N, ...)`, cluster of every pixel of N clips, from 0.
        objects: integer, of the same shape: object of every pixel, 0 for the background.
        matching: "hungarian" gives each object one cluster at most, so that the sum of their overlaps is largest, and
            the other clusters to the background. "iou" and "precision" give each cluster to the object that it fits
            best: by intersection over union, or by the share of the cluster that lies in the object.

    Returns:
        float64 `(N,)`, in [0, 1]: for each clip the mean over the objects that occur in it.

    Raises:
        ValueError: if shapes differ, or `matching` is unknown.

    Example:
        >>> objects = torch.tensor([[0, 0, 1, 1]])
        >>> clip_miou(torch.tensor([[5, 5, 5, 2]]), objects).round(decimals=3)
        tensor([0.5830], dtype=torch.float64)
    """
    if clusters.shape != objects.shape:
        raise ValueError(
            f"clusters and objects must have one shape, got {tuple(clusters.shape)} and {tuple(objects.shape)}"
        )
    if matching not in ("hungarian", "iou", "precision"):
        raise ValueError(f"matching must be 'hungarian', 'iou' or 'precision', got {matching!r}")
    pairs = zip(clusters.flatten(1).cpu(), objects.flatten(1).cpu(), strict=True)
    return torch.stack([_miou(*pair, matching) for pair in pairs])


def _miou(clusters: Tensor, objects: Tensor, matching: Matching) -> Tensor:
    present, places = torch.unique(clusters, return_inverse=True)
    # The background is a class even where no pixel shows it: clusters without a partner go to it.
    classes, labels = torch.unique(torch.cat([objects.new_zeros(1), objects]), return_inverse=True)
    shape = (len(present), len(classes))
    shared = torch.bincount(places * len(classes) + labels[1:], minlength=len(present) * len(classes)).view(shape)
    target = _targets(shared.double(), matching)
    merged = torch.zeros(len(classes), len(classes), dtype=torch.float64).index_add_(0, target, shared.double())
    inside = merged.diagonal()
    sizes = merged.sum(dim=0)
    iou = inside / (sizes + merged.sum(dim=1) - inside).clamp(min=1)
    return iou[sizes > 0].mean()


def _targets(shared: Tensor, matching: Matching) -> Tensor:
    """The class of each cluster, from the pixels that clusters (rows) and classes (columns) share."""
    of_cluster, of_class = shared.sum(dim=1, keepdim=True), shared.sum(dim=0, keepdim=True)
    if matching == "precision":
        return (shared / of_cluster).argmax(dim=1)
    iou = shared / (of_cluster + of_class - shared).clamp(min=1)
    if matching == "iou":
        return iou.argmax(dim=1)
    rows, columns = linear_sum_assignment(iou.numpy(), maximize=True)
    target = torch.zeros(len(shared), dtype=torch.long)
    target[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return target
