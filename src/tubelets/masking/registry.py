"""Mask generators by name, as configurations state them."""

import functools
from collections.abc import Callable
from typing import Any

from tubelets.masking.generators import MaskGenerator, RandomMaskGenerator, TubeMaskGenerator
from tubelets.masking.noise_masks import NoiseMaskGenerator

VIDEO_NOISE = ("red2d", "blue2d", "green2d", "red3d", "blue3d", "green3d")

MASK_TYPES: dict[str, Callable[..., MaskGenerator]] = {
    "tube": TubeMaskGenerator,
    "random": RandomMaskGenerator,
    **{kind: functools.partial(NoiseMaskGenerator, kind) for kind in VIDEO_NOISE},
}
"""Masks over a grid of time, rows and columns: called with the grid, the ratio and options of the generator."""


def build_mask_generator(
    mask_type: str, grid: tuple[int, int, int], mask_ratio: float, **options: Any
) -> MaskGenerator:
    """Make the mask generator of a configuration.

    Args:
        mask_type: a name in `MASK_TYPES`.
        grid: token grid `(time, rows, columns)`.
        mask_ratio: share of masked tokens, in [0, 1).
        **options: further fields of the generator, for coloured noise those of `NoiseMaskGenerator`.

    Returns:
        A generator whose calls return bool masks `(batch_size, tokens)`.

    Raises:
        ValueError: if the name or an option is unknown, or a value is out of range.

    Example:
        >>> build_mask_generator("tube", (8, 14, 14), 0.9).num_masked
        1408
        >>> build_mask_generator("green3d", (8, 14, 14), 0.9, bank_size=4).num_masked
        1408
    """
    if mask_type not in MASK_TYPES:
        raise ValueError(f"mask_type must be one of {sorted(MASK_TYPES)}, got {mask_type!r}")
    try:
        return MASK_TYPES[mask_type](grid, mask_ratio, **options)
    except TypeError as error:
        raise ValueError(f"mask_type={mask_type!r} does not accept the options {options}: {error}") from error
