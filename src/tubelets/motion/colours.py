"""Changes of colour shared by all frames of a clip: brightness, contrast, hue (tubelet_contrast.md, section 6)."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Hue, saturation and value as 8-bit numbers; the hue circle has 180 steps.
_HUES = 180


@dataclass(frozen=True)
class ColourChange:
    """One change for each clip of a batch; float32 `(B,)` each, neutral values where nothing changes.

    Attributes:
        brightness: grey levels that are added, 0 for none.
        contrast: factor on all colours, 1 for none.
        hue: steps of 2 degrees that are added, 0 for none; not wrapped around.
        saturation: factor, 1 for none.

    Example:
        >>> change = sample_colour_change(3, torch.Generator().manual_seed(0))
        >>> change.brightness.shape
        torch.Size([3])
    """

    brightness: Tensor
    contrast: Tensor
    hue: Tensor
    saturation: Tensor

    def __getitem__(self, clips: Tensor) -> "ColourChange":
        """The changes of some clips."""
        return ColourChange(self.brightness[clips], self.contrast[clips], self.hue[clips], self.saturation[clips])

    @property
    def changes_hues(self) -> Tensor:
        """Bool `(B,)`: clips whose hue or saturation changes."""
        return (self.hue != 0) | (self.saturation != 1)

    @property
    def changes(self) -> Tensor:
        """Bool `(B,)`: clips in which anything changes."""
        return (self.brightness != 0) | (self.contrast != 1) | self.changes_hues


def sample_colour_change(
    clips: int,
    generator: torch.Generator,
    probability: float = 0.2,
    brightness: float = 32.0,
    contrast: float = 0.2,
    hue: float = 12.0,
    saturation: float = 0.1,
) -> ColourChange:
    """Draw colour changes.

    Args:
        clips: number of clips.
        generator: random generator; its device is that of the result.
        probability: that brightness is changed, that contrast is, and that hue and saturation are.
        brightness: largest shift in grey levels.
        contrast: largest logarithm of the factor.
        hue: largest shift in steps of 2 degrees.
        saturation: largest logarithm of the factor.

    Returns:
        The changes.

    Raises:
        ValueError: if the probability is out of range.

    Example:
        >>> change = sample_colour_change(2, torch.Generator().manual_seed(0), probability=0.0)
        >>> change.contrast.tolist(), change.saturation.tolist()
        ([1.0, 1.0], [1.0, 1.0])
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    draws = torch.rand(7, clips, generator=generator, device=generator.device)
    happens = draws[:3] < probability
    spread = (2 * draws[3:] - 1) * torch.stack((happens[0], happens[1], happens[2], happens[2]))
    return ColourChange(
        brightness * spread[0], (contrast * spread[1]).exp(), hue * spread[2], (saturation * spread[3]).exp()
    )


def change_colours(frames: Tensor, change: ColourChange) -> Tensor:
    """Change the colours of clips.

    Args:
        frames: `(B, T, 3, H, W)` red, green, blue from 0 to 255, uint8 or float.
        change: one change for each clip.

    Returns:
        Float32 `(B, T, 3, H, W)` from 0 to 255. Where hue or saturation change, colours are rounded to whole numbers
        in between, as in the 8-bit arithmetic of the official code.

    Raises:
        ValueError: if frames are not colour clips.

    Example:
        >>> frames = torch.full((1, 2, 3, 4, 4), 100, dtype=torch.uint8)
        >>> ten = ColourChange(torch.tensor([10.0]), torch.ones(1), torch.zeros(1), torch.ones(1))
        >>> change_colours(frames, ten).unique().tolist()
        [110.0]
    """
    if frames.dim() != 5 or frames.shape[2] != 3:
        raise ValueError(f"frames must be (clips, frames, 3, height, width), got {tuple(frames.shape)}")
    result = change_brightness(frames.float(), change.brightness.to(frames.device))
    result = change_contrast(result, change.contrast.to(frames.device))
    return change_hue_saturation(result, change.hue.to(frames.device), change.saturation.to(frames.device))


def recolour(frames: Tensor, change: ColourChange) -> Tensor:
    """Change the colours of those clips of a batch that change, in whole grey levels.

    Args:
        frames: uint8 `(B, T, 3, H, W)`; overwritten.
        change: one change for each clip.

    Returns:
        The same tensor: results of `change_colours`, rounded. Clips that do not change cost nothing.

    Example:
        >>> frames = torch.full((2, 2, 3, 4, 4), 100, dtype=torch.uint8)
        >>> change = ColourChange(torch.tensor([0.0, 9.6]), torch.ones(2), torch.zeros(2), torch.ones(2))
        >>> recolour(frames, change).amax(dim=(1, 2, 3, 4)).tolist()
        [100, 110]
    """
    for hues in (False, True):  # hues cost ten times as much as the rest
        chosen = (change.changes & (change.changes_hues == hues)).nonzero().flatten().to(frames.device)
        if not len(chosen):
            continue
        some = change[chosen.to(change.hue.device)]
        if hues:
            result = change_colours(frames[chosen], some)
        else:
            result = change_brightness(frames[chosen].float(), some.brightness.to(frames.device))
            result = change_contrast(result, some.contrast.to(frames.device))
        frames[chosen] = result.round_().to(torch.uint8)
    return frames


def change_brightness(frames: Tensor, shift: Tensor) -> Tensor:
    """Add grey levels, float32 `(B,)`, to float frames; clipped to 0..255.

    Example:
        >>> change_brightness(torch.full((1, 1, 3, 1, 1), 250.0), torch.tensor([9.0])).flatten().tolist()
        [255.0, 255.0, 255.0]
    """
    return (frames + _per_clip(shift)).clamp_(0, 255)


def change_contrast(frames: Tensor, factor: Tensor) -> Tensor:
    """Multiply float frames by factors, float32 `(B,)`; clipped to 0..255.

    Example:
        >>> change_contrast(torch.full((1, 1, 3, 1, 1), 50.0), torch.tensor([1.5])).flatten().tolist()
        [75.0, 75.0, 75.0]
    """
    return (frames * _per_clip(factor)).clamp_(0, 255)


def change_hue_saturation(frames: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """Shift hues and scale saturations; clips with neutral values stay unchanged.

    Args:
        frames: float32 `(B, T, 3, H, W)` from 0 to 255.
        hue: float32 `(B,)`, added to hues of 0..179 and clipped to them.
        saturation: float32 `(B,)`, factor on saturations of 0..255, clipped to them.

    Returns:
        Float32 of the same shape.

    Example:
        >>> red = torch.tensor([255.0, 0.0, 0.0]).view(1, 1, 3, 1, 1)
        >>> change_hue_saturation(red, torch.tensor([60.0]), torch.ones(1)).flatten().tolist()
        [0.0, 255.0, 0.0]
    """
    whole = frames.round()
    value, low = whole.amax(dim=2), whole.amin(dim=2)
    spread = value - low
    red, green, blue = whole.unbind(2)
    divisor = spread.clamp_min(1)
    sector = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hues = (30 * sector % _HUES).round() % _HUES
    saturations = (255 * spread / value.clamp_min(1)).round()
    hues = (hues + _per_clip(hue)[:, :, 0]).clamp(0, _HUES - 1).round()
    saturations = (saturations * _per_clip(saturation)[:, :, 0]).clamp(0, 255).round()
    changed = _from_hsv(hues, saturations, value)
    neutral = (hue == 0) & (saturation == 1)
    return torch.where(_per_clip(neutral), frames, changed)


def _from_hsv(hues: Tensor, saturations: Tensor, value: Tensor) -> Tensor:
    """Red, green, blue as whole numbers, `(B, T, 3, H, W)`."""
    share = saturations / 255
    # Red, green and blue are the same curve over the hue circle, two of six sectors apart.
    offsets = torch.tensor([5.0, 3.0, 1.0], device=hues.device).view(3, 1, 1)
    place = (offsets + hues[:, :, None] / 30) % 6
    drop = torch.minimum(place, 4 - place).clamp(0, 1)
    return (value[:, :, None] * (1 - share[:, :, None] * drop)).round()


def _per_clip(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1, 1)
