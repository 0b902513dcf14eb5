"""Pictures of windows: a strip of a few frames side by side, as JPEG."""

import io

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

HEIGHT = 72
"""Rows of a strip in pixels."""


def clip_strips(clips: Tensor, count: int) -> list[bytes]:
    """A strip for each clip.

    Args:
        clips: uint8 `(B, T, C, H, W)`, RGB; one channel is shown as grey.
        count: frames in a strip, spread evenly; at most T are shown.

    Returns:
        B JPEG files.

    Raises:
        ValueError: if the clips have another type or shape, or `count` is below 1.

    Example:
        >>> len(clip_strips(torch.zeros(2, 4, 3, 16, 16, dtype=torch.uint8), 3))
        2
    """
    if clips.ndim != 5 or clips.dtype != torch.uint8 or count < 1:
        raise ValueError(
            f"a strip needs uint8 clips (B, T, C, H, W) and at least one frame, got {clips.dtype} "
            f"{tuple(clips.shape)} and {count}"
        )
    frames = clips.shape[1]
    chosen = torch.linspace(0, frames - 1, min(count, frames)).round().long()
    shown = clips[:, chosen, :3]
    if shown.shape[2] < 3:
        shown = shown[:, :, :1].expand(-1, -1, 3, -1, -1)
    width = max(1, round(HEIGHT * shown.shape[-1] / shown.shape[-2]))
    small = F.interpolate(shown.flatten(0, 1).float(), (HEIGHT, width), mode="bilinear", antialias=True)
    rows = small.round().to(torch.uint8).unflatten(0, shown.shape[:2]).permute(0, 3, 1, 4, 2).flatten(2, 3)
    return [_jpeg(row) for row in rows]


def _jpeg(pixels: Tensor) -> bytes:
    """An image `(H, W, 3)`."""
    file = io.BytesIO()
    Image.fromarray(pixels.cpu().contiguous().numpy()).save(file, "JPEG", quality=80)
    return file.getvalue()
