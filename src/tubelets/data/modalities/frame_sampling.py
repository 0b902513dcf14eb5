"""Frame sampling: index formulas for pretraining, fine-tuning and test clips.

Pure functions from a number of frames to lists of 0-based frame indices, so that readers decode only the frames used.
"Dense" clips advance by a fixed stride; "segment" clips sample frames from equal parts of the whole video.
"""

from numbers import Integral

import torch


def _check(num_video_frames: int, **counts: int) -> None:
    for name, value in {"num_video_frames": num_video_frames, **counts}.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _draw(low: int, high: int, generator: torch.Generator) -> int:
    """One integer, uniform in [low, high], both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def dense_clip(num_video_frames: int, num_frames: int = 16, stride: int = 4, start: int = 0) -> list[int]:
    """Every `stride`-th frame from `start`; the last reachable frame repeats if the video is too short.

    In a video that ends before `start + num_frames * stride`, the last frame is never reached, as in the official code:
    a step is taken only if another frame follows the one that it leads to.

    Args:
        num_video_frames: frames of the video.
        num_frames: frames of the clip.
        stride: distance between frames of the clip.
        start: first frame, in [0, num_video_frames).

    Returns:
        `num_frames` indices.

    Raises:
        ValueError: if a count is below 1 or `start` lies outside the video.

    Example:
        >>> dense_clip(100, num_frames=4, stride=4, start=18)
        [18, 22, 26, 30]
        >>> dense_clip(7, num_frames=4, stride=4), dense_clip(5, num_frames=4, stride=4)
        ([0, 4, 4, 4], [0, 0, 0, 0])

    Source: SIGMA and SMILE pretraining clips (sigma.md, section 6; smile.md, section 8.1).
    """
    _check(num_video_frames, num_frames=num_frames, stride=stride)
    if not 0 <= start < num_video_frames:
        raise ValueError(f"start must lie in [0, {num_video_frames}), the frames of the video, got {start}")
    last = start + (num_frames - 1) * stride
    if start + num_frames * stride > num_video_frames:
        last = min(last, start + max(num_video_frames - 2 - start, 0) // stride * stride)
    return [min(start + step * stride, last) for step in range(num_frames)]


def random_dense_clip(
    num_video_frames: int, num_frames: int = 16, stride: int = 4, *, generator: torch.Generator
) -> list[int]:
    """Pretraining clip: dense, its start uniform in [0, num_video_frames - num_frames * stride], or 0 in short videos.

    Args:
        num_video_frames: frames of the video.
        num_frames: frames of the clip.
        stride: distance between frames; 4 for Kinetics, 2 for Something-Something.
        generator: draws the start; called once even for short videos, so that the number of draws is fixed.

    Returns:
        `num_frames` indices.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> clip = random_dense_clip(300, generator=torch.Generator().manual_seed(0))
        >>> len(clip), clip[1] - clip[0], clip[-1] < 300
        (16, 4, True)

    Source: sigma.md, section 6; smile.md, section 8.1.
    """
    _check(num_video_frames, num_frames=num_frames, stride=stride)
    start = _draw(0, max(num_video_frames - num_frames * stride, 0), generator)
    return dense_clip(num_video_frames, num_frames, stride, start)


def random_jittered_clip(
    num_video_frames: int, num_frames: int = 16, max_stride: int = 4, *, generator: torch.Generator
) -> list[int]:
    """Contrastive clip: a stride uniform in [1, `max_stride`], each frame jittered by less than a stride.

    Args:
        num_video_frames: frames of the video.
        num_frames: frames of the clip.
        max_stride: largest stride.
        generator: draws stride, start and jitter; the number of draws depends on `num_frames` only.

    Returns:
        `num_frames` indices, never decreasing; the last frame repeats if the video is too short.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> clip = random_jittered_clip(300, generator=torch.Generator().manual_seed(0))
        >>> len(clip), clip == sorted(clip), clip[-1] < 300
        (16, True, True)

    Source: tubelet_contrast.md, section 6, step 1.
    """
    _check(num_video_frames, num_frames=num_frames, stride=max_stride)
    stride = _draw(1, max_stride, generator)
    jitter = torch.randint(stride, (num_frames,), generator=generator).tolist()
    start = _draw(0, max(num_video_frames - stride * (num_frames - 1) - 1, 0), generator)
    return [min(start + place * stride + late, num_video_frames - 1) for place, late in enumerate(jitter)]


def finetune_clip(num_video_frames: int, num_frames: int = 16, stride: int = 4, *, end: int | None = None) -> list[int]:
    """Kinetics fine-tuning clip: frames spread evenly, both ends included, over `num_frames * stride` frames.

    The step is therefore slightly above `stride`. A video that is not longer than this span is sampled once with about
    the stride, and its last frame fills the rest of the clip.

    Args:
        num_video_frames: frames of the video.
        num_frames: frames of the clip.
        stride: nominal distance between frames.
        end: end of the span, in [num_frames * stride, num_video_frames); only for videos longer than the span.

    Returns:
        `num_frames` indices.

    Raises:
        ValueError: if a count is below 1 or `end` does not fit the video.

    Example:
        >>> finetune_clip(300, num_frames=4, stride=4, end=100)
        [84, 89, 94, 99]
        >>> finetune_clip(9, num_frames=4, stride=4)
        [0, 8, 8, 8]

    Source: smile.md, section 8.2.
    """
    _check(num_video_frames, num_frames=num_frames, stride=stride)
    span = num_frames * stride
    if num_video_frames <= span:
        if end is not None:
            raise ValueError(f"end={end} was given, but {num_video_frames} frames allow only one clip; omit it")
        spread = _spread(0, num_video_frames, num_video_frames // stride)
        padded = spread + [num_video_frames] * (num_frames - len(spread))
        return [min(index, num_video_frames - 1) for index in padded]
    if end is None or not span <= end < num_video_frames:
        raise ValueError(f"end must lie in [{span}, {num_video_frames}) for this video, got {end}")
    return [min(index, end - 1) for index in _spread(end - span, end, num_frames)]


def _spread(first: int, last: int, count: int) -> list[int]:
    """`count` numbers from `first` to `last`, both included, cut to integers; rounded as `numpy.linspace` rounds."""
    if count < 2:
        return [first] * count
    step = (last - first) / (count - 1)
    return [int(position * step + first) for position in range(count - 1)] + [last]


def random_finetune_clip(
    num_video_frames: int, num_frames: int = 16, stride: int = 4, *, generator: torch.Generator
) -> list[int]:
    """`finetune_clip` with its end uniform in [num_frames * stride, num_video_frames - 1]; also used for validation.

    Args:
        num_video_frames: frames of the video.
        num_frames: frames of the clip.
        stride: nominal distance between frames.
        generator: draws the end; called once for every video.

    Returns:
        `num_frames` indices.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> clip = random_finetune_clip(300, generator=torch.Generator().manual_seed(0))
        >>> len(clip), clip[-1] - clip[0]
        (16, 63)

    Source: smile.md, section 8.2.
    """
    _check(num_video_frames, num_frames=num_frames, stride=stride)
    span = num_frames * stride
    end = _draw(span, max(num_video_frames - 1, span), generator)
    return finetune_clip(num_video_frames, num_frames, stride, end=end if num_video_frames > span else None)


def dense_test_frames(num_video_frames: int, num_frames: int = 16, stride: int = 4) -> list[int]:
    """Every `stride`-th frame of the whole video, padded with the last one to at least `num_frames` frames.

    Args:
        num_video_frames: frames of the video.
        num_frames: frames of one clip, the minimum length of the result.
        stride: distance between frames.

    Returns:
        The frames from which the dense test clips are cut.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> dense_test_frames(10, num_frames=4, stride=4)
        [0, 4, 8, 8]

    Source: smile.md, section 8.2.
    """
    _check(num_video_frames, num_frames=num_frames, stride=stride)
    frames = list(range(0, num_video_frames, stride))
    return frames + [frames[-1]] * (num_frames - len(frames))


def dense_test_starts(num_sampled_frames: int, num_frames: int = 16, num_clips: int = 5) -> list[int]:
    """Starts of the dense test clips in sampled frames: `int(c * (L - num_frames) / (num_clips - 1))`.

    Args:
        num_sampled_frames: L, length of `dense_test_frames`.
        num_frames: frames of one clip, at most L.
        num_clips: test clips of one video; a single clip, which the formula does not cover, is placed in the middle.

    Returns:
        `num_clips` starts.

    Raises:
        ValueError: if a count is below 1 or there are fewer frames than a clip needs.

    Example:
        >>> dense_test_starts(25, num_clips=5)
        [0, 2, 4, 6, 9]

    Source: sigma.md, section 7.2; smile.md, section 8.2.
    """
    _check(num_sampled_frames, num_frames=num_frames, num_clips=num_clips)
    if num_sampled_frames < num_frames:
        raise ValueError(
            f"{num_sampled_frames} sampled frames are fewer than the {num_frames} of a clip; pad them first"
        )
    room = num_sampled_frames - num_frames
    if num_clips == 1:
        return [room // 2]
    return [int(clip * (room / (num_clips - 1))) for clip in range(num_clips)]


def dense_test_clips(
    num_video_frames: int, num_frames: int = 16, stride: int = 4, num_clips: int = 5
) -> list[list[int]]:
    """Dense test clips of a video, spread from its start to its end.

    Args:
        num_video_frames: frames of the video.
        num_frames: frames of one clip.
        stride: distance between frames.
        num_clips: test clips; 5 in the published tables, 7 in the official scripts.

    Returns:
        `num_clips` lists of `num_frames` indices.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> dense_test_clips(24, num_frames=4, stride=4, num_clips=2)
        [[0, 4, 8, 12], [8, 12, 16, 20]]

    Source: sigma.md, section 7.2; smile.md, section 8.2.
    """
    frames = dense_test_frames(num_video_frames, num_frames, stride)
    return [frames[start : start + num_frames] for start in dense_test_starts(len(frames), num_frames, num_clips)]


def random_segment_clip(num_video_frames: int, num_frames: int = 16, *, generator: torch.Generator) -> list[int]:
    """Something-Something training clip: one random frame out of each of `num_frames` equal segments.

    The segments have `num_video_frames // num_frames` frames; the remainder at the end is never used. Videos with
    fewer frames than segments, unspecified in the paper, repeat frames evenly: `int(k * F / num_frames)`.

    Args:
        num_video_frames: F, frames of the video.
        num_frames: segments, which is frames of the clip.
        generator: draws the offsets; called `num_frames` times for every video.

    Returns:
        `num_frames` indices, never decreasing.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> clip = random_segment_clip(64, num_frames=4, generator=torch.Generator().manual_seed(0))
        >>> [index // 16 for index in clip]
        [0, 1, 2, 3]

    Source: sigma.md, section 7.2; smile.md, section 8.2.
    """
    _check(num_video_frames, num_frames=num_frames)
    length = num_video_frames // num_frames
    offsets = torch.randint(max(length, 1), (num_frames,), generator=generator).tolist()
    if length == 0:
        return [segment * num_video_frames // num_frames for segment in range(num_frames)]
    return [segment * length + offset for segment, offset in enumerate(offsets)]


def segment_test_clips(num_video_frames: int, num_frames: int = 16, num_clips: int = 2) -> list[list[int]]:
    """Something-Something test clips: interleaved frames of the whole video.

    `num_clips` evenly spaced frames are taken from each segment of `tick = F / num_frames` frames (for two clips, its
    first and middle ones). All are sorted, and clip i is every `num_clips`-th frame from i.

    Args:
        num_video_frames: F, frames of the video.
        num_frames: frames of one clip.
        num_clips: test clips; 2 in the paper, other numbers extend the rule.

    Returns:
        `num_clips` lists of `num_frames` indices.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> segment_test_clips(16, num_frames=4)
        [[0, 4, 8, 12], [2, 6, 10, 14]]

    Source: sigma.md, section 7.2; smile.md, section 8.2.
    """
    _check(num_video_frames, num_frames=num_frames, num_clips=num_clips)
    tick = num_video_frames / num_frames
    frames = sorted(
        int(tick * part / num_clips + tick * segment) for segment in range(num_frames) for part in range(num_clips)
    )
    return [frames[clip::num_clips] for clip in range(num_clips)]


def uniform_clip(num_video_frames: int, num_frames: int = 16) -> list[int]:
    """The middle frame of each of `num_frames` equal segments, the deterministic clip of a whole video.

    Args:
        num_video_frames: frames of the video.
        num_frames: frames of the clip; frames repeat when the video is shorter.

    Returns:
        `num_frames` indices, never decreasing.

    Raises:
        ValueError: if a count is below 1.

    Example:
        >>> uniform_clip(16, num_frames=4)
        [2, 6, 10, 14]
    """
    _check(num_video_frames, num_frames=num_frames)
    return [(2 * segment + 1) * num_video_frames // (2 * num_frames) for segment in range(num_frames)]
