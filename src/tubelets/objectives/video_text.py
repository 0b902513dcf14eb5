"""Contrast between videos and texts, and the re-weighting of similarities in retrieval (smile.md, section 12)."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def video_text_contrastive_loss(
    video: Tensor, text: Tensor, temperature: Tensor | float = 0.01, index: Tensor | None = None
) -> Tensor:
    """Symmetric cross entropy between videos and texts of a batch, over all processes.

    Args:
        video: float `(B, D)`, not normalised.
        text: float `(B, D)`, row i belongs to video i.
        temperature: divides the cosine similarities; a number, or a tensor that learns.
        index: int64 `(B,)`, pairs with equal numbers are all positives of each other; None takes each pair alone.

    Returns:
        Scalar: the mean of video-to-text and text-to-video, in float32. With several processes, every one of them
        computes the loss of the whole batch, and gradients flow to the features of all.

    Raises:
        ValueError: if the shapes do not fit each other.

    Example:
        >>> pairs = torch.eye(3)
        >>> video_text_contrastive_loss(pairs, pairs, 0.1).item() < 1e-3
        True
    """
    if video.ndim != 2 or video.shape != text.shape or (index is not None and index.shape != video.shape[:1]):
        shape = None if index is None else tuple(index.shape)
        raise ValueError(
            f"video and text must be (B, D) and index (B,), got {tuple(video.shape)}, {tuple(text.shape)} and {shape}"
        )
    video, text = _gather(F.normalize(video.float(), dim=1)), _gather(F.normalize(text.float(), dim=1))
    scores = video @ text.t() / temperature
    if index is None:
        targets = torch.eye(len(scores), device=scores.device)
    else:
        index = _gather(index)
        same = (index[:, None] == index).float()
        targets = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(scores, targets) + F.cross_entropy(scores.t(), targets)) / 2


def _gather(values: Tensor) -> Tensor:
    """The values of all processes, with gradient; equal batches in each."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    if values.is_floating_point():
        # Imported here: it needs a build with distributed support.
        from torch.distributed.nn.functional import all_gather

        return torch.cat(all_gather(values))
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def dual_softmax(similarity: Tensor) -> Tensor:
    """Lower the scores of items that every query likes: `S * softmax(S)` over the queries.

    Args:
        similarity: float `(queries, items)`.

    Returns:
        Same shape.

    Example:
        >>> dual_softmax(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        tensor([[0.5000, 0.0000],
                [0.5000, 0.0000]])
    """
    return similarity * similarity.softmax(dim=0)
