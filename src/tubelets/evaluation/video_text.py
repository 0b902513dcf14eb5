"""Video-text retrieval: recall in both directions (smile.md, section 12)."""

import torch
from torch import Tensor

from tubelets.tasks.metrics import check_no_nan

RECALL_AT = (1, 5, 10)


def video_text_recall(
    video_to_text: Tensor, text_owners: Tensor, text_to_video: Tensor | None = None
) -> dict[str, float]:
    """Recall at 1, 5 and 10 of texts for videos and of videos for texts.

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
    back = video_to_text.t() if text_to_video is None else text_to_video
    if text_owners.shape != (texts,) or back.shape != (texts, videos):
        raise ValueError(
            f"text_owners must be ({texts},) and text_to_video ({texts}, {videos}), got {tuple(text_owners.shape)} and "
            f"{tuple(back.shape)}"
        )
    check_no_nan("video_to_text", video_to_text)
    check_no_nan("text_to_video", back)
    belongs = torch.arange(videos, device=text_owners.device)[:, None] == text_owners
    if not bool(belongs.any(dim=1).all()) or not bool(belongs.any(dim=0).all()):
        raise ValueError(
            f"text_owners must name each of {videos} videos at least once, got {text_owners.tolist()[:10]}"
        )
    result: dict[str, float] = {}
    for name, scores, right in (("video_to_text", video_to_text, belongs), ("text_to_video", back, belongs.t())):
        order = scores.argsort(dim=1, descending=True, stable=True)
        # Rank of the best correct answer.
        rank = right.gather(1, order).int().argmax(dim=1)
        recalls = [100 * (rank < k).double().mean().item() for k in RECALL_AT]
        result |= {f"{name}_r{k}": recall for k, recall in zip(RECALL_AT, recalls, strict=True)}
        result[f"{name}_mean"] = sum(recalls) / len(recalls)
    return result | {"mean": (result["video_to_text_mean"] + result["text_to_video_mean"]) / 2}
