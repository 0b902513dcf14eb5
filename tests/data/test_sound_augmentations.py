import re
from typing import Any

import pytest
import torch

from tubelets.data.transforms.sound import SoundAugmentation


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def widest_run(zero: torch.Tensor) -> int:
    """Length of the only run of True values; fails if there are several."""
    places = zero.nonzero().flatten().tolist()
    assert not places or places == list(range(places[0], places[-1] + 1))
    return len(places)


def test_a_rolled_sound_has_the_same_samples() -> None:
    sound = torch.arange(100.0)
    rolled = SoundAugmentation("waveform", gain=0).waveform(sound, seeded())
    assert not torch.equal(rolled, sound)
    assert torch.equal(rolled.roll(-int((rolled == 0).nonzero())), sound)
    assert SoundAugmentation("spectrogram", gain=0).waveform(sound, seeded()) is sound


def test_gain_is_a_factor_around_one() -> None:
    augment, generator = SoundAugmentation("none", gain=10), seeded()
    factors = torch.stack([augment.waveform(torch.ones(3), generator) for _ in range(500)])
    assert torch.equal(factors[:, 0], factors[:, 2])
    assert 0.5 < float(factors.min()) < float(factors.max()) < 1.5
    assert float(factors.mean()) == pytest.approx(1.0, abs=0.02)
    # Of Beta(10, 10).
    assert float(factors[:, 0].std()) == pytest.approx((1 / (4 * 21)) ** 0.5, rel=0.1)


def test_noise_is_never_louder_than_its_amplitude() -> None:
    augment = SoundAugmentation("none", 0, noise=0.1)
    found = torch.stack([augment.spectrogram(torch.zeros(20, 8), seeded(seed)) for seed in range(50)])
    assert 0 <= float(found.min()) < float(found.max()) <= 0.1
    # Each spectrogram has an amplitude of its own.
    assert float(found.amax(dim=(1, 2)).std()) > 0.01


def test_one_stretch_and_one_band_are_blanked() -> None:
    augment = SoundAugmentation("none", 0, time_mask=12, frequency_mask=6)
    times, bands = [], []
    for seed in range(300):
        masked = augment.spectrogram(torch.ones(40, 16), seeded(seed))
        times.append(widest_run((masked == 0).all(dim=1)))
        bands.append(widest_run((masked == 0).all(dim=0)))
        assert int((masked == 0).sum()) == 40 * 16 - (40 - times[-1]) * (16 - bands[-1])
    assert set(times) == set(range(12))
    assert set(bands) == set(range(6))


def test_every_place_can_be_blanked() -> None:
    augment = SoundAugmentation("none", 0, time_mask=4)
    found = torch.stack([augment.spectrogram(torch.ones(10, 2), seeded(seed)) for seed in range(300)])
    assert (found == 0).any(dim=0).all()


def test_a_mask_wider_than_the_spectrogram_and_the_input() -> None:
    values = torch.ones(4, 3)
    for seed in range(20):
        assert SoundAugmentation("none", 0, time_mask=1000).spectrogram(values, seeded(seed)).shape == (4, 3)
    assert torch.equal(values, torch.ones(4, 3))


def test_the_same_generator_changes_the_same() -> None:
    augment, values = SoundAugmentation("spectrogram", 10, 0.1, 5, 5), torch.rand(30, 10)
    assert torch.equal(augment.spectrogram(values, seeded(4)), augment.spectrogram(values, seeded(4)))
    assert not torch.equal(augment.spectrogram(values, seeded(4)), augment.spectrogram(values, seeded(5)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"roll": "both"}, "roll='both' must be one of"),
        ({"gain": -1}, "gain must not be negative, got -1"),
        ({"time_mask": -3}, "time_mask must not be negative, got -3"),
    ],
)
def test_bad_arguments_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SoundAugmentation(**fields)


def test_batches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one spectrogram \(frames, bands\), got shape \(2, 4, 3\)"):
        SoundAugmentation().spectrogram(torch.ones(2, 4, 3), seeded())
