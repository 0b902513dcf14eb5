"""Contrast between the sound and the frames of the same clips (structured_noise_masking.md, section 8)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.objectives.contrastive import check_temperature


def audio_visual_contrastive_loss(audio: Tensor, video: Tensor, temperature: float = 0.05) -> tuple[Tensor, Tensor]:
    """Identify each clip's own sound within the batch: cross entropy in one direction, from frames to sounds.

    Args:
        audio: float `(B, D)`, not normalised.
        video: float `(B, D)`, row i belongs to sound i.
        temperature: divides the cosine similarities, > 0.

    Returns:
        The loss, a scalar, the mean over the batch of this process; and the share of clips whose own sound has the
        highest score, without gradient. Both are float32.

    Raises:
        ValueError: if the shapes do not fit or the temperature is not positive.

    Example:
        >>> loss, accuracy = audio_visual_contrastive_loss(torch.eye(2), torch.eye(2), 1.0)
        >>> round(loss.item(), 4), accuracy.item()
        (0.3133, 1.0)
    """
    if audio.ndim != 2 or audio.shape != video.shape or not audio.numel():
        raise ValueError(
            f"audio {tuple(audio.shape)} and video {tuple(video.shape)} must be equal matrices (clips, width) of at "
            "least one clip"
        )
    check_temperature(temperature)
    with torch.autocast(device_type=audio.device.type, enabled=False):
        scores = F.normalize(video.float(), dim=1) @ F.normalize(audio.float(), dim=1).t() / temperature
    own = torch.arange(len(scores), device=scores.device)
    return F.cross_entropy(scores, own), (scores.argmax(dim=1) == own).float().mean()
