"""From a state `(left, middle, right)` to the 32 frames that the network sees (severe_benchmark.md, section 8.2)."""

import torch
from torch import Tensor

PADDING_COLOUR = (0.485, 0.456, 0.406)
"""Colour of frames outside of the video, in the normalised space, as the reference has it."""


def input_frames(
    states: Tensor, frames_per_side: int = 16, past_cycles: float = 2.0, next_cycles: float = 2.0
) -> Tensor:
    """Indices of the frames of a state: each side spans two cycles, and all sides have as many frames.

    Args:
        states: `(..., 3)`, start of the past cycle, its last frame, end of the coming one; may be fractional.
        frames_per_side: frames of each side.
        past_cycles: cycles before the middle.
        next_cycles: cycles after it.

    Returns:
        int64 `(..., 2 * frames_per_side)`; indices outside of the video stand for padding.

    Example:
        >>> input_frames(torch.tensor([8.0, 9.0, 11.0]), frames_per_side=2)
        tensor([ 6,  9, 10, 13])
    """
    left, middle, right = states.double().unbind(-1)
    first = (left - (middle - left + 1) * (past_cycles - 1)).trunc()
    after = (middle + 1).trunc()
    last = (right + (right - after + 1) * (next_cycles - 1)).trunc()
    sides = [_spread(first, middle.trunc(), frames_per_side), _spread(after, last, frames_per_side)]
    return torch.cat(sides, dim=-1)


def _spread(first: Tensor, last: Tensor, count: int) -> Tensor:
    steps = torch.arange(count, dtype=torch.float64, device=first.device)
    step = (last - first + 1) / (count - 1)
    spread = (first[..., None] - 0.5 + steps * step[..., None]).round()
    # Not `clamp`, whose lower bound wins where a side is empty.
    return torch.minimum(torch.maximum(spread, first[..., None]), last[..., None]).long()


def gather_frames(
    videos: Tensor, frames: Tensor, lengths: Tensor, padding: tuple[float, ...] = PADDING_COLOUR
) -> Tensor:
    """Clips of the given frames; frames outside of a video have a constant colour.

    Args:
        videos: `(B, T, C, H, W)`, normalised.
        frames: int64 `(B, N, F)`, F frames of N clips of each video.
        lengths: int64 `(B,)`, frames of each video.
        padding: colour of frames outside, by channel.

    Returns:
        `(B, N, F, C, H, W)`.

    Example:
        >>> videos = torch.arange(3.0).reshape(1, 3, 1, 1, 1)
        >>> gather_frames(videos, torch.tensor([[[-1, 2]]]), torch.tensor([3]), padding=(9.0,)).flatten().tolist()
        [9.0, 2.0]
    """
    outside = (frames < 0) | (frames >= lengths[:, None, None])
    rows = torch.arange(len(videos), device=videos.device)[:, None, None]
    read = videos[rows, frames.clamp(0, videos.shape[1] - 1)]
    colour = torch.tensor(padding, dtype=videos.dtype, device=videos.device)[:, None, None]
    return torch.where(outside[..., None, None, None], colour, read)
