"""Losses of video-language models beside contrast: which pairs match, and which words were masked.

Both are ALBEF's, as Singularity and VindLU have them (locomotion.md, section 4).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100
"""Label of a token that is not predicted."""


def frame_text_similarity(video: Tensor, text: Tensor, temperature: Tensor | float) -> Tensor:
    """Similarity of videos and texts: the mean over frames of cosine similarities.

    Args:
        video: float `(B, T, width)`, frames of videos, of unit length.
        text: float `(C, width)`, of unit length.
        temperature: divides the similarities; a number, or a learnt tensor.

    Returns:
        float32 `(B, C)`.

    Example:
        >>> frames = torch.eye(2)[None]
        >>> frame_text_similarity(frames, torch.eye(2), 0.5)
        tensor([[1., 1.]])
    """
    with torch.autocast(device_type=video.device.type, enabled=False):
        # The mean over frames is taken first: a sum of products is the product of the sum.
        return video.float().mean(dim=1) @ text.float().t() / temperature


@torch.no_grad()
def matching_weights(similarity: Tensor, ids: Tensor | None = None, hard: bool = True) -> tuple[Tensor, Tensor]:
    """How likely each partner is drawn as one that does not match.

    Args:
        similarity: float `(B, B)` of videos (rows) and texts, over the temperature.
        ids: int64 `(B,)`; pairs with equal numbers match each other and are not drawn. None treats each as its own.
        hard: in proportion to the softmax of similarities; False draws every partner with the same probability.

    Returns:
        Weights of videos for each text, and of texts for each video, float `(B, B)` each, 0 where ids are equal; all 1
        in a row where all ids are equal.

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> videos, texts = matching_weights(torch.zeros(2, 2))
        >>> videos.tolist(), texts.tolist()
        ([[0.0, 0.5], [0.5, 0.0]], [[0.0, 0.5], [0.5, 0.0]])
    """
    count = len(similarity)
    if similarity.shape != (count, count) or (ids is not None and ids.shape != (count,)):
        found = None if ids is None else tuple(ids.shape)
        raise ValueError(f"similarity must be (B, B) and ids (B,), got {tuple(similarity.shape)} and {found}")
    places = torch.arange(count, device=similarity.device)
    ids = places if ids is None else ids
    other = (ids[:, None] != ids).to(similarity.dtype)
    if hard:
        of_texts, of_videos = similarity.t().softmax(dim=1) * other, similarity.softmax(dim=1) * other
    else:
        of_texts = of_videos = other
    return _filled(of_texts), _filled(of_videos)


def _filled(weights: Tensor) -> Tensor:
    """Rows without any weight get the same for all (locomotion.md, section 4: our choice)."""
    return torch.where(weights.sum(dim=1, keepdim=True) > 0, weights, torch.ones_like(weights))


@torch.no_grad()
def draw_partners(weights: Tensor, draws: Tensor) -> Tensor:
    """Draw one partner for each row in proportion to its weights.

    The random numbers are arguments: they are drawn from the seeds of clips, so that a batch has the same partners in
    every run, and nothing waits for an accelerator.

    Args:
        weights: float `(B, C)`, not negative, with one above 0 in each row.
        draws: float `(B,)`, uniform in [0, 1).

    Returns:
        int64 `(B,)`.

    Example:
        >>> draw_partners(torch.tensor([[0.0, 0.5, 0.5]]).expand(2, -1), torch.tensor([0.0, 0.9])).tolist()
        [1, 2]
    """
    cumulative = weights.float().cumsum(dim=1)
    picked = (cumulative <= draws[:, None] * cumulative[:, -1:]).sum(dim=1)
    # A draw just below 1 may be rounded up to the sum; the last partner with a weight is meant.
    last = weights.shape[1] - 1 - (weights > 0).flip(1).int().argmax(dim=1)
    return torch.minimum(picked, last)


def masked_language_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of the masked words.

    Args:
        logits: float `(B, L, words)`.
        labels: int64 `(B, L)`, the word where it was masked, -100 elsewhere.

    Returns:
        Scalar in float32, the mean over masked words; 0 if there are none.

    Example:
        >>> masked_language_loss(torch.zeros(1, 2, 4), torch.tensor([[3, -100]])).exp()
        tensor(4.)
    """
    total = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp_min(1)


@torch.no_grad()
def masked_language_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the masked words that have the highest score.

    Args:
        logits: float `(B, L, words)`.
        labels: int64 `(B, L)`, -100 where nothing was masked.

    Returns:
        Scalar; 0 if nothing was masked.

    Example:
        >>> masked_language_accuracy(torch.eye(2)[None], torch.tensor([[0, 0]]))
        tensor(0.5000)
    """
    right = (logits.argmax(dim=-1) == labels).sum()
    return right / (labels != IGNORED).sum().clamp_min(1)


def mask_words(
    input_ids: Tensor, maskable: Tensor, mask_token_id: int, vocab_size: int, probability: float, draws: Tensor
) -> tuple[Tensor, Tensor]:
    """Mask words as BERT does: of the chosen ones 80 % become the mask, 10 % another word, 10 % stay.

    Args:
        input_ids: int64 `(B, L)`.
        maskable: bool `(B, L)`, False for the first token and padding.
        mask_token_id: id of the mask.
        vocab_size: number of words that a masked one may be replaced by.
        probability: share of words that are chosen.
        draws: float `(B, 3, L)`, uniform in [0, 1): whether a word is chosen, what happens to it, and which one
            replaces it.

    Returns:
        The masked ids, and labels: the word where it was chosen, -100 elsewhere.

    Example:
        >>> draws = torch.zeros(1, 3, 2)
        >>> mask_words(torch.tensor([[7, 8]]), torch.tensor([[False, True]]), 3, 10, 0.5, draws)
        (tensor([[7, 3]]), tensor([[-100,    8]]))

    Source: locomotion.md, section 4.
    """
    chosen, fate, word = draws.unbind(dim=1)
    selected = maskable & (chosen < probability)
    labels = torch.where(selected, input_ids, IGNORED)
    masked = torch.where(selected & (fate < 0.8), mask_token_id, input_ids)
    replaced = selected & (fate >= 0.8) & (fate < 0.9)
    return torch.where(replaced, (word * vocab_size).long(), masked), labels
