"""Average precision of segments, in two forms that differ (feature_supervised_transfer.md, sections 8.2 and 8.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tubelets.objectives.intervals import overlaps


def segment_average_precision(
    truth: Tensor, detections: Tensor, num_classes: int, thresholds: Sequence[float] = (0.5,)
) -> Tensor:
    """Average precision of every class over all videos, as for THUMOS-14 and ActivityNet.

    By falling score, a detection takes the free segment of its video and class that it overlaps most, if by at least
    the threshold; otherwise it is false. All videos, classes and thresholds are matched together.

    Args:
        truth: `(G, 4)`: video, class from 1, start, end.
        detections: `(D, 5)`: video, class, start, end, score.
        num_classes: C.
        thresholds: least overlaps.

    Returns:
        float64 `(len(thresholds), C)`: area under the envelope of precision; NaN for a class without a segment.

    Raises:
        ValueError: if shapes or classes do not fit.

    Example:
        >>> truth = torch.tensor([[0.0, 1.0, 0.0, 10.0]])
        >>> detections = torch.tensor([[0.0, 1.0, 0.0, 9.0, 0.8], [0.0, 1.0, 20.0, 30.0, 0.9]])
        >>> segment_average_precision(truth, detections, num_classes=1)
        tensor([[0.5000]], dtype=torch.float64)
    """
    for name, rows, width in (("truth", truth, 4), ("detections", detections, 5)):
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(f"{name} must be (N, {width}), got {tuple(rows.shape)}")
        if len(rows) and not 1 <= int(rows[:, 1].min()) <= int(rows[:, 1].max()) <= num_classes:
            found = f"{int(rows[:, 1].min())} to {int(rows[:, 1].max())}"
            raise ValueError(f"classes of {name} must lie in [1, {num_classes}], got {found}")
    truth, detections = truth.double(), detections.double()
    detections = detections[detections[:, 4].argsort(descending=True, stable=True)]
    limits = torch.tensor(thresholds, dtype=torch.float64, device=truth.device)
    is_true = _match(truth, detections, limits)
    classes = detections[:, 1].long() - 1
    counts = torch.bincount(truth[:, 1].long() - 1, minlength=num_classes).double()
    return torch.stack([_areas(row, classes, counts) for row in is_true])


def _match(truth: Tensor, detections: Tensor, limits: Tensor) -> Tensor:
    """Whether detections, best first, are true: bool `(thresholds, D)`."""
    groups = torch.unique(torch.cat([truth[:, :2], detections[:, :2]]), dim=0, return_inverse=True)[1]
    true_group, group = groups[: len(truth)], groups[len(truth) :]
    true_place, place = _places(true_group), _places(group)
    num_groups = int(groups.max()) + 1 if len(groups) else 0
    width = int(true_place.max()) + 1 if len(truth) else 0
    found = torch.zeros(len(limits), len(detections), dtype=torch.bool, device=truth.device)
    if not width or not len(detections):
        return found
    spans = truth.new_zeros(num_groups, width, 2)
    spans[true_group, true_place] = truth[:, 2:4]
    is_free = torch.zeros(len(limits), num_groups, width, dtype=torch.bool, device=truth.device)
    is_free[:, true_group, true_place] = True
    shared = overlaps(detections[:, None, 2:4], spans[group])[:, 0]
    # The n-th detections of all groups are matched at once; within a group the order counts.
    for rank in range(int(place.max()) + 1):
        rows = (place == rank).nonzero()[:, 0]
        fits = is_free[:, group[rows]] & (shared[rows] >= limits[:, None, None])
        best = torch.where(fits, shared[rows], -1.0).argmax(dim=2)
        taken = fits.any(dim=2)
        found[:, rows] = taken
        level, number = taken.nonzero(as_tuple=True)
        is_free[level, group[rows][number], best[level, number]] = False
    return found


def _places(groups: Tensor) -> Tensor:
    """The place of each row among the rows of its group."""
    order = groups.argsort(stable=True)
    ordered = groups[order]
    rows = torch.arange(len(groups), device=groups.device)
    first = torch.searchsorted(ordered, ordered)
    places = torch.empty_like(rows)
    places[order] = rows - first
    return places


def _areas(is_true: Tensor, classes: Tensor, counts: Tensor) -> Tensor:
    """Area under the precision envelope of every class; rows are sorted by falling score."""
    is_class = classes == torch.arange(len(counts), device=classes.device)[:, None]
    found = (is_true & is_class).double()
    seen = is_class.double().cumsum(dim=1).clamp(min=1)
    precision = torch.where(is_class, found.cumsum(dim=1) / seen, 0.0)
    envelope = precision.flip(1).cummax(dim=1).values.flip(1) if precision.shape[1] else precision
    return (found * envelope).sum(dim=1) / torch.where(counts > 0, counts, torch.nan)


def clip_segments(
    scores: Tensor, *, threshold: float = 0.4, step: int = 10, frames: int = 10, downsample: int = 3
) -> Tensor:
    """Segments from scores of consecutive clips: maximal runs of clips that are probably no background.

    Args:
        scores: `(clips, C + 1)`, probabilities, background first.
        threshold: least probability that a clip is no background.
        step: sampled frames between the starts of clips.
        frames: sampled frames of a clip.
        downsample: frames of the video for each sampled one.

    Returns:
        float64 `(N, 4)`: class, first and last frame, confidence; class and confidence are those of the mean scores.

    Example:
        >>> clip_segments(torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.1, 0.7], [0.1, 0.0, 0.9], [1.0, 0.0, 0.0]]))
        tensor([[ 2.0000, 30.0000, 89.0000,  0.8000]], dtype=torch.float64)
    """
    # Compared in the precision of the scores, as the reference does.
    active = torch.cat([scores.new_zeros(1), (1 - scores[:, 0] >= threshold).to(scores.dtype), scores.new_zeros(1)])
    change = active.diff()
    starts, ends = (change == 1).nonzero()[:, 0], (change == -1).nonzero()[:, 0]
    total = torch.cat([scores.new_zeros(1, scores.shape[1]), scores]).double().cumsum(dim=0)
    mean = (total[ends] - total[starts]) / (ends - starts)[:, None]
    confidence, label = mean[:, 1:].max(dim=1)
    first = starts * step * downsample
    last = ((ends - 1) * step + frames) * downsample - 1
    return torch.stack([label.double() + 1, first.double(), last.double(), confidence], dim=1)


def pku_average_precision(
    truth: Sequence[Tensor], segments: Sequence[Tensor], num_classes: int, threshold: float
) -> Tensor:
    """Average precision of every class as PKU-MMD's evaluation computes it; another one than that above.

    The overlap of two segments is their intersection over the hull of both. Each segment is matched to the true one of
    its class and video that it overlaps most. Several matches of one true segment count once.

    Args:
        truth: for each video `(G, 3 or more)`: class from 1, start, end.
        segments: for each video `(N, 4)`: class, start, end, confidence.
        num_classes: C.
        threshold: least overlap.

    Returns:
        float64 `(C,)`; 0 for a class without a true segment.

    Example:
        >>> truth = [torch.tensor([[1.0, 0.0, 10.0]])]
        >>> pku_average_precision(truth, [torch.tensor([[1.0, 0.0, 8.0, 0.9]])], num_classes=2, threshold=0.5)
        tensor([1., 0.], dtype=torch.float64)
    """
    true_rows, rows = _with_video(truth, 3), _with_video(segments, 4)
    rows = rows[rows[:, 4].argsort(stable=True)]
    return torch.stack([_pku_class(true_rows, rows, label, threshold) for label in range(1, num_classes + 1)])


def _with_video(parts: Sequence[Tensor], width: int) -> Tensor:
    numbered = [
        torch.cat([part.new_full((len(part), 1), number), part[:, :width]], 1) for number, part in enumerate(parts)
    ]
    return torch.cat(numbered).double() if numbered else torch.zeros(0, width + 1, dtype=torch.float64)


def _pku_class(truth: Tensor, segments: Tensor, label: int, threshold: float) -> Tensor:
    truth, segments = truth[truth[:, 1] == label], segments[segments[:, 1] == label]
    if not len(truth) or not len(segments):
        return truth.new_zeros(())
    low = torch.maximum(segments[:, None, 2], truth[None, :, 2])
    high = torch.minimum(segments[:, None, 3], truth[None, :, 3])
    hull = torch.maximum(segments[:, None, 3], truth[None, :, 3]) - torch.minimum(
        segments[:, None, 2], truth[None, :, 2]
    )
    same = segments[:, None, 0] == truth[None, :, 0]
    best, matched = torch.where(same, (high - low) / hull, -torch.inf).max(dim=1)
    is_matched = best >= threshold
    count, rows = len(segments), torch.arange(len(segments), device=truth.device)
    # A true segment stays found until its most confident match is removed.
    last = torch.full((len(truth),), -1, device=truth.device)
    last = last.scatter_reduce(0, matched[is_matched], rows[is_matched], "amax")
    removed = torch.arange(count + 1, device=truth.device)
    found = (last >= removed[:, None]).sum(dim=1).double()
    precision = found / (count - removed).clamp(min=1)
    recall = found / len(truth)
    steps = torch.cat([removed[:1], rows[is_matched] + 1])
    highest = precision[steps].cummax(dim=0).values
    return (highest[1:] * (recall[steps[:-1]] - recall[steps[1:]])).sum()
