"""Conversion of skeletons between layouts: joints of the same name are copied, others computed from their neighbours.

The rules for joints in the middle of the body are those by which MediaPipe's landmarks become Kinect's joints
(skeleton_contrast.md, section 6.5).
"""

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

from tubelets.skeletons.layouts import SkeletonLayout

_BOTH_SIDES = {
    "{side}_hand": (("{side}_pinky", "{side}_index"),),
    "{side}_hand_tip": (("{side}_index",),),
    "{side}_index": (("{side}_hand_tip",),),
    "{side}_foot": (("{side}_toe",), ("{side}_big_toe",)),
    "{side}_toe": (("{side}_big_toe",), ("{side}_foot",)),
    "{side}_big_toe": (("{side}_toe",), ("{side}_foot",)),
}
DERIVED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "spine_base": (("left_hip", "right_hip"),),
    "spine_shoulder": (("left_shoulder", "right_shoulder"),),
    "spine_mid": (("spine_base", "spine_shoulder"),),
    "head": (("left_ear", "right_ear"), ("nose",)),
    "neck": (("spine_shoulder", "head"),),
    **{
        joint.format(side=side): tuple(tuple(name.format(side=side) for name in names) for names in ways)
        for side in ("left", "right")
        for joint, ways in _BOTH_SIDES.items()
    },
}
"""Joints that a layout may lack, and the joints of whose mean they consist; the first that it has are used."""


def joint_weights(source: SkeletonLayout, target: SkeletonLayout) -> Tensor:
    """How each joint of a layout is made of the joints of another.

    Args:
        source: layout of the skeletons.
        target: layout that is wanted.

    Returns:
        Float32 `(target joints, source joints)`; the weights of a joint sum to 1, or are 0 if the source cannot give
        it.

    Example:
        >>> from tubelets.skeletons.layouts import KINECT_25, MEDIAPIPE_33
        >>> weights = joint_weights(MEDIAPIPE_33, KINECT_25)
        >>> weights[KINECT_25.index("spine_mid")].nonzero().flatten().tolist()  # shoulders and hips
        [11, 12, 23, 24]
    """
    rows = [_weights_of(joint, source) for joint in target.joints]
    return torch.tensor([[row.get(joint, 0.0) for joint in source.joints] for row in rows])


def _weights_of(joint: str, source: SkeletonLayout, depth: int = 0) -> dict[str, float]:
    """Weights of a joint by source joint; empty if it cannot be derived."""
    if source.has(joint):
        return {joint: 1.0}
    # Rules may refer to each other in a circle (foot and toe); no chain is longer than three.
    for names in DERIVED.get(joint, ()) if depth < 3 else ():
        parts = [_weights_of(name, source, depth + 1) for name in names]
        if all(parts):
            weights: dict[str, float] = {}
            for part in parts:
                for name, weight in part.items():
                    weights[name] = weights.get(name, 0.0) + weight / len(parts)
            return weights
    return {}


@functools.lru_cache(maxsize=64)
def _cached_weights(source: SkeletonLayout, target: SkeletonLayout) -> Tensor:
    return joint_weights(source, target)


def missing_joints(source: SkeletonLayout, target: SkeletonLayout) -> list[str]:
    """Names of joints that skeletons of another layout cannot give.

    Args:
        source: layout of the skeletons.
        target: layout that is wanted.

    Example:
        >>> from tubelets.skeletons.layouts import COCO_17, KINECT_25
        >>> missing_joints(COCO_17, KINECT_25)[:2]
        ['left_hand', 'right_hand']
    """
    given = _cached_weights(source, target).any(dim=1).tolist()
    return [joint for joint, there in zip(target.joints, given, strict=True) if not there]


def convert_layout(
    skeletons: Tensor, source: SkeletonLayout, target: SkeletonLayout, has_confidence: bool = False
) -> Tensor:
    """Convert skeletons to another layout.

    A joint is missing, zero in all coordinates, if the source cannot give it or one of the joints that it is made of is
    missing in a frame.

    Args:
        skeletons: float `(..., joints, coordinates)`.
        source: their layout.
        target: layout that is wanted.
        has_confidence: whether the last coordinate is a confidence; a joint gets the lowest of those it is made of.

    Returns:
        Float `(..., target joints, coordinates)` of the same type.

    Raises:
        ValueError: if the skeletons have another number of joints than their layout.

    Example:
        >>> from tubelets.skeletons.layouts import COCO_17, KINECT_25
        >>> convert_layout(torch.ones(2, 1, 8, 17, 3), COCO_17, KINECT_25).shape
        torch.Size([2, 1, 8, 25, 3])
    """
    if skeletons.ndim < 2 or skeletons.shape[-2] != source.num_joints:
        raise ValueError(
            f"skeletons of layout {source.name!r} must be (..., {source.num_joints}, coordinates), got "
            f"{tuple(skeletons.shape)}; name the layout they have"
        )
    if source == target:
        return skeletons
    weights = _cached_weights(source, target).to(skeletons.device, skeletons.dtype)
    values = skeletons[..., :-1] if has_confidence else skeletons
    there = values.ne(0).any(dim=-1)
    used = weights != 0
    # A joint is there if every joint that it is made of is.
    complete = (used & ~there[..., None, :]).sum(dim=-1).eq(0) & used.any(dim=1)
    found = torch.einsum("tv,...vc->...tc", weights, values) * complete[..., None]
    if not has_confidence:
        return found
    confidence = skeletons[..., None, :, -1].masked_fill(~used, torch.inf).amin(dim=-1)
    return torch.cat([found, torch.where(complete, confidence, 0).unsqueeze(-1)], dim=-1)
