"""Mixup and cutmix on batches of clips, and their soft targets (smile.md, section 6.3).

timm's `Mixup` follows the same rules but draws from NumPy's global generator, which cannot be resumed per batch.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor

from tubelets.ranges import NotNegative, check_ranges


def smooth_one_hot(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Convert class indices to distributions: `smoothing / num_classes` everywhere, the rest on the class.

    Args:
        labels: int64 `(B,)`, in [0, num_classes).
        num_classes: number of classes, C.
        smoothing: mass spread over all classes, in [0, 1).

    Returns:
        float32 `(B, C)` whose rows sum to 1.

    Raises:
        ValueError: if the smoothing or a label is out of range (labels are checked on CPU; an accelerator raises its
            own error).

    Example:
        >>> smooth_one_hot(torch.tensor([1]), 4, smoothing=0.2)
        tensor([[0.0500, 0.8500, 0.0500, 0.0500]])
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must lie in [0, 1), got {smoothing}")
    # On an accelerator, reading the labels would make every step wait.
    known = labels.device.type == "cpu" and labels.numel()
    if known and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"labels must lie in [0, {num_classes}), got {int(labels.min())} to {int(labels.max())}")
    return F.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed with its reversed order.

    Attributes:
        weight: weight of each clip, in [0, 1]; its partner has the rest.
        box: `(top, left, bottom, right)` in pixels, replaced with the partner's (cutmix); None for a blend (mixup).
    """

    weight: float
    box: tuple[int, int, int, int] | None = None

    def clips(self, clips: Tensor) -> Tensor:
        """Mix floating-point clips `(B, T, C, H, W)`, the i-th with the i-th from the end."""
        partners = clips.flip(0)
        if self.box is None:
            return clips * self.weight + partners * (1 - self.weight)
        top, left, bottom, right = self.box
        mixed = clips.clone()
        mixed[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
        return mixed

    def targets(self, targets: Tensor) -> Tensor:
        """Mix targets `(B, C)` in the same way."""
        return targets * self.weight + targets.flip(0) * (1 - self.weight)


@dataclass(frozen=True)
class Mixing:
    """Mixup or cutmix with one weight per batch.

    The weight is drawn from Beta(alpha, alpha). Cutmix uses a box with sides `sqrt(1 - weight)` of the frame
    around a uniform centre, the same in all frames, and adjusts the weight for the part outside the frame.

    Args:
        mixup_alpha: parameter of mixup's beta distribution; 0 disables mixup.
        cutmix_alpha: parameter of cutmix's beta distribution; 0 disables cutmix.
        probability: share of batches that are mixed, in [0, 1].
        cutmix_share: share of mixed batches that use cutmix, if both are enabled, in [0, 1].

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> Mixing(mixup_alpha=0.0).draw(8, 8, torch.Generator().manual_seed(3))
        Mix(weight=0.9375, box=(0, 5, 2, 7))

    Source: smile.md, section 6.3.
    """

    mixup_alpha: NotNegative = 0.8
    cutmix_alpha: NotNegative = 1.0
    probability: float = 1.0
    cutmix_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("probability", "cutmix_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        check_ranges(self)

    @property
    def active(self) -> bool:
        """Whether any batch is mixed."""
        return self.probability > 0 and max(self.mixup_alpha, self.cutmix_alpha) > 0

    def draw(self, height: int, width: int, generator: torch.Generator) -> Mix | None:
        """Draw how a batch is mixed.

        Args:
            height: rows of the frames.
            width: columns of the frames.
            generator: random draws; the same number of values is always drawn.

        Returns:
            The mix, or None if this batch is not mixed.
        """
        chance, kind, level, row, column = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        if not self.active or chance >= self.probability:
            return None
        both = min(self.mixup_alpha, self.cutmix_alpha) > 0
        cut = kind < self.cutmix_share if both else self.cutmix_alpha > 0
        alpha = self.cutmix_alpha if cut else self.mixup_alpha
        # Inverse transform sampling of the beta distribution, from one uniform draw of our generator.
        weight = float(betaincinv(alpha, alpha, level))
        if not cut:
            return Mix(weight)
        side = math.sqrt(1 - weight)
        rows, columns = int(height * side), int(width * side)
        middle_row, middle_column = int(row * height), int(column * width)
        top, bottom = max(middle_row - rows // 2, 0), min(middle_row + rows // 2, height)
        left, right = max(middle_column - columns // 2, 0), min(middle_column + columns // 2, width)
        return Mix(1 - (bottom - top) * (right - left) / (height * width), (top, left, bottom, right))

    def __call__(self, clips: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            clips: floating point `(B, T, C, H, W)`, B even.
            targets: floating point `(B, classes)`.
            generator: random draws.

        Returns:
            Mixed clips and targets of the same shapes.

        Raises:
            ValueError: if the number of clips is odd, because the middle one would be mixed with itself.
        """
        if len(clips) % 2:
            raise ValueError(f"mixing pairs the clips of a batch and needs an even number of them, got {len(clips)}")
        mix = self.draw(clips.shape[-2], clips.shape[-1], generator)
        return (clips, targets) if mix is None else (mix.clips(clips), mix.targets(targets))
