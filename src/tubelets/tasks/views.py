"""Multi-view tests: score several clips and crops of a video and merge them into one answer."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedModel

from tubelets.tasks.metrics import mean_average_precision, mean_class_accuracy, top_k_accuracy

Merge = Literal["mean", "max"]


@dataclass(frozen=True)
class VideoScores:
    """Merged scores of videos, in the order of their ids.

    Attributes:
        clip_ids: ids of the N videos, sorted.
        scores: float32 `(N, classes)`; probabilities, merged over the views.
        labels: int64 `(N,)`, or float32 `(N, classes)` in {0, 1} for multi-label problems.
        num_views: views that were scored of each video.
    """

    clip_ids: list[str]
    scores: Tensor
    labels: Tensor
    num_views: int

    def metrics(self) -> dict[str, float]:
        """The metrics that tables report, as fractions.

        Returns:
            `top_1`, `top_5`, `mean_class_accuracy` (over the classes that occur), or `mean_average_precision` for
            multi-label problems; and `num_videos`, `num_views`.
        """
        counts = {"num_videos": float(len(self.clip_ids)), "num_views": float(self.num_views)}
        if self.labels.ndim == 2:
            return {"mean_average_precision": mean_average_precision(self.scores, self.labels), **counts}
        return {
            "top_1": top_k_accuracy(self.scores, self.labels, 1),
            "top_5": top_k_accuracy(self.scores, self.labels, 5),
            "mean_class_accuracy": mean_class_accuracy(self.scores, self.labels),
            **counts,
        }


def merge_views(probabilities: Tensor, merge: Merge = "mean") -> Tensor:
    """Merge the class scores of several views.

    Args:
        probabilities: floating point `(..., views, classes)`.
        merge: "mean" (single-label tests) or "max" (Charades).

    Returns:
        `(..., classes)`.

    Raises:
        ValueError: if `merge` is unknown.

    Example:
        >>> merge_views(torch.tensor([[0.2, 0.8], [0.6, 0.4]]), "max")
        tensor([0.6000, 0.8000])

    Source: sigma.md, section 7.2; severe_benchmark.md, sections 2.3 and 6.
    """
    if merge not in ("mean", "max"):
        raise ValueError(f"merge must be 'mean' or 'max', got {merge!r}")
    return probabilities.mean(dim=-2) if merge == "mean" else probabilities.amax(dim=-2)


@torch.no_grad()
def score_batches(
    model: PreTrainedModel,
    batches: Iterable[dict[str, Any]],
    inputs: Callable[[dict[str, Any]], dict[str, Tensor]],
    *,
    merge: Merge = "mean",
    clips_per_forward: int = 8,
) -> VideoScores:
    """Score every view of every clip and merge the views of clips with the same id.

    All processes call it, each with batches of its own clips; all get the scores of all clips.

    Args:
        model: a classifier; set to evaluation mode during scoring.
        batches: mappings with `labels`, int64 `(B,)` or float `(B, classes)`; `clip_ids`, B names; and the values that
            `inputs` uses.
        inputs: converts a batch to the model's arguments, on its device; the first dimension of each is B times the
            views per clip.
        merge: how views are merged, see `merge_views`.
        clips_per_forward: views in a forward pass, at least 1.

    Returns:
        The scores: softmax probabilities, or sigmoid ones where labels are `(B, classes)`.

    Raises:
        ValueError: if nothing was scored, a clip occurs with two labels, or clips have different numbers of views.
    """
    if not isinstance(clips_per_forward, int) or clips_per_forward < 1:
        raise ValueError(f"clips_per_forward must be at least 1, got {clips_per_forward}")
    merge_views(torch.zeros(1, 1), merge)
    was_training = model.training
    model.eval()
    videos: dict[str, _Video] = {}
    for batch in batches:
        split = {name: value.split(clips_per_forward) for name, value in inputs(batch).items()}
        parts = [model(**dict(zip(split, part, strict=True))).logits for part in zip(*split.values(), strict=True)]
        logits = torch.cat(parts).float()
        multi_label = batch["labels"].ndim == 2
        probabilities = (logits.sigmoid() if multi_label else logits.softmax(dim=1)).cpu()
        probabilities = probabilities.unflatten(0, (len(batch["labels"]), -1))
        for clip_id, scores, label in zip(batch["clip_ids"], probabilities, batch["labels"], strict=True):
            videos.setdefault(clip_id, _Video(clip_id, label)).add(scores, label, merge)
    model.train(was_training)
    gathered = sorted(gather_object(list(videos.values())), key=lambda video: video.clip_id)
    return _collect(gathered, merge)


class _Video:
    """One video so far; views are merged as they arrive, so that memory does not grow with their number."""

    def __init__(self, clip_id: str, label: Tensor) -> None:
        self.clip_id, self.label = clip_id, label
        self.scores: Tensor | None = None
        self.num_views = 0

    def add(self, scores: Tensor, label: Tensor, merge: Merge) -> None:
        """Add scores `(views, classes)` of one clip."""
        if not torch.equal(label, self.label):
            raise ValueError(f"video {self.clip_id!r} occurs with two labels; ids must be unique in the data set")
        merged = scores.sum(dim=0) if merge == "mean" else scores.amax(dim=0)
        if self.scores is None:
            self.scores = merged
        else:
            self.scores = self.scores + merged if merge == "mean" else torch.maximum(self.scores, merged)
        self.num_views += len(scores)


def _collect(videos: Sequence[_Video], merge: Merge) -> VideoScores:
    if not videos:
        raise ValueError("no video was scored: the split is empty, or none of its videos could be read")
    counts = sorted({video.num_views for video in videos})
    if len(counts) > 1 or len({video.clip_id for video in videos}) < len(videos):
        raise ValueError(
            f"videos were scored with {counts} views; every video must be read once, by one process, with equal ids "
            "for its own clips only"
        )
    sums = torch.stack([video.scores for video in videos if video.scores is not None])
    return VideoScores(
        clip_ids=[video.clip_id for video in videos],
        scores=sums / counts[0] if merge == "mean" else sums,
        labels=torch.stack([video.label for video in videos]),
        num_views=counts[0],
    )
