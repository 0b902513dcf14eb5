"""Fields that every network of skeletons has: the layout of its joints and the size of a clip."""

from typing import TYPE_CHECKING, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from tubelets.data.modalities.specs import InputSpec, SkeletonSpec
from tubelets.models.common.configuration import RegisteredConfig
from tubelets.models.common.field_checks import RANGES, SIDE

if TYPE_CHECKING:
    from tubelets.skeletons.layouts import SkeletonLayout

# Ten times the largest published network of skeletons.
MAX_VALUES = 2**29
MAX_BODIES = 64


@strict
class SkeletonConfig(RegisteredConfig, PreTrainedConfig):
    r"""Fields of every network of skeletons.

    Args:
        layout: name of the layout: `kinect-25`, `coco-17`, `openpose-25`, `mediapipe-33`, `hands-21`, `hands-42`, or
            any name if `joints` are given.
        joints: names of the joints of a layout that is not built in, in the order of the files.
        bones: its bones, pairs of joint numbers (child, parent).
        centre: number of the joint that distances in its graph start from.
        num_frames: frames of a clip, to which recordings are resized.
        max_frames: frames of a longer recording beyond these are left out.
        num_bodies: bodies of a clip; missing ones are zero.
        num_coordinates: numbers of a joint: 2 or 3 coordinates, and a confidence if there is one.
        has_confidence: whether the last of them is a confidence.
        normalization: how recordings are normalised. `upright` fills gaps, centres and turns bodies (three coordinates,
            skeleton_contrast.md, section 6.3), `centre` subtracts the layout's centre of the first body, `scale` does
            and divides by the size of the bodies, for pixels, `none` changes nothing.
        head_dropout: dropout before the classifier, in [0, 1).
        **kwargs: fields of `transformers.PreTrainedConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.
    """

    field_ranges: ClassVar = {**RANGES, "num_bodies": (1, MAX_BODIES), "num_coordinates": (1, 4), "max_frames": SIDE}

    layout: str = "kinect-25"
    joints: list[str] | tuple[str, ...] | None = None
    bones: list[list[int]] | list[tuple[int, int]] | None = None
    centre: int = 0
    num_frames: int = 64
    max_frames: int = 300
    num_bodies: int = 2
    num_coordinates: int = 3
    has_confidence: bool = False
    normalization: Literal["upright", "scale", "centre", "none"] = "upright"
    head_dropout: float | int = 0.0

    @property
    def skeleton_layout(self) -> "SkeletonLayout":
        """The layout with its joints and bones.

        Raises:
            ValueError: if it is not built in and has no joints, or they do not fit together.
        """
        # Imported here: it needs torch, which reading a configuration does not.
        from tubelets.skeletons.layouts import SkeletonLayout, layout_named

        if self.joints is None:
            if self.bones is not None:
                raise ValueError(f"bones are given and joints are not; give both for the layout {self.layout!r}")
            return layout_named(self.layout)
        return SkeletonLayout.of(self.layout, self.joints, self.bones or [], self.centre)

    @property
    def num_joints(self) -> int:
        """Joints of the layout."""
        return self.skeleton_layout.num_joints

    @property
    def num_dimensions(self) -> int:
        """Coordinates of a joint that are positions."""
        return self.num_coordinates - self.has_confidence

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """Skeletons, resized to the frames of a clip."""
        sizes = self.num_frames, self.num_joints, self.num_bodies, self.num_coordinates
        return {"skeletons": SkeletonSpec(self.layout, *sizes, sampling="whole", max_frames=self.max_frames)}

    @property
    def frame_size(self) -> int:
        """Numbers that describe a frame."""
        return self.num_joints * self.num_coordinates * self.num_bodies

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return 0

    @property
    def num_values(self) -> int:
        """Approximate number of weights."""
        return 0

    def validate_layout(self) -> None:
        """Reject layouts that do not exist, and sizes beyond any published network."""
        layout = self.skeleton_layout
        if self.num_dimensions not in (1, 2, 3):
            raise ValueError(
                f"joints must have 1 to 3 coordinates, got num_coordinates={self.num_coordinates} and "
                f"has_confidence={self.has_confidence}"
            )
        if self.normalization == "upright" and (
            self.num_dimensions < 3 or not layout.has("spine_base", "spine_mid", "left_shoulder", "right_shoulder")
        ):
            raise ValueError(
                f"normalization='upright' needs three coordinates and the joints of a spine, and {layout.name!r} has "
                f"{self.num_dimensions} coordinates; set it to 'scale', 'centre' or 'none'"
            )
        if self.num_values > MAX_VALUES:
            raise ValueError(
                f"a network of these sizes would hold about {self.num_values:.3g} values, more than {MAX_VALUES:.3g}; "
                "choose fewer or narrower layers"
            )
