"""The steps of the papers' code one after the other: resize, shear, rotate, paste, each rounded to whole grey levels.

The reference for `tubelets.motion.rendering`, which does all of it in one look-up and differs by a few grey levels.
Resizing follows Pillow's arithmetic (bicubic, colours
weighted by alpha), warping the fixed-point arithmetic of OpenCV's `warpAffine` (bilinear, positions in 1/32 pixel).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.motion.geometry import Warp, paste_order, place, warp_steps
from tubelets.motion.patches import Patches, check_frames
from tubelets.motion.records import Motion

_WEIGHT_BITS = 22  # of Pillow's filter weights
_STEPS = 32  # positions between two pixels that OpenCV distinguishes


def resize_rgba(images: Tensor, sizes: Tensor, new_sizes: Tensor) -> Tensor:
    """Resize RGBA images of different sizes, as Pillow does for `Image.resize` with its default filter.

    Images are uint8 `(n, 4, rows, columns)` and fill the top left of their slots; sizes are `(n, 2)`, width and height.
    """
    whole = images.to(torch.int64)
    weighted = torch.cat((_times_over_255(whole[:, :3], whole[:, 3:]), whole[:, 3:]), dim=1).double()
    across = _bicubic_weights(sizes[:, 0], new_sizes[:, 0], images.shape[3])
    down = _bicubic_weights(sizes[:, 1], new_sizes[:, 1], images.shape[2])
    shrink = sizes - new_sizes
    # The pass that shrinks much more comes first; as each pass rounds, the order shows.
    down_first = (shrink[:, 1] > 0) & (shrink[:, 1] > 2 * shrink[:, 0])
    rounded = torch.where(
        down_first[:, None, None, None],
        _pass_across(_pass_down(weighted, down), across),
        _pass_down(_pass_across(weighted, across), down),
    ).long()
    alpha = rounded[:, 3:]
    colours = torch.where(
        (alpha > 0) & (alpha < 255), (255 * rounded[:, :3] // alpha.clamp_min(1)).clamp_max(255), rounded[:, :3]
    )
    result = torch.cat((colours, alpha), dim=1).to(torch.uint8)
    # An image that keeps its size is only copied: weighting and back would lose colours of faint pixels.
    same = (shrink == 0).all(dim=1)
    rows, columns = result.shape[2:]
    kept = F.pad(images, (0, max(0, columns - images.shape[3]), 0, max(0, rows - images.shape[2])))
    return torch.where(same[:, None, None, None], kept[:, :, :rows, :columns], result)


def _times_over_255(values: Tensor, factors: Tensor) -> Tensor:
    """Rounded `values * factors / 255` in whole numbers."""
    product = values * factors + 128
    return ((product >> 8) + product) >> 8


def _bicubic_weights(old: Tensor, new: Tensor, length: int) -> Tensor:
    """Filter weights as whole numbers in float64, `(n, most new, length)`; they sum to about 2^22."""
    scale = old.double() / new
    stretch = scale.clamp_min(1)[:, None, None]
    centre = (torch.arange(int(new.max()), device=old.device) + 0.5) * scale[:, None]
    reach = 2 * stretch[..., 0]
    first = (centre - reach + 0.5).floor().clamp_min(0)[..., None]
    last = torch.minimum((centre + reach + 0.5).floor(), old[:, None].double())[..., None]
    taps = torch.arange(length, device=old.device)
    distance = ((taps - centre[..., None] + 0.5) / stretch).abs()
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * -0.5
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    weights = torch.where((taps >= first) & (taps < last), weights, 0.0)
    total = weights.sum(dim=-1, keepdim=True)
    scaled = weights / torch.where(total == 0, 1.0, total) * (1 << _WEIGHT_BITS)
    whole = (scaled + torch.where(scaled < 0, -0.5, 0.5)).trunc()
    # Rows beyond an image's new size give zeros; unchanged sides are copied.
    whole = whole * (torch.arange(whole.shape[1], device=old.device) < new[:, None])[..., None]
    return whole


def _pass_down(images: Tensor, weights: Tensor) -> Tensor:
    n, channels, rows, columns = images.shape
    sums = weights @ images.transpose(1, 2).reshape(n, rows, channels * columns)
    return _shifted(sums).view(n, -1, channels, columns).transpose(1, 2)


def _pass_across(images: Tensor, weights: Tensor) -> Tensor:
    n, channels, rows, columns = images.shape
    return _shifted(images.reshape(n, channels * rows, columns) @ weights.mT).view(n, channels, rows, -1)


def _shifted(sums: Tensor) -> Tensor:
    """Sums of weighted bytes back to bytes; float64 holds them exactly."""
    return ((sums + (1 << (_WEIGHT_BITS - 1))) / (1 << _WEIGHT_BITS)).floor().clamp(0, 255)


def resize_bilinear(images: Tensor, sizes: Tensor, new_sizes: Tensor) -> Tensor:
    """Resize floats bilinearly without smoothing (OpenCV's default); arguments as for `resize_rgba`."""
    down, across = (_bilinear_weights(sizes[:, i], new_sizes[:, i], images.shape[3 - i], images) for i in (1, 0))
    return (down[:, None] @ images) @ across[:, None].mT


def _bilinear_weights(old: Tensor, new: Tensor, length: int, like: Tensor) -> Tensor:
    place = (torch.arange(int(new.max()), device=old.device) + 0.5) * (old.double() / new)[:, None] - 0.5
    place = torch.minimum(place.clamp_min(0), old[:, None].double() - 1)
    weights = (1 - (torch.arange(length, device=old.device) - place[..., None]).abs()).clamp_min(0)
    return (weights * (torch.arange(weights.shape[1], device=old.device) < new[:, None])[..., None]).to(like.dtype)


def warp(images: Tensor, sizes: Tensor, step: Warp) -> Tensor:
    """Shear or rotate uint8 or float32 images of different sizes; what lies outside an image is zero."""
    columns = torch.arange(int(step.sizes[:, 0].max()), device=images.device)
    rows = torch.arange(int(step.sizes[:, 1].max()), device=images.device)
    # Two summands, each rounded to 1/1024 pixel; half a step is added before the lower bits are dropped.
    scaled = (step.inverse * 1024).unsqueeze(-1)
    along = (scaled[:, :, 0] * columns).round().long()
    base = (scaled[:, :, 1] * rows + scaled[:, :, 2]).round().long() + 512 // _STEPS
    place = (base[..., None] + along[..., None, :]) >> 5
    whole, fraction = place >> 5, place & (_STEPS - 1)
    n, channels, height, width = images.shape
    limits = sizes[:, :, None, None]
    flat = images.reshape(n, channels, height * width)
    total = torch.zeros(n, channels, *place.shape[2:], device=images.device, dtype=torch.float64)
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = whole[:, 0] + dx, whole[:, 1] + dy
            inside = (x >= 0) & (x < limits[:, 0]) & (y >= 0) & (y < limits[:, 1])
            weight = (fraction[:, 0] if dx else _STEPS - fraction[:, 0]) * (
                fraction[:, 1] if dy else _STEPS - fraction[:, 1]
            )
            index = torch.where(inside, y * width + x, 0).flatten(1)[:, None].expand(-1, channels, -1)
            total += flat.gather(2, index).view_as(total) * (weight * inside)[:, None]
    values = total / _STEPS**2
    if images.dtype == torch.uint8:
        values = (values + 0.5).floor()
    inside = (columns < step.sizes[:, :1])[:, None, :] & (rows < step.sizes[:, 1:])[:, :, None]
    return (values * inside[:, None]).to(images.dtype)


def alpha_steps(sizes: Tensor, angles: Tensor, shears: Tensor) -> list[Warp]:
    """The steps of alpha masks in Tubelet-Contrast's code.

    For a negative factor it mirrors the rows of a mask instead of its columns before a shear along x, which puts the
    mask up to a pixel beside the colours.
    """
    first, *rest = warp_steps(sizes, angles, shears)
    factor = shears[..., 0].double()
    inverse = first.inverse.clone()
    inverse[..., 0, 2] = torch.where(factor < 0, factor * (sizes[..., 1] - 1), 0.0)
    return [Warp(first.sizes, inverse), *rest]


def paste(frames: Tensor, colours: Tensor, alphas: Tensor, sizes: Tensor, origins: Tensor) -> Tensor:
    """Blend a patch into each frame; what sticks out is cut off.

    Frames `(n, 3, H, W)` and colours are uint8, alphas floats `(n, rows, columns)` in [0, 1] whose precision is that of
    the blending. Results are truncated to whole grey levels.
    """
    height, width = frames.shape[2:]
    x = origins[:, :1] + torch.arange(colours.shape[3], device=frames.device)
    y = origins[:, 1:] + torch.arange(colours.shape[2], device=frames.device)
    in_x = (x >= 0) & (x < torch.minimum(origins[:, :1] + sizes[:, :1], torch.tensor(width, device=frames.device)))
    in_y = (y >= 0) & (y < torch.minimum(origins[:, 1:] + sizes[:, 1:], torch.tensor(height, device=frames.device)))
    frame, row, column = (in_y[:, :, None] & in_x[:, None, :]).nonzero(as_tuple=True)
    result = frames.clone()
    place = (frame, slice(None), y[frame, row], x[frame, column])
    alpha = alphas[frame, row, column][:, None]
    under, over = frames[place].to(alpha.dtype), colours[frame, :, row, column].to(alpha.dtype)
    result[place] = (under * (1 - alpha) + over * alpha).to(torch.uint8)
    return result


def render_exactly(frames: Tensor, motion: Motion, patches: Patches, smooth: bool = True) -> Tensor:
    """Paste moving patches into clips step by step.

    With `smooth`, patches are resized with their alphas as SMILE does (bicubic); otherwise colours and alphas are
    resized separately and bilinearly, as Tubelet-Contrast does.
    """
    check_frames(frames, motion)
    clips, objects, _, _ = motion.boxes.shape
    order = paste_order(motion.boxes)
    clip = torch.arange(clips, device=order.device)
    result = frames.flatten(0, 1)
    for rank in range(objects):
        chosen = (clip, order[:, rank])
        boxes, angles, shears = motion.boxes[chosen], motion.angles[chosen], motion.shears[chosen]
        colours, alphas, sizes = _resized(patches, chosen, boxes, smooth)
        turns = (angles.flatten(), shears.flatten(0, 1))
        colour_steps = warp_steps(sizes, *turns)
        steps = zip(colour_steps, colour_steps if smooth else alpha_steps(sizes, *turns), strict=True)
        for step, alpha_step in steps:
            colours, alphas = warp(colours, sizes, step), warp(alphas, sizes, alpha_step)
            sizes = step.sizes
        shares = alphas[:, 0].double() / 255 if smooth else alphas[:, 0]
        shares = shares * motion.opacities[chosen].flatten()[:, None, None]
        placed = place(boxes.flatten(0, 1), *turns, motion.frame_size, motion.shift_clipped)
        result = paste(result, colours, shares, placed.sizes, placed.origins)
    return result.view_as(frames)


def _resized(
    patches: Patches, chosen: tuple[Tensor, Tensor], boxes: Tensor, smooth: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """One patch of each clip in the sizes of its boxes, clips and frames flattened: colours, alphas and sizes.

    Alphas are uint8 when `smooth`, else floats in [0, 1].
    """
    images = patches.padded()[chosen].repeat_interleave(boxes.shape[1], dim=0)
    sizes = patches.sizes[chosen].repeat_interleave(boxes.shape[1], dim=0)
    new = (boxes[..., 2:] - boxes[..., :2]).flatten(0, 1)
    if smooth:
        images[:, 3] *= 255
        whole = resize_rgba(images.round().to(torch.uint8), sizes, new)
        return whole[:, :3], whole[:, 3:], new
    resized = resize_bilinear(images, sizes, new)
    return resized[:, :3].round().to(torch.uint8), resized[:, 3:], new
