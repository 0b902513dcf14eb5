"""Losses that pull a student's features to those of a frozen teacher (feature_supervised_transfer.md, section 2)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Literal["cosine", "mse"]


def clips_of_video(num_frames: Tensor, clip_length: int = 16) -> Tensor:
    """How many clips of equal length divide videos; at least one.

    Args:
        num_frames: integer `(B,)`.
        clip_length: frames of a clip.

    Returns:
        int64 `(B,)`.

    Example:
        >>> clips_of_video(torch.tensor([7, 16, 40]))
        tensor([1, 1, 2])
    """
    return (num_frames.long() // clip_length).clamp(min=1)


def video_feature(clip_features: Tensor, num_clips: Tensor) -> Tensor:
    """The feature of a whole video: the plain mean over its clips, not normalised (equation 3).

    Args:
        clip_features: `(B, N, D)`; clips from `num_clips` on are padding.
        num_clips: int64 `(B,)`, in [1, N].

    Returns:
        `(B, D)`.

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> features = torch.tensor([[[2.0], [4.0], [99.0]]])
        >>> video_feature(features, torch.tensor([2]))
        tensor([[3.]])
    """
    if clip_features.ndim != 3 or num_clips.shape != clip_features.shape[:1]:
        raise ValueError(
            f"clip_features must be (B, N, D) and num_clips (B,), got {tuple(clip_features.shape)} and "
            f"{tuple(num_clips.shape)}"
        )
    is_clip = torch.arange(clip_features.shape[1], device=num_clips.device) < num_clips[:, None]
    # Not a product: padding may be NaN.
    total = torch.where(is_clip[..., None], clip_features, 0.0).sum(dim=1)
    return total / num_clips[:, None]


def feature_distance(own: Tensor, target: Tensor, kind: Distance = "cosine") -> Tensor:
    """Distance of a student's vectors to a teacher's, the mean over the batch; the teacher's are constants.

    Args:
        own: `(B, D)`, the student's.
        target: `(B, D)`, the teacher's.
        kind: "cosine" is 1 - cos, "mse" the mean squared error over all elements.

    Returns:
        A scalar.

    Raises:
        ValueError: if shapes differ or the kind is unknown.

    Example:
        >>> feature_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
        tensor(1.)
    """
    if own.shape != target.shape or own.ndim != 2:
        raise ValueError(
            f"features of student and teacher must have one shape (B, D), got {tuple(own.shape)} and "
            f"{tuple(target.shape)}; set a projection where widths differ"
        )
    target = target.detach()
    if kind == "cosine":
        return (1 - F.cosine_similarity(own, target, dim=1, eps=1e-8)).mean()
    if kind == "mse":
        return F.mse_loss(own, target)
    raise ValueError(f"kind must be 'cosine' or 'mse', got {kind!r}")


def block_distance(own: Sequence[Tensor], target: Sequence[Tensor], kind: Distance = "cosine") -> Tensor:
    """Sum of the distances of the blocks of two networks, each averaged over time and space first.

    Args:
        own: the student's maps `(B, D, T, H, W)`, block by block.
        target: the teacher's, of the same widths.
        kind: see `feature_distance`.

    Returns:
        A scalar.

    Raises:
        ValueError: if the numbers of blocks or their widths differ.

    Example:
        >>> block_distance([torch.ones(1, 4, 2, 2, 2)], [torch.ones(1, 4, 1, 1, 1)])
        tensor(0.)
    """
    if len(own) != len(target) or not own:
        raise ValueError(f"student and teacher must have as many blocks, got {len(own)} and {len(target)}")
    pairs = zip(own, target, strict=True)
    return torch.stack(
        [feature_distance(a.flatten(2).mean(dim=2), b.flatten(2).mean(dim=2), kind) for a, b in pairs]
    ).sum()
