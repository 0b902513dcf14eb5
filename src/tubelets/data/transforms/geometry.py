"""Geometric draws: crop, resize and mirror.

A transform first draws a `Geometry` and then applies it, so that all spatial media of a sample (frames, flow, depth)
share one draw, even with different sizes in pixels.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvf


@dataclass(frozen=True)
class Crop:
    """A box of a frame.

    Attributes:
        top: First row.
        left: First column.
        rows: Height in pixels.
        columns: Width in pixels.
        frame: Height and width of the frame the box was drawn for; it is scaled for frames of other sizes.
    """

    top: int
    left: int
    rows: int
    columns: int
    frame: tuple[int, int]

    def __call__(self, clip: Tensor) -> Tensor:
        """Return a view of the box in a clip `(T, C, H, W)`."""
        top, rows = _scaled(self.top, self.rows, self.frame[0], clip.shape[2])
        left, columns = _scaled(self.left, self.columns, self.frame[1], clip.shape[3])
        return clip[:, :, top : top + rows, left : left + columns]


def _scaled(start: int, length: int, drawn_for: int, actual: int) -> tuple[int, int]:
    """Scale one side of a box to another frame size, with at least one pixel inside the frame."""
    if drawn_for == actual:
        return start, length
    first = min(round(start * actual / drawn_for), actual - 1)
    return first, max(1, min(round((start + length) * actual / drawn_for), actual) - first)


@dataclass(frozen=True)
class Resize:
    """Bilinear resizing.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        antialias: Antialias when downscaling.
    """

    rows: int
    columns: int
    antialias: bool = True

    def __call__(self, clip: Tensor) -> Tensor:
        """Return a resized copy of a clip `(T, C, H, W)`."""
        if clip.shape[2:] == (self.rows, self.columns):
            return clip.contiguous()
        # A crop is a view. Channels-last frames, as decoders write them, are read in place, to the same values.
        channels_last = clip.shape[1] > 1 and clip.stride(1) == 1
        size, mode = [self.rows, self.columns], InterpolationMode.BILINEAR
        return tvf.resize(clip if channels_last else clip.contiguous(), size, mode, antialias=self.antialias)


@dataclass(frozen=True)
class Mirror:
    """Mirror left and right."""

    def __call__(self, clip: Tensor) -> Tensor:
        """Return a mirrored copy of a clip `(T, C, H, W)`."""
        return clip.flip(-1)


@dataclass(frozen=True)
class Geometry:
    """The geometric steps of one draw, applied to every frame of a sample.

    Attributes:
        steps: Crops, resizes and mirrors, in order.

    Example:
        >>> draw = Geometry((Crop(0, 2, 4, 4, frame=(4, 8)), Resize(2, 2), Mirror()))
        >>> draw(torch.zeros(1, 3, 4, 8)).shape, draw(torch.zeros(1, 2, 8, 16)).shape, draw.mirrored
        (torch.Size([1, 3, 2, 2]), torch.Size([1, 2, 2, 2]), True)
    """

    steps: tuple[Crop | Resize | Mirror, ...] = ()

    @property
    def mirrored(self) -> bool:
        """Whether the result is mirrored."""
        return sum(isinstance(step, Mirror) for step in self.steps) % 2 == 1

    def __call__(self, clip: Tensor) -> Tensor:
        """Apply the steps to a clip `(T, C, H, W)`."""
        for step in self.steps:
            clip = step(clip)
        return clip.contiguous()


class ClipTransform(Protocol):
    """A transform from a uint8 clip `(T, C, H, W)` to another; random ones draw from the generator."""

    def __call__(self, clip: Tensor, generator: torch.Generator) -> Tensor:
        """Transform one clip."""


class GeometricTransform(ABC):
    """A transform that only moves pixels, and can be shared by all spatial media of a sample."""

    @abstractmethod
    def draw(self, height: int, width: int, generator: torch.Generator | None) -> Geometry:
        """Draw the geometry for a clip.

        Args:
            height: Rows of its frames.
            width: Columns of its frames.
            generator: Random generator; deterministic transforms accept None.
        """

    def __call__(self, clip: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Transform one uint8 clip `(T, C, H, W)`."""
        return self.draw(*check_clip(clip), generator)(clip)


class PhotometricTransform(ABC):
    """A transform that only changes colours; of several media, it applies to RGB frames only."""

    @abstractmethod
    def __call__(self, clip: Tensor, generator: torch.Generator) -> Tensor:
        """Transform one uint8 clip `(T, C, H, W)`."""


def check_clip(clip: Tensor) -> tuple[int, int]:
    """Check a clip and return its height and width.

    Raises:
        TypeError: The clip is not uint8.
        ValueError: The clip is not `(T, C, H, W)`, or empty.
    """
    if clip.dtype != torch.uint8:
        raise TypeError(f"clip must be uint8 in [0, 255], got {clip.dtype}; normalize after the transforms")
    if clip.dim() != 4 or 0 in clip.shape:
        raise ValueError(f"clip must be (T, C, H, W) without empty sides, got shape {tuple(clip.shape)}")
    return clip.shape[2], clip.shape[3]
