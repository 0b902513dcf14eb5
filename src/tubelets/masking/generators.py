"""Random and tube masks with exact counts, drawn for a whole batch at once."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tubelets.draws import Generators, rand


class MaskGenerator(Protocol):
    """Anything that draws masks over a token grid."""

    @property
    def grid(self) -> tuple[int, ...]:
        """Token grid, `(time, rows, columns)` for video."""

    @property
    def num_masked(self) -> int:
        """Masked tokens in each clip; the same for every draw, so that a batch stays rectangular."""

    def __call__(
        self, batch_size: int, *, generator: Generators | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """Draw masks, a bool tensor `(batch_size, time * rows * columns)`, `True` = masked.

        Args:
            batch_size: masks to draw.
            generator: one for the batch, or one for each clip, see `tubelets.draws`; a mask drawn from a clip's own
                generator does not depend on the batch.
            device: device of the masks.
        """


def _draw(
    batch_size: int,
    population: int,
    chosen: int,
    generator: Generators | None,
    device: torch.device | str | None,
) -> Tensor:
    """Bool `(batch_size, population)` with exactly `chosen` True in each row, uniformly among all such rows."""
    if batch_size < 0:
        raise ValueError(f"batch_size must be at least 0, got {batch_size}")
    order = rand(batch_size, population, generator=generator, device=device).argsort(dim=1)
    mask = torch.zeros(batch_size, population, dtype=torch.bool, device=order.device)
    return mask.scatter_(1, order[:, :chosen], True)


def _check(grid: tuple[int, int, int], mask_ratio: float, dims: tuple[int, ...]) -> None:
    """Reject an invalid grid, and a ratio that leaves nothing visible along the drawn dimensions `dims`."""
    if len(grid) != 3 or any(not isinstance(side, int) or side < 1 for side in grid):
        raise ValueError(f"grid must be three positive integers (time, rows, columns), got {grid!r}")
    if isinstance(mask_ratio, str) or not 0 <= mask_ratio < 1:
        raise ValueError(f"mask_ratio must lie in [0, 1), got {mask_ratio}")
    positions = math.prod([grid[dim] for dim in dims])  # a list: dynamo cannot trace a generator here
    if int(mask_ratio * positions) >= positions:
        raise ValueError(f"mask_ratio {mask_ratio} leaves no visible token among {positions}; choose a smaller ratio")


@dataclass(frozen=True)
class TubeMaskGenerator:
    """Tube masks: one random set of positions per clip, hidden at every time step (sigma.md, section 6).

    Args:
        grid: token grid `(time, rows, columns)`.
        mask_ratio: share of the positions that is masked, in [0, 1). `int(mask_ratio * rows * columns)` positions are
            masked at each time step, e.g. `int(0.9 * 196) = 176`.

    Raises:
        ValueError: if the grid or the ratio is out of range.

    Example:
        >>> tube = TubeMaskGenerator(grid=(8, 14, 14), mask_ratio=0.9)
        >>> mask = tube(4, generator=torch.Generator().manual_seed(0))
        >>> mask.shape, tube.num_masked
        (torch.Size([4, 1568]), 1408)
    """

    grid: tuple[int, int, int]
    mask_ratio: float = 0.9

    def __post_init__(self) -> None:
        _check(self.grid, self.mask_ratio, (1, 2))

    @property
    def num_masked(self) -> int:
        """Number of masked tokens in each clip."""
        time, rows, columns = self.grid
        return time * int(self.mask_ratio * rows * columns)

    def __call__(
        self, batch_size: int, *, generator: Generators | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """Draw masks, a bool tensor `(batch_size, time * rows * columns)`, `True` = masked."""
        time, rows, columns = self.grid
        frame = _draw(batch_size, rows * columns, self.num_masked // time, generator, device)
        return frame.repeat(1, time)


@dataclass(frozen=True)
class RandomMaskGenerator:
    """Random masks: `int(mask_ratio * time * rows * columns)` tokens of each clip, chosen uniformly.

    The official SIGMA code lists this type but cannot run it (sigma.md, section 6); the count follows VideoMAE.

    Args:
        grid: token grid `(time, rows, columns)`.
        mask_ratio: share of the tokens that is masked, in [0, 1).

    Raises:
        ValueError: if the grid or the ratio is out of range.

    Example:
        >>> random = RandomMaskGenerator(grid=(2, 4, 4), mask_ratio=0.75)
        >>> random(3, generator=torch.Generator().manual_seed(0)).sum(1)
        tensor([24, 24, 24])
    """

    grid: tuple[int, int, int]
    mask_ratio: float = 0.9

    def __post_init__(self) -> None:
        _check(self.grid, self.mask_ratio, (0, 1, 2))

    @property
    def num_masked(self) -> int:
        """Number of masked tokens in each clip."""
        time, rows, columns = self.grid
        return int(self.mask_ratio * time * rows * columns)

    def __call__(
        self, batch_size: int, *, generator: Generators | None = None, device: torch.device | str | None = None
    ) -> Tensor:
        """Draw masks, a bool tensor `(batch_size, time * rows * columns)`, `True` = masked."""
        time, rows, columns = self.grid
        return _draw(batch_size, time * rows * columns, self.num_masked, generator, device)
