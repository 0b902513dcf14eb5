"""Skeletons as media of a sample: body joints over time, for the frames of a clip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tubelets.data.modalities.modality import BadMediumError, Clip, Medium, Modality
from tubelets.data.modalities.skeleton_files import Recording, read_recording, write_recording
from tubelets.data.modalities.specs import SkeletonSpec
from tubelets.skeletons import LAYOUTS, convert_layout


class SkeletonModality(Modality):
    """Arrays `(bodies, frames, joints, coordinates)`, and the files of data sets and pose estimators.

    In files with several arrays, skeletons are in "skeleton". Frames are matched with those of the video, by their
    times if both frame rates are known; otherwise both are assumed to start and end together. If a file states its
    layout, or has it by its format, its joints are converted to those of the spec.

    With `sampling="whole"` a spec reads the recording as it is, and its frames do not decide what other media show.

    Crops and flips of frames do not apply to skeletons: mirroring a body swaps its left and right joints, which depends
    on the layout and needs a skeleton augmentation.
    """

    name = "skeleton"
    media = ("skeleton",)
    # JSON, which shards of tars use for annotations, is read by the shard builder alone.
    suffixes = ("npy", "npz", "safetensors", "skeleton", "bvh")
    leads = True

    def leads_with(self, spec: SkeletonSpec) -> bool:
        """Whether the spec reads the frames of a clip."""
        return spec.sampling == "clip"

    def open(self, data: bytes, name: str, backend: Any = "auto") -> Medium:
        """Open a file; see `Modality.open`."""
        return _Skeletons(read_recording(data, name), name)

    def stored(self, data: bytes, name: str) -> tuple[bytes, str]:
        """Arrays stay as they are; other files become `.npz`, which is smaller and read faster."""
        found = read_recording(data, name)
        is_array = name.lower().endswith((".npy", ".npz", ".safetensors"))
        return (data, name) if is_array else (write_recording(found), f"{name.rpartition('.')[0] or name}.npz")


class _Skeletons(Medium):
    def __init__(self, recording: Recording, name: str) -> None:
        self._recording, self._name = recording, name
        self.num_frames, self.fps = recording.joints.shape[1], recording.fps

    def read(self, spec: SkeletonSpec, clips: Sequence[Clip]) -> list[Tensor]:
        """Float32 `(bodies, frames, joints, coordinates)` of each clip; missing bodies are zero, extra ones dropped.

        With `sampling="whole"` there are as many frames as in the file, up to `max_frames`.
        """
        joints = self._joints(spec)
        num_frames = joints.shape[1]
        kept = min(joints.shape[0], spec.num_bodies)
        values = []
        for clip in clips:
            if spec.sampling == "whole":
                frames: Any = slice(0, spec.max_frames)
            else:
                frames = clip.frames_of(spec.num_frames, num_frames, self.fps)
            chosen = torch.from_numpy(np.ascontiguousarray(joints[:kept, frames]))
            value = torch.zeros(spec.num_bodies, *chosen.shape[1:])
            value[:kept] = chosen
            values.append(value)
        return values

    def _joints(self, spec: SkeletonSpec) -> np.ndarray:
        """The bodies with the spec's joints and coordinates."""
        found = self._recording
        joints, layout, target = found.joints, found.layout, LAYOUTS.get(spec.layout)
        if layout is not None and target is not None and layout != target:
            converted = convert_layout(torch.from_numpy(joints), layout, target, found.has_confidence)
            joints = converted.numpy()
        if found.has_confidence and joints.shape[3] == spec.num_coordinates + 1:
            joints = joints[..., :-1]
        if joints.shape[2:] != (spec.num_joints, spec.num_coordinates):
            raise BadMediumError(
                f"{self._name}: bodies have {joints.shape[2]} joints with {joints.shape[3]} coordinates, and layout "
                f"{spec.layout!r} has {spec.num_joints} with {spec.num_coordinates}; convert the file"
            )
        if not joints[: spec.num_bodies].any():
            raise BadMediumError(f"{self._name}: has no joint that is not zero; leave recordings without a body out")
        return joints
