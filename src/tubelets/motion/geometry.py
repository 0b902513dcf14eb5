"""Geometry of transformed patches: their position in the frame, and maps from frame pixels to patch points.

Coordinates are pixels, x to the right, y down; integer coordinates are pixel centres. A patch of `width x height` is
sheared, then rotated about its centre onto a canvas just large enough for it; the canvas is centred on the patch's box.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """The canvases of transformed patches; every tensor has the leading dimensions of the boxes.

    Attributes:
        sizes: int64 `(..., 2)` width and height of what is pasted of the canvas, counted from its top left.
        origins: int64 `(..., 2)` column and row of its top-left pixel in the frame; may be negative.
        inverse: float64 `(..., 2, 3)`, canvas pixel `(X, Y, 1)` to patch pixel `(x, y)`.
    """

    sizes: Tensor
    origins: Tensor
    inverse: Tensor


def place(boxes: Tensor, angles: Tensor, shears: Tensor, frame_size: tuple[int, int], shift_clipped: bool) -> Placement:
    """Place patches that have the sizes of their boxes.

    Args:
        boxes: int64 `(..., 4)` as `(x1, y1, x2, y2)`, each at least one pixel wide and high.
        angles: degrees `(...)`, clockwise.
        shears: `(..., 2)` factors, first along x (columns move by x-factor times row), then along y.
        frame_size: height and width of the frame.
        shift_clipped: how to treat a canvas that extends beyond the top or left border. `False` crops it;
            `True` moves it to the border, so that its top-left part of the same size shows (Tubelet-Contrast's code).

    Returns:
        The canvases.

    Raises:
        ValueError: if a box is empty.

    Example:
        >>> boxes, upright = torch.tensor([10, 20, 16, 24]), torch.zeros(2)
        >>> place(boxes, torch.tensor(90), upright, (64, 64), False).sizes.tolist()
        [4, 6]
    """
    box_sizes = boxes[..., 2:] - boxes[..., :2]
    if bool((box_sizes < 1).any()):
        raise ValueError(f"boxes must be at least 1 x 1 pixels, got one of {_smallest(box_sizes)} (width, height)")
    warps = warp_steps(box_sizes, angles, shears)
    inverse = compose(compose(warps[0].inverse, warps[1].inverse), warps[2].inverse)
    sizes = warps[2].sizes
    # Halves are rounded up at the top and the left, also when the canvas is smaller than the box.
    origins = boxes[..., :2] - torch.div(sizes - box_sizes + 1, 2, rounding_mode="floor")
    if shift_clipped:
        height, width = frame_size
        limits = torch.tensor([width, height], device=origins.device)
        ends = torch.minimum((origins + sizes).clamp_min(0), limits)
        origins = torch.minimum(origins.clamp_min(0), limits)
        sizes = ends - origins
    return Placement(sizes, origins, inverse)


@dataclass(frozen=True)
class Warp:
    """One step of the transformation of patches.

    Attributes:
        sizes: int64 `(..., 2)` width and height of its canvas.
        inverse: float64 `(..., 2, 3)`, pixel `(X, Y, 1)` of its canvas to pixel `(x, y)` of the input.
    """

    sizes: Tensor
    inverse: Tensor


def warp_steps(sizes: Tensor, angles: Tensor, shears: Tensor) -> list[Warp]:
    """The steps that patches go through: shear along x, shear along y, rotation.

    Args:
        sizes: int64 `(..., 2)` width and height of the patches.
        angles: degrees `(...)`, clockwise.
        shears: `(..., 2)` factors along x and y.

    Returns:
        Three warps, each over the canvas of the one before.

    Example:
        >>> steps = warp_steps(torch.tensor([10, 4]), torch.tensor(0), torch.tensor([0.5, 0.0]))
        >>> [step.sizes.tolist() for step in steps]
        [[12, 4], [12, 4], [12, 4]]
    """
    along_x = _shear_along_x(sizes, shears[..., 0].double())
    along_y = _shear_along_y(along_x.sizes, shears[..., 1].double())
    return [along_x, along_y, _turn(along_y.sizes, angles.double())]


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The affine map `outer(inner(point))`; all are `(..., 2, 3)`.

    Example:
        >>> shift = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]])
        >>> compose(shift, shift)[:, 2].tolist()
        [4.0, 6.0]
    """
    product = outer[..., :2] @ inner
    return torch.cat((product[..., :2], product[..., 2:] + outer[..., 2:]), dim=-1)


def paste_order(boxes: Tensor) -> Tensor:
    """Order in which objects are pasted: the largest first, so that small ones end on top.

    Args:
        boxes: `(..., objects, frames, 4)`.

    Returns:
        Int64 `(..., objects)`: indices of objects by descending product of mean width and mean height.

    Example:
        >>> paste_order(torch.tensor([[[0, 0, 2, 2]], [[0, 0, 9, 9]], [[0, 0, 5, 5]]])).tolist()
        [1, 2, 0]
    """
    means = (boxes[..., 2:] - boxes[..., :2]).double().mean(dim=-2)
    return means.prod(dim=-1).argsort(dim=-1, descending=True, stable=True)


def _smallest(sizes: Tensor) -> list[int]:
    flat = sizes.reshape(-1, 2)
    return flat[flat.amin(dim=1).argmin()].tolist()


def _shear_along_x(sizes: Tensor, factor: Tensor) -> Warp:
    width, height = sizes.double().unbind(-1)
    wide = (width + factor.abs() * height).floor()
    one, zero = torch.ones_like(width), torch.zeros_like(width)
    # A negative factor mirrors a positive one: the canvas grows to the other side.
    offset = torch.where(factor < 0, width - wide, zero)
    inverse = torch.stack((one, -factor, offset, zero, one, zero), dim=-1).unflatten(-1, (2, 3))
    return Warp(torch.stack((wide, height), dim=-1).long(), inverse)


def _shear_along_y(sizes: Tensor, factor: Tensor) -> Warp:
    flipped = _shear_along_x(sizes.flip(-1), factor)
    return Warp(flipped.sizes.flip(-1), flipped.inverse.flip(-2)[..., [1, 0, 2]])


def _turn(sizes: Tensor, angles: Tensor) -> Warp:
    width, height = sizes.double().unbind(-1)
    radians = torch.deg2rad(angles)
    cosine, sine = radians.cos(), radians.sin()
    wide = (height * sine.abs() + width * cosine.abs()).floor()
    high = (height * cosine.abs() + width * sine.abs()).floor()
    to_x = width / 2 - cosine * wide / 2 - sine * high / 2
    to_y = height / 2 + sine * wide / 2 - cosine * high / 2
    inverse = torch.stack((cosine, sine, to_x, -sine, cosine, to_y), dim=-1).unflatten(-1, (2, 3))
    return Warp(torch.stack((wide, high), dim=-1).long(), inverse)
