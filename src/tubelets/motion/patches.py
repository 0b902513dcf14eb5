"""What is moved: segmented objects, crops of the clip itself or drawn shapes, as patches with an alpha channel."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.motion.records import Motion


@dataclass(frozen=True)
class Patches:
    """The patches of a batch of clips, each in the size of its box in its source frame; zero beyond that size.

    Attributes:
        colours: uint8 `(B, N, 3, h, w)`.
        alphas: float32 `(B, N, h, w)` in [0, 1].
        sizes: int64 `(B, N, 2)` width and height of each.

    Example:
        >>> colours = torch.zeros(1, 2, 3, 8, 9, dtype=torch.uint8)
        >>> patches = Patches(colours, torch.ones(1, 2, 8, 9), torch.ones(1, 2, 2))
        >>> patches.colours.shape
        torch.Size([1, 2, 3, 8, 9])
    """

    colours: Tensor
    alphas: Tensor
    sizes: Tensor

    def to(self, device: torch.device | str) -> "Patches":
        """The patches on another device."""
        return Patches(self.colours.to(device), self.alphas.to(device), self.sizes.to(device))


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


def object_patches(objects: Sequence[Sequence[Tensor]], motion: Motion) -> Patches:
    """Patches from segmented objects, stretched to their boxes.

    Colours are averaged with their alphas as weights, so that what lies under transparent pixels does not shine
    through. Bicubic, with smoothing where an object gets smaller.

    Args:
        objects: for each clip and object a uint8 RGBA image `(4, rows, columns)`; sizes may differ.
        motion: the motions; gives the sizes.

    Returns:
        The patches, on the device of the motion.

    Raises:
        ValueError: if the number of objects is wrong, or an image is not uint8 RGBA.

    Example:
        >>> from tubelets.motion import MotionSettings, sample_motion
        >>> motion = sample_motion(MotionSettings.smile(), 1, 8, (64, 64), torch.Generator().manual_seed(0))
        >>> white = torch.full((4, 20, 30), 255, dtype=torch.uint8)
        >>> patches = object_patches([[white, white]], motion)
        >>> patches.alphas.sum().item() == patches.sizes.prod(dim=2).sum().item()
        True
    """
    clips, count = motion.source_frames.shape
    if len(objects) != clips or any(len(images) != count for images in objects):
        raise ValueError(f"there must be {count} objects for each of {clips} clips, got {list(map(len, objects))}")
    boxes = source_boxes(motion)
    sizes = boxes[..., 2:] - boxes[..., :2]
    width, height = sizes.flatten(0, 1).amax(dim=0).tolist()
    images = torch.zeros(clips * count, 4, height, width, device=sizes.device)
    flat = [image for row in objects for image in row]
    for slot, (image, (columns, rows)) in enumerate(zip(flat, sizes.flatten(0, 1).tolist(), strict=True)):
        images[slot, :, :rows, :columns] = _resize(_checked(image).to(sizes.device), rows, columns)
    images = images.view(clips, count, 4, height, width)
    return Patches(images[:, :, :3].to(torch.uint8), images[:, :, 3] / 255, sizes)


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
        >>> bool((patches.colours[0, 0, :, 0, 0] == frames[0, motion.source_frames[0, 0], :, y1, x1]).all())
        True
    """
    height, width = check_frames(frames, motion)
    motion = motion.to(frames.device)
    boxes = source_boxes(motion)
    limits = torch.tensor([width, height], device=boxes.device)
    if bool((boxes[..., :2] < 0).any()) or bool((boxes[..., 2:] > limits).any()):
        raise ValueError("patches can only be cut from boxes inside the frame; draw motions with clip_boxes=True")
    sizes = boxes[..., 2:] - boxes[..., :2]
    most = sizes.flatten(0, 1).amax(dim=0)
    columns = torch.arange(int(most[0]), device=boxes.device)
    rows = torch.arange(int(most[1]), device=boxes.device)
    inside = (rows < sizes[..., 1:])[..., :, None] & (columns < sizes[..., :1])[..., None, :]
    pixel = (boxes[..., 1:2] + rows)[..., :, None] * width + (boxes[..., :1] + columns)[..., None, :]
    clip = torch.arange(len(frames), device=boxes.device)[:, None]
    frame = clip * frames.shape[1] + motion.source_frames
    start = (frame * 3 * height * width)[..., None, None] + torch.where(inside, pixel, 0)
    planes = torch.arange(3, device=boxes.device)[:, None, None] * (height * width)
    colours = torch.take(frames, start[:, :, None] + planes)
    alphas = alpha_masks(motion.alpha_shapes, motion.alpha_edges, sizes, (len(rows), len(columns)))
    return Patches(colours * inside[:, :, None], alphas, sizes)


def alpha_masks(shapes: Tensor, edges: Tensor, sizes: Tensor, canvas: tuple[int, int] | None = None) -> Tensor:
    """Outlines of patches: rectangle, ellipse or rhombus, with a hard or a soft edge (tubelet_contrast.md 5.7).

    Args:
        shapes: int64 `(...)`, indices of `ALPHA_SHAPES`.
        edges: `(...)`: share of the size, counted from the centre, at which a soft edge begins (0.5 is the border); 0
            for a hard edge.
        sizes: int64 `(..., 2)` width and height.
        canvas: rows and columns of the result, by default the largest size.

    Returns:
        Float32 `(..., rows, columns)` in [0, 1], zero beyond each size.

    Example:
        >>> alpha_masks(torch.tensor(2), torch.tensor(0.0), torch.tensor([5, 5])).int().tolist()
        [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]
    """
    rows, columns = canvas or tuple(sizes.reshape(-1, 2).amax(dim=0).flip(0).tolist())
    width, height = sizes[..., 0, None], sizes[..., 1, None]
    x, y = torch.arange(columns, device=sizes.device), torch.arange(rows, device=sizes.device)
    # The centre is a whole pixel: even sizes are a little lopsided, as in the official code.
    dx = ((x - (width - 1) // 2).abs() / width)[..., None, :]
    dy = ((y - (height - 1) // 2).abs() / height)[..., :, None]
    kind = shapes[..., None, None]
    distance = torch.where(kind == 0, torch.maximum(dx, dy), torch.where(kind == 1, (dx**2 + dy**2).sqrt(), dx + dy))
    mask = ((kind == 0) | (distance < 0.5)).float()
    begin = edges[..., None, None].float()
    soft = ((0.5 - distance) / (0.5 - begin)).clamp(0, 1)
    mask = torch.where(begin > 0, mask * soft, mask)
    return mask * ((x < width)[..., None, :] & (y < height)[..., :, None])


def check_frames(frames: Tensor, motion: Motion) -> tuple[int, int]:
    """Refuse frames that a motion was not drawn for; return their height and width.

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


def _checked(image: Tensor) -> Tensor:
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != 4 or 0 in image.shape:
        raise ValueError(
            f"objects must be uint8 RGBA images (4, rows, columns), got {image.dtype} {tuple(image.shape)}"
        )
    return image


def _resize(image: Tensor, rows: int, columns: int) -> Tensor:
    """Resize an RGBA image, colours weighted by alpha; float32 whole numbers `(4, rows, columns)`."""
    weighted = image.float()
    weighted[:3] *= weighted[3:] / 255
    if not image.is_cuda:
        # Whole numbers are resized several times faster, if the channels of a pixel lie together.
        weighted = weighted.round_().to(torch.uint8)[None].contiguous(memory_format=torch.channels_last)[0]
    values = F.interpolate(weighted[None], (rows, columns), mode="bicubic", antialias=True)[0].float()
    values[:3] *= 255 / values[3:].clamp_min(1e-3)
    return values.round_().clamp_(0, 255)
