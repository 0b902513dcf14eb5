"""Key frames, and the values between them (smile.md 4.3, tubelet_contrast.md 5.2).

The key frames of a batch of clips are one tensor: ascending, from 0 to the last frame, and clips with fewer of them
repeat the last one. The intervals between repeated key frames have length 0, so values that change in
proportion to the length of an interval stay constant in them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tubelets.draws import Generators, categorical, device_of, rand

MODES = ("uniform", "accelerate", "decelerate")
"""Interpolation modes between key frames; mode numbers index this tuple."""

KEY_FRAME_PROBABILITIES = (0.5, 0.3, 0.2)
MODE_PROBABILITIES = (0.7, 0.15, 0.15)


def tick_table(num_frames: int, max_inner: int) -> tuple[Tensor, Tensor]:
    """Positions of inner key frames before jitter.

    Args:
        num_frames: frames of the clip, at least 2.
        max_inner: most inner key frames that any clip has.

    Returns:
        Int64 ticks `(max_inner + 1, max_inner)`, row m for m inner key frames, filled up with the last frame; and int64
        `(max_inner + 1,)`, the jitter limit J of each row: jitters are drawn from -J to J - 1.

    Raises:
        ValueError: if there are fewer than 2 frames.

    Example:
        >>> ticks, limits = tick_table(16, 2)
        >>> ticks.tolist(), limits.tolist()
        ([[15, 15], [8, 15], [5, 10]], [0, 2, 1])
    """
    if num_frames < 2:
        raise ValueError(f"motion needs at least 2 frames, got {num_frames}")
    ticks = torch.full((max_inner + 1, max_inner), num_frames - 1)
    limits = torch.zeros(max_inner + 1, dtype=torch.int64)
    for inner in range(1, max_inner + 1):
        gap = num_frames / (inner + 1)
        ticks[inner, :inner] = torch.tensor([int(gap * i) for i in range(1, inner + 1)])
        limits[inner] = int(gap / 3)
    return ticks, limits


def place_key_frames(num_frames: int, inner: Tensor, jitter: Tensor) -> Tensor:
    """Compute key frames from random draws.

    Args:
        num_frames: frames of the clips.
        inner: int64 `(clips,)`, number of inner key frames of each clip.
        jitter: int64 `(clips, most inner key frames)`, shift of each in frames; those that a clip does not have are
            ignored.

    Returns:
        Int64 `(clips, most inner key frames + 2)`, ascending from 0 to `num_frames - 1`.

    Example:
        >>> place_key_frames(16, torch.tensor([0, 1, 2]), torch.tensor([[0, 0], [-1, 0], [0, 0]])).tolist()
        [[0, 15, 15, 15], [0, 7, 15, 15], [0, 5, 10, 15]]
    """
    ticks, _ = tick_table(num_frames, jitter.shape[1])
    real = torch.arange(jitter.shape[1], device=inner.device) < inner[:, None]
    moved = ticks.to(inner.device)[inner] + torch.where(real, jitter, 0)
    ends = torch.tensor([0, num_frames - 1], device=inner.device).expand(len(inner), 2)
    return torch.cat((ends, moved.clamp(0, num_frames - 1)), dim=1).sort(dim=1).values


def sample_key_frames(
    clips: int, num_frames: int, generator: Generators, probabilities: Sequence[float] = KEY_FRAME_PROBABILITIES
) -> Tensor:
    """Draw key frames.

    Args:
        clips: number of clips.
        num_frames: frames of each.
        generator: one random generator, or one for each clip; its device is that of the result.
        probabilities: of 0, 1, 2 ... inner key frames.

    Returns:
        Int64 `(clips, len(probabilities) + 1)`, see the head of this module.

    Example:
        >>> keys = sample_key_frames(100, 16, torch.Generator().manual_seed(0))
        >>> keys.shape, keys[:, 0].unique().tolist(), keys[:, -1].unique().tolist()
        (torch.Size([100, 4]), [0], [15])
    """
    device = device_of(generator)
    inner = categorical(probabilities, clips, generator=generator)
    _, limits = tick_table(num_frames, len(probabilities) - 1)
    limit = limits.to(device)[inner, None]
    noise = rand(clips, len(probabilities) - 1, generator=generator, device=device, dtype=torch.float64)
    return place_key_frames(num_frames, inner, (noise * 2 * limit).floor().long() - limit)


def sample_modes(keys: Tensor, generator: Generators, probabilities: Sequence[float] = MODE_PROBABILITIES) -> Tensor:
    """Draw how values change in each interval.

    Args:
        keys: int64 `(clips, K)` key frames.
        generator: one random generator, or one for each clip, on the device of `keys`.
        probabilities: of the `MODES`.

    Returns:
        Int64 `(clips, K - 1)` numbers of modes.

    Example:
        >>> sample_modes(torch.tensor([[0, 7, 15]]), torch.Generator().manual_seed(0)).shape
        torch.Size([1, 2])
    """
    return categorical(probabilities, keys[:, 1:].numel(), generator=generator).view(len(keys), -1)


def interpolate(values: Tensor, keys: Tensor, modes: Tensor, num_frames: int) -> Tensor:
    """Fill in all frames between key frames.

    Args:
        values: floats `(clips, K, ...)` at the key frames.
        keys: int64 `(clips, K)` key frames.
        modes: int64 `(clips, K - 1)`, the `MODES` of the intervals.
        num_frames: frames of the clips.

    Returns:
        `(clips, num_frames, ...)`, dtype of `values`.

    Example:
        >>> values, keys = torch.tensor([[0.0, 16.0]]), torch.tensor([[0, 4]])
        >>> interpolate(values, keys, torch.tensor([[1]]), 5).tolist()
        [[0.0, 1.0, 4.0, 9.0, 16.0]]
    """
    frames = torch.arange(num_frames, device=keys.device).expand(keys.shape[0], -1).contiguous()
    segment = torch.searchsorted(keys.contiguous(), frames, right=True) - 1
    segment = segment.clamp_max(keys.shape[1] - 2)
    start, end = keys.gather(1, segment), keys.gather(1, segment + 1)
    time = (frames - start).to(values.dtype) / (end - start).clamp_min(1)
    mode = modes.gather(1, segment)
    progress = torch.where(mode == 1, time**2, torch.where(mode == 2, 1 - (1 - time) ** 2, time))
    shape = (*segment.shape, *[1] * (values.dim() - 2))
    pick = segment.view(shape).expand(*segment.shape, *values.shape[2:])
    first, last = values.gather(1, pick), values.gather(1, pick + 1)
    return first + (last - first) * progress.view(shape)


def gaps(keys: Tensor) -> Tensor:
    """Lengths of the intervals, int64 `(clips, K - 1)`; 0 where a key frame is repeated.

    Example:
        >>> gaps(torch.tensor([[0, 7, 15, 15]])).tolist()
        [[7, 8, 0]]
    """
    return keys.diff(dim=1)
