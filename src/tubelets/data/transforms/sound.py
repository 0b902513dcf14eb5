"""Random augmentations of waveforms and spectrograms (structured_noise_masking.md, section 8)."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tubelets.ranges import Natural, NotNegative, check_ranges

Roll = Literal["waveform", "spectrogram", "none"]


def draw_beta(concentration: int, generator: torch.Generator) -> Tensor:
    """Draw from Beta(c, c) for an integer c, as the median of 2c - 1 uniform numbers.

    Args:
        concentration: c, at least 1.
        generator: random draws.

    Returns:
        A scalar in (0, 1).

    Example:
        >>> 0 < draw_beta(10, torch.Generator().manual_seed(0)) < 1
        tensor(True)
    """
    return torch.rand(2 * concentration - 1, generator=generator).median()


@dataclass(frozen=True)
class SoundAugmentation:
    """Random time roll, gain, spectrogram noise and SpecAugment masks.

    Masked parts are set to 0, about the mean of a normalised spectrogram; the value is our choice.

    Args:
        roll: what to roll in time by a random amount.
        gain: c of the factor Beta(c, c) + 0.5 on the waveform; 0 disables it.
        noise: largest amplitude of uniform noise on the spectrogram; the amplitude itself is uniform up to it.
        time_mask: maximum width of the time mask, in spectrogram frames; widths are uniform below it.
        frequency_mask: maximum width of the frequency mask, in mel bins, likewise.

    Raises:
        ValueError: if an argument is negative or unknown.

    Example:
        >>> augment = SoundAugmentation("none", time_mask=4, frequency_mask=3)
        >>> masked = augment.spectrogram(torch.ones(8, 6), torch.Generator().manual_seed(5))
        >>> (masked == 0).all(dim=1).sum().item(), (masked == 0).all(dim=0).sum().item()
        (3, 2)

    Source: structured_noise_masking.md, section 8; masks are SpecAugment's, arXiv 1904.08779, section 2.
    """

    roll: Roll = "waveform"
    gain: Natural = 10
    noise: NotNegative = 0.0
    time_mask: Natural = 0
    frequency_mask: Natural = 0

    def __post_init__(self) -> None:
        if self.roll not in get_args(Roll):
            raise ValueError(f"roll={self.roll!r} must be one of {get_args(Roll)}")
        for name in ("gain", "noise", "time_mask", "frequency_mask"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        check_ranges(self)

    def waveform(self, waveform: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a waveform.

        Args:
            waveform: float `(samples,)`.
            generator: random draws.

        Returns:
            A waveform of the same shape, scaled by at most 1.5.
        """
        if self.roll == "waveform":
            waveform = _rolled(waveform, generator)
        return waveform * (draw_beta(self.gain, generator) + 0.5) if self.gain else waveform

    def spectrogram(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a normalised spectrogram.

        Args:
            values: float `(frames, bands)`.
            generator: random draws.

        Returns:
            A spectrogram of the same shape.

        Raises:
            ValueError: if `values` is not a single spectrogram.
        """
        if values.ndim != 2:
            raise ValueError(f"values must be one spectrogram (frames, bands), got shape {tuple(values.shape)}")
        if self.noise:
            amplitude = self.noise * torch.rand((), generator=generator)
            values = values + amplitude * torch.rand(values.shape, generator=generator)
        if self.roll == "spectrogram":
            values = _rolled(values, generator)
        return self._blanked(values, generator) if self.time_mask or self.frequency_mask else values

    def _blanked(self, values: Tensor, generator: torch.Generator) -> Tensor:
        masked = values.clone()
        draws = torch.rand(2, 2, generator=generator).tolist()
        for axis, widest, (width, place) in zip((0, 1), (self.time_mask, self.frequency_mask), draws, strict=True):
            side = values.shape[axis]
            count = int(width * min(widest, side))
            masked.narrow(axis, int(place * (side - count + 1)), count).zero_()
        return masked


def _rolled(values: Tensor, generator: torch.Generator) -> Tensor:
    """Roll the first axis, time, by a random amount."""
    return values.roll(int(torch.randint(len(values), (), generator=generator)), dims=0)
