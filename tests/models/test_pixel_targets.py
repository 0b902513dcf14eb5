"""Pixel targets are the same whatever number of tubes is worked on at a time."""

import pytest
import torch

from tubelets import TubeletsVideoMAEConfig
from tubelets.models.videomae import pixels

CONFIG = {"image_size": 32, "patch_size": 8, "num_frames": 4}


@pytest.mark.parametrize("standardised", [True, False])
@pytest.mark.parametrize("raw", [True, False])
def test_blocks_of_tubes_make_no_difference(monkeypatch, standardised, raw):
    generator = torch.Generator().manual_seed(0)
    config = TubeletsVideoMAEConfig(**CONFIG, norm_pix_loss=standardised)
    video = torch.randint(256, (2, 4, 3, 32, 32), generator=generator, dtype=torch.uint8)
    video = video if raw else video.float() / 100
    ids = torch.stack([torch.randperm(config.num_tokens, generator=generator)[:21] for _ in range(2)])
    monkeypatch.setattr(pixels, "CPU_BLOCK_TOKENS", 5)
    targets = pixels.pixel_targets(video, ids, config)
    torch.testing.assert_close(targets, pixels._tube_targets(video, ids, config))
    assert targets.shape == (2, 21, config.pixels_per_tube)
