"""Masks from coloured noise with exact counts, drawn for a whole batch from a seeded noise bank."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tubelets.draws import Generators, rand, randint
from tubelets.masking.generators import RandomMaskGenerator, TubeMaskGenerator
from tubelets.masking.noise import color_noise, threshold_noise
from tubelets.masking.regularized_blue import regularized_blue_masks

Sigma = float | tuple[float, float]
CountRule = Literal["masked_floor", "kept_floor"]

NOISE_TYPES = ("red2d", "blue2d", "green2d", "red3d", "blue3d", "green3d", "regularized_blue")
"""Kinds of noise; those that end in 2d repeat one pattern over time."""

# Defaults where no deviation is given (structured_noise_masking.md, section 3.3; choices of this package).
_SIGMA_LOW: dict[str, Sigma] = {"red": 1.5, "blue": 1.0, "green": (1.0, 1.5)}
_SIGMA_HIGH: dict[str, Sigma] = {"green": (2.0, 3.5)}
_LEAST_RATIO = 1.5  # of the two deviations of green noise
# The masks that the paper shows change faster over time than over space.
_GREEN_TEMPORAL_RATIO = 0.8


def count_visible(length: int, mask_ratio: float, rule: CountRule = "masked_floor") -> int:
    """Return how many of `length` tokens stay visible.

    Args:
        length: tokens.
        mask_ratio: share that is masked, in [0, 1).
        rule: "masked_floor" masks int(ratio * length) (VideoMAE, SIGMA), "kept_floor" keeps int(length * (1 - ratio))
            (AudioMAE, MaskSpec, CAV-MAE, ColorMAE).

    Returns:
        The count.

    Raises:
        ValueError: if the rule is unknown, the ratio out of range, or nothing would stay visible.

    Example:
        >>> count_visible(196, 0.9), count_visible(196, 0.9, "kept_floor")
        (20, 19)
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    if not 0 <= mask_ratio < 1:
        raise ValueError(f"mask_ratio must lie in [0, 1), got {mask_ratio}")
    if rule not in ("masked_floor", "kept_floor"):
        raise ValueError(f"count_rule must be 'masked_floor' or 'kept_floor', got {rule!r}")
    kept = length - int(mask_ratio * length) if rule == "masked_floor" else int(length * (1 - mask_ratio))
    if kept < 1:
        raise ValueError(f"mask_ratio {mask_ratio} leaves no visible token among {length}; choose a smaller ratio")
    return kept


def _check_sigma(name: str, sigma: Sigma | None) -> None:
    """Reject a deviation, or the bounds of one, that are not positive, finite and ascending."""
    if sigma is None:
        return
    bounds = [sigma] if isinstance(sigma, (int, float)) else list(sigma)
    if len(bounds) not in (1, 2) or not all(0 < value < math.inf for value in bounds) or bounds != sorted(bounds):
        raise ValueError(f"{name} must be a positive number, or two that ascend, got {sigma!r}")


@dataclass(frozen=True)
class NoiseMaskGenerator:
    """Masks whose visible tokens are the peaks of coloured noise.

    The bank of noise volumes (or, for `regularized_blue`, of masks) is built from `seed` on first use. A draw is
    a random crop of a random volume, with periodic borders and random flips; it costs a gather and a sort.

    Args:
        kind: a name in `NOISE_TYPES`, or "random" or "tube".
        grid: token grid `(time, rows, columns)`; `(time, frequency)` for `regularized_blue`.
        mask_ratio: share of tokens that is masked, in [0, 1).
        sigma_low: deviation of the (first) Gaussian in tokens, or (low, high) to draw it for each volume. None is a
            default for the colour.
        sigma_high: of the second Gaussian of green noise, likewise; at least 1.5 times the first.
        temporal_sigma_ratio: deviations along time over those along rows and columns, for noise over time. None is 0.8
            for green noise with the default deviations, and 1 otherwise.
        per_slot: the same number of visible tokens at each time step; False keeps the strongest of the whole clip, the
            same number in total. Patterns that repeat over time always have the same number.
        count_rule: see `count_visible`.
        bank_size: volumes, or masks of `regularized_blue`; None is 16 or 2048.
        volume_shape: sides of a volume, at least those of the grid.
        flips: flip crops at random along each axis, time included.
        weights: see `clustering_score`, for `regularized_blue`.
        seed: seed of the bank.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> green = NoiseMaskGenerator("green3d", (8, 14, 14), 0.9, bank_size=1, volume_shape=(8, 32, 32))
        >>> mask = green(4, generator=torch.Generator().manual_seed(0))
        >>> mask.shape, mask.sum(dim=1).tolist(), green.num_masked
        (torch.Size([4, 1568]), [1408, 1408, 1408, 1408], 1408)

    Source: structured_noise_masking.md, sections 3 to 6; the paper's constants are unknown, these are choices.
    """

    kind: str
    grid: tuple[int, ...]
    mask_ratio: float = 0.9
    sigma_low: Sigma | None = None
    sigma_high: Sigma | None = None
    temporal_sigma_ratio: float | None = None
    per_slot: bool = True
    count_rule: CountRule = "masked_floor"
    bank_size: int | None = None
    volume_shape: tuple[int, int, int] = (32, 128, 128)
    flips: bool = True
    weights: tuple[float, ...] = (1.0, 0.5)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (*NOISE_TYPES, "random", "tube"):
            raise ValueError(f"kind must be one of {', '.join(NOISE_TYPES)}, random or tube, got {self.kind!r}")
        sides = 2 if self.kind == "regularized_blue" else 3
        if len(self.grid) != sides or not all(isinstance(side, int) and side >= 1 for side in self.grid):
            raise ValueError(f"grid must be {sides} positive integers for {self.kind}, got {self.grid!r}")
        if self.bank_size is None:
            # The field of a frozen dataclass can only be set this way; it then states what is used.
            object.__setattr__(self, "bank_size", 2048 if sides == 2 else 16)
        if not isinstance(self.bank_size, int) or self.bank_size < 1:
            raise ValueError(f"bank_size must be at least 1, got {self.bank_size}")
        if len(self.volume_shape) != 3 or not all(isinstance(side, int) for side in self.volume_shape):
            raise ValueError(f"volume_shape must be three integers, got {self.volume_shape}")
        if not isinstance(self.seed, int):
            raise ValueError(f"seed must be an integer, got {self.seed}")
        if sides == 3 and any(side < wanted for side, wanted in zip(self.volume_shape, self.grid, strict=True)):
            raise ValueError(f"volume_shape {self.volume_shape} must be at least the grid {self.grid}")
        for name in ("sigma_low", "sigma_high"):
            _check_sigma(name, getattr(self, name))
        if not self.weights or not all(0 <= weight < math.inf for weight in self.weights):
            raise ValueError(f"weights must be at least one number, each finite and not negative, got {self.weights}")
        if self.sigma_high is not None and not self.kind.startswith("green"):
            raise ValueError(f"sigma_high is for green noise; {self.kind} has one deviation, sigma_low")
        if self.temporal_sigma_ratio is not None and not 0 < self.temporal_sigma_ratio < math.inf:
            raise ValueError(f"temporal_sigma_ratio must be positive, got {self.temporal_sigma_ratio}")
        _ = self._num_visible  # refuses a ratio that hides everything

    @property
    def _num_slots(self) -> int:
        """Time steps with the same number of visible tokens."""
        return self.grid[0] if len(self.grid) == 3 and self.kind != "random" else 1

    @property
    def _num_visible(self) -> int:
        """Visible tokens of each slot."""
        length = math.prod(list(self.grid)) // self._num_slots
        return count_visible(length, self.mask_ratio, self.count_rule)

    @property
    def num_masked(self) -> int:
        """Number of masked tokens in each clip."""
        return math.prod(list(self.grid)) - self._num_slots * self._num_visible

    @functools.cached_property
    def bank(self) -> Tensor:
        """Noise volumes `(bank_size, time, rows, columns)`, patterns with time 1, or bool masks `(bank_size, T, F)`."""
        generator = torch.Generator().manual_seed(self.seed)
        if self.kind == "regularized_blue":
            rows, columns = self.grid
            return regularized_blue_masks(
                int(self.bank_size or 0),
                (rows, columns),
                self._num_visible,
                sigma=self._draw_sigma(self.sigma_low, "blue", generator),
                weights=self.weights,
                generator=generator,
            )
        color, flat = self.kind[:-2], self.kind.endswith("2d")
        shape = (1, *self.volume_shape[1:]) if flat else self.volume_shape
        volumes = []
        for _ in range(int(self.bank_size or 0)):
            low = self._draw_sigma(self.sigma_low, color, generator)
            high = None
            if color == "green":
                drawn = self._draw_sigma(self.sigma_high, color, generator, high=True)
                high = max(drawn, _LEAST_RATIO * low)
            white = torch.randn(shape, generator=generator)
            if flat:
                volumes.append(color_noise(white[0], color, low, high)[None])
            else:
                wide = None if high is None else self._along(high)
                volumes.append(color_noise(white, color, self._along(low), wide))
        return torch.stack(volumes)

    def _along(self, sigma: float) -> tuple[float, float, float]:
        """A deviation along time, rows and columns."""
        ratio = self.temporal_sigma_ratio
        if ratio is None:
            default = self.kind == "green3d" and self.sigma_low is None and self.sigma_high is None
            ratio = _GREEN_TEMPORAL_RATIO if default else 1.0
        return ratio * sigma, sigma, sigma

    def with_bank(self, bank: Tensor) -> "NoiseMaskGenerator":
        """The same generator with an existing bank.

        Args:
            bank: the `bank` of an equal generator.

        Returns:
            A copy.

        Raises:
            ValueError: if the bank has another shape or type.
        """
        if self.kind == "regularized_blue":
            shape: tuple[int, ...] = (int(self.bank_size or 0), *self.grid)
        else:
            shape = (int(self.bank_size or 0), 1 if self.kind.endswith("2d") else self.volume_shape[0])
            shape = (*shape, *self.volume_shape[1:])
        kind = torch.bool if self.kind == "regularized_blue" else torch.float32
        if tuple(bank.shape) != shape or bank.dtype != kind:
            raise ValueError(
                f"a bank of {self.kind} must be {kind} of shape {shape}, got {bank.dtype} {tuple(bank.shape)}"
            )
        copy = dataclasses.replace(self)
        # `functools.cached_property` reads it from here.
        copy.__dict__["bank"] = bank
        return copy

    @staticmethod
    def _draw_sigma(given: Sigma | None, color: str, generator: torch.Generator, high: bool = False) -> float:
        value = given if given is not None else (_SIGMA_HIGH if high else _SIGMA_LOW)[color]
        if isinstance(value, (int, float)):
            return float(value)
        return value[0] + (value[1] - value[0]) * torch.rand((), generator=generator).item()

    def __call__(
        self, batch_size: int, *, generator: Generators | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """Draw masks, a bool tensor `(batch_size, tokens)`, `True` = masked, tokens time-major.

        Args:
            batch_size: masks to draw.
            generator: on the CPU, one for the batch or one for each clip; None is torch's global one.
            device: device of the masks.
        """
        if self.kind in ("random", "tube"):
            return self._plain(batch_size, generator).to(device)
        crops = self.bank.take(self._crop_indices(batch_size, self.bank.shape, generator))
        if self.kind == "regularized_blue":
            return crops.flatten(1).to(device)
        if self.kind.endswith("2d"):
            return threshold_noise(crops.flatten(1), self._num_visible).repeat(1, self._num_slots).to(device)
        if self.per_slot:
            return threshold_noise(crops.flatten(2), self._num_visible).flatten(1).to(device)
        return threshold_noise(crops.flatten(1), self._num_slots * self._num_visible).to(device)

    def _plain(self, batch_size: int, generator: Generators | None) -> Tensor:
        time, rows, columns = self.grid
        if self.count_rule == "masked_floor":
            plain = RandomMaskGenerator if self.kind == "random" else TubeMaskGenerator
            return plain((time, rows, columns), self.mask_ratio)(batch_size, generator=generator)
        noise = rand(batch_size, time * rows * columns // self._num_slots, generator=generator)
        return threshold_noise(noise, self._num_visible).repeat(1, self._num_slots)

    def _crop_indices(self, batch_size: int, shape: Sequence[int], generator: Generators | None) -> Tensor:
        """Places in the flattened bank of a crop for each clip: int64 `(batch_size, *crop)`."""
        sides = shape[1:]
        wanted = [min(side, want) for side, want in zip(sides, self.grid, strict=True)]
        item = randint(shape[0], batch_size, generator=generator)
        index = item.view(-1, *[1] * len(sides))
        for axis, (side, want) in enumerate(zip(sides, wanted, strict=True)):
            # Masks of `regularized_blue` are whole grids; shifting them would move their borders inside.
            origin = randint(side, batch_size, generator=generator)
            places = torch.arange(want).expand(batch_size, -1)
            if self.kind != "regularized_blue":
                places = (places + origin[:, None]) % side
            if self.flips:
                flipped = rand(batch_size, generator=generator) < 0.5
                places = torch.where(flipped[:, None], places.flip(1), places)
            place = places.view(batch_size, *[1] * axis, want, *[1] * (len(sides) - axis - 1))
            index = index * side + place
        return index
