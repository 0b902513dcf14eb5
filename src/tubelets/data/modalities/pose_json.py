"""Skeletons in the JSON of pose estimators: OpenPose, COCO results and MediaPipe."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tubelets.data.modalities.modality import BadMediumError
from tubelets.skeletons.layouts import COCO_17, MEDIAPIPE_33, OPENPOSE_25, SkeletonLayout

MAX_BODIES = 64
# Where MediaPipe's wrappers put the landmarks of a frame.
_LANDMARKS = ("pose_landmarks", "poseLandmarks", "landmarks", "pose_world_landmarks")


def read_pose_json(data: bytes, name: str) -> tuple[np.ndarray, SkeletonLayout, float]:
    """Read the poses of a video.

    Args:
        data: one of

            - OpenPose: a list of its files, `{"people": [{"pose_keypoints_2d": [x, y, c, ...]}]}` a frame, or one;
            - COCO: a list of results `{"image_id", "keypoints": [x, y, c, ...], "score"}`, or an object with
              `annotations`; images are frames in the order of their ids;
            - MediaPipe: a list of frames, or an object with `frames`; a frame is a list of 33 landmarks `{"x", "y",
              "z", "visibility"}`, or an object that has it as `pose_landmarks`, `poseLandmarks` or `landmarks`.
        name: name in error messages.

    Returns:
        float32 `(bodies, frames, joints, coordinates)` whose last coordinate is the confidence, the layout, and the
        frames per second that an object states as `fps`, otherwise 0.

    Raises:
        BadMediumError: the JSON is damaged, has no body, or bodies of several layouts.

    Example:
        >>> frame = {"people": [{"pose_keypoints_2d": [0.5] * 75}]}
        >>> values, layout, fps = read_pose_json(json.dumps([frame, {"people": []}]).encode(), "poses.json")
        >>> values.shape, layout.name, bool(values[0, 1].any())
        ((1, 2, 25, 3), 'openpose-25', False)
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadMediumError(f"{name}: is no JSON ({error})") from error
    try:
        fps = float(content.get("fps", 0)) if isinstance(content, Mapping) else 0.0
        frames, layout = _frames(content)
        values = _stacked(frames, layout, name)
    except BadMediumError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise BadMediumError(f"{name}: is not the JSON of OpenPose, COCO or MediaPipe ({error!r})") from error
    return values, layout, fps if 0 <= fps < 1e6 else 0.0


def _frames(content: Any) -> tuple[list[list[Sequence[float]]], SkeletonLayout]:
    """Flat numbers of each body of each frame."""
    if isinstance(content, Mapping) and "people" in content:
        content = [content]
    if isinstance(content, Mapping) and "annotations" in content:
        content = content["annotations"]
    if isinstance(content, Mapping):
        content = content["frames"]
    first = content[0]
    if isinstance(first, Mapping) and "people" in first:
        return [[body["pose_keypoints_2d"] for body in frame["people"]] for frame in content], OPENPOSE_25
    if isinstance(first, Mapping) and "keypoints" in first:
        return _by_image(content), COCO_17
    return [[_landmarks(frame)] if _landmarks(frame) else [] for frame in content], MEDIAPIPE_33


def _by_image(results: Sequence[Mapping[str, Any]]) -> list[list[Sequence[float]]]:
    """Bodies of each image, the best score first; images by their ids."""
    images: dict[Any, list[Mapping[str, Any]]] = {}
    for result in results:
        images.setdefault(result["image_id"], []).append(result)
    ordered = sorted(images, key=lambda image: (isinstance(image, str), image))
    best = (sorted(images[image], key=lambda body: -float(body.get("score", 1))) for image in ordered)
    return [[body["keypoints"] for body in bodies] for bodies in best]


def _landmarks(frame: Any) -> list[float]:
    """Flat x, y, z and visibility of a frame of MediaPipe; empty if it shows nobody."""
    if isinstance(frame, Mapping):
        frame = next((frame[key] for key in _LANDMARKS if key in frame), [])
    # Newer versions have a list of bodies.
    if frame and isinstance(frame[0], list):
        frame = frame[0]
    return [
        float(point.get(key, key == "visibility")) for point in frame or [] for key in ("x", "y", "z", "visibility")
    ]


def _stacked(frames: list[list[Sequence[float]]], layout: SkeletonLayout, name: str) -> np.ndarray:
    bodies = max((len(frame) for frame in frames), default=0)
    if not bodies:
        raise BadMediumError(f"{name}: shows no body in its {len(frames)} frames")
    if bodies > MAX_BODIES:
        raise BadMediumError(f"{name}: a frame has {bodies} bodies, more than {MAX_BODIES}")
    width = 4 if layout is MEDIAPIPE_33 else 3
    size = layout.num_joints * width
    values = np.zeros((bodies, len(frames), size), np.float32)
    for number, frame in enumerate(frames):
        for place, numbers in enumerate(frame):
            if len(numbers) != size:
                raise BadMediumError(
                    f"{name}: a body of frame {number} has {len(numbers)} numbers, and {layout.name} has {size}; files "
                    "with several layouts are not read"
                )
            values[place, number] = numbers
    joints = values.reshape(bodies, len(frames), layout.num_joints, width)
    # Estimators write joints that they do not see with a confidence of 0.
    return joints * (joints[..., -1:] > 0)
