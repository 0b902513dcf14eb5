"""Changes of colour shared by all frames of a clip: brightness, contrast, hue (tubelet_contrast.md, section 6)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tubelets.draws import Generators, device_of, rand
from tubelets.motion.movable import Movable

# Hue, saturation and value as 8-bit numbers; the hue circle has 180 steps.
_HUES = 180

# Pixels of a block on CPUs: its temporary tensors stay in the caches, and calls cost little against it.
_CPU_PIXELS = 50000


@dataclass(frozen=True)
class ColourChange(Movable):
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
    generator: Generators,
    probability: float = 0.2,
    brightness: float = 32.0,
    contrast: float = 0.2,
    hue: float = 12.0,
    saturation: float = 0.1,
) -> ColourChange:
    """Draw colour changes.

    Args:
        clips: number of clips.
        generator: one random generator, or one for each clip; its device is that of the result.
        probability: that brightness is changed, that contrast is, and that hue and saturation are.
        brightness: largest shift in grey levels.
        contrast: largest logarithm of the factor.
        hue: largest shift in steps of 2 degrees.
        saturation: largest logarithm of the factor.

    Returns:
        The changes.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> change = sample_colour_change(2, torch.Generator().manual_seed(0), probability=0.0)
        >>> change.contrast.tolist(), change.saturation.tolist()
        ([1.0, 1.0], [1.0, 1.0])
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    if not all(0 <= each < math.inf for each in (brightness, contrast, hue, saturation)):
        raise ValueError(
            "brightness, contrast, hue and saturation must be finite and not negative, got "
            f"{brightness}, {contrast}, {hue} and {saturation}"
        )
    device = device_of(generator)
    if isinstance(generator, torch.Generator):
        draws = torch.rand(7, clips, generator=generator, device=device)
    else:
        draws = rand(clips, 7, generator=generator, device=device).T
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
        change: one change for each clip; on the CPU, if an accelerator shall not wait.

    Returns:
        The same tensor: results of `change_colours`, rounded. Clips that do not change cost nothing.

    Example:
        >>> frames = torch.full((2, 2, 3, 4, 4), 100, dtype=torch.uint8)
        >>> change = ColourChange(torch.tensor([0.0, 9.6]), torch.ones(2), torch.zeros(2), torch.ones(2))
        >>> recolour(frames, change).amax(dim=(1, 2, 3, 4)).tolist()
        [100, 110]
    """
    for hues in (False, True):  # hues cost five times as much as the rest
        chosen = (change.changes & (change.changes_hues == hues)).nonzero().flatten()
        if not len(chosen):
            continue
        if frames.device.type == "cpu":
            for clip in chosen.cpu().split(1):
                some = change[clip.to(change.hue.device)].to(frames.device)
                for part in frames[int(clip)].split(max(1, _CPU_PIXELS // frames[0, 0, 0].numel())):
                    part.copy_(_changed(part[None], some, hues)[0])
        else:
            some, on_device = change[chosen], chosen.to(frames.device, non_blocking=True)
            frames[on_device] = _changed(frames[on_device], some.to(frames.device), hues).to(torch.uint8)
    return frames


def _changed(frames: Tensor, change: ColourChange, hues: bool) -> Tensor:
    """Changed colours of uint8 clips as whole numbers, int32; all hues change, or none."""
    result = change_contrast(change_brightness(frames.float(), change.brightness), change.contrast).round_()
    if hues:
        result = _shift_hues(result, change.hue, change.saturation)
    # Converting floats to bytes through int32 is twice as fast.
    return result.int()


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
    changed = _shift_hues(frames.round(), hue, saturation)
    neutral = (hue == 0) & (saturation == 1)
    return torch.where(_per_clip(neutral), frames, changed)


def _shift_hues(frames: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """`change_hue_saturation` of whole numbers where every clip changes; few passes, and no slow modulo."""
    red, green, blue = frames.unbind(2)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    is_red, is_green = value == red, value == green
    hues = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    hues.div_(spread.clamp_min(1)).add_(torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0))).mul_(30)
    hues = torch.where(hues < 0, hues + _HUES, hues).round_()
    hues = torch.where(hues < _HUES, hues, 0.0)
    hues.add_(_per_clip(hue)[:, :, 0]).clamp_(0, _HUES - 1).round_()
    share = spread.mul_(255).div_(value.clamp_min(1)).round_()
    share.mul_(_per_clip(saturation)[:, :, 0]).clamp_(0, 255).round_().div_(255)
    return torch.stack([drop.mul_(share).neg_().add_(1).mul_(value).round_() for drop in _drops(hues.div_(30))], dim=2)


def _drops(sectors: Tensor) -> Iterator[Tensor]:
    """How far red, green and blue fall below the largest of them, 0 to 1, for hues in sixths of the circle, 0 to 6.

    They are one curve, two sectors apart: `min(place, 4 - place)` of the place modulo 6.
    """
    place = sectors + 5
    yield torch.minimum(place - 6, 10 - place).clamp_(0, 1)
    for offset in (3, 1):
        place = sectors + offset
        yield torch.maximum(4 - place, place - 6).clamp_(0, 1)


def _per_clip(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1, 1)
