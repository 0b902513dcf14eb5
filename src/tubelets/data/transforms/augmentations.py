"""Augmentations of fine-tuning for one clip: RandAugment on raw frames, random erasing on normalised ones.

All draws come from an explicit generator and apply to all frames of a clip, which preserves motion; only
the noise of an erased box differs between frames. The image functions are timm's and torchvision's; the draws are ours,
because theirs use global generators and random erasing treats frames independently. The order of the recipe is
RandAugment, normalisation, crop, flip, erasing, mixing (sigma.md, section 7.2; smile.md, section 6.3).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from tubelets.data.transforms.geometry import PhotometricTransform
from tubelets.ranges import Count, NotNegative, check_ranges

MAX_LEVEL = 10.0
GREY = (128, 128, 128)

# Operations of the "increasing" set: timm's function, and its argument from a level in [0, 1] and a sign.
Argument = Callable[[float, int], tuple[float, ...]]
OPERATIONS: dict[str, tuple[Callable[..., Image.Image], Argument]] = {
    "AutoContrast": (auto_augment.auto_contrast, lambda level, sign: ()),
    "Equalize": (auto_augment.equalize, lambda level, sign: ()),
    "Invert": (auto_augment.invert, lambda level, sign: ()),
    "Rotate": (auto_augment.rotate, lambda level, sign: (sign * 30.0 * level,)),
    "PosterizeIncreasing": (auto_augment.posterize, lambda level, sign: (4 - int(4 * level),)),
    "SolarizeIncreasing": (auto_augment.solarize, lambda level, sign: (256 - int(256 * level),)),
    "SolarizeAdd": (auto_augment.solarize_add, lambda level, sign: (int(110 * level),)),
    "ColorIncreasing": (auto_augment.color, lambda level, sign: (1.0 + sign * 0.9 * level,)),
    "ContrastIncreasing": (auto_augment.contrast, lambda level, sign: (1.0 + sign * 0.9 * level,)),
    "BrightnessIncreasing": (auto_augment.brightness, lambda level, sign: (1.0 + sign * 0.9 * level,)),
    "SharpnessIncreasing": (auto_augment.sharpness, lambda level, sign: (1.0 + sign * 0.9 * level,)),
    "ShearX": (auto_augment.shear_x, lambda level, sign: (sign * 0.3 * level,)),
    "ShearY": (auto_augment.shear_y, lambda level, sign: (sign * 0.3 * level,)),
    "TranslateXRel": (auto_augment.translate_x_rel, lambda level, sign: (sign * 0.45 * level,)),
    "TranslateYRel": (auto_augment.translate_y_rel, lambda level, sign: (sign * 0.45 * level,)),
}


@dataclass(frozen=True)
class DrawnOperation:
    """One operation of RandAugment with its parameters, the same for all frames of a clip.

    Attributes:
        name: key of `OPERATIONS`.
        argument: argument of its function besides the image.
    """

    name: str
    argument: tuple[float, ...]

    def __call__(self, image: Image.Image) -> Image.Image:
        """Apply the operation to one frame."""
        function, _ = OPERATIONS[self.name]
        return function(image, *self.argument, fillcolor=GREY, resample=Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class RandAugment:
    """RandAugment: a few of 15 operations, each applied with a given probability and similar strength.

    Operations are drawn with replacement. Geometric operations resample bicubically and fill with grey. The
    image functions are timm's; the draws are ours, because timm uses global generators.

    Args:
        magnitude: mean strength, in [0, 10].
        num_operations: operations drawn per clip, at least 1.
        magnitude_std: standard deviation of each operation's strength, which is clipped to [0, 10].
        probability: probability of applying each drawn operation, in [0, 1].

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> clip = torch.randint(256, (4, 3, 20, 30), dtype=torch.uint8)
        >>> RandAugment()(clip, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 20, 30])

    Source: smile.md, section 6.3.
    """

    magnitude: float = 7.0
    num_operations: Count = 4
    magnitude_std: NotNegative = 0.5
    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.magnitude <= MAX_LEVEL:
            raise ValueError(f"magnitude must lie in [0, {MAX_LEVEL:g}], got {self.magnitude}")
        if self.num_operations < 1:
            raise ValueError(f"num_operations must be at least 1, got {self.num_operations}")
        if self.magnitude_std < 0:
            raise ValueError(f"magnitude_std must not be negative, got {self.magnitude_std}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must lie in [0, 1], got {self.probability}")
        check_ranges(self)

    @classmethod
    def parse(cls, text: str) -> "RandAugment":
        """Read timm's notation, e.g. `rand-m7-n4-mstd0.5-inc1`.

        Args:
            text: `rand`, then parts joined by `-`: `m` magnitude, `n` operations, `mstd` deviation, `p` probability and
                `inc1`, which is required: only strengths that grow with the magnitude are implemented.

        Returns:
            The augmentation.

        Raises:
            ValueError: if a part is unknown or `inc1` is missing.

        Example:
            >>> RandAugment.parse("rand-m9-n2-mstd0.5-inc1")
            RandAugment(magnitude=9.0, num_operations=2, magnitude_std=0.5, probability=0.5)
        """
        first, *parts = text.split("-")
        fields = {"m": "magnitude", "n": "num_operations", "mstd": "magnitude_std", "p": "probability", "inc": ""}
        values: dict[str, Any] = {"magnitude_std": 0.0}
        increasing = False
        for part in parts:
            found = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", part)
            if found is None or found[1] not in fields:
                raise ValueError(
                    f"{part!r} in {text!r} is not a part of a RandAugment; write e.g. rand-m7-n4-mstd0.5-inc1"
                )
            if found[1] == "inc":
                increasing = float(found[2]) == 1
            else:
                values[fields[found[1]]] = int(found[2]) if found[1] == "n" else float(found[2])
        if first != "rand" or not increasing:
            raise ValueError(f"{text!r} must begin with 'rand-' and have 'inc1'; write e.g. rand-m7-n4-mstd0.5-inc1")
        return cls(**values)

    def draw(self, generator: torch.Generator) -> list[DrawnOperation]:
        """Draw the operations of one clip.

        Args:
            generator: random draws; the same number of values is always drawn.

        Returns:
            The operations to apply, in order; 0 to `num_operations` of them.
        """
        names = list(OPERATIONS)
        chosen = torch.randint(len(names), (self.num_operations,), generator=generator).tolist()
        applied = torch.rand(self.num_operations, generator=generator).tolist()
        deviations = torch.randn(self.num_operations, generator=generator, dtype=torch.float64).tolist()
        signs = torch.randint(2, (self.num_operations,), generator=generator).tolist()
        drawn = []
        for index, draw, deviation, sign in zip(chosen, applied, deviations, signs, strict=True):
            if draw < self.probability:
                strength = min(max(self.magnitude + self.magnitude_std * deviation, 0.0), MAX_LEVEL)
                _, argument = OPERATIONS[names[index]]
                drawn.append(DrawnOperation(names[index], argument(strength / MAX_LEVEL, 2 * sign - 1)))
        return drawn

    def __call__(self, clip: Tensor, generator: torch.Generator) -> Tensor:
        """Augment one clip.

        Args:
            clip: uint8 `(T, 3, H, W)`.
            generator: random draws.

        Returns:
            uint8 of the same shape.

        Raises:
            TypeError: if the clip is not uint8.
            ValueError: if it is not `(T, 3, H, W)`.
        """
        if clip.dtype != torch.uint8:
            raise TypeError(f"clip must be uint8 in [0, 255], got {clip.dtype}; normalise after RandAugment")
        if clip.dim() != 4 or clip.shape[1] != 3:
            raise ValueError(f"clip must be (T, 3, H, W), got shape {tuple(clip.shape)}")
        operations = self.draw(generator)
        if not operations:
            return clip
        return torch.stack([_apply(frame, operations) for frame in clip])


def _apply(frame: Tensor, operations: list[DrawnOperation]) -> Tensor:
    image = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
    for operation in operations:
        image = operation(image)
    # Copy, since the array of an image is read-only.
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True)
class ColorJitter(PhotometricTransform):
    """Change brightness, contrast, saturation and hue in a random order, with torchvision's functions.

    Args:
        brightness: the factor is uniform in [1 - brightness, 1 + brightness], at least 0.
        contrast: likewise.
        saturation: likewise.
        hue: the shift is uniform in [-hue, hue] of the hue circle; at most 0.5.

    Raises:
        ValueError: if a number is negative, or the hue above 0.5.

    Example:
        >>> clip = torch.randint(256, (4, 3, 20, 30), dtype=torch.uint8)
        >>> ColorJitter(0.4, 0.4, 0.4, 0.2)(clip, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 20, 30])

    Source: severe_benchmark.md, section 2.3.
    """

    brightness: NotNegative = 0.4
    contrast: NotNegative = 0.4
    saturation: NotNegative = 0.4
    hue: NotNegative = 0.2

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast, self.saturation, self.hue) < 0 or self.hue > 0.5:
            raise ValueError(f"colour changes must not be negative, and hue at most 0.5, got {self}")
        check_ranges(self)

    def __call__(self, clip: Tensor, generator: torch.Generator) -> Tensor:
        """Augment one uint8 clip `(T, 3, H, W)`."""
        order = torch.randperm(4, generator=generator).tolist()
        low_high = [(max(0.0, 1 - x), 1 + x) for x in (self.brightness, self.contrast, self.saturation)]
        bounds = torch.tensor([*low_high, (-self.hue, self.hue)])
        draws = torch.rand(4, generator=generator)
        strengths = (bounds[:, 0] + draws * (bounds[:, 1] - bounds[:, 0])).tolist()
        functions = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue)
        for place in order:
            clip = functions[place](clip, strengths[place])
        return clip


@dataclass(frozen=True)
class RandomErasing:
    """Replace a box with noise, with a given probability: the same box in all frames, independent noise in each.

    Args:
        p: probability, in [0, 1].
        area: bounds of the box's share of the area, uniform, in (0, 1].
        ratio: height / width is log-uniform between this and its inverse, in (0, 1].

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> clip = torch.zeros(2, 3, 16, 16)
        >>> erased = RandomErasing(p=1.0)(clip, torch.Generator().manual_seed(0))
        >>> hidden = erased.ne(0)
        >>> bool(hidden.any()), bool((hidden == hidden[:1, :1]).all())
        (True, True)

    Source: smile.md, section 6.3.
    """

    p: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    ratio: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"p must be a probability in [0, 1], got {self.p}")
        if len(self.area) != 2 or not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area must be (low, high) with 0 < low <= high <= 1, got {self.area}")
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must lie in (0, 1], got {self.ratio}")

    def box(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int] | None:
        """Draw a box, with ten attempts to find one that is smaller than the frame.

        Args:
            height: rows of the frames.
            width: columns of the frames.
            generator: random draws; the same number of values is always drawn.

        Returns:
            `(top, left, rows, columns)` in pixels, or None if nothing is erased.
        """
        applied = float(torch.rand((), generator=generator)) < self.p
        draws = torch.rand(10, 4, generator=generator, dtype=torch.float64).tolist()
        if not applied:
            return None
        low = math.log(self.ratio)
        for area_draw, ratio_draw, top_draw, left_draw in draws:
            area = height * width * (self.area[0] + area_draw * (self.area[1] - self.area[0]))
            ratio = math.exp(low * (1 - 2 * ratio_draw))
            rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < rows < height and 0 < columns < width:
                return int(top_draw * (height - rows + 1)), int(left_draw * (width - columns + 1)), rows, columns
        return None

    def __call__(self, clip: Tensor, generator: torch.Generator) -> Tensor:
        """Erase a box of one clip.

        Args:
            clip: floating point `(T, C, H, W)`, normalised.
            generator: random draws, on the CPU. The noise of a clip on an accelerator comes from that device's
                own generator, seeded from this one.

        Returns:
            A changed copy, or the clip itself if nothing is erased.

        Raises:
            TypeError: if the clip is not floating point.
        """
        if not clip.is_floating_point():
            raise TypeError(f"clip must be normalised floating point, got {clip.dtype}; normalise before erasing")
        box = self.box(clip.shape[-2], clip.shape[-1], generator)
        if box is None:
            return clip
        if clip.device.type != "cpu":
            seed = int(torch.randint(2**62, (), generator=generator))
            generator = torch.Generator(clip.device).manual_seed(seed)
        top, left, rows, columns = box
        noise = torch.randn(*clip.shape[:2], rows, columns, generator=generator, device=clip.device)
        erased = clip.clone()
        erased[:, :, top : top + rows, left : left + columns] = noise.to(clip.dtype)
        return erased
