"""Configuration of SMILE (CVPR 2025, arXiv 2504.00527); the defaults are the first stage with ViT-B on Kinetics-400."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from huggingface_hub.dataclasses import strict

from tubelets.data.modalities.specs import InputSpec, VideoSpec
from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig

if TYPE_CHECKING:
    from tubelets.motion import MotionSettings

TEACHERS = {
    ("clip", 768): "transformers:openai/clip-vit-base-patch16",
    ("dino", 384): "transformers:facebook/dino-vits16",
    ("dino", 768): "transformers:facebook/dino-vitb16",
}
OBJECTS = "mdorkenw/PIN_Synthetic_Dataset"


@strict
class SmileConfig(TubeletsVideoMAEConfig):
    r"""Constants of SMILE on top of the masked-video base.

    The second stage is the same model with `num_objects=0, mask_type="tube"`, initialised with the first one's weights.
    Pretraining without natural video uses another `background` and, in the paper, `target_type="pixel"`.

    Args:
        target_type: target of the masked tokens (smile.md, section 3). `clip`: patch features of the frozen
            image tower of CLIP ViT-B/16; `dino`: of a DINO ViT; `image_encoder`: of the frozen encoder named by
            `teacher`; `pixel`: the pixels.
        normalize_target: standardise feature targets per clip and channel. (Pixels follow `norm_pix_loss`.)
        teacher: frozen image encoder, `library:name`, see `image_libraries`; `None` picks the one of
            `target_type` and `teacher_hidden_size`. For CLIP, `open_clip:ViT-B-16-quickgelu/openai` is the same tower.
        teacher_hidden_size: width of the teacher's features.
        background: background of the moving objects (smile.md, section 9). `video`: the clip; `still`: its first frame,
            also for image data; `black`; `noise`: uniform noise per clip, constant over its frames.
        num_objects: objects pasted into each clip; 0 pastes none.
        objects: a folder or Hub data set of images with alpha, `emoji`, or `shapes`; see
            `tubelets.data.assets.objects.open_objects`.
        motion_type: path of an object: `gaussian` is smooth, `linear` goes straight between key frames.
        motion_settings: other fields of `tubelets.motion.MotionSettings` that differ from SMILE's, such as
            `{"rotation_velocity": 0.0}`.
        mask_type: `trajectory` follows the pasted objects; the masks of the base, such as `tube`, do not.
        trajectory_mask: kind of trajectory mask, a name in `tubelets.masking.TRAJECTORY_TYPES`.
        traj_unmask_ratio: share of the trajectory's tokens that stays visible, in [0, 1]. The official generator uses
            0.1; the 0.2 of its launch script never reaches it.
        masks_per_clip: masks that share one pass of the teacher.
        second_mask: masks after the first one: `permute` uses those of other clips of the batch, as the official code
            does; `resample` draws them from the clip's own objects.
        **kwargs: fields of `TubeletsVideoMAEConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or the fields contradict each other.

    Example:
        >>> SmileConfig().prediction_size, SmileConfig(target_type="pixel").prediction_size
        (768, 1536)
    """

    model_type = "smile"

    mask_ratio: float | int = 0.8
    mask_type: Literal["trajectory", "tube", "random", "red2d", "blue2d", "green2d", "red3d", "blue3d", "green3d"] = (
        "trajectory"
    )
    target_type: Literal["clip", "dino", "image_encoder", "pixel"] = "clip"
    normalize_target: bool = True
    teacher: str | None = None
    teacher_hidden_size: int = 768
    background: Literal["video", "still", "black", "noise"] = "video"
    num_objects: int = 2
    objects: str = OBJECTS
    motion_type: Literal["gaussian", "linear"] = "gaussian"
    motion_settings: dict[str, Any] | None = None
    trajectory_mask: str = "tube+traj_mask"
    traj_unmask_ratio: float | int = 0.1
    masks_per_clip: int = 2
    second_mask: Literal["permute", "resample"] = "permute"

    def __post_init__(self, **kwargs: object) -> None:
        """Resolve the teacher that belongs to the target."""
        if self.teacher is None:
            self.teacher = TEACHERS.get((self.target_type, self.teacher_hidden_size))
        super().__post_init__(**kwargs)

    @property
    def uses_teacher(self) -> bool:
        """Whether targets come from a frozen image encoder."""
        return self.target_type != "pixel"

    @property
    def prediction_size(self) -> int:
        """Width of the decoder's output, which is the width of the target."""
        return self.teacher_hidden_size if self.uses_teacher else self.pixels_per_tube

    @property
    def pretraining_specs(self) -> dict[str, InputSpec]:
        """Frames that are decoded: only one if it is repeated over the clip or never shown."""
        clip = VideoSpec(self.num_frames, self.image_height_width, self.num_channels)
        return {"pixel_values": clip if self.background == "video" else replace(clip, num_frames=1)}

    @property
    def motion(self) -> "MotionSettings | None":
        """How motions are drawn, None if nothing moves."""
        from tubelets.motion import MotionSettings

        if not self.num_objects:
            return None
        path = {"gaussian": "smooth", "linear": "piecewise"}[self.motion_type]
        return MotionSettings.smile(num_objects=self.num_objects, path=path, **(self.motion_settings or {}))

    def build_mask_generator(self) -> Any:
        """The mask generator of pretraining; that of `trajectory` is called with boxes, see its class."""
        if self.mask_type != "trajectory":
            return super().build_mask_generator()
        from tubelets.masking import TrajectoryMaskGenerator

        patch = self.image_height_width[0] // self.grid[1]
        return TrajectoryMaskGenerator(
            self.grid, self.mask_ratio, patch, visible_ratio=self.traj_unmask_ratio, kind=self.trajectory_mask
        )

    def validate_target(self) -> None:
        """Reject targets that cannot be computed."""
        if self.teacher_hidden_size < 1 or self.masks_per_clip < 1:
            raise ValueError(
                "teacher_hidden_size and masks_per_clip must be at least 1, got "
                f"{self.teacher_hidden_size} and {self.masks_per_clip}"
            )
        if self.target_type == "image_encoder" and self.teacher is None:
            raise ValueError("target_type='image_encoder' needs teacher='library:name', got None")

    def validate_motion(self) -> None:
        """Reject motions and masks that do not go together."""
        from tubelets.masking import TRAJECTORY_TYPES

        if not 0 <= self.num_objects <= 64:
            raise ValueError(f"num_objects must lie in [0, 64], got {self.num_objects}")
        if self.trajectory_mask not in TRAJECTORY_TYPES or not 0 <= self.traj_unmask_ratio <= 1:
            raise ValueError(
                f"trajectory_mask must be one of {TRAJECTORY_TYPES} and traj_unmask_ratio lie in [0, 1], got "
                f"{self.trajectory_mask!r} and {self.traj_unmask_ratio}"
            )
        try:
            motion = self.motion
        except TypeError as error:
            raise ValueError(f"motion_settings must be fields of MotionSettings, got {self.motion_settings}") from error
        if self.mask_type == "trajectory" and self.mask_options:
            raise ValueError(f"mask_options are for other masks than mask_type='trajectory', got {self.mask_options}")
        if self.mask_type == "trajectory" and motion is None:
            raise ValueError("mask_type='trajectory' needs moving objects; set num_objects, or mask_type='tube'")
        if motion is not None and self.num_frames < 2:
            raise ValueError(f"num_frames must be at least 2 for objects to move, got {self.num_frames}")
        sides = [side // cells for side, cells in zip(self.image_height_width, self.grid[1:], strict=True)]
        if self.mask_type == "trajectory" and sides[0] != sides[1]:
            raise ValueError(f"mask_type='trajectory' needs square patches, got {sides[0]} x {sides[1]} pixels")
