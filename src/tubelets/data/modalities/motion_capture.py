"""Motion capture in BVH files: positions of joints from a hierarchy of offsets and rotations."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tubelets.data.modalities.modality import BadMediumError
from tubelets.skeletons.layouts import MAX_JOINTS, SkeletonLayout

MAX_VALUES = 2**28
"""Most numbers of a file's motion."""

# Usual names of motion capture, without the side, and ours; a joint that a bone ends in.
_NAMES = {
    "hips": "spine_base", "pelvis": "spine_base", "spine": "spine_mid", "neck": "neck", "head": "head",
    "upleg": "hip", "thigh": "hip", "leg": "knee", "calf": "knee", "shin": "knee", "foot": "ankle", "toebase": "toe",
    "arm": "shoulder", "uparm": "shoulder", "upperarm": "shoulder", "forearm": "elbow", "lowerarm": "elbow",
    "loarm": "elbow", "hand": "wrist", "fingerbase": "hand", "fingers": "hand_tip", "thumb": "thumb",
    "collar": "collar", "shoulder": "collar",
}  # fmt: skip
# Files that name joints and not bones: their shoulders are joints, not collar bones.
_JOINTS = {
    **{name: name for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "hand", "thumb", "collar")},
    "hips": "spine_base", "ab": "spine_mid", "spine": "spine_mid", "neck": "neck", "head": "head", "toes": "toe",
    "toe": "toe",
}  # fmt: skip
_MIDDLE = ("spine_base", "spine_mid", "neck", "head")


@dataclass
class _Joint:
    name: str
    parent: int
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    channels: list[str] = field(default_factory=list)


def read_bvh(data: bytes, name: str) -> tuple[np.ndarray, SkeletonLayout, float]:
    """Read the positions of all joints.

    Args:
        data: the text of a BVH file.
        name: name in error messages.

    Returns:
        float32 `(1, frames, joints, 3)` in the units of the file; a layout of its joints, whose usual names become
        ours; frames per second.

    Raises:
        BadMediumError: the hierarchy or the motion is damaged or truncated, or has no frame.

    Example:
        >>> text = (
        ...     "HIERARCHY ROOT Hips { OFFSET 0 0 0 CHANNELS 3 Xposition Yposition Zposition JOINT LeftUpLeg "
        ...     "{ OFFSET 0 -1 0 CHANNELS 1 Zrotation End Site { OFFSET 0 -2 0 } } } "
        ...     "MOTION Frames: 1 Frame Time: 0.05 1 0 0 90"
        ... )
        >>> values, layout, fps = read_bvh(text.encode(), "jump.bvh")
        >>> layout.joints, values[0, 0].round(3).tolist(), fps
        (('spine_base', 'left_hip', 'left_hip_end'), [[1.0, 0.0, 0.0], [1.0, -1.0, 0.0], [3.0, -1.0, 0.0]], 20.0)
    """
    words = data.decode("utf-8", "replace").split()
    try:
        place, joints = _hierarchy(words)
        motion, fps = _motion(words, place, sum(len(joint.channels) for joint in joints), name)
    except BadMediumError:
        raise
    except (IndexError, ValueError) as error:
        raise BadMediumError(f"{name}: its hierarchy is damaged or truncated ({error})") from error
    positions = _positions(joints, motion)
    layout = SkeletonLayout(
        "bvh", _unique([joint.name for joint in joints]), tuple((n, j.parent) for n, j in enumerate(joints) if n)
    )
    return positions[None].astype(np.float32), layout, fps


def _hierarchy(words: list[str]) -> tuple[int, list[_Joint]]:
    """The joints, parents first, and the place of the word MOTION."""
    joints: list[_Joint] = []
    open_joints: list[int] = []
    place = 1
    while words[place] != "MOTION":
        word = words[place]
        if word in ("ROOT", "JOINT", "End"):
            parent = open_joints[-1] if open_joints else -1
            if len(joints) >= MAX_JOINTS or (parent < 0) != (not joints):
                raise ValueError(f"more than {MAX_JOINTS} joints, or more than one root")
            joints.append(_Joint(words[place + 1] if word != "End" else "", parent))
            open_joints.append(len(joints) - 1)
            if words[place + 2] != "{":
                raise ValueError(f"joint {words[place + 1]!r} is not followed by {{")
            place += 3
        elif word == "OFFSET":
            joints[open_joints[-1]].offset = tuple(float(each) for each in words[place + 1 : place + 4])
            place += 4
        elif word == "CHANNELS":
            count = int(words[place + 1])
            joints[open_joints[-1]].channels = [each.lower() for each in words[place + 2 : place + 2 + count]]
            place += 2 + count
        elif word == "}":
            open_joints.pop()
            place += 1
        else:
            raise ValueError(f"{word!r} is not part of a hierarchy")
    if not joints or open_joints:
        raise ValueError("the file has no joint, or a joint is not closed")
    names = _JOINTS if any(joint.name.lower().endswith("elbow") for joint in joints) else _NAMES
    for joint in joints:
        joint.name = _ours(joint.name, names) if joint.name else f"{joints[joint.parent].name}_end"
    return place, joints


def _ours(name: str, names: Mapping[str, str]) -> str:
    """Our name of a joint, or the file's own."""
    lowered = name.lower().replace("_", "").split(":")[-1]
    for prefix, side in (("left", "left_"), ("right", "right_"), ("l", "left_"), ("r", "right_"), ("", "")):
        known = names.get(lowered.removeprefix(prefix)) if lowered.startswith(prefix) else None
        if known is not None and (known in _MIDDLE) == (not side):
            return side + known
    return name


def _unique(names: list[str]) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    found = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        found.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return tuple(found)


def _motion(words: list[str], place: int, channels: int, name: str) -> tuple[np.ndarray, float]:
    """Values `(frames, channels)` and frames per second."""
    if words[place + 1].lower() != "frames:" or words[place + 3 : place + 5] != ["Frame", "Time:"]:
        raise ValueError("MOTION is not followed by Frames and Frame Time")
    frames, seconds = int(words[place + 2]), float(words[place + 5])
    values = words[place + 6 :]
    # Some programs state one frame fewer than they write.
    whole = channels > 0 and len(values) >= frames * channels and len(values) % channels == 0
    if frames < 1 or frames * channels > MAX_VALUES or not whole:
        raise BadMediumError(
            f"{name}: states {frames} frames of {channels} channels and has {len(values)} numbers; the file is "
            "empty or truncated"
        )
    fps = 1 / seconds if seconds > 0 else 0.0
    return np.array(values[: frames * channels], dtype=np.float64).reshape(frames, channels), round(fps, 6)


def _positions(joints: list[_Joint], motion: np.ndarray) -> np.ndarray:
    """Positions `(frames, joints, 3)` of all frames at once, joint by joint from the root."""
    frames = len(motion)
    turns = np.zeros((len(joints), frames, 3, 3))
    places = np.zeros((len(joints), frames, 3))
    column = 0
    for number, joint in enumerate(joints):
        turn, shift = np.broadcast_to(np.eye(3), (frames, 3, 3)), np.zeros((frames, 3))
        for channel in joint.channels:
            values, axis = motion[:, column], "xyz".index(channel[0])
            column += 1
            if channel.endswith("rotation"):
                turn = turn @ _rotation(values, axis)
            elif channel.endswith("position"):
                shift[:, axis] += values
        offset = np.array(joint.offset) + shift
        if joint.parent < 0:
            turns[number], places[number] = turn, offset
        else:
            above = turns[joint.parent]
            turns[number] = above @ turn
            places[number] = places[joint.parent] + (above @ offset[:, :, None])[:, :, 0]
    return places.transpose(1, 0, 2)


def _rotation(degrees: np.ndarray, axis: int) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.broadcast_to(np.eye(3), (len(degrees), 3, 3)).copy()
    matrix[:, first, first] = matrix[:, second, second] = cosine
    matrix[:, first, second], matrix[:, second, first] = -sine, sine
    return matrix
