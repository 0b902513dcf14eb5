"""Intervals of time: anchors, coding, overlaps, labels and losses of a temporal detector.

Source: feature_supervised_transfer.md, section 8.2. Intervals are half-open, [start, end), in frames.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms


def make_anchors(cells: int, scales: Sequence[float], stride: int = 8) -> Tensor:
    """Anchors of every cell: its centre, and a length for each scale.

    Args:
        cells: cells of the feature map.
        scales: lengths in cells.
        stride: frames of a cell.

    Returns:
        `(cells * len(scales), 2)`, cell by cell.

    Example:
        >>> make_anchors(1, [0.5, 2.0])
        tensor([[ 2.,  6.],
                [-4., 12.]])
    """
    centres = stride * (torch.arange(cells, dtype=torch.float32) + 0.5)
    halves = torch.tensor(scales, dtype=torch.float32) * stride / 2
    return torch.stack([centres[:, None] - halves, centres[:, None] + halves], dim=-1).flatten(0, 1)


def overlaps(intervals: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every pair.

    Args:
        intervals: `(..., N, 2)`.
        others: `(..., M, 2)`.

    Returns:
        `(..., N, M)`; 0 for pairs without any length.

    Example:
        >>> overlaps(torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 6.0], [4.0, 8.0]]))
        tensor([[0.3333, 0.0000]])
    """
    low = torch.maximum(intervals[..., :, None, 0], others[..., None, :, 0])
    high = torch.minimum(intervals[..., :, None, 1], others[..., None, :, 1])
    shared = (high - low).clamp(min=0)
    lengths = (intervals[..., 1] - intervals[..., 0])[..., :, None] + (others[..., 1] - others[..., 0])[..., None, :]
    union = lengths - shared
    return torch.where(union > 0, shared / union.clamp(min=torch.finfo(union.dtype).tiny), 0.0)


def encode(anchors: Tensor, targets: Tensor) -> Tensor:
    """What moves anchors to targets: the shift of the centre in lengths of the anchor, and the logarithm of the scale.

    Args:
        anchors: `(..., 2)`.
        targets: `(..., 2)`.

    Returns:
        `(..., 2)`.

    Example:
        >>> encode(torch.tensor([0.0, 4.0]), torch.tensor([1.0, 5.0]))
        tensor([0.2500, 0.0000])
    """
    lengths, wanted = anchors[..., 1] - anchors[..., 0], targets[..., 1] - targets[..., 0]
    shift = (targets.sum(dim=-1) - anchors.sum(dim=-1)) / 2 / lengths
    return torch.stack([shift, (wanted / lengths).log()], dim=-1)


def decode(anchors: Tensor, deltas: Tensor, frames: float | None = None) -> Tensor:
    """Move anchors; the reverse of `encode`.

    Args:
        anchors: `(..., 2)`.
        deltas: `(..., 2)`.
        frames: intervals are clipped to [0, frames]; None does not.

    Returns:
        `(..., 2)`.

    Example:
        >>> decode(torch.tensor([0.0, 4.0]), torch.tensor([0.25, 0.0]), frames=4)
        tensor([1., 4.])
    """
    lengths = anchors[..., 1] - anchors[..., 0]
    centres = anchors.mean(dim=-1) + deltas[..., 0] * lengths
    halves = lengths * deltas[..., 1].exp() / 2
    moved = torch.stack([centres - halves, centres + halves], dim=-1)
    return moved if frames is None else moved.clamp(0, frames)


def label_anchors(
    anchors: Tensor, truth: Tensor, frames: float, positive: float = 0.7, negative: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Which anchors should answer for an instance.

    Args:
        anchors: `(A, 2)`.
        truth: `(G, 2)`, instances.
        frames: length of the buffer; anchors that reach out of it are ignored.
        positive: least overlap with an instance; the best anchors of an instance count whatever their overlap.
        negative: an anchor whose overlaps are all below this is background.

    Returns:
        int64 `(A,)`: 1, 0 or -1 for ignored; and int64 `(A,)`, the instance of the highest overlap, the first on ties.

    Example:
        >>> label_anchors(torch.tensor([[0.0, 4.0], [4.0, 8.0], [6.0, 10.0]]), torch.tensor([[0.0, 3.0]]), frames=8)[0]
        tensor([ 1,  0, -1])
    """
    inside = (anchors[:, 0] >= 0) & (anchors[:, 1] <= frames)
    if not len(truth):
        return torch.where(inside, 0, -1), torch.zeros(len(anchors), dtype=torch.long, device=anchors.device)
    shared = overlaps(anchors, truth)
    best, matched = shared.max(dim=1)
    among = torch.where(inside[:, None], shared, 0.0)
    best_of_instance = among.amax(dim=0)
    is_best = ((among == best_of_instance) & (best_of_instance > 0)).any(dim=1)
    labels = torch.where(best < negative, 0, -1)
    labels = torch.where((best >= positive) | is_best, 1, labels)
    return torch.where(inside, labels, -1), matched


def suppress(intervals: Tensor, scores: Tensor, threshold: float, min_length: float = 0.0) -> Tensor:
    """Non-maximum suppression: keep intervals whose overlap with a better one is below a threshold.

    Args:
        intervals: `(N, 2)`.
        scores: `(N,)`.
        threshold: an interval that overlaps a kept one by at least this is dropped.
        min_length: shorter intervals are left out first.

    Returns:
        int64: places of the kept intervals, best first.

    Example:
        >>> suppress(torch.tensor([[0.0, 4.0], [1.0, 4.0], [8.0, 9.0]]), torch.tensor([0.5, 0.9, 0.1]), 0.5)
        tensor([1, 2])
    """
    long_enough = (intervals[:, 1] - intervals[:, 0] >= min_length).nonzero()[:, 0]
    chosen = intervals[long_enough].double()
    # Boxes of height 1 overlap as the intervals do. torchvision drops above the threshold, we at it.
    flat = torch.zeros_like(chosen[:, 0])
    boxes = torch.stack([chosen[:, 0], flat, chosen[:, 1], flat + 1], dim=1)
    return long_enough[nms(boxes, scores[long_enough].double(), math.nextafter(threshold, 0.0))]


def smooth_l1(difference: Tensor, sigma: float = 1.0) -> Tensor:
    """Half the square of sigma times the difference below 1 / sigma^2, and the absolute difference above.

    Args:
        difference: of any shape.
        sigma: positive.

    Returns:
        A scalar, the sum over all elements.

    Example:
        >>> smooth_l1(torch.tensor([0.5, 2.0]))
        tensor(1.6250)
    """
    beta = 1 / sigma**2
    return F.smooth_l1_loss(difference, torch.zeros_like(difference), beta=beta, reduction="sum")


def proposal_losses(
    logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor, sigma: float = 3.0
) -> tuple[Tensor, Tensor]:
    """Losses of the proposals of sampled anchors.

    Args:
        logits: `(N, 2)`, background first.
        deltas: `(N, 2)`, what the network moves the anchors by.
        labels: int64 `(N,)`, 1 or 0.
        targets: `(N, 2)`, of `encode`; used where the label is 1.
        sigma: of the smooth L1.

    Returns:
        Cross entropy, its mean; smooth L1 of the positives, its sum over both numbers divided by N.

    Example:
        >>> losses = proposal_losses(torch.zeros(2, 2), torch.zeros(2, 2), torch.tensor([1, 0]), torch.ones(2, 2))
        >>> [round(float(loss), 3) for loss in losses]
        [0.693, 0.944]
    """
    difference = torch.where((labels == 1)[:, None], deltas - targets, 0.0)
    return F.cross_entropy(logits, labels), smooth_l1(difference, sigma) / len(labels)


def head_losses(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of the classified regions.

    Args:
        logits: `(N, C + 1)`, background first.
        deltas: `(N, C + 1, 2)`, in units of the targets.
        labels: int64 `(N,)`, 0 for background.
        targets: `(N, 2)`, for the labelled class; not used for background.

    Returns:
        Cross entropy, its mean; smooth L1 of the labelled class, its sum over foreground and both numbers divided by N.

    Example:
        >>> losses = head_losses(torch.zeros(1, 3), torch.zeros(1, 3, 2), torch.tensor([2]), torch.ones(1, 2))
        >>> [round(float(loss), 3) for loss in losses]
        [1.099, 1.0]
    """
    own = deltas.gather(1, labels[:, None, None].expand(-1, 1, 2))[:, 0]
    difference = torch.where((labels > 0)[:, None], own - targets, 0.0)
    return F.cross_entropy(logits, labels), smooth_l1(difference) / len(labels)


def pool_regions(feature_map: Tensor, spans: Tensor, size: tuple[int, int, int], stride: int = 8) -> Tensor:
    """Maxima of a feature map over the cells of intervals: whole height and width, one size for all.

    Args:
        feature_map: `(D, T, H, W)`, of one buffer.
        spans: `(N, 2)` in frames; a region has the cells floor(start / stride) to ceil(end / stride), at least one.
        size: time, height and width of the result.
        stride: frames of a cell.

    Returns:
        `(N, D, *size)`.

    Example:
        >>> pool_regions(torch.arange(4.0).reshape(1, 4, 1, 1), torch.tensor([[8.0, 23.0]]), (2, 1, 1)).flatten()
        tensor([1., 2.])
    """
    cells = feature_map.shape[1]
    first = (spans[:, 0] / stride).floor().long().clamp(0, cells - 1)
    last = torch.maximum((spans[:, 1] / stride).ceil().long().clamp(max=cells), first + 1)
    over_space = F.adaptive_max_pool2d(feature_map.transpose(0, 1), size[1:])  # (T, D, h, w)
    length = (last - first)[:, None]
    bins = torch.arange(size[0], device=spans.device)
    # The bins of an adaptive pool: floor(i L / n) to ceil((i + 1) L / n).
    starts = first[:, None] + (bins * length) // size[0]
    ends = first[:, None] - (-(bins + 1) * length) // size[0]
    places = torch.arange(cells, device=spans.device)
    within = (places >= starts[..., None]) & (places < ends[..., None])  # (N, n, T)
    spread = torch.where(within[..., None, None, None], over_space, -torch.inf)
    return spread.amax(dim=2).movedim(1, 2)
