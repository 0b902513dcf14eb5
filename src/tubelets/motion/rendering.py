"""Pasting moving patches into clips: one look-up for each pixel that a patch can touch, and no other work.

Resizing, shearing and rotating a patch are affine maps, so that each pixel of the frame knows which point of the patch
it shows. Rows of pixels inside the transformed patches of all clips, frames and objects are collected, sorted by length
and sampled in blocks that fit into a processor's cache. The patch is read once, bilinearly; `tubelets.motion.exact`
goes through the same steps one after the other, as the papers' code does, and differs by a few grey levels.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.motion.geometry import paste_order, place
from tubelets.motion.patches import Patches, check_frames
from tubelets.motion.records import Motion

# Pixels of a block: its temporary tensors (some 40 bytes a pixel) stay in a core's second-level cache.
_BLOCK = 1 << 15
# Rows whose lengths differ by less are left in the order in which they lie in memory.
_GRAIN = 8


def render(frames: Tensor, motion: Motion, patches: Patches, inplace: bool = False) -> Tensor:
    """Paste moving patches into clips.

    Objects with the largest mean size are pasted first. Each is blended as `frame * (1 - alpha) + patch * alpha` and
    truncated to whole grey levels before the next. Equal inputs give equal bits; a clip in another batch may differ by
    one grey level in a few pixels, because positions are rounded relative to the batch.

    Args:
        frames: uint8 `(B, T, 3, H, W)`.
        motion: the motions of the B clips.
        patches: what moves.
        inplace: write into `frames`, which saves a copy.

    Returns:
        Uint8 `(B, T, 3, H, W)` on the device of the frames.

    Raises:
        ValueError: if frames, motion and patches do not fit together, or frames to write into are not contiguous.

    Example:
        >>> from tubelets.motion import MotionSettings, crop_patches, sample_motion
        >>> frames = torch.randint(256, (2, 8, 3, 64, 64), dtype=torch.uint8)
        >>> settings = MotionSettings.tubelet_contrast()
        >>> motion = sample_motion(settings, 2, 8, (64, 64), torch.Generator().manual_seed(0))
        >>> moved = render(frames, motion, crop_patches(frames, motion))
        >>> moved.shape, bool((moved != frames).any())
        (torch.Size([2, 8, 3, 64, 64]), True)
    """
    height, width = check_frames(frames, motion)
    if inplace and not frames.is_contiguous():
        raise ValueError("frames to write into must be contiguous; call .contiguous() on them, or leave inplace out")
    result = frames if inplace else frames.clone(memory_format=torch.contiguous_format)
    pixels = result.view(-1)
    plane = height * width
    clips, objects, length, _ = motion.boxes.shape
    images = torch.arange(clips * length, device=frames.device).view(clips, 1, length) * (3 * plane)
    targets = images.expand(clips, objects, length)
    for positions, values in _blocks(motion.to(frames.device), patches.to(frames.device), targets):
        # The same positions, seen from the start of each colour plane.
        planes = [pixels[channel * plane :] for channel in range(3)]
        for colours, over in zip(planes, values, strict=False):
            under = colours.gather(0, positions).float()
            # A resized patch has whole grey levels; only the blend of it with the frame is truncated.
            blended = torch.addcmul(under, over.round_().sub_(under), values[3])
            colours.scatter_(0, positions, blended.to(torch.uint8))
    return result


def object_masks(motion: Motion, patches: Patches) -> Tensor:
    """Where the objects are: exact masks from a motion, without any frame.

    Args:
        motion: the motions.
        patches: the patches that move.

    Returns:
        Uint8 `(B, N, T, H, W)`: opacity of each object in each pixel, 0 to 255. What a later object hides is not taken
        away; see `visible_masks`.

    Example:
        >>> from tubelets.motion import MotionSettings, object_patches, sample_motion
        >>> motion = sample_motion(MotionSettings.smile(), 1, 4, (64, 64), torch.Generator().manual_seed(0))
        >>> white = torch.full((4, 8, 8), 255, dtype=torch.uint8)
        >>> object_masks(motion, object_patches([[white, white]], motion)).amax().item()
        255
    """
    height, width = motion.frame_size
    clips, objects, frames, _ = motion.boxes.shape
    masks = torch.zeros(clips, objects, frames, height, width, dtype=torch.uint8, device=patches.atlas.device)
    flat = masks.view(-1)
    tracks = torch.arange(clips * objects * frames, device=masks.device).view(clips, objects, frames)
    for positions, values in _blocks(motion.to(masks.device), patches, tracks * (height * width)):
        flat.scatter_(0, positions, (255 * values[3] + 0.5).to(torch.uint8))
    return masks


def visible_masks(motion: Motion, patches: Patches, threshold: float = 0.5) -> Tensor:
    """Which object each pixel shows.

    Args:
        motion: the motions.
        patches: the patches that move.
        threshold: opacity from which an object counts as seen, in (0, 1].

    Returns:
        Bool `(B, N, T, H, W)`; at most one object is True in a pixel, the one pasted last.

    Example:
        >>> from tubelets.motion import MotionSettings, object_patches, sample_motion
        >>> motion = sample_motion(MotionSettings.smile(), 1, 4, (64, 64), torch.Generator().manual_seed(0))
        >>> white = torch.full((4, 8, 8), 255, dtype=torch.uint8)
        >>> visible_masks(motion, object_patches([[white, white]], motion)).sum(dim=1).amax().item()
        1
    """
    seen = object_masks(motion, patches) >= max(1, round(255 * threshold))
    order = paste_order(motion.boxes).to(seen.device)
    pick = order[:, :, None, None, None].expand_as(seen)
    by_rank = seen.gather(1, pick)
    above = by_rank.flip(1).cumsum(dim=1).flip(1) - by_rank.long()
    return torch.zeros_like(seen).scatter_(1, pick, by_rank & (above == 0))


def _blocks(motion: Motion, patches: Patches, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Sample all pixels that patches can touch, in the order of pasting.

    Args:
        motion: the motions.
        patches: the patches, on the same device.
        targets: int64 `(B, N, T)`, where in a flat result the image of each object in each frame begins.

    Yields:
        Int64 `(pixels,)` places in the flat result, and float32 `(4, pixels)` red, green, blue (0 to 255) and alpha (0
        to 1). Places may occur more than once in a block, then with the same values: computing all of a block's
        results before writing any makes that harmless.
    """
    clips, objects, _, _ = motion.boxes.shape
    if tuple(patches.sizes.shape[:2]) != (clips, objects):
        raise ValueError(
            f"there must be patches for {clips} clips of {objects} objects, got {tuple(patches.sizes.shape[:2])}"
        )
    order, bounds = paste_order(motion.boxes), patches.bounds()
    for rank in range(objects):
        yield from _Rows.of_rank(motion, patches, bounds, targets, order[:, rank]).sampled(patches.atlas)


@dataclass(frozen=True)
class _Rows:
    """Rows of pixels inside patches, one entry for each row of each patch; float64 unless said otherwise.

    Attributes:
        start: `(R, 2)` point of the atlas that the first pixel shows.
        step: `(R, 2)` how far one pixel to the right moves it.
        length: int64 `(R,)` pixels.
        opacity: float32 `(R,)`.
        place: int64 `(R,)`, where the first pixel goes in the flat result.
    """

    start: Tensor
    step: Tensor
    length: Tensor
    opacity: Tensor
    place: Tensor

    @classmethod
    def of_rank(cls, motion: Motion, patches: Patches, bounds: Tensor, targets: Tensor, objects: Tensor) -> "_Rows":
        """The rows of one object of each clip, given int64 `(B,)`, over all frames."""
        clips, _, frames, _ = motion.boxes.shape
        clip = torch.arange(clips, device=objects.device)
        boxes = motion.boxes[clip, objects].flatten(0, 1)
        angles, shears = motion.angles[clip, objects].flatten(), motion.shears[clip, objects].flatten(0, 1)
        placed = place(boxes, angles, shears, motion.frame_size, motion.shift_clipped)
        limits = patches.sizes[clip, objects].repeat_interleave(frames, dim=0)
        # From the patch in the size of its box to the patch as it is stored, pixel areas onto pixel areas.
        ratio = limits / (boxes[:, 2:] - boxes[:, :2]).double()
        inverse = placed.inverse * ratio[..., None]
        inverse[..., 2] += 0.5 * ratio - 0.5

        height, width = motion.frame_size
        first = (-placed.origins).clamp_min(0)
        last = torch.minimum(placed.sizes, torch.tensor([width, height], device=first.device) - placed.origins)
        opacity = motion.opacities[clip, objects].flatten()
        rows = (last[:, 1] - first[:, 1]).clamp_min(0) * (opacity > 0)
        box = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), rows)
        y = torch.arange(len(box), device=rows.device) + (first[:, 1] - rows.cumsum(0) + rows).index_select(0, box)
        # One row of a table for each box is read several times faster than its entries one by one.
        octagons = bounds[clip, objects].flatten(1).repeat_interleave(frames, dim=0)
        table = torch.cat((inverse.mT.flatten(1), octagons), dim=1).index_select(0, box)
        step, down, base = table[:, :6].unflatten(1, (3, 2)).unbind(1)
        origin = torch.addcmul(base, down, y[:, None].double())
        begin, length = _columns(origin, step, table[:, 6:].unflatten(1, (4, 2)))
        corner = targets[clip, objects].flatten() + placed.origins[:, 1] * width + placed.origins[:, 0]
        whole = torch.stack((first[:, 0], last[:, 0], corner), dim=1)
        left, right, corner = whole.index_select(0, box).unbind(1)
        begin_at = torch.maximum(begin, left)
        tops = patches.tops[clip, objects].repeat_interleave(frames).double()
        shift = torch.stack((torch.ones_like(tops), tops), dim=1).index_select(0, box)
        return cls(
            start=torch.addcmul(origin + shift, step, begin_at[:, None].double()),
            step=step,
            length=(torch.minimum(begin + length, right) - begin_at).clamp_min(0),
            opacity=opacity.index_select(0, box),
            place=corner + y * width + begin_at,
        )

    def sampled(self, atlas: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Read the patches along the rows, longest rows first so that the rows of a block are about equally long."""
        # Lengths within a few pixels count as equal: rows that lie near each other in memory then stay together.
        order = (self.length // _GRAIN).argsort(descending=True, stable=True)
        order = order[self.length[order] > 0]
        rows = _Rows(*(getattr(self, field.name).index_select(0, order) for field in dataclasses.fields(self)))
        opaque = bool((rows.opacity == 1).all())
        # grid_sample counts from -1 to 1 over the whole atlas.
        scale = 2 / torch.tensor([atlas.shape[2], atlas.shape[1]], dtype=torch.float64, device=atlas.device)
        start = ((rows.start + 0.5) * scale - 1).float().t().contiguous()
        step = (rows.step * scale).float().t().contiguous()
        lengths, last = rows.length.tolist(), (rows.length - 1).int()
        first = 0
        while first < len(lengths):
            part = slice(first, first + max(1, _BLOCK // (lengths[first] + _GRAIN)))
            # Rows shorter than the block repeat their last pixel.
            column = torch.arange(max(lengths[part]), device=atlas.device, dtype=torch.int32).minimum(last[part, None])
            # Planes of x and y: both the arithmetic and grid_sample read them faster than pairs.
            grid = torch.addcmul(start[:, part, None], column.float(), step[:, part, None]).permute(1, 2, 0)
            values = F.grid_sample(atlas[None], grid[None], padding_mode="zeros", align_corners=False)[0]
            if not opaque:
                values[3] *= rows.opacity[part, None]
            yield (column + rows.place[part, None]).view(-1), values.flatten(1)
            first = part.stop


def _columns(origin: Tensor, step: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    """First column and number of columns k whose point `origin + k * step` can show something of a patch.

    A point shows the pixels that are less than 1 away along x and along y, so that x + y and x - y are less than 2 away.

    Args:
        origin: float64 `(R, 2)`.
        step: float64 `(R, 2)`.
        bounds: float64 `(R, 4, 2)`, see `Patches.bounds`.

    Returns:
        Int64 `(R,)` each; the number may be negative.
    """
    corners = torch.tensor([[1, 0, 1, 1], [0, 1, 1, -1]], device=origin.device, dtype=origin.dtype)
    reach = corners.abs().sum(dim=0)
    base, slope = origin @ corners, step @ corners
    # A row along which a coordinate hardly changes meets that limit far away, with the right sign.
    slope = torch.where(slope.abs() < 1e-9, 1e-9, slope)
    one, other = (bounds[..., 0] - reach - base) / slope, (bounds[..., 1] + reach - base) / slope
    begin = torch.minimum(one, other).amax(dim=1).clamp(-1e6, 1e6).ceil().long()
    end = torch.maximum(one, other).amin(dim=1).clamp(-1e6, 1e6).floor().long()
    return begin, end - begin + 1
