"""Skeletons as media of a sample: body joints over time, for the frames of a clip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tubelets.data.modalities.arrays import read_array
from tubelets.data.modalities.modality import BadMediumError, Clip, Medium, Modality
from tubelets.data.modalities.specs import SkeletonSpec


class SkeletonModality(Modality):
    """Arrays `(bodies, frames, joints, coordinates)` in .npy, .npz or .safetensors files.

    In files with several arrays, skeletons are in "skeleton". Frames are matched with those of the video; if the
    numbers of frames differ, both are assumed to start and end together.

    Crops and flips of frames do not apply to skeletons: mirroring a body swaps its left and right joints, which depends
    on the layout and needs a skeleton augmentation.
    """

    name = "skeleton"
    media = ("skeleton",)
    suffixes = ("npy", "npz", "safetensors")
    leads = True

    def open(self, data: bytes, name: str, backend: Any = "auto") -> Medium:
        """Open a file; see `Modality.open`."""
        return _Skeletons(read_array(data, name, "skeleton"), name)


class _Skeletons(Medium):
    def __init__(self, joints: np.ndarray, name: str) -> None:
        if joints.ndim != 4 or joints.shape[1] == 0:
            raise BadMediumError(
                f"{name}: skeletons have the shape {joints.shape}; store (bodies, frames, joints, coordinates) with at "
                "least one frame"
            )
        if not np.isfinite(joints).all():
            raise BadMediumError(f"{name}: skeletons have values that are not finite; replace them with zeros")
        self._joints, self._name = joints, name
        self.num_frames = joints.shape[1]

    def read(self, spec: SkeletonSpec, clips: Sequence[Clip]) -> list[Tensor]:
        """Float32 `(bodies, frames, joints, coordinates)` of each clip; missing bodies are zero, extra ones dropped."""
        bodies, num_frames, *shape = self._joints.shape
        if shape != [spec.num_joints, spec.num_coordinates]:
            raise BadMediumError(
                f"{self._name}: bodies have {shape[0]} joints with {shape[1]} coordinates, and layout {spec.layout!r} "
                f"has {spec.num_joints} with {spec.num_coordinates}; convert the file"
            )
        kept = min(bodies, spec.num_bodies)
        values = []
        for clip in clips:
            frames = clip.frames_of(spec.num_frames, num_frames)
            value = torch.zeros(spec.shape)
            value[:kept] = torch.from_numpy(self._joints[:kept, frames].astype(np.float32))
            values.append(value)
        return values
