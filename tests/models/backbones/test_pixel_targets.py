"""Tubes and pixel targets are the same however the video lies in memory and is worked on."""

import pytest
import torch

from tubelets import TubeletsVideoMAEConfig
from tubelets.models.backbones.video_vit import pixels
from tubelets.models.backbones.video_vit.tubes import gather_tubes

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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("whole", [True, False])
def test_tubes_are_the_pixels_at_their_places(dtype, whole):
    config = TubeletsVideoMAEConfig(image_size=(16, 24), patch_size=(8, 4), num_frames=4)
    video = torch.arange(2 * 4 * 3 * 16 * 24).remainder(251).view(2, 4, 3, 16, 24).to(dtype)
    if not whole:  # channels before frames in memory, as other libraries keep clips
        video = video.transpose(1, 2).contiguous().transpose(1, 2)
    ids = torch.tensor([[0, 23, 7], [12, 1, 18]])  # grid of 2 x 2 x 6
    found = gather_tubes(video, ids, config)
    for clip, tokens in enumerate(ids.tolist()):
        for place, token in enumerate(tokens):
            time, row, column = token // 12, token % 12 // 6, token % 6
            frames = video[clip, 2 * time : 2 * time + 2]
            tube = frames[..., 8 * row : 8 * row + 8, 4 * column : 4 * column + 4].transpose(0, 1)
            assert torch.equal(found[clip, place], tube)
    everything = gather_tubes(video, None, config)
    assert torch.equal(everything[torch.arange(2)[:, None], ids], found)


def test_gradients_reach_the_pixels():
    config = TubeletsVideoMAEConfig(image_size=16, patch_size=8, num_frames=4)
    video = torch.randn(1, 4, 3, 16, 16, requires_grad=True)
    gather_tubes(video, torch.tensor([[0, 0, 5]]), config).sum().backward()
    assert video.grad[0, :2, :, :8, :8].eq(2).all()
    assert video.grad[0, 2:, :, :8, 8:].eq(1).all()
    assert video.grad.sum() == 3 * 3 * 2 * 64
