"""Layouts of skeletons as data: the names of joints in the order of a file, and the bones between them.

Joints of different layouts that mean the same place have the same name, so that `tubelets.skeletons.mapping` can derive
the conversion between any two layouts. `left_` and `right_` name the sides of the body.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

MAX_JOINTS = 1024
"""Most joints of a layout, above any published one."""


@dataclass(frozen=True)
class SkeletonLayout:
    """Joints of a body in the order of a file, and the bones that connect them.

    Attributes:
        name: such as "kinect-25".
        joints: names of the joints, all different.
        bones: pairs (child, parent) of numbers of joints, from the ends of the body to its centre.
        centre: number of the joint that graph partitions and distances start from.

    Raises:
        ValueError: if there is no joint, two have the same name, or a bone or the centre is not one of them.

    Example:
        >>> arm = SkeletonLayout.of("arm", ["shoulder", "elbow", "wrist"], [("elbow", "shoulder"), ("wrist", "elbow")])
        >>> arm.num_joints, arm.bones, arm.index("wrist")
        (3, ((1, 0), (2, 1)), 2)
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    centre: int = 0

    def __post_init__(self) -> None:
        count = len(self.joints)
        if not 1 <= count <= MAX_JOINTS or len(set(self.joints)) < count:
            raise ValueError(
                f"layout {self.name!r} must have 1 to {MAX_JOINTS} joints of different names, got {count} with "
                f"{len(set(self.joints))} names"
            )
        places = {joint for bone in self.bones for joint in bone} | {self.centre}
        if wrong := sorted(place for place in places if not 0 <= place < count):
            raise ValueError(f"layout {self.name!r} has joints 0 to {count - 1}, and bones or centre name {wrong}")
        if loops := [bone for bone in self.bones if len(bone) != 2 or bone[0] == bone[1]]:
            raise ValueError(f"a bone of layout {self.name!r} must connect two joints, got {loops[0]}")

    @classmethod
    def of(
        cls, name: str, joints: Sequence[str], bones: Sequence[Sequence[str | int]], centre: str | int = 0
    ) -> "SkeletonLayout":
        """A layout whose bones and centre are given by the names of joints, or by their numbers.

        Args:
            name: its name.
            joints: names in the order of the files.
            bones: pairs (child, parent).
            centre: a joint.

        Returns:
            The layout.

        Raises:
            ValueError: if a joint is unknown; see the class.
        """
        numbers = {joint: number for number, joint in enumerate(joints)}

        def number(joint: str | int) -> int:
            if isinstance(joint, str) and joint not in numbers:
                raise ValueError(f"layout {name!r} has no joint {joint!r}; its joints are {', '.join(joints)}")
            return numbers[joint] if isinstance(joint, str) else joint

        pairs = [tuple(map(number, bone)) for bone in bones]
        return cls(name, tuple(joints), tuple(pairs), number(centre))  # type: ignore[arg-type]

    @property
    def num_joints(self) -> int:
        """Number of joints."""
        return len(self.joints)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {joint: number for number, joint in enumerate(self.joints)}

    def index(self, joint: str) -> int:
        """The number of a joint.

        Raises:
            ValueError: if the layout does not have it.
        """
        if joint not in self._numbers:
            raise ValueError(f"layout {self.name!r} has no joint {joint!r}; its joints are {', '.join(self.joints)}")
        return self._numbers[joint]

    def has(self, *joints: str) -> bool:
        """Whether the layout has all of these joints."""
        return self._numbers.keys() >= set(joints)

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """For each joint the number of its counterpart on the other side, itself in the middle.

        Example:
            >>> layout_named("coco-17").mirrored[:5]
            (0, 2, 1, 4, 3)
        """
        swap = {"left_": "right_", "right_": "left_"}
        names = []
        for joint in self.joints:
            side = next((side for side in swap if joint.startswith(side)), None)
            names.append(joint if side is None else swap[side] + joint.removeprefix(side))
        return tuple(self._numbers.get(name, number) for number, name in enumerate(names))


def _both(*joints: str) -> list[str]:
    return [f"{side}_{joint}" for joint in joints for side in ("left", "right")]


def _sides(bones: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Bones of the left side, and of the right side; a name in capitals is in the middle of the body."""
    return [
        tuple(joint.lower() if joint.isupper() else f"{side}_{joint}" for joint in bone)  # type: ignore[misc]
        for side in ("left", "right")
        for bone in bones
    ]


KINECT_25 = SkeletonLayout.of(
    "kinect-25",
    [
        "spine_base", "spine_mid", "neck", "head",
        "left_shoulder", "left_elbow", "left_wrist", "left_hand",
        "right_shoulder", "right_elbow", "right_wrist", "right_hand",
        "left_hip", "left_knee", "left_ankle", "left_foot",
        "right_hip", "right_knee", "right_ankle", "right_foot",
        "spine_shoulder", "left_hand_tip", "left_thumb", "right_hand_tip", "right_thumb",
    ],
    [
        ("spine_base", "spine_mid"), ("spine_mid", "spine_shoulder"), ("neck", "spine_shoulder"), ("head", "neck"),
        *_sides([
            ("shoulder", "SPINE_SHOULDER"), ("elbow", "shoulder"), ("wrist", "elbow"), ("hand", "wrist"),
            ("hip", "SPINE_BASE"), ("knee", "hip"), ("ankle", "knee"), ("foot", "ankle"),
            ("hand_tip", "thumb"), ("thumb", "hand"),
        ]),
    ],
    centre="spine_shoulder",
)  # fmt: skip
"""NTU RGB+D and PKU-MMD; bones as in AGCN's graph (skeleton_contrast.md, section 3.2)."""

COCO_17 = SkeletonLayout.of(
    "coco-17",
    ["nose", *_both("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")],
    [
        *_sides([
            ("eye", "NOSE"), ("ear", "eye"), ("shoulder", "NOSE"), ("elbow", "shoulder"), ("wrist", "elbow"),
            ("hip", "shoulder"), ("knee", "hip"), ("ankle", "knee"),
        ]),
    ],
    centre="nose",
)  # fmt: skip

OPENPOSE_25 = SkeletonLayout.of(
    "openpose-25",
    [
        # OpenPose calls joint 1 the neck; it lies between the shoulders, where Kinect has the top of the spine.
        "nose", "spine_shoulder", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
        "left_wrist", "spine_base", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel",
        "right_big_toe", "right_small_toe", "right_heel",
    ],
    [
        ("nose", "spine_shoulder"), ("spine_base", "spine_shoulder"),
        *_sides([
            ("shoulder", "SPINE_SHOULDER"), ("elbow", "shoulder"), ("wrist", "elbow"), ("hip", "SPINE_BASE"),
            ("knee", "hip"), ("ankle", "knee"), ("eye", "NOSE"), ("ear", "eye"), ("big_toe", "ankle"),
            ("small_toe", "big_toe"), ("heel", "ankle"),
        ]),
    ],
    centre="spine_shoulder",
)  # fmt: skip

MEDIAPIPE_33 = SkeletonLayout.of(
    "mediapipe-33",
    [
        "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
        "left_ear", "right_ear", "left_mouth", "right_mouth", *_both("shoulder", "elbow", "wrist"),
        *_both("pinky", "index", "thumb", "hip", "knee", "ankle", "heel", "toe"),
    ],
    _sides([
        ("eye_inner", "NOSE"), ("eye", "eye_inner"), ("eye_outer", "eye"), ("ear", "eye_outer"), ("mouth", "NOSE"),
        ("shoulder", "NOSE"), ("elbow", "shoulder"), ("wrist", "elbow"), ("pinky", "wrist"), ("index", "wrist"),
        ("thumb", "wrist"), ("hip", "shoulder"), ("knee", "hip"), ("ankle", "knee"), ("heel", "ankle"),
        ("toe", "heel"),
    ]),
    centre="nose",
)  # fmt: skip

_FINGERS = {
    "thumb": ("cmc", "mcp", "ip", "tip"),
    **dict.fromkeys(("index", "middle", "ring", "pinky"), ("mcp", "pip", "dip", "tip")),
}
_HAND = ["wrist", *(f"{finger}_{part}" for finger, parts in _FINGERS.items() for part in parts)]
# Joint 1, 5, 9, 13 and 17 start a finger at the wrist.
_HAND_BONES = [(number, 0 if number % 4 == 1 else number - 1) for number in range(1, 21)]

HANDS_21 = SkeletonLayout.of("hands-21", _HAND, _HAND_BONES, centre="wrist")
"""One hand, as MediaPipe numbers its landmarks; two hands may be two bodies."""

HANDS_42 = SkeletonLayout.of(
    "hands-42",
    [f"{side}_{joint}" for side in ("left", "right") for joint in _HAND],
    [
        *_HAND_BONES,
        *((child + 21, parent + 21) for child, parent in _HAND_BONES),
        # Wrists are connected, so that the graph is one piece.
        (21, 0),
    ],
    centre="left_wrist",
)
"""Both hands of a person as one body: the left one first."""

LAYOUTS: Mapping[str, SkeletonLayout] = {
    layout.name: layout for layout in (KINECT_25, COCO_17, OPENPOSE_25, MEDIAPIPE_33, HANDS_21, HANDS_42)
}
"""The built-in layouts by name."""


def layout_named(name: str) -> SkeletonLayout:
    """A built-in layout.

    Args:
        name: one of `LAYOUTS`.

    Returns:
        The layout.

    Raises:
        ValueError: if there is none of this name.

    Example:
        >>> layout_named("openpose-25").index("left_heel")
        21
    """
    if name not in LAYOUTS:
        raise ValueError(
            f"layout {name!r} is not built in; choose one of {', '.join(LAYOUTS)}, or give joints and bones of your own"
        )
    return LAYOUTS[name]
