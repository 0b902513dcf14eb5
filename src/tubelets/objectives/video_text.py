"""Contrast between videos and texts, and the re-weighting of similarities in retrieval (smile.md, section 12)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.objectives.contrastive import check_temperature, gather_keys, symmetric_nce


def video_text_contrastive_loss(
    video: Tensor, text: Tensor, temperature: Tensor | float = 0.01, index: Tensor | None = None
) -> Tensor:
    """Symmetric cross entropy between videos and texts of a batch, over all processes.

    Args:
        video: float `(B, D)`, not normalised.
        text: float `(B, D)`, row i belongs to video i.
        temperature: divides the cosine similarities; a number, or a learnt tensor.
        index: int64 `(B,)`, pairs with equal numbers are all positives of each other; None treats each pair as its own
        class.

    Returns:
        Scalar: the mean of video-to-text and text-to-video, in float32. With several processes, every one of them
        computes the loss of the whole batch, and gradients flow to the features of all.

    Raises:
        ValueError: if the shapes do not fit each other, or a temperature that is a number is not positive.

    Example:
        >>> import torch
        >>> pairs = torch.eye(3)
        >>> video_text_contrastive_loss(pairs, pairs, 0.1).item() < 1e-3
        True
    """
    return symmetric_nce(video, text, temperature, index)[0]


def video_text_sigmoid_loss(
    video: Tensor, text: Tensor, temperature: Tensor | float, bias: Tensor | float, index: Tensor | None = None
) -> Tensor:
    """Decide about each video and text alone whether they belong together, over all processes (SigLIP, 2303.15343).

    Args:
        video: float `(B, D)`, not normalised.
        text: float `(B, D)`, row i belongs to video i.
        temperature: divides the cosine similarities; a number, or a learnt tensor.
        bias: added to them; a number, or a learnt tensor. It starts negative, because most pairs do not belong.
        index: int64 `(B,)`, pairs with equal numbers all belong together; None treats each pair as its own class.

    Returns:
        Scalar in float32: binary cross entropies, summed over the texts and averaged over the videos. Gradients as in
        `video_text_contrastive_loss`.

    Raises:
        ValueError: if the shapes do not fit each other, or a temperature that is a number is not positive.

    Example:
        >>> pairs = torch.eye(3)
        >>> round(video_text_sigmoid_loss(pairs, pairs, 0.1, -5.0).item(), 3)
        0.02
    """
    scores = symmetric_nce(video, text, temperature, index)[1] + bias
    numbers = torch.arange(len(scores), device=scores.device) if index is None else gather_keys(index)
    belongs = (numbers[:, None] == numbers).float()
    return F.binary_cross_entropy_with_logits(scores, belongs, reduction="sum") / len(scores)


def dual_softmax(similarity: Tensor, temperature: float = 1.0) -> Tensor:
    """Lower the scores of items that are similar to every query: `S * softmax(S / temperature)` over the queries.

    Args:
        similarity: float `(queries, items)`.
        temperature: of the softmax; 1 as in smile.md, section 12. Cosines need a smaller one to have an effect.

    Returns:
        Same shape.

    Raises:
        ValueError: if it is not a matrix, or the temperature is not positive.

    Example:
        >>> import torch
        >>> dual_softmax(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        tensor([[0.5000, 0.0000],
                [0.5000, 0.0000]])
    """
    if similarity.ndim != 2:
        raise ValueError(f"similarity must be a matrix (queries, items), got {tuple(similarity.shape)}")
    check_temperature(temperature)
    return similarity * (similarity / temperature).softmax(dim=0)
