"""Crop, flip and resize whole clips: uint8 `(T, C, H, W)` in and out, the same for every frame.

Random transforms draw a fixed number of values from an explicit generator, independent of the clip's size and of
earlier draws. Only `resize` is torchvision's (uint8, bilinear; with antialias it matches Pillow's filter to one grey
level): its crops and flips draw from the global generator and differ from the official code. Crops come before
resizing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tubelets.data.transforms.constants import device_vector
from tubelets.data.transforms.geometry import (
    ClipTransform,
    Crop,
    GeometricTransform,
    Geometry,
    Mirror,
    Resize,
    check_clip,
)
from tubelets.ranges import Count, Natural, Positive, Share, check_ranges

# The sizes of `StretchedCrop` are for crops of this side.
_STRETCHED_REFERENCE = 224


def _check_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")


def _pick(count: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(count, (), generator=generator))


def multi_scale_crop_candidates(
    height: int,
    width: int,
    size: int,
    scales: Sequence[float] = (1, 0.875, 0.75, 0.66),
    max_distort: int = 1,
) -> list[tuple[tuple[int, int], list[tuple[int, int]]]]:
    """List the candidate crops of the multi-scale crop.

    Sides are `int(short side * scale)`, or `size` itself if they differ by less than 3 pixels and `size` fits. Each
    pair whose scale indices differ by at most `max_distort` is a candidate, with 13 offsets on a grid of quarters:
    corners, centre, edge middles, quarter points. Duplicates are kept and are therefore drawn more often.

    Args:
        height: rows of the video in pixels.
        width: columns of the video in pixels.
        size: side of the final square in pixels.
        scales: shares of the short side, in (0, 1].
        max_distort: largest difference between the scale indices of height and width.

    Returns:
        A list of `((crop height, crop width), [(top, left), ...])`, heights outermost.

    Raises:
        ValueError: if a size is below 1, a scale is out of range or a crop would be empty.

    Example:
        >>> candidates = multi_scale_crop_candidates(256, 340, 224)
        >>> len(candidates), candidates[1][0], candidates[1][1][:5]
        (10, (256, 224), [(0, 0), (0, 116), (0, 0), (0, 116), (0, 58)])

    Source: sigma.md, section 6; smile.md, section 8.1.
    """
    if min(height, width, size) < 1 or max_distort < 0:
        raise ValueError(
            f"height, width and size must be at least 1 and max_distort at least 0, got {height}, {width}, {size}, "
            f"{max_distort}"
        )
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ValueError(f"scales must be one or more numbers in (0, 1], got {tuple(scales)}")
    short = min(height, width)
    sides = [int(short * scale) for scale in scales]
    if min(sides) < 1:
        raise ValueError(f"scale {min(scales)} leaves no pixel of a short side of {short}; use larger scales or videos")
    sides = [size if abs(side - size) < 3 and size <= short else side for side in sides]
    return [
        ((rows, columns), _grid_offsets(height - rows, width - columns))
        for row_scale, rows in enumerate(sides)
        for column_scale, columns in enumerate(sides)
        if abs(row_scale - column_scale) <= max_distort
    ]


def _grid_offsets(free_rows: int, free_columns: int) -> list[tuple[int, int]]:
    """The 13 `(top, left)` offsets of a crop, in quarters of the free space."""
    corners = [(0, 0), (0, 4), (4, 0), (4, 4)]
    centre_and_edges = [(2, 2), (2, 0), (2, 4), (4, 2), (0, 2)]
    quarters = [(1, 1), (1, 3), (3, 1), (3, 3)]
    return [
        (row * (free_rows // 4), column * (free_columns // 4)) for row, column in corners + centre_and_edges + quarters
    ]


@dataclass(frozen=True)
class MultiScaleCrop(GeometricTransform):
    """Pretraining crop: one of the candidates, then one of its 13 offsets, both uniform; resized to a square.

    Args:
        size: side of the result in pixels.
        scales: shares of the short side, in (0, 1].
        max_distort: largest difference between the scale indices of height and width.

    Raises:
        ValueError: if a number is out of range; on the first call, if the clip has no valid candidates.

    Example:
        >>> clip = torch.zeros(16, 3, 48, 64, dtype=torch.uint8)
        >>> MultiScaleCrop(32)(clip, torch.Generator().manual_seed(0)).shape
        torch.Size([16, 3, 32, 32])

    Source: sigma.md, section 6; smile.md, section 8.1.
    """

    size: Count = 224
    scales: tuple[Share, ...] = (1, 0.875, 0.75, 0.66)
    max_distort: Natural = 1

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.scales:
            raise ValueError("scales must be one or more numbers in (0, 1], got ()")

    def draw(self, height: int, width: int, generator: torch.Generator | None) -> Geometry:
        """Draw a crop; see `GeometricTransform.draw`."""
        candidates = multi_scale_crop_candidates(height, width, self.size, self.scales, self.max_distort)
        (rows, columns), offsets = candidates[_pick(len(candidates), generator)]
        top, left = offsets[_pick(len(offsets), generator)]
        return Geometry((Crop(top, left, rows, columns, (height, width)), Resize(self.size, self.size)))


@dataclass(frozen=True)
class StretchedCrop(GeometricTransform):
    """Contrastive crop: resize to one of three sizes without keeping the aspect ratio, then crop a random square.

    Args:
        size: side of the result in pixels.
        sizes: candidate `(width, height)` in pixels for a `size` of 224; swapped for clips that are taller than
            wide.

    Raises:
        ValueError: if `size` is below 1, or one of `sizes` is smaller than 224.

    Example:
        >>> clip = torch.zeros(16, 3, 48, 64, dtype=torch.uint8)
        >>> StretchedCrop(32)(clip, torch.Generator().manual_seed(0)).shape
        torch.Size([16, 3, 32, 32])

    Source: tubelet_contrast.md, section 6, step 2.
    """

    size: Count = 112
    sizes: tuple[tuple[int, int], ...] = ((298, 224), (342, 256), (384, 288))

    def __post_init__(self) -> None:
        _check_size(self.size)
        if not all(_STRETCHED_REFERENCE <= side < math.inf for pair in self.sizes for side in pair):
            raise ValueError(f"sizes must be at least {_STRETCHED_REFERENCE} pixels, got {self.sizes}")
        check_ranges(self)

    def draw(self, height: int, width: int, generator: torch.Generator | None) -> Geometry:
        """Draw a size and a crop; see `GeometricTransform.draw`."""
        drawn = self.sizes[_pick(len(self.sizes), generator)]
        columns, rows = (round(side * self.size / _STRETCHED_REFERENCE) for side in drawn)
        if height > width:
            columns, rows = rows, columns
        top, left = _pick(rows - self.size + 1, generator), _pick(columns - self.size + 1, generator)
        crop = Crop(top, left, self.size, self.size, (rows, columns))
        return Geometry((Resize(rows, columns, antialias=False), crop))


@dataclass(frozen=True)
class RandomResizedCrop(GeometricTransform):
    """Fine-tuning crop: random area and aspect ratio, resized to a square; a central crop after 10 failed attempts.

    The official code resizes normalised float frames; here frames are uint8, so results are rounded to whole
    grey levels.

    Args:
        size: side of the result in pixels.
        scale: bounds of the crop's share of the area, uniform, in (0, 1].
        ratio: bounds of width / height, log-uniform.
        antialias: antialias when downscaling; the official recipe does not.

    Raises:
        ValueError: if bounds are not positive and ordered.

    Example:
        >>> clip = torch.zeros(16, 3, 48, 64, dtype=torch.uint8)
        >>> RandomResizedCrop(32)(clip, torch.Generator().manual_seed(0)).shape
        torch.Size([16, 3, 32, 32])

    Source: sigma.md, section 7.2; smile.md, section 6.3.
    """

    size: Count = 224
    scale: tuple[float, float] = (0.25, 1.0)
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    antialias: bool = False

    def __post_init__(self) -> None:
        _check_size(self.size)
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be (low, high) with 0 < low <= high <= 1, got {self.scale}")
        if len(self.ratio) != 2 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be (low, high) with 0 < low <= high, got {self.ratio}")
        check_ranges(self)

    def draw(self, height: int, width: int, generator: torch.Generator | None) -> Geometry:
        """Draw a crop; see `GeometricTransform.draw`."""
        crop = Crop(*self.box(height, width, generator), (height, width))
        return Geometry((crop, Resize(self.size, self.size, self.antialias)))

    def box(self, height: int, width: int, generator: torch.Generator | None) -> tuple[int, int, int, int]:
        """Draw a crop of a `height` x `width` video: `(top, left, rows, columns)` in pixels."""
        draws = torch.rand(10, 4, generator=generator, dtype=torch.float64).tolist()
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for area_draw, ratio_draw, top_draw, left_draw in draws:
            area = height * width * (self.scale[0] + area_draw * (self.scale[1] - self.scale[0]))
            ratio = math.exp(low + ratio_draw * (high - low))
            rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < rows <= height and 0 < columns <= width:
                return int(top_draw * (height - rows + 1)), int(left_draw * (width - columns + 1)), rows, columns
        rows = min(height, max(1, round(width / self.ratio[0])))
        columns = min(width, max(1, round(height * self.ratio[1])))
        return (height - rows) // 2, (width - columns) // 2, rows, columns


@dataclass(frozen=True)
class HorizontalFlip(GeometricTransform):
    """Flip clips horizontally with a given probability; unsuitable if labels distinguish left and right.

    Args:
        p: probability, in [0, 1].

    Raises:
        ValueError: if `p` is out of range.

    Example:
        >>> clip = torch.arange(3, dtype=torch.uint8).reshape(1, 1, 1, 3)
        >>> HorizontalFlip(p=1.0)(clip, torch.Generator().manual_seed(0)).flatten().tolist()
        [2, 1, 0]

    Source: smile.md, section 6.2 (0.5 for Kinetics, none for Something-Something).
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"p must be a probability in [0, 1], got {self.p}")

    def draw(self, height: int, width: int, generator: torch.Generator | None) -> Geometry:
        """Draw whether to flip; see `GeometricTransform.draw`."""
        return Geometry((Mirror(),) if float(torch.rand((), generator=generator)) < self.p else ())


@dataclass(frozen=True)
class ShortSideResize(GeometricTransform):
    """Resize the shorter side to `size` pixels; the longer one is truncated to whole pixels.

    Args:
        size: pixels of the shorter side.

    Raises:
        ValueError: if `size` is below 1.

    Example:
        >>> ShortSideResize(24)(torch.zeros(2, 3, 48, 65, dtype=torch.uint8)).shape
        torch.Size([2, 3, 24, 32])

    Source: sigma.md, section 7.2; smile.md, section 8.2.
    """

    size: Count = 224

    def __post_init__(self) -> None:
        _check_size(self.size)
        check_ranges(self)

    def draw(self, height: int, width: int, generator: torch.Generator | None) -> Geometry:
        """Return the new size; the generator is not used."""
        if height <= width:
            return Geometry((Resize(self.size, self.size * width // height),))
        return Geometry((Resize(self.size * height // width, self.size),))


@dataclass(frozen=True)
class CenterCrop(GeometricTransform):
    """Cut out the central square.

    Args:
        size: side of the square in pixels.

    Raises:
        ValueError: if `size` is below 1, or larger than a side of the clip.

    Example:
        >>> CenterCrop(4)(torch.zeros(2, 3, 6, 8, dtype=torch.uint8)).shape
        torch.Size([2, 3, 4, 4])

    Source: smile.md, section 8.2.
    """

    size: Count = 224

    def __post_init__(self) -> None:
        _check_size(self.size)
        check_ranges(self)

    def draw(self, height: int, width: int, generator: torch.Generator | None) -> Geometry:
        """Return the central box; the generator is not used."""
        if min(height, width) < self.size:
            raise ValueError(
                f"a crop of {self.size} pixels is larger than the {height} x {width} clip; use ShortSideResize first"
            )
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return Geometry((Crop(top, left, self.size, self.size, (height, width)),))


def three_crops(clip: Tensor, size: int) -> Tensor:
    """Cut the three test crops, spread along the longer side at `int(k * (long - size) / 2)`, k = 0, 1, 2.

    Args:
        clip: uint8 `(T, C, H, W)` whose shorter side is `size`.
        size: side of the crops in pixels.

    Returns:
        uint8 `(3, T, C, size, size)`.

    Raises:
        ValueError: if the shorter side is not `size`.

    Example:
        >>> three_crops(torch.zeros(2, 3, 8, 13, dtype=torch.uint8), 8).shape
        torch.Size([3, 2, 3, 8, 8])

    Source: sigma.md, section 7.2; smile.md, section 8.2.
    """
    height, width = check_clip(clip)
    if min(height, width) != size:
        raise ValueError(
            f"the shorter side of the clip must be {size}, got {height} x {width}; use ShortSideResize first"
        )
    offsets = [view * (max(height, width) - size) // 2 for view in range(3)]
    if width >= height:
        return torch.stack([clip[:, :, :, offset : offset + size] for offset in offsets])
    return torch.stack([clip[:, :, offset : offset + size] for offset in offsets])


@dataclass(frozen=True)
class Compose:
    """Apply transforms in sequence with the same generator.

    Args:
        transforms: the transforms, in order.

    Example:
        >>> augment = Compose((MultiScaleCrop(16), HorizontalFlip()))
        >>> augment(torch.zeros(2, 3, 20, 30, dtype=torch.uint8), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 16, 16])
    """

    transforms: tuple[ClipTransform, ...]

    def __call__(self, clip: Tensor, generator: torch.Generator) -> Tensor:
        """Transform one clip."""
        for transform in self.transforms:
            clip = transform(clip, generator)
        return clip


def normalize(clip: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale to [0, 1], subtract the mean and divide by the standard deviation of each channel.

    Args:
        clip: uint8 `(..., C, H, W)`.
        mean: one value per channel, in units of [0, 1].
        std: one positive value per channel, in units of [0, 1].

    Returns:
        float32 of the same shape, on the same device.

    Raises:
        TypeError: if the clip is not uint8.
        ValueError: if the channels do not match or a deviation is not positive.

    Example:
        >>> normalize(torch.full((1, 1, 1, 2), 255, dtype=torch.uint8), [0.5], [0.25]).flatten().tolist()
        [2.0, 2.0]
    """
    if clip.dtype != torch.uint8:
        raise TypeError(f"clip must be uint8 in [0, 255], got {clip.dtype}; it may be normalised already")
    if clip.dim() < 3 or not clip.shape[-3] == len(mean) == len(std):
        raise ValueError(
            f"clip {tuple(clip.shape)} must have {len(mean)} channels (mean) and {len(std)} (std) at dim -3"
        )
    if min(std) <= 0:
        raise ValueError(f"std must be positive, got {tuple(std)}")
    shape = (len(mean), 1, 1)
    centre, spread = (device_vector(values, clip.device).reshape(shape) for values in (mean, std))
    return clip.to(torch.float32).div_(255).sub_(centre).div_(spread)
