"""One frame of each interval of a video, as Singularity and VindLU sample them."""

import numpy as np
import pytest
import torch

from tubelets.data.modalities.clips import ClipSpec
from tubelets.data.modalities.interval_sampling import interval_bounds, interval_clip, random_interval_clip


@pytest.mark.parametrize("frames", [4, 5, 7, 16, 33, 250])
def test_bounds_are_the_truncated_linspace(frames: int) -> None:
    assert interval_bounds(frames, 4) == np.linspace(0, frames, 5).astype(int).tolist()


def test_the_last_frame_of_an_interval_is_never_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = {tuple(random_interval_clip(12, 4, generator=generator)) for _ in range(400)}
    seen = [sorted({clip[place] for clip in drawn}) for place in range(4)]
    assert seen == [[0, 1], [3, 4], [6, 7], [9, 10]]
    assert interval_clip(12, 4) == [1, 4, 7, 10]


def test_short_videos_fall_back() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        clip = random_interval_clip(6, 4, generator=generator)
        assert sorted(set(clip)) == clip
        assert max(clip) < 6
    assert random_interval_clip(2, 4, generator=generator) == interval_clip(2, 4) == [0, 1, 1, 1]
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 4"):
        interval_clip(0)


def test_clip_specs_sample_intervals() -> None:
    generator = torch.Generator().manual_seed(0)
    assert ClipSpec(4, sampling="interval_test").indices(16, 0, generator) == [1, 5, 9, 13]
    assert [frame // 16 for frame in ClipSpec(4, sampling="interval").indices(64, 0, generator)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="'interval_test' gives one clip"):
        ClipSpec(4, clips_per_video=2, sampling="interval_test")
