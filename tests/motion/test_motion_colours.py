"""Changes of hue are those of the formula with a modulo, to the bit."""

import torch
from torch import Tensor

from motion_by_hand import seeded
from tubelets.motion.colours import _drops, change_hue_saturation


def by_modulo(frames: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """The conversion to hue, saturation and value and back, as a textbook has it (tubelet_contrast.md, section 6)."""
    red, green, blue = frames.unbind(2)
    value, spread = frames.amax(dim=2), frames.amax(dim=2) - frames.amin(dim=2)
    divisor = spread.clamp_min(1)
    other = torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    sector = torch.where(value == red, (green - blue) / divisor, other)
    hues = ((30 * sector % 180).round() % 180 + hue.view(-1, 1, 1, 1)).clamp(0, 179).round()
    shares = (255 * spread / value.clamp_min(1)).round()
    shares = (shares * saturation.view(-1, 1, 1, 1)).clamp(0, 255).round() / 255
    places = [(offset + hues / 30) % 6 for offset in (5, 3, 1)]
    drops = torch.stack([torch.minimum(place, 4 - place).clamp(0, 1) for place in places], dim=2)
    return (value[:, :, None] * (1 - shares[:, :, None] * drops)).round()


def test_every_hue_has_the_same_colour() -> None:
    sectors = torch.arange(180.0) / 30
    for offset, drop in zip((5, 3, 1), _drops(sectors), strict=True):
        place = (offset + sectors) % 6
        assert torch.equal(drop, torch.minimum(place, 4 - place).clamp(0, 1))


def test_random_and_grey_colours_are_changed_alike() -> None:
    frames = torch.randint(256, (4, 2, 3, 64, 64), generator=seeded()).float()
    frames[:, :, :, :8] = frames[:, :, :1, :8]  # grey
    frames[:, :, 1, 8:16] = frames[:, :, 0, 8:16]  # two equal channels
    frames[:, :, 2, 16:24] = frames[:, :, 0, 16:24]
    hue, saturation = torch.tensor([-12.0, 0.0, 3.3, 12.0]), torch.tensor([1.1, 0.9, 1.0, 0.95])
    found = change_hue_saturation(frames, hue, saturation)
    assert torch.equal(found, by_modulo(frames, hue, saturation))
