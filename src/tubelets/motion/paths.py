"""Paths, sizes and boxes of moving patches as functions of the draws (smile.md 4.2-4.5, tubelet_contrast.md 5).

Nothing here is random: `tubelets.motion.drawing` draws. Coordinates are pixels, x to the right, y down; frame sizes
are `(height, width)`, sizes and points `(width, height)` and `(x, y)`, boxes `(x1, y1, x2, y2)`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tubelets.motion.key_frames import interpolate


def box_anchors(scales: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Candidate box sizes, `scale * sqrt(ratio)` wide and `scale / sqrt(ratio)` high.

    Args:
        scales: square roots of the areas in pixels.
        ratios: width over height.

    Returns:
        Float64 `(len(ratios) * len(scales), 2)`, the scale running fastest.

    Raises:
        ValueError: if there is no number, or one is not positive.

    Example:
        >>> box_anchors([32, 64], [1, 4]).tolist()
        [[32.0, 32.0], [64.0, 64.0], [64.0, 16.0], [128.0, 32.0]]
    """
    if not scales or not ratios or not all(0 < each < math.inf for each in [*scales, *ratios]):
        raise ValueError(f"scales and ratios must be positive numbers, got {list(scales)} and {list(ratios)}")
    roots = torch.tensor(ratios, dtype=torch.float64).sqrt()[:, None]
    sides = torch.tensor(scales, dtype=torch.float64)
    return torch.stack((sides * roots, sides / roots), dim=-1).flatten(0, 1)


def jittered_sizes(anchors: Tensor, index: Tensor, log_jitter: Tensor, frame_size: tuple[int, int]) -> Tensor:
    """First box sizes.

    Args:
        anchors: `(A, 2)` candidate sizes.
        index: int64 `(...)`, the candidate of each object.
        log_jitter: `(..., 2)` logarithms of the factors on width and height.
        frame_size: height and width of the frame.

    Returns:
        Float64 `(..., 2)`, between 1 and one pixel less than the frame.

    Example:
        >>> jittered_sizes(torch.tensor([[8.0, 90.0]]), torch.tensor([0]), torch.zeros(1, 2), (64, 64)).tolist()
        [[8.0, 63.0]]
    """
    sizes = anchors.double()[index] * log_jitter.double().exp()
    return torch.minimum(sizes.clamp_min(1), _extent(frame_size, sizes) - 1)


def smoothing_matrix(num_points: int, sigma: float) -> Tensor:
    """Matrix of a Gaussian filter over a row of points whose ends are mirrored (d c b a | a b c d | d c b a).

    The kernel is truncated at 4 sigma and normalised.

    Args:
        num_points: length of the row.
        sigma: standard deviation in points, above 0.

    Returns:
        Float64 `(num_points, num_points)`; each row sums to 1.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> smoothing_matrix(48, 8.0).sum(dim=1).allclose(torch.ones(48, dtype=torch.float64))
        True
    """
    if num_points < 1 or not 0 < sigma < math.inf:
        raise ValueError(f"num_points must be at least 1 and sigma positive, got {num_points} and {sigma}")
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    source = (torch.arange(num_points)[:, None] + offsets) % (2 * num_points)
    source = torch.minimum(source, 2 * num_points - 1 - source)
    matrix = torch.zeros(num_points, num_points, dtype=torch.float64)
    return matrix.scatter_add_(1, source, (kernel / kernel.sum()).expand_as(source))


def smooth_paths(
    points: Tensor, span: Tensor, shift: Tensor, frame_size: tuple[int, int], num_frames: int, sigma: float = 8.0
) -> Tensor:
    """Smooth paths: random points, filtered, stretched to a span in both axes and shifted.

    Args:
        points: `(..., points, 2)` as drawn.
        span: `(...)` extent of each path in pixels, the same in x and y.
        shift: `(..., 2)` its smallest x and y.
        frame_size: height and width of the frame; paths are kept inside.
        num_frames: how many of the points are taken, evenly spaced.
        sigma: strength of the filter in points.

    Returns:
        Int64 `(..., num_frames, 2)`, truncated to whole pixels.

    Raises:
        ValueError: if there are fewer than two frames, or `sigma` is not positive.

    Example:
        >>> points = torch.rand(48, 2, generator=torch.Generator().manual_seed(0))
        >>> path = smooth_paths(points, torch.tensor(20), torch.tensor([5, 30]), (64, 64), num_frames=48)
        >>> path.amin(dim=0).tolist(), path.amax(dim=0).tolist()
        ([5, 30], [25, 50])
    """
    if num_frames < 2:
        raise ValueError(f"a path needs at least 2 frames, got num_frames={num_frames}")
    count = points.shape[-2]
    smooth = smoothing_matrix(count, sigma).to(points.device) @ points.double()
    low, high = smooth.amin(dim=-2, keepdim=True), smooth.amax(dim=-2, keepdim=True)
    placed = (smooth - low) / (high - low) * span[..., None, None] + shift[..., None, :]
    inside = torch.minimum(placed.clamp_min(0), _extent(frame_size, placed) - 1)
    # Set the last point explicitly: the steps of (count - 1) / (frames - 1) may miss it by rounding.
    picks = (torch.arange(num_frames, dtype=torch.float64) * ((count - 1) / (num_frames - 1))).round().long()
    picks[-1] = count - 1
    return inside.index_select(-2, picks.to(points.device)).long()


def piecewise_paths(
    centres: Tensor,
    sizes: Tensor,
    shifts: Tensor,
    keys: Tensor,
    modes: Tensor,
    frame_size: tuple[int, int],
    frames: int,
) -> Tensor:
    """Paths from key frame to key frame; boxes of the given sizes stay inside the frame.

    Args:
        centres: `(clips, objects, 2)` at the first frame.
        sizes: `(clips, objects, 2)` of the boxes at the first frame.
        shifts: `(clips, K - 1, objects, 2)` steps between the key frames before they are limited.
        keys: int64 `(clips, K)` key frames.
        modes: int64 `(clips, K - 1)` modes of the intervals.
        frame_size: height and width of the frame.
        frames: number of frames.

    Returns:
        Float64 `(clips, frames, objects, 2)`.

    Example:
        >>> start, size, far = torch.full((1, 1, 2), 20.0), torch.full((1, 1, 2), 8.0), torch.full((1, 1, 1, 2), 99.0)
        >>> keys, modes = torch.tensor([[0, 3]]), torch.tensor([[0]])
        >>> piecewise_paths(start, size, far, keys, modes, (32, 32), 4)[0, -1].tolist()
        [[28.0, 28.0]]
    """
    low = sizes.double() / 2
    high = _extent(frame_size, low) - low
    track = [centres.double()]
    for step in shifts.double().unbind(1):
        track.append(torch.minimum(torch.maximum(track[-1] + step, low), high))
    return interpolate(torch.stack(track, dim=1), keys, modes, frames)


def cumulative(start: Tensor, steps: Tensor, keys: Tensor, modes: Tensor, frames: int) -> Tensor:
    """A value that changes by the given steps from key frame to key frame (angles in degrees, shear factors).

    Args:
        start: `(clips, ...)` at the first frame.
        steps: `(clips, K - 1, ...)`.
        keys: int64 `(clips, K)` key frames.
        modes: int64 `(clips, K - 1)` modes of the intervals.
        frames: number of frames.

    Returns:
        Float64 `(clips, frames, ...)`.

    Example:
        >>> cumulative(torch.zeros(1), torch.tensor([[6.0]]), torch.tensor([[0, 3]]), torch.tensor([[0]]), 4).tolist()
        [[0.0, 2.0, 4.0, 6.0]]
    """
    values = start.double()[:, None] + torch.cat((torch.zeros_like(steps[:, :1]), steps), dim=1).double().cumsum(dim=1)
    return interpolate(values, keys, modes, frames)


def grown_sizes(start: Tensor, log_steps: Tensor, keys: Tensor, modes: Tensor, frames: int) -> Tensor:
    """Sizes that are multiplied by `exp(log_steps)` from key frame to key frame; arguments as for `cumulative`.

    Example:
        >>> steps, keys = torch.tensor([[2.0]]).log(), torch.tensor([[0, 2]])
        >>> grown_sizes(torch.tensor([4.0]), steps, keys, torch.tensor([[0]]), 3).round().tolist()
        [[4.0, 6.0, 8.0]]
    """
    zero = torch.zeros_like(log_steps[:, :1])
    values = start.double()[:, None] * torch.cat((zero, log_steps), dim=1).double().cumsum(dim=1).exp()
    return interpolate(values, keys, modes, frames)


def centred_boxes(centres: Tensor, sizes: Tensor, clip_to: tuple[int, int] | None = None) -> Tensor:
    """Boxes around centres, not rounded.

    Args:
        centres: `(..., 2)`.
        sizes: `(..., 2)`.
        clip_to: height and width of a frame to clip boxes to; `None` lets them extend beyond it.

    Returns:
        Float64 `(..., 4)`.

    Example:
        >>> centred_boxes(torch.tensor([3.0, 9.0]), torch.tensor([8.0, 4.0]), clip_to=(16, 16)).tolist()
        [0.0, 7.0, 7.0, 11.0]
    """
    boxes = torch.cat((centres - sizes.double() / 2, centres + sizes.double() / 2), dim=-1)
    if clip_to is None:
        return boxes
    return torch.minimum(boxes.clamp_min(0), _extent(clip_to, boxes).repeat(2))


def rounded_boxes(boxes: Tensor) -> Tensor:
    """Boxes in whole pixels, halves rounded to even; int64.

    Example:
        >>> rounded_boxes(torch.tensor([0.5, 1.5, 7.2, 8.5])).tolist()
        [0, 2, 7, 8]
    """
    return boxes.round().long()


def with_area(boxes: Tensor, frame_size: tuple[int, int] | None = None) -> Tensor:
    """Widen boxes that rounding or clipping left without a pixel.

    Args:
        boxes: int64 `(..., 4)`.
        frame_size: height and width of the frame that they were clipped to, if any.

    Returns:
        Int64 `(..., 4)`, each box at least 1 x 1.

    Example:
        >>> with_area(torch.tensor([16, 3, 16, 3]), (16, 16)).tolist()
        [15, 3, 16, 4]
    """
    start = boxes[..., :2]
    if frame_size is not None:
        start = torch.minimum(start, _extent(frame_size, boxes).long() - 1)
    return torch.cat((start, torch.maximum(boxes[..., 2:], start + 1)), dim=-1)


def _extent(frame_size: tuple[int, int], like: Tensor) -> Tensor:
    """Width and height as a tensor."""
    height, width = frame_size
    return torch.tensor([width, height], dtype=torch.float64, device=like.device)
