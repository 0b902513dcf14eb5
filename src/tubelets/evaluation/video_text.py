"""Video-text retrieval from a matrix of similarities: recall in both directions, in percent (smile.md, section 12).

`tubelets.tasks.similarities` starts from embeddings, needs no matrix, and re-ranks.
"""

import torch
from torch import Tensor

from tubelets.tasks.metrics import check_no_nan
from tubelets.tasks.ranks import RECALL_AT, answer_ranks, rank_metrics


def video_text_recall(
    video_to_text: Tensor, text_owners: Tensor, text_to_video: Tensor | None = None
) -> dict[str, float]:
    """Recall at 1, 5 and 10 of texts for videos and of videos for texts, where each text describes one video.

    Args:
        video_to_text: float `(videos, texts)` similarities, larger is nearer.
        text_owners: int64 `(texts,)`, the video each text describes. If a video has several texts, the best counts.
        text_to_video: float `(texts, videos)`; by default the transpose of the first.

    Returns:
        Percentages: `video_to_text_r1` and so on, `video_to_text_mean`, the same for `text_to_video`, and `mean`.

    Raises:
        ValueError: if shapes do not fit, similarities are NaN, or a video has no text.

    Example:
        >>> scores = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
        >>> video_text_recall(scores, torch.tensor([0, 1]))["video_to_text_r1"]
        50.0
    """
    if video_to_text.ndim != 2 or not video_to_text.numel():
        raise ValueError(f"video_to_text must be (videos, texts), not empty, got {tuple(video_to_text.shape)}")
    videos, texts = video_to_text.shape
    if text_owners.shape != (texts,):
        raise ValueError(f"text_owners must be ({texts},), got {tuple(text_owners.shape)}")
    check_no_nan("video_to_text", video_to_text)
    if not torch.equal(text_owners.unique(), torch.arange(videos, device=text_owners.device)):
        raise ValueError(
            f"text_owners must name each of {videos} videos at least once, got {text_owners.tolist()[:10]}"
        )
    pairs = torch.stack([text_owners, torch.arange(texts, device=text_owners.device)], dim=1)
    return video_text_recalls(video_to_text, pairs, text_to_video)


def video_text_recalls(video_to_text: Tensor, pairs: Tensor, text_to_video: Tensor | None = None) -> dict[str, float]:
    """Recall at 1, 5 and 10 in both directions, where videos and texts can each have several correct answers.

    Args:
        video_to_text: float `(videos, texts)` similarities, larger is nearer.
        pairs: int64 `(P, 2)`, video and text of each correct pair; every video and every text has at least one.
        text_to_video: float `(texts, videos)`; by default the transpose of the first.

    Returns:
        Percentages, as `video_text_recall` returns them.

    Raises:
        ValueError: if shapes or pairs do not fit, or similarities are NaN.

    Example:
        >>> pairs = torch.tensor([[0, 0], [1, 0], [2, 1]])
        >>> scores = torch.tensor([[0.1, 0.3], [0.9, 0.2], [0.0, 0.8]])
        >>> video_text_recalls(scores, pairs)["text_to_video_r1"]
        100.0

    Source: locomotion.md, section 8.
    """
    videos, texts = video_to_text.shape
    back = video_to_text.t() if text_to_video is None else text_to_video
    if back.shape != (texts, videos):
        raise ValueError(f"text_to_video must be ({texts}, {videos}), got {tuple(back.shape)}")
    check_no_nan("text_to_video", back)
    result: dict[str, float] = {}
    for name, scores, correct in (("video_to_text", video_to_text, pairs), ("text_to_video", back, pairs.flip(1))):
        found = rank_metrics(answer_ranks(scores, correct))
        result |= {f"{name}_r{k}": 100 * found[f"r{k}"] for k in RECALL_AT}
        result[f"{name}_mean"] = 100 * found["mean_recall"]
    return result | {"mean": (result["video_to_text_mean"] + result["text_to_video_mean"]) / 2}
