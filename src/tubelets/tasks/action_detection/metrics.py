"""Mean average precision of boxes in single frames (severe_benchmark.md, section 7.4)."""

import torch
from torch import Tensor


def frame_average_precision(
    truth_boxes: Tensor,
    truth_frames: Tensor,
    truth_classes: Tensor,
    boxes: Tensor,
    frames: Tensor,
    scores: Tensor,
    *,
    excluded: Tensor | None = None,
    iou_threshold: float = 0.5,
) -> Tensor:
    """Average precision of every class, in the manner of PASCAL and AVA.

    Every box is a detection of every class. A detection belongs to the true box of its frame and class that overlaps
    most with it. The first in the order given finds it; those after it are false. Boxes without an area are left out.
    All classes and frames are compared at once.

    Args:
        truth_boxes: `(G, 4)`: x1, y1, x2, y2.
        truth_frames: integer `(G, K)`, what identifies a frame, such as video and second.
        truth_classes: int64 `(G,)`, in [0, C).
        boxes: `(D, 4)`, detections.
        frames: integer `(D, K)`.
        scores: `(D, C)`.
        excluded: integer `(E, K)`, frames that are left out of both sides.
        iou_threshold: least overlap of a detection that finds a box.

    Returns:
        float64 `(C,)`; NaN for a class without a true box.

    Raises:
        ValueError: if shapes do not fit, or a class is out of range.

    Example:
        >>> box, frame = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[0, 902]])
        >>> frame_average_precision(box, frame, torch.tensor([1]), box, frame, torch.tensor([[0.3, 0.9]]))
        tensor([nan, 1.], dtype=torch.float64)
    """
    num_classes = scores.shape[1]
    if boxes.shape != (len(scores), 4) or len(frames) != len(scores):
        raise ValueError(
            f"boxes must be (D, 4), frames (D, K), scores (D, C), got {tuple(boxes.shape)}, {tuple(frames.shape)}, "
            f"{tuple(scores.shape)}"
        )
    if len(truth_classes) and not 0 <= int(truth_classes.min()) <= int(truth_classes.max()) < num_classes:
        found = f"{int(truth_classes.min())} to {int(truth_classes.max())}"
        raise ValueError(f"truth_classes must lie in [0, {num_classes}), the columns of scores, got {found}")
    true_keys, keys, is_counted, is_detected = _frame_keys(truth_frames, frames, excluded)
    is_detected &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    order = true_keys[is_counted].argsort(stable=True)
    true_boxes = truth_boxes[is_counted][order].double()
    classes, true_keys = truth_classes[is_counted][order], true_keys[is_counted][order]
    boxes, keys, scores = boxes[is_detected].double(), keys[is_detected], scores[is_detected].double()
    is_found = _first_to_find(true_boxes, true_keys, classes, boxes, keys, num_classes, iou_threshold)
    counts = torch.bincount(classes, minlength=num_classes)
    return _average_precision(is_found, scores, counts)


def _frame_keys(truth: Tensor, frames: Tensor, excluded: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One number for each frame, of both sides, and which rows of them are not excluded."""
    parts = [truth, frames] + ([] if excluded is None else [excluded])
    _, inverse = torch.unique(torch.cat([part.long() for part in parts]), dim=0, return_inverse=True)
    true_keys, keys, left_out = inverse.tensor_split([len(truth), len(truth) + len(frames)])
    return true_keys, keys, ~torch.isin(true_keys, left_out), ~torch.isin(keys, left_out)


def _first_to_find(
    true_boxes: Tensor,
    true_keys: Tensor,
    classes: Tensor,
    boxes: Tensor,
    keys: Tensor,
    num_classes: int,
    iou_threshold: float,
) -> Tensor:
    """Whether each detection is the first to find a true box of a class: bool `(D, C)`; true keys are sorted."""
    start = torch.searchsorted(true_keys, keys)
    count = torch.searchsorted(true_keys, keys, right=True) - start
    # Every detection with every true box of its frame, one row each.
    detection = torch.repeat_interleave(torch.arange(len(keys), device=keys.device), count)
    within = torch.arange(len(detection), device=keys.device) - (count.cumsum(0) - count)[detection]
    truth = start[detection] + within
    overlap = _paired_iou(boxes[detection], true_boxes[truth])
    place = detection * num_classes + classes[truth]
    best = overlap.new_zeros(len(keys) * num_classes).scatter_reduce(0, place, overlap, "amax")
    # Of equal overlaps, the first true box counts.
    is_best = (overlap == best[place]) & (overlap >= iou_threshold)
    nobody = len(true_boxes)
    chosen = torch.full((len(keys) * num_classes,), nobody, device=keys.device)
    chosen = chosen.scatter_reduce(0, place[is_best], truth[is_best], "amin").view(-1, num_classes)
    rows = torch.arange(len(keys), device=keys.device)[:, None].expand_as(chosen)
    first = torch.full((nobody + 1,), len(keys), device=keys.device)
    first = first.scatter_reduce(0, chosen.flatten(), rows.flatten(), "amin")
    return (chosen != nobody) & (first[chosen] == rows)


def _paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes of the same row."""
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) + (others[:, 2:] - others[:, :2]).prod(dim=1)
    return shared / (areas - shared)


def _average_precision(is_found: Tensor, scores: Tensor, counts: Tensor) -> Tensor:
    """Area under the monotone precision curve of every class."""
    order = scores.argsort(dim=0, descending=True, stable=True)
    found = is_found.gather(0, order).double()
    ranks = torch.arange(1, len(scores) + 1, dtype=torch.float64, device=scores.device)[:, None]
    precision = (found.cumsum(dim=0) / ranks).flip(0)
    envelope = precision.cummax(dim=0).values.flip(0) if len(scores) else precision
    return (found * envelope).sum(dim=0) / torch.where(counts > 0, counts.double(), torch.nan)
