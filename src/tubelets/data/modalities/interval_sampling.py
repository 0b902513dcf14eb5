"""Frame sampling of Singularity and VindLU: one frame of each of several equal intervals of a whole video.

It differs from `random_segment_clip` in what it leaves out: the remainder is shared among the intervals, and the last
frame of an interval is never drawn (locomotion.md, section 7).
"""

import itertools

import torch


def interval_bounds(num_video_frames: int, num_frames: int) -> list[int]:
    """First frames of equal intervals of a video, and its end.

    Args:
        num_video_frames: frames of the video, at least 1.
        num_frames: intervals, which is frames of the clip, at least 1.

    Returns:
        `num_frames + 1` rising numbers from 0 to `num_video_frames`.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> interval_bounds(10, 4)
        [0, 2, 5, 7, 10]
    """
    if num_video_frames < 1 or num_frames < 1:
        raise ValueError(f"num_video_frames and num_frames must be at least 1, got {num_video_frames} and {num_frames}")
    return [place * num_video_frames // num_frames for place in range(num_frames + 1)]


def random_interval_clip(num_video_frames: int, num_frames: int = 4, *, generator: torch.Generator) -> list[int]:
    """Training clip: a random frame of each interval.

    Args:
        num_video_frames: frames of the video.
        num_frames: frames of the clip; shorter videos repeat their last frame.
        generator: draws the frames.

    Returns:
        `num_frames` indices, never decreasing.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> clip = random_interval_clip(64, 4, generator=torch.Generator().manual_seed(0))
        >>> [index // 16 for index in clip]
        [0, 1, 2, 3]

    Source: locomotion.md, section 7.
    """
    bounds = interval_bounds(num_video_frames, num_frames)
    if num_video_frames < num_frames:
        return [min(place, num_video_frames - 1) for place in range(num_frames)]
    lengths = [last - first - 1 for first, last in itertools.pairwise(bounds)]
    if min(lengths) < 1:
        # An interval of a single frame has nothing to draw: a sorted random subset of all frames instead.
        return sorted(torch.randperm(num_video_frames, generator=generator)[:num_frames].tolist())
    return [
        first + int(torch.randint(length, (), generator=generator))
        for first, length in zip(bounds, lengths, strict=False)
    ]


def interval_clip(num_video_frames: int, num_frames: int = 4) -> list[int]:
    """Test clip: the middle frame of each interval.

    Args:
        num_video_frames: frames of the video.
        num_frames: frames of the clip; shorter videos repeat their last frame.

    Returns:
        `num_frames` indices, never decreasing.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> interval_clip(16, 4), interval_clip(2, 4)
        ([1, 5, 9, 13], [0, 1, 1, 1])

    Source: locomotion.md, section 7.
    """
    bounds = interval_bounds(num_video_frames, num_frames)
    if num_video_frames < num_frames:
        return [min(place, num_video_frames - 1) for place in range(num_frames)]
    return [(first + last - 1) // 2 for first, last in itertools.pairwise(bounds)]
