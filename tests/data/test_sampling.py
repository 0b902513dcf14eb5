import itertools

import numpy as np
import pytest
import torch

from tubelets.data.modalities import frame_sampling as sampling
from tubelets.data.modalities.frame_sampling import (
    dense_clip,
    dense_test_clips,
    dense_test_frames,
    dense_test_starts,
    finetune_clip,
    random_dense_clip,
    random_finetune_clip,
    random_jittered_clip,
    random_segment_clip,
    segment_test_clips,
    uniform_clip,
)

LENGTHS = [*range(1, 140), 300, 301, 1000]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def all_clips(frames, generator):
    yield dense_clip(frames)
    yield random_dense_clip(frames, generator=generator)
    yield random_finetune_clip(frames, generator=generator)
    yield random_jittered_clip(frames, generator=generator)
    yield random_segment_clip(frames, generator=generator)
    yield uniform_clip(frames)
    yield from dense_test_clips(frames)
    yield from segment_test_clips(frames)


@pytest.mark.parametrize("frames", LENGTHS)
def test_every_clip_has_16_frames_of_the_video_in_order(frames):
    for clip in all_clips(frames, seeded(frames)):
        assert len(clip) == 16
        assert all(type(index) is int for index in clip)
        assert 0 <= min(clip) <= max(clip) < frames
        assert clip == sorted(clip)


def dense_by_walking(frames, num_frames, stride, start):
    """The official code's loop, which counts frames from 1; whole clips at stride 1 are ours."""
    if start + num_frames * stride <= frames:
        return [start + step * stride for step in range(num_frames)]
    clip, offset = [], start + 1
    for _ in range(num_frames):
        clip.append(offset - 1)
        if offset + stride < frames:
            offset += stride
    return clip


def test_videos_shorter_than_a_clip_follow_the_official_boundary():
    assert dense_clip(5) == [0] * 16
    assert dense_clip(6) == [0] + [4] * 15
    assert dense_clip(61) == [*range(0, 57, 4), 56]
    assert dense_clip(64) == list(range(0, 64, 4))
    assert dense_clip(16, stride=1) == list(range(16))


@pytest.mark.parametrize("frames", [1, 4, 5, 33, 64, 65])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_dense_clip_walks_until_the_next_step_would_leave(frames, stride):
    for start in range(frames):
        assert dense_clip(frames, 16, stride, start) == dense_by_walking(frames, 16, stride, start)


def test_random_dense_starts_reach_both_ends_and_no_more():
    generator = seeded()
    starts = {random_dense_clip(67, generator=generator)[0] for _ in range(200)}
    assert starts == {0, 1, 2, 3}
    assert {random_dense_clip(64, generator=generator)[0] for _ in range(20)} == {0}
    assert {random_dense_clip(35, 16, 2, generator=generator)[0] for _ in range(100)} == {0, 1, 2, 3}


def test_random_finetune_ends_reach_both_ends_and_no_more():
    generator = seeded()
    last = {random_finetune_clip(67, generator=generator)[-1] for _ in range(200)}
    assert last == {63, 64, 65}, "ends 64, 65, 66: the last frame of the video is never drawn"


def numpy_finetune(frames, num_frames, stride, end):
    span = num_frames * stride
    if frames > span:
        return np.clip(np.linspace(end - span, end, num_frames), end - span, end - 1).astype(np.int64).tolist()
    spread = np.linspace(0, frames, frames // stride)
    padded = np.concatenate([spread, np.full(num_frames - len(spread), frames)])
    return np.clip(padded, 0, frames - 1).astype(np.int64).tolist()


def test_jittered_clips_have_every_stride_and_reach_both_ends():
    # Strides 1 to 4, each frame up to a stride later than its place, starts from 0 to 300 - (15 * stride + 1).
    clips = [random_jittered_clip(300, generator=seeded(seed)) for seed in range(3000)]
    steps = {later - earlier for clip in clips for earlier, later in itertools.pairwise(clip)}
    assert steps == set(range(1, 8))
    spans = [clip[-1] - clip[0] for clip in clips]
    assert (min(spans), max(spans)) == (15, 63)
    assert sum(span == 15 for span in spans) / len(spans) == pytest.approx(0.25, abs=0.03)
    assert min(clip[0] for clip in clips) == 0
    assert max(clip[-1] for clip in clips) == 299


@pytest.mark.parametrize(("num_frames", "stride"), [(16, 4), (16, 2), (8, 3), (32, 2), (1, 4)])
def test_finetune_clip_rounds_as_numpy(num_frames, stride):
    span = num_frames * stride
    for frames in range(1, 200):
        for end in range(span, frames) if frames > span else [None]:
            expected = numpy_finetune(frames, num_frames, stride, end)
            assert finetune_clip(frames, num_frames, stride, end=end) == expected, (frames, end)


def test_segments_give_one_frame_each():
    for seed in range(20):
        clip = random_segment_clip(100, 16, generator=seeded(seed))
        assert [index // 6 for index in clip] == list(range(16))
    drawn = {random_segment_clip(48, 16, generator=generator)[0] for generator in [seeded()] for _ in range(60)}
    assert drawn == {0, 1, 2}


def test_videos_shorter_than_the_segments_repeat_frames_evenly():
    assert random_segment_clip(4, 8, generator=seeded()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_segment_test_clips_interleave():
    first, second = segment_test_clips(64)
    assert first == list(range(0, 64, 4))
    assert second == list(range(2, 64, 4))
    assert segment_test_clips(12, 4, num_clips=3) == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_dense_test_clips_span_the_video():
    clips = dense_test_clips(300, num_clips=5)
    frames = dense_test_frames(300)
    assert clips[0] == frames[:16]
    assert clips[-1] == frames[-16:]
    assert dense_test_starts(26, 16, num_clips=1) == [5]


def test_uniform_clip_takes_the_middles():
    assert uniform_clip(160, 16) == list(range(5, 160, 10))
    assert uniform_clip(1, 3) == [0, 0, 0]


@pytest.mark.parametrize("draw", [random_dense_clip, random_finetune_clip, random_jittered_clip, random_segment_clip])
@pytest.mark.parametrize("frames", [5, 64, 300])
def test_draws_depend_on_the_generator_alone(draw, frames):
    assert draw(frames, generator=seeded(3)) == draw(frames, generator=seeded(3))
    if frames == 300:
        assert len({tuple(draw(frames, generator=seeded(seed))) for seed in range(8)}) > 1


@pytest.mark.parametrize("draw", [random_dense_clip, random_finetune_clip, random_jittered_clip, random_segment_clip])
def test_the_state_afterwards_does_not_depend_on_the_video(draw):
    short, long = seeded(), seeded()
    draw(5, generator=short)
    draw(300, generator=long)
    assert torch.equal(short.get_state(), long.get_state())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dense_clip(0), "num_video_frames must be at least 1, got 0"),
        (lambda: dense_clip(9, 0), "num_frames must be at least 1, got 0"),
        (lambda: dense_clip(9, 4, 0), "stride must be at least 1, got 0"),
        (lambda: dense_clip(9, start=9), r"start must lie in \[0, 9\)"),
        (lambda: finetune_clip(300), r"end must lie in \[64, 300\).* got None"),
        (lambda: finetune_clip(300, end=300), "got 300"),
        (lambda: finetune_clip(60, end=60), "omit it"),
        (lambda: dense_test_starts(10), "pad them first"),
        (lambda: segment_test_clips(10, num_clips=0), "num_clips must be at least 1, got 0"),
        (lambda: sampling.uniform_clip(-1), "got -1"),
    ],
)
def test_wrong_values_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
