"""Objects without files: coloured shapes with smooth edges."""

import math

import torch
from torch import Tensor

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "diamond", "half moon")

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (40, 90, 214),
    "yellow": (245, 208, 40),
    "white": (245, 245, 245),
    "black": (18, 18, 18),
    "orange": (240, 130, 30),
    "purple": (136, 58, 180),
}


def draw_shapes(shapes: list[str], colours: list[str], size: int = 128) -> Tensor:
    """Draw shapes that fill a square image.

    Args:
        shapes: names in `SHAPES`.
        colours: a name in `COLOURS` for each.
        size: side of the images in pixels, at least 8.

    Returns:
        Uint8 RGBA `(n, 4, size, size)`; edges are a pixel soft.

    Raises:
        ValueError: if a name is unknown, or the size too small.

    Example:
        >>> image = draw_shapes(["circle"], ["red"], size=16)[0]
        >>> image[:, 8, 8].tolist(), image[3, 0, 0].item()
        ([214, 40, 40, 255], 0)
    """
    unknown = sorted(set(shapes) - set(SHAPES)) + sorted(set(colours) - set(COLOURS))
    if unknown or len(shapes) != len(colours) or size < 8:
        raise ValueError(
            f"got shapes {shapes}, colours {colours} and size {size}; shapes must be among {', '.join(SHAPES)}, each "
            f"with a colour among {', '.join(COLOURS)}, and size at least 8"
        )
    unit = (torch.arange(size) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(unit, unit, indexing="ij")
    # Distances are in units of half the side; a pixel is 2 / size wide.
    depth = torch.stack([_DEPTHS[shape](x, y) for shape in shapes])
    alpha = (0.5 + depth * (size / 2)).clamp(0, 1)
    filled = torch.tensor([COLOURS[colour] for colour in colours], dtype=torch.float32)
    image = torch.cat((filled[:, :, None, None].expand(-1, -1, size, size), 255 * alpha[:, None]), dim=1)
    return image.round().to(torch.uint8)


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return 1 - (x**2 + y**2).sqrt()


def _square(x: Tensor, y: Tensor) -> Tensor:
    return 1 - torch.maximum(x.abs(), y.abs())


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(1 - y, (1 + y - 2 * x.abs()) / 5**0.5)


def _star(x: Tensor, y: Tensor) -> Tensor:
    # Folded onto one tenth of the circle, the border of a five-pointed star is one straight line from tip to notch.
    angle = torch.atan2(x, -y)
    folded = (angle + torch.pi / 5) % (2 * torch.pi / 5) - torch.pi / 5
    radius = (x**2 + y**2).sqrt()
    along, aside = radius * folded.cos(), radius * folded.abs().sin()
    notch = 0.4 * math.cos(math.pi / 5), 0.4 * math.sin(math.pi / 5)
    run, rise = 1 - notch[0], notch[1]
    return ((1 - along) * rise - aside * run) / math.hypot(run, rise)


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return 0.25 - ((x**2 + y**2).sqrt() - 0.75).abs()


def _cross(x: Tensor, y: Tensor) -> Tensor:
    narrow = torch.minimum(x.abs(), y.abs())
    return torch.minimum(0.33 - narrow, 1 - torch.maximum(x.abs(), y.abs()))


def _diamond(x: Tensor, y: Tensor) -> Tensor:
    return (1 - x.abs() - y.abs()) / 2**0.5


def _half_moon(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_circle(x, y), ((x - 0.5) ** 2 + y**2).sqrt() - 0.7)


_DEPTHS = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "diamond": _diamond,
    "half moon": _half_moon,
}
"""Depth of a point inside a shape; negative outside."""
