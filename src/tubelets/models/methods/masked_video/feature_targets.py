"""Feature targets from a frozen image encoder, shared by SIGMA and SMILE."""

from typing import Any

import torch
from torch import Tensor

from tubelets.models.backbones.video_vit.pixels import normalize_pixels
from tubelets.models.teachers import Teacher
from tubelets.objectives import standardize_features


@torch.no_grad()
def first_frame_features(teacher: Teacher, pixel_values: Tensor, config: Any) -> Tensor:
    """Features of a frozen image encoder for the first frame of each tube.

    Frames are normalised with the model's own mean and deviation (smile.md, section 2).

    Args:
        teacher: an image encoder, called with images and a grid.
        pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8.
        config: the model's configuration.

    Returns:
        `(B, tokens, teacher_hidden_size)`, before normalisation.
    """
    frames = normalize_pixels(pixel_values[:, :: config.tubelet_size], config, channel_dim=2)
    features = teacher(frames.flatten(0, 1), config.grid[1:])  # (B * T, rows * columns, D)
    return features.unflatten(0, (len(pixel_values), -1)).flatten(1, 2)


@torch.no_grad()
def masked_features(features: Tensor, masked_ids: Tensor, num_clips: int, config: Any) -> Tensor:
    """Features of the masked tokens, standardised over all tokens of a clip if `normalize_target`.

    Args:
        features: `(B, tokens, teacher_hidden_size)`.
        masked_ids: int64 `(K * B, M)`: the first masks of all clips, then the second ones.
        num_clips: B.
        config: the model's configuration.

    Returns:
        `(K * B, M, teacher_hidden_size)`, float32 if standardised.

    Raises:
        ValueError: if the features have another shape.
    """
    expected = (num_clips, config.num_tokens, config.teacher_hidden_size)
    if tuple(features.shape) != expected:
        raise ValueError(f"target_features must have shape {expected}, got {tuple(features.shape)}")
    if config.normalize_target:
        features = standardize_features(features)
    ids = masked_ids.unflatten(0, (-1, num_clips))  # (K, B, M)
    chosen = features.expand(len(ids), -1, -1, -1).gather(2, ids[..., None].expand(-1, -1, -1, expected[2]))
    return chosen.flatten(0, 1)
