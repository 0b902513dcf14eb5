"""Targets and loss of the two-stream repetition-counting network (severe_benchmark.md, sections 8.1 and 8.3).

A state `(left, middle, right)` splits a piece of video into the past cycle, which ends at `middle`, and the coming one.
Stream 1 judges the length of the past cycle, stream 2 that of the coming one: for every anchor, a ratio, whether the
length times the anchor resembles the true cycle, and the logarithm of what is left.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ANCHORS = (0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0)
"""Ratios of the anchors of both streams."""


@dataclass(frozen=True)
class CyclePrediction:
    """What the network says about one stream.

    Attributes:
        logits: float `(B, 2, anchors)`; index 1 of the second axis is "the cycle has this length".
        boxes: float `(B, anchors)`, logarithms of the remaining ratio.
    """

    logits: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class CycleTargets:
    """What one stream should say.

    Attributes:
        classes: int64 `(B, anchors)`: 1 where the anchor fits, 0 where it does not, -1 where nothing is known.
        boxes: float `(B, anchors)`, logarithms of the true length over the anchor's; 0 where the class is not 1.
    """

    classes: Tensor
    boxes: Tensor


def cycle_targets(
    offsets: Tensor,
    lengths: Tensor,
    anchors: tuple[float, ...] = ANCHORS,
    positive_ratio: float = 0.5,
    negative_ratio: float = 0.5,
) -> CycleTargets:
    """Compare every anchor with the true length of a cycle.

    Args:
        offsets: `(B,)`, frames to the point of the same phase in the neighbouring cycle, less one; -1 if unknown.
        lengths: `(B,)`, frames of the cycle as the state has it, positive.
        anchors: ratios.
        positive_ratio: an anchor fits if the shorter over the longer length is at least this.
        negative_ratio: and does not fit below this; in between it is left out.

    Returns:
        The targets.

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> cycle_targets(torch.tensor([9]), torch.tensor([10]), anchors=(0.4, 1.0)).classes
        tensor([[0, 1]])
    """
    if offsets.shape != lengths.shape:
        raise ValueError(f"offsets and lengths must have one shape, got {tuple(offsets.shape)}, {tuple(lengths.shape)}")
    proposed = lengths[:, None].double() * torch.tensor(anchors, dtype=torch.float64, device=lengths.device)
    true = (offsets.double() + 1)[:, None].clamp(min=1e-9)
    ratio = torch.minimum(true, proposed) / torch.maximum(true, proposed)
    classes = torch.where(ratio >= positive_ratio, 1, torch.where(ratio < negative_ratio, 0, -1))
    classes = torch.where((offsets < 0)[:, None], -1, classes)
    boxes = torch.where(classes == 1, (true / proposed).log(), 0.0)
    return CycleTargets(classes, boxes.float())


def offsets_at(offsets: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
    """Labels of single frames: -1 where the frame lies outside of the video.

    Args:
        offsets: `(B, T)`, labels of every frame.
        frames: int64 `(B,)`.
        lengths: int64 `(B,)`, frames of each video.

    Returns:
        `(B,)`.

    Example:
        >>> offsets_at(torch.tensor([[7, 8]]).expand(2, 2), torch.tensor([1, 2]), torch.tensor([2, 2]))
        tensor([ 8, -1])
    """
    inside = (frames >= 0) & (frames < lengths)
    read = offsets.gather(1, frames.clamp(0, offsets.shape[1] - 1)[:, None])[:, 0]
    return torch.where(inside, read, -1)


def stream_losses(prediction: CyclePrediction, targets: CycleTargets) -> tuple[Tensor, Tensor]:
    """Cross entropy over the known anchors, and smooth L1 of the boxes over all of them.

    Args:
        prediction: of one stream.
        targets: of the same stream.

    Returns:
        Two scalars. Boxes without a target count as 0 in the mean; without any known anchor, both are 0.

    Example:
        >>> targets = cycle_targets(torch.tensor([9]), torch.tensor([10]))
        >>> silent = CyclePrediction(torch.zeros(1, 2, 7), targets.boxes)
        >>> [round(float(loss), 3) for loss in stream_losses(silent, targets)]
        [0.693, 0.0]
    """
    per_anchor = F.cross_entropy(prediction.logits, targets.classes, ignore_index=-1, reduction="sum")
    classification = per_anchor / (targets.classes != -1).sum().clamp(min=1)
    difference = torch.where(targets.classes == 1, prediction.boxes - targets.boxes, 0.0)
    return classification, F.smooth_l1_loss(difference, torch.zeros_like(difference))


def counting_loss(
    predictions: tuple[CyclePrediction, CyclePrediction],
    targets: tuple[CycleTargets, CycleTargets],
    box_weight: float = 50.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of both streams.

    Args:
        predictions: of the past and the coming cycle.
        targets: of the same.
        box_weight: weight of the boxes.

    Returns:
        The loss, and its parts for classes and for boxes, the latter weighted.

    Example:
        >>> targets = cycle_targets(torch.tensor([9]), torch.tensor([10]))
        >>> silent = CyclePrediction(torch.zeros(1, 2, 7), targets.boxes)
        >>> round(float(counting_loss((silent, silent), (targets, targets))[0]), 3)
        1.386
    """
    (past, past_boxes), (coming, coming_boxes) = map(stream_losses, predictions, targets)
    classes, boxes = past + coming, box_weight * (past_boxes + coming_boxes)
    return classes + boxes, classes, boxes
