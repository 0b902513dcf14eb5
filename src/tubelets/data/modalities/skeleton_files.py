"""Files of skeletons, told apart by their content: arrays, NTU RGB+D, PKU-MMD, pose estimators' JSON and BVH.

Nothing in a file is executed: arrays are read without pickles, JSON and text are parsed, sizes are bounded.
"""

import io
import math
import zipfile
from dataclasses import dataclass

import numpy as np

from tubelets.data.modalities.arrays import read_array
from tubelets.data.modalities.modality import BadMediumError
from tubelets.data.modalities.motion_capture import read_bvh
from tubelets.data.modalities.pose_json import read_pose_json
from tubelets.skeletons.layouts import KINECT_25, LAYOUTS, SkeletonLayout

MAX_FRAMES = 2**20
"""Most frames of a recording, about ten hours."""
MAX_BODIES = 64
NTU_SLOTS = 4
"""Bodies of a frame of an NTU file that are looked at."""
_NTU_BODY, _NTU_JOINT = 10, 12


@dataclass(frozen=True)
class Recording:
    """Bodies over time, as a file has them.

    Attributes:
        joints: float32 `(bodies, frames, joints, coordinates)`; what is missing is zero.
        layout: their layout; None if the file does not say it.
        fps: frames per second, 0 if unknown.
        has_confidence: whether the last coordinate is a confidence.

    Example:
        >>> Recording(np.zeros((1, 9, 17, 3), np.float32), LAYOUTS["coco-17"], has_confidence=True).fps
        0.0
    """

    joints: np.ndarray
    layout: SkeletonLayout | None = None
    fps: float = 0.0
    has_confidence: bool = False


def read_recording(data: bytes, name: str) -> Recording:
    """Read skeletons from the bytes of a file.

    Args:
        data: `.npy`, `.npz` or `.safetensors` with `(bodies, frames, joints, coordinates)`; a `.skeleton` file of NTU
            RGB+D; a text file of PKU-MMD with 150 numbers a line; JSON of OpenPose, COCO or MediaPipe; BVH.
        name: name in error messages.

    Returns:
        The recording.

    Raises:
        BadMediumError: the file is corrupt, truncated, empty or mixes layouts, or has values that are not finite.

    Example:
        >>> file = io.BytesIO()
        >>> np.save(file, np.zeros((1, 9, 25, 3)))
        >>> read_recording(file.getvalue(), "walk.npy").joints.shape
        (1, 9, 25, 3)

    Source: skeleton_contrast.md, section 6.
    """
    start = data[:64].lstrip()
    if data[:6] == b"\x93NUMPY" or data[:2] == b"PK":
        found = _read_arrays(data, name)
    elif start[:1] in (b"{", b"["):
        values, layout, fps = read_pose_json(data, name)
        found = Recording(values, layout, fps, has_confidence=True)
    elif start[:9] == b"HIERARCHY":
        found = Recording(*read_bvh(data, name))
    elif _is_text(data):
        found = _read_text(data, name)
    else:
        found = _read_arrays(data, name)
    return _checked(found, name)


def _checked(found: Recording, name: str) -> Recording:
    joints = found.joints
    if joints.ndim != 4 or not joints.size:
        raise BadMediumError(
            f"{name}: skeletons have the shape {joints.shape}; store (bodies, frames, joints, coordinates), none of "
            "them empty"
        )
    if joints.shape[0] > MAX_BODIES or joints.shape[1] > MAX_FRAMES:
        raise BadMediumError(
            f"{name}: has {joints.shape[0]} bodies and {joints.shape[1]} frames, more than {MAX_BODIES} and "
            f"{MAX_FRAMES}"
        )
    if not np.isfinite(joints).all():
        raise BadMediumError(f"{name}: skeletons have values that are not finite; replace them with zeros")
    if found.layout is not None and found.layout.num_joints != joints.shape[2]:
        raise BadMediumError(
            f"{name}: bodies have {joints.shape[2]} joints, and layout {found.layout.name!r} has "
            f"{found.layout.num_joints}"
        )
    return found


def _is_text(data: bytes) -> bool:
    return data[:256].strip() != b"" and not data[:256].strip(b"0123456789+-.eEnaifNAIF \t\r\n,")


def _read_arrays(data: bytes, name: str) -> Recording:
    joints = read_array(data, name, "skeleton")
    named = _named_layout(data, name)
    fps = _scalar(data, name, "fps")
    return Recording(joints.astype(np.float32), named, fps, bool(_scalar(data, name, "has_confidence")))


def _names_in(data: bytes) -> list[str]:
    if data[:2] != b"PK":
        return []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [entry.removesuffix(".npy") for entry in archive.namelist()]


def _scalar(data: bytes, name: str, key: str) -> float:
    value = read_array(data, name, key) if key in _names_in(data) else np.zeros(1)
    number = float(value.flat[0]) if value.size == 1 else math.nan
    if not 0 <= number < 1e6:
        raise BadMediumError(f"{name}: {key} must be one number that is not negative, got {value.tolist()}")
    return number


def _named_layout(data: bytes, name: str) -> SkeletonLayout | None:
    if "layout" not in _names_in(data):
        return None
    text = bytes(read_array(data, name, "layout").astype(np.uint8)).decode("utf-8", "replace")
    if text not in LAYOUTS:
        raise BadMediumError(
            f"{name}: layout {text[:40]!r} is not built in; leave it out, or use one of {list(LAYOUTS)}"
        )
    return LAYOUTS[text]


def write_recording(found: Recording) -> bytes:
    """A recording as the bytes of an `.npz` file, the same for the same recording.

    Args:
        found: its layout is stored if it is built in.

    Returns:
        An archive with `skeleton` and, where they are known, `fps`, `layout` and `has_confidence`.

    Example:
        >>> recording = Recording(np.ones((1, 2, 25, 3), np.float32), KINECT_25, fps=30.0)
        >>> again = read_recording(write_recording(recording), "clip.npz")
        >>> again.layout.name, again.fps, bool((again.joints == 1).all())
        ('kinect-25', 30.0, True)
    """
    entries: dict[str, np.ndarray] = {"skeleton": np.ascontiguousarray(found.joints, np.float32)}
    if found.fps:
        entries["fps"] = np.array(found.fps)
    if found.layout is not None and LAYOUTS.get(found.layout.name) == found.layout:
        entries["layout"] = np.frombuffer(found.layout.name.encode(), np.uint8)
    if found.has_confidence:
        entries["has_confidence"] = np.array(1)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in entries.items():
            # A fixed date: np.savez writes the current one, and shards must not depend on it.
            with archive.open(zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0)), "w") as entry:
                np.lib.format.write_array(entry, value, allow_pickle=False)
    return file.getvalue()


def _read_text(data: bytes, name: str) -> Recording:
    """NTU's files start with a line of one number, PKU's have 150 numbers in each."""
    first = data.lstrip().split(b"\n", 1)[0].split()
    if len(first) == 1:
        return Recording(read_ntu(data, name), KINECT_25, fps=30.0)
    return Recording(read_pku(data, name), KINECT_25, fps=30.0)


def _numbers(data: bytes, name: str) -> np.ndarray:
    try:
        values = np.array(data.split(), dtype=np.float64)
    except ValueError as error:
        raise BadMediumError(f"{name}: has a value that is no number ({error})") from error
    if not np.isfinite(values).all():
        raise BadMediumError(f"{name}: has values that are not finite; replace them with zeros")
    return values


def read_pku(data: bytes, name: str) -> np.ndarray:
    """Skeletons of a text file of PKU-MMD.

    Args:
        data: 150 numbers a line: two bodies, 25 joints, x y z.
        name: name in error messages.

    Returns:
        float32 `(2, frames, 25, 3)`.

    Raises:
        BadMediumError: a line has another number of values.

    Source: skeleton_contrast.md, section 6.4.
    """
    values = _numbers(data.replace(b",", b" "), name)
    lines = [len(line.split()) for line in data.replace(b",", b" ").splitlines() if line.strip()]
    if not lines or set(lines) != {150}:
        wrong = next((number for number, count in enumerate(lines, start=1) if count != 150), 1)
        raise BadMediumError(
            f"{name}: line {wrong} has {lines[wrong - 1] if lines else 0} numbers; PKU-MMD has 150 in each"
        )
    return values.reshape(-1, 2, 25, 3).transpose(1, 0, 2, 3).astype(np.float32)


def read_ntu_slots(data: bytes, name: str) -> np.ndarray:
    """All body slots of a `.skeleton` file of NTU RGB+D.

    Args:
        data: the text.
        name: name in error messages.

    Returns:
        float64 `(4, frames, 25, 3)`: the slot is the place of a body in the list of its frame.

    Raises:
        BadMediumError: the file ends early, has more than it states, no frame, or another number of joints.

    Source: skeleton_contrast.md, section 6.1.
    """
    values = _numbers(data, name)
    frames = int(values[0]) if len(values) else 0
    # Each frame has at least the line with its number of bodies.
    if not 1 <= frames <= min(MAX_FRAMES, len(values)):
        raise BadMediumError(f"{name}: states {frames} frames in {len(values)} numbers; the file is empty or truncated")
    slots = np.zeros((NTU_SLOTS, frames, KINECT_25.num_joints, 3))
    place = 1
    for frame in range(frames):
        bodies, place = _stated(values, place, name, frame, frames), place + 1
        for body in range(bodies):
            joints = _stated(values, place + _NTU_BODY, name, frame, frames)
            if joints != KINECT_25.num_joints:
                raise BadMediumError(f"{name}: a body of frame {frame} has {joints} joints, expected 25")
            place += _NTU_BODY + 1
            block = values[place : place + joints * _NTU_JOINT]
            place += joints * _NTU_JOINT
            if place > len(values):
                raise BadMediumError(f"{name}: ends in frame {frame} of {frames}; the file is truncated")
            if body < NTU_SLOTS:
                slots[body, frame] = block.reshape(joints, _NTU_JOINT)[:, :3]
    if place != len(values):
        raise BadMediumError(f"{name}: has {len(values) - place} numbers after its {frames} frames")
    return slots


def _stated(values: np.ndarray, place: int, name: str, frame: int, frames: int) -> int:
    if place >= len(values):
        raise BadMediumError(f"{name}: ends in frame {frame} of {frames}; the file is truncated")
    return int(values[place])


def body_energy(slots: np.ndarray) -> np.ndarray:
    """How much each body moves: the sum of the deviations of its coordinates over joints and frames that show it.

    Args:
        slots: `(slots, frames, joints, 3)`.

    Returns:
        float64 `(slots,)`; 0 for an empty slot.

    Example:
        >>> body_energy(np.array([0.0, 2.0, 4.0]).reshape(1, 3, 1, 1))
        array([1.])

    Source: skeleton_contrast.md, section 6.1.
    """
    there = slots.sum(axis=(2, 3)) != 0
    return np.array(
        [
            body[shown].reshape(-1, body.shape[-1]).std(axis=0).sum() if shown.any() else 0.0
            for body, shown in zip(slots, there, strict=True)
        ]
    )


def read_ntu(data: bytes, name: str, num_bodies: int = 2) -> np.ndarray:
    """The bodies of a `.skeleton` file of NTU RGB+D that move most.

    Args:
        data: the text.
        name: name in error messages.
        num_bodies: bodies that are kept.

    Returns:
        float32 `(num_bodies, frames, 25, 3)`, the highest energy first.

    Raises:
        BadMediumError: the file is truncated or no such file, see `read_ntu_slots`, or shows no body.

    Source: skeleton_contrast.md, section 6.1.
    """
    slots = read_ntu_slots(data, name)
    if not slots.any():
        raise BadMediumError(f"{name}: shows no body in its {slots.shape[1]} frames")
    order = body_energy(slots).argsort()[::-1][:num_bodies]
    return slots[order].astype(np.float32)
