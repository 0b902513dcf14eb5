"""Recordings of skeletons to the input of a network: layout, normalisation, crop, fixed number of frames."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin

from tubelets.models.backbones.skeleton_networks.configuration_skeleton import SkeletonConfig
from tubelets.skeletons import (
    SkeletonLayout,
    center_skeletons,
    central_crops,
    convert_layout,
    crop_resize,
    layout_named,
    normalize_skeletons,
    pad_clips,
    scale_skeletons,
)

Normalization = Literal["upright", "scale", "centre", "none"]


class SkeletonFeatureExtractor(FeatureExtractionMixin):
    """Prepares recordings of any length for a network of skeletons.

    Args:
        layout: name of the network's layout.
        joints: names of its joints, if it is not built in.
        bones: its bones, pairs (child, parent).
        centre: its centre.
        num_frames: frames of the result.
        max_frames: frames of a longer recording beyond these are left out.
        num_bodies: bodies of the result; missing ones are zero, extra ones dropped.
        num_coordinates: numbers of a joint.
        has_confidence: whether the last of them is a confidence.
        normalization: see `SkeletonConfig`.
        crop: share of the frames in the middle of a recording that is used (skeleton_contrast.md, section 7.1).
        **kwargs: further entries of the file.

    Example:
        >>> extract = SkeletonFeatureExtractor()
        >>> extract(np.random.rand(1, 90, 25, 3), return_tensors="pt")["skeletons"].shape
        torch.Size([1, 2, 64, 25, 3])
        >>> extract([np.ones((1, 9, 33, 3)), np.ones((2, 40, 33, 3))], layout="mediapipe-33").skeletons.shape
        (2, 2, 64, 25, 3)
    """

    model_input_names = ["skeletons"]

    def __init__(
        self,
        layout: str = "kinect-25",
        joints: Sequence[str] | None = None,
        bones: Sequence[Sequence[int]] | None = None,
        centre: int = 0,
        num_frames: int = 64,
        max_frames: int = 300,
        num_bodies: int = 2,
        num_coordinates: int = 3,
        has_confidence: bool = False,
        normalization: Normalization = "upright",
        crop: float = 0.95,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.layout, self.joints, self.bones, self.centre = layout, joints, bones, centre
        self.num_frames, self.max_frames = num_frames, max_frames
        self.num_bodies, self.num_coordinates, self.has_confidence = num_bodies, num_coordinates, has_confidence
        self.normalization, self.crop = normalization, crop

    @property
    def skeleton_layout(self) -> SkeletonLayout:
        """The network's layout."""
        if self.joints is None:
            return layout_named(self.layout)
        return SkeletonLayout.of(self.layout, self.joints, self.bones or [], self.centre)

    def __call__(
        self, skeletons: Any, layout: str | None = None, return_tensors: str | None = None, **kwargs: Any
    ) -> BatchFeature:
        """Prepare one recording, or several.

        Args:
            skeletons: array or tensor `(bodies, frames, joints, coordinates)`, or a list of them of any length.
            layout: name of the layout that they have, if it is not the network's.
            return_tensors: `pt` for tensors, otherwise NumPy arrays.
            **kwargs: accepted for the interface of transformers, not used.

        Returns:
            `skeletons`, float32 `(B, num_bodies, num_frames, joints, num_coordinates)`.

        Raises:
            ValueError: if a recording has another number of dimensions, joints or coordinates, no frame or values that
                are not finite, or the layout is unknown.
        """
        recordings = list(skeletons) if isinstance(skeletons, (list, tuple)) else [skeletons]
        clips = [self.recording(recording, layout) for recording in recordings]
        padded, lengths = pad_clips(clips)
        normalized = normalize_clips(padded, self.skeleton_layout, self.normalization, self.has_confidence)
        found = crop_resize(normalized, *central_crops(lengths, self.crop), self.num_frames)
        return BatchFeature({"skeletons": found if return_tensors == "pt" else found.numpy()})

    def recording(self, values: Any, layout: str | None = None) -> Tensor:
        """One recording with the network's joints and number of bodies, float32 `(num_bodies, frames, joints, C)`."""
        array = torch.as_tensor(np.asarray(values) if not isinstance(values, Tensor) else values).float()
        target = self.skeleton_layout
        source = target if layout is None or layout == target.name else layout_named(layout)
        expected = (source.num_joints, self.num_coordinates)
        if array.ndim != 4 or not array.numel() or tuple(array.shape[2:]) != expected:
            raise ValueError(
                f"a recording must be (bodies, frames, {expected[0]}, {expected[1]}) for layout {source.name!r}, none "
                f"of them empty, got {tuple(array.shape)}; name the layout it has (layout=)"
            )
        if not bool(array.isfinite().all()):
            raise ValueError("a recording has values that are not finite; set missing joints to zero")
        array = convert_layout(array[: self.num_bodies, : self.max_frames], source, target, self.has_confidence)
        missing = self.num_bodies - len(array)
        return torch.cat([array, array.new_zeros(missing, *array.shape[1:])]) if missing else array


def normalize_clips(padded: Tensor, layout: SkeletonLayout, normalization: str, has_confidence: bool = False) -> Tensor:
    """Normalise a batch of recordings of different lengths.

    Args:
        padded: float `(B, bodies, frames, joints, coordinates)`, zero behind each recording.
        layout: their layout.
        normalization: "upright", "scale", "centre" or "none", see `SkeletonConfig`.
        has_confidence: whether the last coordinate is a confidence, which is kept.

    Returns:
        Float of the same shape; what is behind a recording is not specified.

    Raises:
        ValueError: if the skeletons do not fit the normalisation.

    Example:
        >>> found = normalize_clips(torch.rand(1, 1, 8, 21, 3), layout_named("hands-21"), "centre")
        >>> found[0, 0, :, 0].abs().max().item()  # the wrist
        0.0
    """
    if normalization == "none":
        return padded
    positions = padded[..., :-1] if has_confidence else padded
    if normalization == "upright":
        moved = normalize_skeletons(positions, layout)
    else:
        moved = center_skeletons(positions, layout.centre)
        moved = scale_skeletons(moved) if normalization == "scale" else moved
    return torch.cat([moved, padded[..., -1:]], dim=-1) if has_confidence else moved


def skeleton_processor(config: SkeletonConfig) -> SkeletonFeatureExtractor:
    """The inference processor of a configuration.

    Args:
        config: layout and sizes.

    Returns:
        A processor whose `skeletons` are the model's input.
    """
    layout = {"layout": config.layout, "joints": config.joints, "bones": config.bones, "centre": config.centre}
    return SkeletonFeatureExtractor(
        **layout,  # type: ignore[arg-type]
        num_frames=config.num_frames,
        max_frames=config.max_frames,
        num_bodies=config.num_bodies,
        num_coordinates=config.num_coordinates,
        has_confidence=config.has_confidence,
        normalization=config.normalization,
    )
