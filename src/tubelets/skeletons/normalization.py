"""Normalisation of skeletons: gaps filled, bodies centred, turned upright and to the front, for a batch at once."""

import functools

import torch
from torch import Tensor

from tubelets.skeletons.layouts import SkeletonLayout
from tubelets.skeletons.representations import check_skeletons

_SMALL = 1e-6


def normalize_skeletons(skeletons: Tensor, layout: SkeletonLayout) -> Tensor:
    """Fill frames without a body, centre, and turn bodies so that the spine points up and the shoulders along x.

    The axes are those of the first body in the first frame. Missing joints, frames and bodies (zeros) stay zero.

    Args:
        skeletons: float `(B, bodies, frames, joints, 3)`.
        layout: has the joints `spine_base`, `spine_mid`, `left_shoulder` and `right_shoulder`, or shoulders and hips.

    Returns:
        Float of the same shape and type; computed in float64.

    Raises:
        ValueError: if the skeletons are not in three dimensions or do not fit the layout, or the layout has no such
            joints.

    Example:
        >>> from tubelets.skeletons.layouts import KINECT_25
        >>> found = normalize_skeletons(torch.rand(1, 2, 8, 25, 3), KINECT_25)
        >>> found[0, 0, :, KINECT_25.index("spine_mid")].abs().max().item()  # the centre
        0.0

    Source: skeleton_contrast.md, section 6.3.
    """
    check_skeletons(skeletons)
    if skeletons.shape[-2:] != (layout.num_joints, 3):
        raise ValueError(
            f"skeletons of layout {layout.name!r} must have {layout.num_joints} joints with 3 coordinates to be "
            f"turned, got {tuple(skeletons.shape[-2:])}; use center_skeletons for two coordinates"
        )
    needed = ("spine_base", "spine_mid", "right_shoulder", "left_shoulder")
    if not layout.has(*needed):
        raise ValueError(
            f"layout {layout.name!r} lacks {', '.join(name for name in needed if not layout.has(name))}; convert the "
            "skeletons to kinect-25, or use center_skeletons"
        )
    base, middle, right, left = map(layout.index, needed)
    found = center_skeletons(fill_gaps(skeletons).double(), middle)
    axes = torch.eye(3, dtype=found.dtype, device=found.device)
    turn = axes.expand(len(found), 3, 3)
    for start, end, axis in ((base, middle, axes[2]), (left, right, axes[0])):
        # As the rotations so far have left it; all joints are turned once, at the end.
        direction = (turn @ (found[:, 0, 0, end] - found[:, 0, 0, start])[..., None])[..., 0]
        turn = rotation_between(direction, axis.expand_as(direction)) @ turn
    turned = found.flatten(1, 3) @ turn.transpose(-1, -2)
    return turned.view(found.shape).to(skeletons.dtype)


def present_frames(skeletons: Tensor) -> Tensor:
    """Which frames show a body: those whose coordinates do not sum to zero, as the official code tests it.

    Args:
        skeletons: float `(..., frames, joints, coordinates)`.

    Returns:
        Bool `(..., frames)`.

    Example:
        >>> present_frames(torch.tensor([1.0, 0.0]).view(2, 1, 1)).tolist()
        [True, False]
    """
    return skeletons.sum(dim=(-1, -2)) != 0


def fill_gaps(skeletons: Tensor) -> Tensor:
    """Repeat the frames of each body over the empty frames at its end.

    If its first frame is empty, all frames with the body are moved to the front first. Holes in the middle of a body
    that is there from the first frame on stay zero, and so do bodies that never appear. A second body may so be shifted
    against the first one in time; the official numbers were made this way.

    Args:
        skeletons: float `(B, bodies, frames, joints, coordinates)`.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> body = torch.tensor([0.0, 0.0, 1.0, 2.0, 0.0]).view(1, 1, 5, 1, 1)
        >>> fill_gaps(body).flatten().tolist()
        [1.0, 2.0, 1.0, 2.0, 1.0]

    Source: skeleton_contrast.md, section 6.3.
    """
    there = present_frames(skeletons)
    frames = torch.arange(there.shape[-1], device=there.device)
    in_order = frames.expand_as(there)
    # A stable sort puts the frames with the body first and keeps their order.
    packed = (~there).to(torch.uint8).sort(dim=-1, stable=True).indices
    late = ~there[..., :1]
    order = torch.where(late, packed, in_order)
    last = torch.where(there, in_order, -1).amax(dim=-1, keepdim=True)
    count = torch.where(late, there.sum(dim=-1, keepdim=True), last + 1)
    # Behind the last frame of a body its frames start again.
    source = order.gather(-1, frames % count.clamp(min=1))
    return skeletons.gather(2, source[..., None, None].expand_as(skeletons))


def center_skeletons(skeletons: Tensor, joint: int) -> Tensor:
    """Subtract a joint of the first body from all bodies, frame by frame; missing joints stay zero.

    Args:
        skeletons: float `(B, bodies, frames, joints, coordinates)`.
        joint: number of the joint.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> center_skeletons(torch.tensor([[1.0], [3.0]]).view(1, 1, 1, 2, 1), 0).flatten().tolist()
        [0.0, 2.0]
    """
    # Added one by one: a reduction over so few values is several times as slow.
    there = functools.reduce(torch.add, skeletons.unbind(dim=-1)) != 0
    return (skeletons - skeletons[:, :1, :, joint : joint + 1]) * there.unsqueeze(-1)


def scale_skeletons(skeletons: Tensor) -> Tensor:
    """Divide each sample by the root mean square distance of its joints from the origin; missing joints stay zero.

    Args:
        skeletons: float `(B, bodies, frames, joints, coordinates)`, centred.

    Returns:
        A new tensor of the same shape; a sample without a joint stays zero.

    Example:
        >>> scale_skeletons(torch.tensor([0.0, 3.0, -3.0]).view(1, 1, 1, 3, 1)).flatten().tolist()
        [0.0, 1.0, -1.0]
    """
    squares = skeletons.square().sum(dim=-1)
    count = (squares > 0).sum(dim=(1, 2, 3)).clamp(min=1)
    size = (squares.sum(dim=(1, 2, 3)) / count).sqrt()
    return skeletons / torch.where(size > 0, size, 1)[:, None, None, None, None]


def rotation_between(vectors: Tensor, targets: Tensor) -> Tensor:
    """Rotations that turn vectors parallel to others, about the axis perpendicular to both.

    Args:
        vectors: float `(B, 3)`.
        targets: float `(B, 3)`.

    Returns:
        Float `(B, 3, 3)`; the identity where a vector is zero or both are parallel.

    Example:
        >>> turn = rotation_between(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
        >>> (turn[0] @ torch.tensor([1.0, 0.0, 0.0])).round().tolist()
        [0.0, 0.0, 1.0]
    """
    axis = torch.linalg.cross(vectors, targets)
    cosine = (_unit(vectors) * _unit(targets)).sum(dim=-1).clamp(-1, 1)
    angle = torch.where((_is_zero(vectors) | _is_zero(targets)), 0, torch.arccos(cosine))
    still = _is_zero(axis) | (angle.abs() < _SMALL)
    x, y, z = _unit(axis).unbind(dim=-1)
    none = torch.zeros_like(x)
    cross = torch.stack([none, -z, y, z, none, -x, -y, x, none], dim=-1).unflatten(-1, (3, 3))
    same = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    # Rodrigues' formula.
    turned = same + angle.sin()[:, None, None] * cross + (1 - angle.cos())[:, None, None] * (cross @ cross)
    return torch.where(still[:, None, None], same, turned)


def _is_zero(vectors: Tensor) -> Tensor:
    return vectors.abs().sum(dim=-1) < _SMALL


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-30)
