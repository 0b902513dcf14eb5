"""Regularised blue-noise masks: visible patches keep their distance and cover rows and columns evenly."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.masking.noise import color_noise, threshold_noise

_MAX_SWAPS = 2000


def _kernel(weights: Sequence[float]) -> Tensor:
    """Weights of the neighbours along rows, columns and the two diagonals; 0 for the cell itself."""
    reach = len(weights)
    kernel = torch.zeros(2 * reach + 1, 2 * reach + 1)
    for distance, weight in enumerate(weights, start=1):
        for row, column in ((0, 1), (1, 0), (1, 1), (1, -1)):
            for sign in (1, -1):
                kernel[reach + sign * distance * row, reach + sign * distance * column] = weight
    return kernel


def clustering_score(visible: Tensor, weights: Sequence[float] = (1.0, 0.5)) -> Tensor:
    """Number of visible cells near each cell, weighted by their distance along eight directions.

    Args:
        visible: bool or numeric `(B, rows, columns)`, 1 = visible; nothing is visible outside the grid.
        weights: weight of a visible cell at distance 1, 2, ...

    Returns:
        float32 `(B, rows, columns)`; the cell itself is not counted.

    Raises:
        ValueError: if the shape is wrong or there are no weights.

    Example:
        >>> clustering_score(torch.tensor([[[1, 0, 1]]]))
        tensor([[[0.5000, 2.0000, 0.5000]]])

    Source: structured_noise_masking.md, section 6.
    """
    if visible.ndim != 3 or not weights or not all(math.isfinite(weight) for weight in weights):
        raise ValueError(
            f"visible must be (B, rows, columns) with some finite weights, got {tuple(visible.shape)}, {weights}"
        )
    kernel = _kernel(weights).to(visible.device)
    return F.conv2d(visible.float()[:, None], kernel[None, None], padding=len(weights))[:, 0]


def clustering_energy(visible: Tensor, weights: Sequence[float] = (1.0, 0.5)) -> Tensor:
    """Half the sum of the scores of the visible cells, float32 `(B,)`: each pair of neighbours counts once.

    Args:
        visible: bool or numeric `(B, rows, columns)`, 1 = visible.
        weights: as for `clustering_score`.
    """
    return (clustering_score(visible, weights) * visible.float()).sum(dim=(1, 2)) / 2


def spread_visible(visible: Tensor, weights: Sequence[float] = (1.0, 0.5)) -> Tensor:
    """Move visible cells apart, one at a time, until no move helps; all maps at once.

    The visible cell with the highest score moves to the hidden cell that would have the lowest, if that is strictly
    lower. The count never changes and the energy falls with every move.

    Args:
        visible: bool `(B, rows, columns)`.
        weights: as for `clustering_score`.

    Returns:
        bool `(B, rows, columns)`.

    Source: structured_noise_masking.md, section 6.
    """
    result = visible.bool().clone()
    active = torch.arange(len(result), device=result.device)
    for _ in range(_MAX_SWAPS):
        maps = result[active]
        flat = maps.flatten(1)
        score = clustering_score(maps, weights).flatten(1)
        highest, source = score.masked_fill(~flat, -1.0).max(dim=1)
        without = flat.scatter(1, source[:, None], False)
        rest = clustering_score(without.view_as(maps), weights).flatten(1)
        lowest, target = rest.masked_fill(without, float("inf")).min(dim=1)
        helps = lowest < highest
        active = active[helps]
        if not len(active):
            break
        moved = without[helps].scatter(1, target[helps, None], True)
        result[active] = moved.view(-1, *maps.shape[1:])
    return result


def regularized_blue_masks(
    num_masks: int,
    grid: tuple[int, int],
    num_visible: int,
    *,
    sigma: float = 1.0,
    weights: Sequence[float] = (1.0, 0.5),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a bank of masks.

    Args:
        num_masks: masks to draw.
        grid: rows and columns, e.g. time and frequency.
        num_visible: cells that stay visible in each.
        sigma: standard deviation of the blue-noise filter in cells.
        weights: as for `clustering_score`; ours, the paper's are unknown.
        generator: source of randomness.

    Returns:
        bool `(num_masks, rows, columns)`, True = masked.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> masks = regularized_blue_masks(2, (16, 8), 26, generator=torch.Generator().manual_seed(0))
        >>> (~masks).sum(dim=(1, 2)).tolist()
        [26, 26]
    """
    if num_masks < 1 or min(grid) < 1:
        raise ValueError(f"num_masks and both sides of the grid must be at least 1, got {num_masks} and {grid}")
    white = torch.randn(num_masks, *grid, generator=generator)
    noise = color_noise(white, "blue", (sigma, sigma))
    visible = ~threshold_noise(noise.flatten(1), num_visible).view(num_masks, *grid)
    return ~spread_visible(visible, weights)
