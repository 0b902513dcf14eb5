"""Paste moving patches into clips: one look-up for each pixel that a patch can touch.

Resizing, shearing and rotating a patch are affine maps, so each pixel of the frame shows one point of the patch. Rows
of pixels inside the transformed patches of all clips, frames and objects are collected, sorted by length and sampled in
blocks that fit into a processor's cache; frames are read and written eight pixels at a time. The patch is read once,
bilinearly. The papers' code resizes, warps and pastes in separate steps that each round to whole grey levels; results
differ by a few levels.

Which rows to read and where they go follows from the motion and the outlines of the patches alone. It is planned on the
CPU, in a worker if wanted; pasting then neither waits for an accelerator nor reads from it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.motion.geometry import Placement, paste_order, place
from tubelets.motion.movable import Movable
from tubelets.motion.patches import Patches, check_frames
from tubelets.motion.records import Motion

# Pixels of a block: on CPUs its temporary tensors (some 40 bytes per pixel) stay in a core's second-level cache; on
# accelerators it bounds the memory.
_CPU_BLOCK = 3 << 14
_ACCELERATOR_BLOCK = 1 << 23


def render(frames: Tensor, motion: Motion, patches: Patches, inplace: bool = False) -> Tensor:
    """Paste moving patches into clips.

    Objects with the largest mean size are pasted first. Each is blended as `frame * (1 - alpha) + patch * alpha` and
    truncated to whole grey levels before the next. Equal inputs give equal bits; a clip in another batch may differ by
    a grey level or two in a few pixels, because positions are rounded relative to the batch.

    Args:
        frames: uint8 `(B, T, 3, H, W)`.
        motion: the motions of the B clips.
        patches: the patches that move.
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
    check_frames(frames, motion)
    if inplace and not frames.is_contiguous():
        raise ValueError("frames to write into must be contiguous; call .contiguous() on them, or omit inplace")
    result = frames if inplace else frames.clone(memory_format=torch.contiguous_format)
    plan = RenderPlan.of(motion, patches, _word(result))
    plan.to(result.device).paste(patches.atlas.to(result.device), result)
    return result


@dataclass(frozen=True)
class RenderPlan(Movable):
    """Which points of the patches each pixel of a batch shows; made on the CPU, carried out on any device.

    Attributes:
        shape: of the frames, `(B, T, 3, H, W)`.
        ranks: rows of words of one object of each clip, in the order of pasting.
        word: pixels that are read and written at once.

    Example:
        >>> from tubelets.motion import MotionSettings, crop_patches, sample_motion
        >>> frames = torch.randint(256, (2, 8, 3, 64, 64), dtype=torch.uint8)
        >>> settings = MotionSettings.tubelet_contrast()
        >>> motion = sample_motion(settings, 2, 8, (64, 64), torch.Generator().manual_seed(0))
        >>> patches = crop_patches(frames, motion)
        >>> plan = RenderPlan.of(motion, patches)
        >>> pasted = frames.clone()
        >>> plan.paste(patches.atlas, pasted)
        >>> torch.equal(pasted, render(frames, motion, patches))
        True
    """

    shape: tuple[int, ...]
    ranks: "tuple[_Rows, ...]"
    word: int

    @classmethod
    def of(cls, motion: Motion, patches: Patches, word: int | None = None) -> "RenderPlan":
        """Plan the pasting of patches.

        Args:
            motion: the motions of the B clips.
            patches: the patches that move; of their pixels, only which are transparent counts.
            word: pixels that are read and written at once, 8, 4, 2 or 1; their memory must begin at a multiple of it.
                None is the largest for frames that have memory of their own.

        Returns:
            The plan.

        Raises:
            ValueError: if motion and patches do not fit together.
        """
        clips, _, length, _ = motion.boxes.shape
        height, width = motion.frame_size
        word = _largest_word(width) if word is None else word
        images = torch.arange(clips * length).view(clips, 1, length) * 3
        targets = images.expand(*motion.boxes.shape[:3])
        return cls((clips, length, 3, height, width), _plan(motion, patches, targets, word), word)

    def paste(self, atlas: Tensor, *batches: Tensor) -> None:
        """Paste the patches into one batch of frames, or into several, for which the patches are read once.

        Args:
            atlas: of the patches, on the device of the plan.
            *batches: uint8 `(B, T, 3, H, W)`, contiguous, on the same device; overwritten.

        Raises:
            ValueError: if the plan was not made for frames of this shape and place in memory.
        """
        for frames in batches:
            if tuple(frames.shape) != self.shape or frames.storage_offset() % self.word or not frames.is_contiguous():
                raise ValueError(
                    f"this plan is for contiguous frames {self.shape} that begin at a multiple of {self.word} bytes, "
                    f"got {tuple(frames.shape)} at {frames.storage_offset()}; plan again for these frames"
                )
        every = [_words(frames, self.word) for frames in batches]
        # The same places, seen from the start of each colour plane.
        size = self.shape[3] * self.shape[4] // self.word
        for places, values in _sampled(self.ranks, atlas):
            # A resized patch has whole grey levels; only the blend of it with the frame is truncated.
            colours = values[:3].round_()
            for words in every:
                planes = [words[channel * size :] for channel in range(3)]
                under = torch.stack([plane.gather(0, places) for plane in planes]).view(torch.uint8).float()
                under.addcmul_(colours.sub_(under) if words is every[-1] else colours - under, values[3])
                # Converting floats to bytes through int32 is twice as fast.
                for plane, blended in zip(planes, under.int().to(torch.uint8).view(words.dtype), strict=True):
                    plane.scatter_(0, places, blended)


def object_masks(motion: Motion, patches: Patches) -> Tensor:
    """Exact masks of the objects of a motion, without any frame.

    Args:
        motion: the motions.
        patches: the patches that move.

    Returns:
        Uint8 `(B, N, T, H, W)`: opacity of each object in each pixel, 0 to 255. Pixels
        that a later object covers are not removed.

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
    targets = torch.arange(clips * objects * frames).view(clips, objects, frames)
    word = _word(masks)
    words = _words(masks, word)
    ranks = (rows.to(masks.device) for rows in _plan(motion, patches, targets, word))
    for places, values in _sampled(ranks, patches.atlas):
        words.scatter_(0, places, (255 * values[3] + 0.5).to(torch.uint8).view(words.dtype))
    return masks


def _largest_word(width: int, offset: int = 0) -> int:
    """Pixels of an integer that divides a row of pixels and the place where its memory begins."""
    return next(word for word in (8, 4, 2, 1) if width % word == 0 and offset % word == 0)


def _word(images: Tensor) -> int:
    return _largest_word(images.shape[-1], int(images.storage_offset()))


def _words(images: Tensor, word: int) -> Tensor:
    """Contiguous uint8 images `(..., W)` as one row of integers of that many pixels.

    Memory access is scattered, so reading and writing several neighbours at once makes pasting fast.
    """
    return images.view(-1).view({8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}[word])


def _plan(motion: Motion, patches: Patches, targets: Tensor, word: int) -> "tuple[_Rows, ...]":
    """The pixels that patches can touch, in the order of pasting, on the CPU.

    `targets` `(B, N, T)` is the index of the plane of the result for each object and frame, `word` the pixels of an
    integer, see `_words`.
    """
    clips, objects, _, _ = motion.boxes.shape
    if tuple(patches.sizes.shape[:2]) != (clips, objects):
        raise ValueError(
            f"expected patches for {clips} clips of {objects} objects, got {tuple(patches.sizes.shape[:2])}"
        )
    bounds, motion = patches.bounds().cpu(), motion.to("cpu")
    # The atlas itself is not read, and stays where it is.
    patches = replace(patches, tops=patches.tops.cpu(), sizes=patches.sizes.cpu())
    order = paste_order(motion.boxes)
    return tuple(_Rows.of_rank(motion, patches, bounds, targets, order[:, rank], word) for rank in range(objects))


def _sampled(ranks: "Iterable[_Rows]", atlas: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Sample all pixels of a plan.

    Yields int64 `(words,)` places in the flat result, none twice in a block, and float32 `(4, words * word)` red,
    green, blue (0 to 255) and alpha (0 to 1; 0 where a word extends beyond a patch).
    """
    # The four values of a pixel are adjacent in memory: a sample is one fetch.
    atlas = atlas[None].contiguous(memory_format=torch.channels_last)
    for rows in ranks:
        yield from rows.sampled(atlas)


@dataclass(frozen=True)
class _Rows(Movable):
    """Rows of words that show part of a patch, the longest first; R over all clips and frames.

    Attributes:
        start: float32 `(2, R)` point of the atlas that the first pixel shows, from -1 to 1 over the whole atlas.
        step: float32 `(2, R)` how far one pixel to the right moves it.
        first: float32 `(R, word)`, 1 for the pixels of the first word that belong to the patch and 0 for others.
        last: float32 `(R, word)`, the same for the last word, which may be the first.
        opacity: float32 `(R,)`.
        place: int64 `(R,)`, where the first word goes in the flat result.
        runs: words of a row, at least 1, and how many rows have that many, in order.
        opaque: whether every opacity is 1.
    """

    start: Tensor
    step: Tensor
    first: Tensor
    last: Tensor
    opacity: Tensor
    place: Tensor
    runs: tuple[tuple[int, int], ...]
    opaque: bool

    @classmethod
    def of_rank(
        cls, motion: Motion, patches: Patches, bounds: Tensor, targets: Tensor, objects: Tensor, word: int
    ) -> "_Rows":
        """The rows of one object of each clip, given int64 `(B,)`, over all frames."""
        chosen = (torch.arange(len(objects), device=objects.device), objects)
        placed, inverse = _placed(motion, patches, chosen)
        height, width = motion.frame_size
        opacity, origins = motion.opacities[chosen], placed.origins.flatten(0, 1)
        limits = torch.tensor([width, height], device=origins.device)
        ends = torch.minimum(placed.sizes, limits - placed.origins) * (opacity > 0)[..., None]
        octagons = bounds[chosen].repeat_interleave(opacity.shape[1], dim=0)
        begin, length = _spans(inverse.flatten(0, 1), octagons, (-origins).clamp_min(0), ends.flatten(0, 1))
        box, y = (length > 0).nonzero(as_tuple=True)
        begin, length = begin[box, y], length[box, y]

        # Words begin at a multiple of their length in the frame.
        column, row = origins.index_select(0, box).unbind(1)
        lead = (column + begin) & (word - 1)
        words = (lead + length + word - 1) // word
        # Row i of the triangle has ones from column i on.
        triangle = torch.ones(word + 1, word, device=lead.device).triu()
        place_of = (targets[chosen].view(-1).index_select(0, box) * height + row + y) * width + column + begin - lead
        # Gathering one row of a table for each box is several times faster than gathering its entries.
        step, down, base = _atlas_maps(inverse, patches, chosen).flatten(0, 1).index_select(0, box).unbind(1)
        start = base + down * y[:, None] + step * (begin - lead)[:, None]

        # A stable sort keeps rows of equal length in memory order.
        order = words.argsort(descending=True, stable=True)
        words = words.index_select(0, order)
        drawn = opacity.view(-1).index_select(0, box.index_select(0, order))
        lengths, counts = words.unique_consecutive(return_counts=True)
        return cls(
            start=start.float().index_select(0, order).t().contiguous(),
            step=step.float().index_select(0, order).t().contiguous(),
            first=triangle.index_select(0, lead.index_select(0, order)),
            last=1 - triangle.index_select(0, (lead + length).index_select(0, order) - (words - 1) * word),
            opacity=drawn,
            place=(place_of // word).index_select(0, order),
            runs=tuple(zip(lengths.tolist(), counts.tolist(), strict=True)),
            opaque=bool((drawn == 1).all()),
        )

    def sampled(self, atlas: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Read the patches along the rows, a block of pixels at a time; see `_sampled`."""
        word = self.first.shape[1]
        for pieces in self._pieces((_CPU_BLOCK if atlas.device.type == "cpu" else _ACCELERATOR_BLOCK) // word):
            words = pieces[-1][1].stop
            places = torch.empty(words, device=atlas.device, dtype=torch.int64)
            # Planes of x and y: both the arithmetic and grid_sample read them faster than pairs.
            grid = torch.empty(2, words * word, device=atlas.device)
            for rows, part, length in pieces:
                number = torch.arange(length, device=atlas.device)
                torch.add(self.place[rows, None], number, out=places[part].view(-1, length))
                column = torch.arange(length * word, device=atlas.device, dtype=torch.float32)
                points = grid[:, part.start * word : part.stop * word].view(2, -1, length * word)
                torch.mul(self.step[:, rows, None], column, out=points).add_(self.start[:, rows, None])
            values = F.grid_sample(atlas, grid.t()[None, None], align_corners=False)[0, :, 0]
            # Rounded to 255 steps, so that opaque pixels stay opaque despite rounded positions.
            values[3].mul_(255).round_().div_(255)
            for rows, part, length in pieces:
                alphas = values[3].view(-1, word)[part].view(-1, length, word)
                alphas[:, 0] *= self.first[rows]
                alphas[:, -1] *= self.last[rows]
                if not self.opaque:
                    alphas *= self.opacity[rows, None, None]
            yield places, values

    def _pieces(self, size: int) -> Iterator[list[tuple[slice, slice, int]]]:
        """Blocks of rows: ranges of rows of one length, the words of the block that they fill, and that length."""
        pieces: list[tuple[slice, slice, int]] = []
        row, filled = 0, 0
        for length, count in self.runs:
            left = count
            while left:
                taken = min(left, max(1, (size - filled) // length))
                pieces.append((slice(row, row + taken), slice(filled, filled + taken * length), length))
                row, left, filled = row + taken, left - taken, filled + taken * length
                if filled + length > size:
                    yield pieces
                    pieces, filled = [], 0
        if pieces:
            yield pieces


def _placed(motion: Motion, patches: Patches, chosen: tuple[Tensor, Tensor]) -> tuple[Placement, Tensor]:
    """Canvases of one patch of each clip in each frame, and float64 `(B, T, 2, 3)`, their pixels to points of patches.

    The inverse maps of a placement refer to a patch in the size of its box; these refer to the patch as stored.
    """
    boxes = motion.boxes[chosen]
    placed = place(boxes, motion.angles[chosen], motion.shears[chosen], motion.frame_size, motion.shift_clipped)
    # Pixel areas map onto pixel areas, so that borders coincide.
    ratio = patches.sizes[chosen][:, None] / (boxes[..., 2:] - boxes[..., :2]).double()
    inverse = placed.inverse * ratio[..., None]
    inverse[..., 2] += 0.5 * ratio - 0.5
    return placed, inverse


def _atlas_maps(inverse: Tensor, patches: Patches, chosen: tuple[Tensor, Tensor]) -> Tensor:
    """Maps from canvas pixels to points of the atlas in grid_sample's coordinates, from -1 to 1.

    Float64 `(B, T, 3, 2)`: the contributions of one pixel to the right, one pixel down, and the first pixel.
    """
    sides = torch.tensor([patches.atlas.shape[2], patches.atlas.shape[1]], device=inverse.device)
    maps = inverse.mT.contiguous()
    tops = patches.tops[chosen]
    maps[:, :, 2] += torch.stack((torch.ones_like(tops), tops), dim=1)[:, None] + 0.5
    maps *= 2 / sides.double()
    maps[:, :, 2] -= 1
    return maps


def _spans(inverse: Tensor, bounds: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """First column and number of columns, for each row of a canvas, that can show part of a patch.

    A pixel shows points less than 1 away along x and along y, so x + y and x - y are less than 2 away. `first` and
    `last` `(P, 2)` limit the columns and rows, the last ones excluded. Int64 `(P, most rows)` each; the number may be
    negative.
    """
    corners = torch.tensor([[1, 0, 1, 1], [0, 1, 1, -1]], device=inverse.device, dtype=inverse.dtype)
    reach = corners.abs().sum(dim=0)
    slope, lean, base = (inverse.mT @ corners).unbind(1)
    # Along a row where a coordinate is almost constant, the limit is far away with the right sign.
    slope = torch.where(slope.abs() < 1e-9, 1e-9, slope)
    one, other = (bounds[..., 0] - reach - base) / slope, (bounds[..., 1] + reach - base) / slope
    y = torch.arange(max(1, int(last[:, 1].max())), device=inverse.device)
    begin, end = (values[:, :1].double().expand(-1, len(y)) for values in (first, last - 1))
    limits = (torch.minimum(one, other), torch.maximum(one, other), lean / slope)
    for low, high, shift in zip(*(values.unsqueeze(-1).unbind(1) for values in limits), strict=True):
        moved = shift * y
        begin, end = torch.maximum(begin, low - moved), torch.minimum(end, high - moved)
    inside = (y >= first[:, 1:]) & (y < last[:, 1:]) & (bounds[..., 0] <= bounds[..., 1]).all(dim=1, keepdim=True)
    begin = begin.ceil()
    return begin.long(), torch.where(inside, end.floor() - begin + 1, 0).long()
