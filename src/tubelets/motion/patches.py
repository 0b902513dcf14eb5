"""Moving patches with an alpha channel: segmented objects, crops of the clip itself or drawn shapes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.motion.movable import Movable
from tubelets.motion.records import Motion


@dataclass(frozen=True)
class Patches(Movable):
    """The patches of a batch of clips, each in the size of its box in its source frame.

    They are stacked in one image, so that a renderer can sample all of them at once; each has a transparent border of a
    pixel.

    Attributes:
        atlas: float32 `(4, rows, columns)`: red, green, blue from 0 to 255, and alpha from 0 to 1.
        tops: int64 `(B, N)`, row of the atlas in which a patch begins; all begin in column 1.
        sizes: int64 `(B, N, 2)` width and height of each.

    Example:
        >>> patches = Patches.empty(torch.tensor([[[3, 2], [5, 4]]]))
        >>> patches.atlas.shape, patches.tops.tolist(), patches.image(0, 1).shape
        (torch.Size([4, 10, 7]), [[1, 5]], torch.Size([4, 4, 5]))
    """

    atlas: Tensor
    tops: Tensor
    sizes: Tensor

    @classmethod
    def empty(cls, sizes: Tensor) -> "Patches":
        """Transparent patches of the sizes `(B, N, 2)`."""
        heights = sizes[..., 1].flatten() + 2
        ends = heights.cumsum(0)
        # The four values of a pixel are adjacent in memory: a sample is one fetch.
        atlas = torch.zeros(int(ends[-1]), int(sizes[..., 0].max()) + 2, 4, device=sizes.device).permute(2, 0, 1)
        return cls(atlas, (ends - heights + 1).view(sizes.shape[:2]), sizes)

    def image(self, clip: int, index: int) -> Tensor:
        """One patch, a view `(4, height, width)` of the atlas."""
        top, (width, height) = int(self.tops[clip, index]), self.sizes[clip, index].tolist()
        return self.atlas[:, top : top + height, 1 : width + 1]

    def padded(self) -> Tensor:
        """All patches as `(B, N, 4, most rows, most columns)`, zero beyond each size."""
        rows, columns, inside = _cells(self.sizes)
        places = torch.where(inside, (self.tops[..., None, None] + rows) * self.atlas.shape[2] + columns + 1, 0)
        return self.atlas.flatten(1)[:, places].movedim(0, 2) * inside[:, :, None]

    def bounds(self) -> Tensor:
        """An octagon around the visible part of each patch, float64 `(B, N, 4, 2)`.

        Returns:
            Least and largest x, y, x + y and x - y of pixels whose alpha is not zero; the least is infinite and the
            largest minus infinity if all pixels are transparent.
        """
        count = self.tops.numel()
        rows = torch.arange(self.atlas.shape[1], device=self.atlas.device)
        owner = torch.searchsorted(self.tops.flatten(), rows + 1, right=True) - 1
        y = (rows - self.tops.flatten()[owner]).double()
        columns = torch.arange(-1, self.atlas.shape[2] - 1, device=self.atlas.device, dtype=torch.float32)
        visible = self.atlas[3] > 0
        first = torch.where(visible, columns, torch.inf).amin(dim=1).double()
        last = torch.where(visible, columns, -torch.inf).amax(dim=1).double()
        empty = last.isinf()
        low = torch.stack((first, y.masked_fill(empty, torch.inf), first + y, first - y), dim=1)
        high = torch.stack((last, y.masked_fill(empty, -torch.inf), last + y, last - y), dim=1)
        index = owner[:, None].expand(-1, 4)
        least = torch.full((count, 4), torch.inf, device=low.device, dtype=low.dtype)
        most = -least
        least.scatter_reduce_(0, index, low, "amin")
        most.scatter_reduce_(0, index, high, "amax")
        return torch.stack((least, most), dim=-1).unflatten(0, self.tops.shape)


def source_boxes(motion: Motion) -> Tensor:
    """Boxes of the objects in their own frames, int64 `(B, N, 4)`.

    Example:
        >>> from tubelets.motion import MotionSettings, sample_motion
        >>> motion = sample_motion(MotionSettings.smile(), 3, 8, (64, 64), torch.Generator().manual_seed(0))
        >>> source_boxes(motion).shape
        torch.Size([3, 2, 4])
    """
    index = motion.source_frames[..., None, None].expand(-1, -1, 1, 4)
    return motion.boxes.gather(2, index)[:, :, 0]


def weighted_by_alpha(image: Tensor) -> Tensor:
    """Premultiply the colours of an object by its alpha, once for each object.

    Args:
        image: uint8 RGBA `(4, rows, columns)`.

    Returns:
        Uint8 of the same shape in channels-last memory, with which resizing is fastest.

    Raises:
        ValueError: if the image is not uint8 RGBA.

    Example:
        >>> weighted_by_alpha(torch.tensor([200, 100, 50, 128], dtype=torch.uint8).view(4, 1, 1)).flatten().tolist()
        [100, 50, 25, 128]
    """
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != 4 or 0 in image.shape:
        raise ValueError(
            f"objects must be uint8 RGBA images (4, rows, columns), got {image.dtype} {tuple(image.shape)}"
        )
    colours = (image[:3] * (image[3:] / 255) + 0.5).to(torch.uint8)
    return torch.cat((colours, image[3:]))[None].contiguous(memory_format=torch.channels_last)[0]


def object_patches(objects: Sequence[Sequence[Tensor]], motion: Motion, weighted: bool = False) -> Patches:
    """Patches from segmented objects, stretched to their boxes.

    Colours are averaged with their alphas as weights, so that colours under transparent pixels do not bleed in.
    Bicubic, with antialiasing where an object shrinks.

    Args:
        objects: for each clip and object a uint8 RGBA image `(4, rows, columns)`; sizes may differ.
        motion: the motions; gives the sizes.
        weighted: the images are already premultiplied by `weighted_by_alpha`.

    Returns:
        The patches, on the device of the motion.

    Raises:
        ValueError: if the number of objects is wrong, or an image is not uint8 RGBA.

    Example:
        >>> from tubelets.motion import MotionSettings, sample_motion
        >>> motion = sample_motion(MotionSettings.smile(), 1, 8, (64, 64), torch.Generator().manual_seed(0))
        >>> white = torch.full((4, 20, 30), 255, dtype=torch.uint8)
        >>> patches = object_patches([[white, white]], motion)
        >>> patches.atlas[3].sum().item() == patches.sizes.prod(dim=2).sum().item()
        True
    """
    clips, count = motion.source_frames.shape
    if len(objects) != clips or any(len(images) != count for images in objects):
        raise ValueError(f"expected {count} objects for each of {clips} clips, got {list(map(len, objects))}")
    boxes = source_boxes(motion)
    patches = Patches.empty(boxes[..., 2:] - boxes[..., :2])
    for clip, images in enumerate(objects):
        for index, image in enumerate(images):
            target = patches.image(clip, index)
            source = (image if weighted else weighted_by_alpha(image)).to(target.device)
            # CPUs resize uint8 several times faster than floats; CUDA only resizes floats.
            source = source.float() if source.is_cuda else source
            resized = F.interpolate(source[None], target.shape[1:], mode="bicubic", antialias=True)[0]
            resized = resized.to(torch.float32, memory_format=torch.contiguous_format).round_().clamp_(0, 255)
            colours, alphas = resized[:3], resized[3]
            colours.mul_(255 / alphas.clamp_min(1e-3)).round_().clamp_(0, 255)
            alphas.div_(255)
            target.copy_(resized)
    return patches


def crop_patches(frames: Tensor, motion: Motion) -> Patches:
    """Patches cut from the clips themselves, with drawn outlines (tubelet_contrast.md 5.6 and 5.7).

    Args:
        frames: uint8 `(B, T, 3, H, W)`; each patch is cut from its source frame at its box there.
        motion: the motions, with boxes inside the frame.

    Returns:
        The patches, on the device of the frames.

    Raises:
        ValueError: if a box leaves the frame, or frames and motion disagree in size.

    Example:
        >>> from tubelets.motion import MotionSettings, sample_motion
        >>> frames = torch.randint(256, (2, 8, 3, 64, 64), dtype=torch.uint8)
        >>> settings = MotionSettings.tubelet_contrast()
        >>> motion = sample_motion(settings, 2, 8, (64, 64), torch.Generator().manual_seed(0))
        >>> patches, (x1, y1, _, _) = crop_patches(frames, motion), source_boxes(motion)[0, 0].tolist()
        >>> bool((patches.image(0, 0)[:3, 0, 0] == frames[0, motion.source_frames[0, 0], :, y1, x1]).all())
        True
    """
    check_frames(frames, motion)
    return CropPlan.of(motion).to(frames.device).cut(frames)


@dataclass(frozen=True)
class CropPlan(Movable):
    """Which pixels of clips become patches; made on the CPU, carried out on any device.

    Attributes:
        patches: the outlines, in black.
        source: int64 `(pixels,)`, places of the red values in the flat frames.
        target: int64 `(pixels,)`, their places in a plane of the atlas.
        plane: pixels of a frame.

    Example:
        >>> from tubelets.motion import MotionSettings, sample_motion
        >>> settings = MotionSettings.tubelet_contrast()
        >>> motion = sample_motion(settings, 2, 8, (64, 64), torch.Generator().manual_seed(0))
        >>> plan, white = CropPlan.of(motion), torch.full((2, 8, 3, 64, 64), 255, dtype=torch.uint8)
        >>> plan.cut(white).atlas[0].sum().item() == 255 * len(plan.target)
        True
    """

    patches: Patches
    source: Tensor
    target: Tensor
    plane: int

    @classmethod
    def of(cls, motion: Motion) -> "CropPlan":
        """Plan the cutting of each patch from its source frame at its box there.

        Args:
            motion: the motions, with boxes inside the frame.

        Returns:
            The plan.

        Raises:
            ValueError: if a box leaves the frame.
        """
        (height, width), motion = motion.frame_size, motion.to("cpu")
        boxes = source_boxes(motion)
        limits = torch.tensor([width, height])
        if bool((boxes[..., :2] < 0).any()) or bool((boxes[..., 2:] > limits).any()):
            raise ValueError("patches can only be cut from boxes inside the frame; draw motions with clip_boxes=True")
        patches = Patches.empty(boxes[..., 2:] - boxes[..., :2])
        rows, columns, inside = _cells(patches.sizes)
        clip = torch.arange(len(boxes))[:, None]
        image = (clip * motion.boxes.shape[2] + motion.source_frames)[..., None, None] * (3 * height * width)
        source = image + (boxes[..., 1, None, None] + rows) * width + boxes[..., 0, None, None] + columns
        target = (patches.tops[..., None, None] + rows) * patches.atlas.shape[2] + columns + 1
        source, target = source.expand_as(inside)[inside], target.expand_as(inside)[inside]
        alphas = alpha_masks(motion.alpha_shapes, motion.alpha_edges, patches.sizes)[inside]
        patches.atlas.flatten(1)[3, target] = alphas
        return cls(patches, source, target, height * width)

    def cut(self, frames: Tensor) -> Patches:
        """Cut the patches.

        Args:
            frames: uint8 `(B, T, 3, H, W)`, on the device of the plan.

        Returns:
            The patches, on that device.
        """
        atlas = self.patches.atlas.clone()
        planes = atlas.flatten(1)
        for channel in range(3):
            planes[channel, self.target] = torch.take(frames, self.source + channel * self.plane).float()
        return replace(self.patches, atlas=atlas)


def _cells(sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows `(rows, 1)` and columns `(columns)` up to the largest size; which are inside each `(..., rows, columns)`."""
    width, height = sizes.reshape(-1, 2).amax(dim=0).tolist()
    rows, columns = torch.arange(height, device=sizes.device)[:, None], torch.arange(width, device=sizes.device)
    return rows, columns, (rows < sizes[..., 1, None, None]) & (columns < sizes[..., 0, None, None])


def alpha_masks(shapes: Tensor, edges: Tensor, sizes: Tensor) -> Tensor:
    """Outlines of patches: rectangle, ellipse or rhombus, with a hard or a soft edge (tubelet_contrast.md 5.7).

    Args:
        shapes: int64 `(...)`, indices of `ALPHA_SHAPES`.
        edges: `(...)`: share of the size, counted from the centre, at which a soft edge begins (0.5 is the border); 0
            for a hard edge.
        sizes: int64 `(..., 2)` width and height.

    Returns:
        Float32 `(..., most rows, most columns)` in [0, 1], zero beyond each size.

    Example:
        >>> alpha_masks(torch.tensor(2), torch.tensor(0.0), torch.tensor([5, 5])).int().tolist()
        [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]
    """
    y, x, inside = _cells(sizes)
    width, height = sizes[..., 0, None, None], sizes[..., 1, None, None]
    # The centre is a whole pixel: even sizes are slightly asymmetric, as in the official code.
    dx, dy = (x - (width - 1) // 2).abs() / width, (y - (height - 1) // 2).abs() / height
    kind = shapes[..., None, None]
    distance = torch.where(kind == 0, torch.maximum(dx, dy), torch.where(kind == 1, (dx**2 + dy**2).sqrt(), dx + dy))
    mask = ((kind == 0) | (distance < 0.5)).float()
    begin = edges[..., None, None].float()
    soft = ((0.5 - distance) / (0.5 - begin)).clamp(0, 1)
    return torch.where(begin > 0, mask * soft, mask) * inside


def check_frames(frames: Tensor, motion: Motion) -> tuple[int, int]:
    """Reject frames that a motion was not drawn for; return their height and width.

    Raises:
        ValueError: if they are not uint8 RGB clips of the motion's number, length and size.

    Example:
        >>> from tubelets.motion import MotionSettings, sample_motion
        >>> motion = sample_motion(MotionSettings.smile(), 1, 8, (48, 64), torch.Generator().manual_seed(0))
        >>> check_frames(torch.zeros(1, 8, 3, 48, 64, dtype=torch.uint8), motion)
        (48, 64)
    """
    clips, _, length, _ = motion.boxes.shape
    expected = (clips, length, 3, *motion.frame_size)
    if frames.dtype != torch.uint8 or tuple(frames.shape) != expected:
        raise ValueError(
            f"this motion needs uint8 frames (clips, frames, 3, height, width) = {expected}, got {frames.dtype} "
            f"{tuple(frames.shape)}; draw a motion for these frames, or convert them"
        )
    return motion.frame_size
