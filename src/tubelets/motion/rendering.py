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
GRAIN = 8


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
        ValueError: if frames, motion and patches do not fit together.

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
    if not frames.is_contiguous():
        frames, inplace = frames.contiguous(), True
    result = frames if inplace else frames.clone()
    pixels = result.view(-1)
    plane = height * width
    clips, objects, length, _ = motion.boxes.shape
    images = torch.arange(clips * length, device=frames.device).view(clips, 1, length) * (3 * plane)
    targets = images.expand(clips, objects, length)
    for positions, values in _blocks(motion.to(frames.device), patches.to(frames.device), targets):
        for channel in range(3):
            # The same positions, seen from the start of each colour plane.
            colours = pixels[channel * plane :]
            under = colours.index_select(0, positions).float()
            colours.scatter_(0, positions, torch.lerp(under, values[channel], values[3]).to(torch.uint8))
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
    masks = torch.zeros(clips, objects, frames, height, width, dtype=torch.uint8, device=patches.alphas.device)
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
    atlas, slot_height = _atlas(patches)
    order = paste_order(motion.boxes)
    for rank in range(objects):
        yield from _Rows.of_rank(motion, patches, targets, order[:, rank]).sampled(atlas, slot_height)


def _atlas(patches: Patches) -> tuple[Tensor, int]:
    """All patches in one image `(1, 4, height, width)`, each with a transparent border, and the height of a slot."""
    colours, alphas = patches.colours.flatten(0, 1), patches.alphas.flatten(0, 1)
    count, _, height, width = colours.shape
    atlas = colours.new_zeros((4, count, height + 2, width + 2), dtype=torch.float32)
    atlas[:3, :, 1:-1, 1:-1] = colours.transpose(0, 1)
    atlas[3, :, 1:-1, 1:-1] = alphas
    return atlas.flatten(1, 2)[None], height + 2


@dataclass(frozen=True)
class _Rows:
    """Rows of pixels inside patches, one entry for each row of each patch; float64 unless said otherwise.

    Attributes:
        start: `(R, 2)` point of the patch that the first pixel shows.
        step: `(R, 2)` how far one pixel to the right moves it.
        length: int64 `(R,)` pixels.
        slot: int64 `(R,)` number of the patch in the atlas.
        opacity: float32 `(R,)`.
        place: int64 `(R,)`, where the first pixel goes in the flat result.
    """

    start: Tensor
    step: Tensor
    length: Tensor
    slot: Tensor
    opacity: Tensor
    place: Tensor

    @classmethod
    def of_rank(cls, motion: Motion, patches: Patches, targets: Tensor, objects: Tensor) -> "_Rows":
        """The rows of one object of each clip, given int64 `(B,)`, over all frames."""
        clips, count, frames, _ = motion.boxes.shape
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
        left, top = placed.origins.unbind(-1)
        opacity = motion.opacities[clip, objects].flatten()
        first = (-top).clamp_min(0)
        rows = (torch.minimum(placed.sizes[:, 1], height - top) - first).clamp_min(0) * (opacity > 0)
        box = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), rows)
        y = torch.arange(len(box), device=rows.device) - (rows.cumsum(0) - rows)[box] + first[box]
        origin = inverse[box, :, 1] * y[:, None] + inverse[box, :, 2]
        step = inverse[box, :, 0]
        begin, length = _columns(origin, step, limits[box])
        begin_at = torch.maximum(begin, (-left).clamp_min(0)[box])
        end = torch.minimum(begin + length, torch.minimum(placed.sizes[:, 0], width - left)[box])
        return cls(
            start=origin + step * begin_at[:, None],
            step=step,
            length=(end - begin_at).clamp_min(0),
            slot=(clip * count + objects).repeat_interleave(frames)[box],
            opacity=opacity[box],
            place=targets[clip, objects].flatten()[box] + (top[box] + y) * width + left[box] + begin_at,
        )

    def sampled(self, atlas: Tensor, slot_height: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Read the patches along the rows, longest rows first so that the rows of a block are about equally long."""
        # Lengths within a few pixels count as equal: rows that lie near each other in memory then stay together.
        order = (self.length // GRAIN).argsort(descending=True, stable=True)
        order = order[self.length[order] > 0]
        rows = dataclasses.replace(
            self, **{field.name: getattr(self, field.name)[order] for field in dataclasses.fields(self)}
        )
        opaque = bool((rows.opacity == 1).all())
        # Pixel (x, y) of a patch is (x + 1, y + 1) of its slot; grid_sample counts from -1 to 1 over the whole atlas.
        scale = 2 / torch.tensor([atlas.shape[3], atlas.shape[2]], dtype=torch.float64, device=atlas.device)
        shift = torch.stack((torch.zeros_like(rows.slot), rows.slot * slot_height), dim=1) + 1.5
        start = ((rows.start + shift) * scale - 1).float().t().contiguous()
        step = (rows.step * scale).float().t().contiguous()
        lengths = rows.length.tolist()
        first = 0
        while first < len(lengths):
            most = (lengths[first] // GRAIN + 1) * GRAIN - 1
            part = slice(first, first + max(1, _BLOCK // most))
            column = torch.arange(max(lengths[part]), device=atlas.device).minimum(rows.length[part, None] - 1)
            # Planes of x and y: both the arithmetic and grid_sample read them faster than pairs.
            grid = torch.addcmul(start[:, part, None], column.float(), step[:, part, None]).permute(1, 2, 0)
            values = F.grid_sample(atlas, grid[None], padding_mode="zeros", align_corners=False)[0]
            if not opaque:
                values[3] *= rows.opacity[part, None]
            yield column.add_(rows.place[part, None]).view(-1), values.flatten(1)
            first = part.stop


def _columns(origin: Tensor, step: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
    """First column and number of columns k for which `origin + k * step` lies inside `(-1, limits)` along both axes.

    Args:
        origin: float64 `(R, 2)`.
        step: float64 `(R, 2)`.
        limits: int64 `(R, 2)` width and height of the patches.

    Returns:
        Int64 `(R,)` each; the number may be negative.
    """
    # A row along which one coordinate hardly changes meets that limit far away, with the right sign.
    slope = torch.where(step.abs() < 1e-9, 1e-9, step)
    one, other = (-1 - origin) / slope, (limits - origin) / slope
    begin = torch.minimum(one, other).amax(dim=1).clamp(-1e6, 1e6).ceil().long()
    end = torch.maximum(one, other).amin(dim=1).clamp(-1e6, 1e6).floor().long()
    return begin, end - begin + 1
