"""Configuration of Tubelet-Contrast (ICCV 2023, arXiv 2303.11003); the defaults are R(2+1)D-18 on Mini-Kinetics."""

from typing import TYPE_CHECKING, Any, Literal

from huggingface_hub.dataclasses import strict

from tubelets.data.modalities.specs import InputSpec, VideoSpec
from tubelets.models.backbones.convolutional.configuration_convolutional import ConvolutionalConfig
from tubelets.models.backbones.i3d.configuration_i3d import I3DConfig
from tubelets.models.backbones.resnet3d.configuration_resnet3d import ResNet3DConfig

if TYPE_CHECKING:
    from tubelets.motion import MotionSettings

# Fields that a backbone shares with the method.
SHARED = ("num_frames", "num_channels", "batch_norm_momentum", "head_dropout", "image_mean", "image_std")
PATHS = {"gaussian": "smooth", "linear": "piecewise", "none": "none"}


@strict
class TubeletContrastConfig(ConvolutionalConfig):
    r"""Constants of Tubelet-Contrast's networks, loss and moving patches.

    Lengths and speeds of patches are in pixels of a frame of 224 x 224 and grow and shrink with the frame.

    Args:
        backbone: `r2plus1d_18`, `r3d_18` or `i3d`.
        backbone_options: fields of the backbone's configuration that differ from its defaults, such as `hidden_sizes`.
        projection_size: width of the contrasted features.
        queue_size: older keys that serve as negatives; a multiple of the global batch.
        momentum: share of the key encoder that is kept in each step.
        key_encoder: `momentum`, the paper's; `shared` sends both clips through the query encoder, with gradients to
            both and the rest of the batch as negatives, without a queue (SimCLR). Ours, for short runs: while encoders
            change quickly, the age of a queued key gives it away.
        temperature: divides the similarities.
        shuffle_batches: shuffle the clips of all processes for the key encoder, so that batch statistics do not reveal
            which clips belong together; not needed with synchronised batch norm, which the authors used.
        contrast: what a pair of clips shares. `tubelet`: moving patches, over clips of different videos; `temporal`:
            the video, and nothing is pasted; the baseline (tubelet_contrast.md, section 4.5).
        patches: what moves over the two clips of a pair. `shared`, the paper's: patches of the query over both. `own`:
            each clip shows patches of its own, which move alike, so that a pair has no looks in common. Ours, for a
            second stage that starts from weights of the first: from random weights nothing is learned for long.
        num_tubelets: patches per pair.
        motion_type: path of a patch: `gaussian` is smooth, `linear` goes straight between key frames, `none` rests.
        patch_transformation: additional transformation of a patch: `rotation`, `shear` or `none`. Scaling is
            `size_velocity`.
        patch_scales: square roots of the areas that patches are drawn from, in pixels.
        patch_ratios: their ratios of width to height.
        scale_jitter: width and height are multiplied by exp(U(-jitter, jitter)).
        key_frame_probs: of 0, 1, 2 ... inner key frames.
        rot_velocity: largest rotation in degrees per frame.
        shear_velocity: largest change of the shear factors per frame.
        size_velocity: largest change of the logarithm of width and height per frame; 0.025 is the paper's scaling.
        loc_velocity: largest speed of `linear` motion along each axis, in pixels per frame.
        label_prob: probability that a patch is drawn in a frame.
        align_clipped_patch: a transformed patch that reaches over the frame's border is cut there; False shows its top
            left part instead, as the official code does.
        still_probability: share of the clips whose background is frozen to one frame before patches are pasted, so that
            patches alone move. 0 in the paper. Ours, for small data sets: background motion is what pairs do not
            share, so that a network learns to overlook it, camera motion included.
        colour_probability: that brightness is changed, that contrast is, and that hue and saturation are; the same
            change for both clips of a pair.
        **kwargs: fields of `ConvolutionalConfig`; the epsilon of batch norm is the backbone's own unless it is given
            among its options, and I3D uses 224 pixels.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> config = TubeletContrastConfig(backbone="i3d")
        >>> config.image_size, config.feature_size, config.backbone_config.batch_norm_eps
        (224, 1024, 1e-05)
        >>> config.motion.num_objects, config.motion.path
        (2, 'smooth')
    """

    model_type = "tubelet_contrast"

    image_size: int | None = None  # type: ignore[assignment]
    backbone: Literal["r2plus1d_18", "r3d_18", "i3d"] = "r2plus1d_18"
    backbone_options: dict[str, Any] | None = None
    projection_size: int = 128
    queue_size: int = 16384
    momentum: float | int = 0.999
    temperature: float | int = 0.2
    key_encoder: Literal["momentum", "shared"] = "momentum"
    shuffle_batches: bool = False
    contrast: Literal["tubelet", "temporal"] = "tubelet"
    patches: Literal["shared", "own"] = "shared"
    num_tubelets: int = 2
    motion_type: Literal["gaussian", "linear", "none"] = "gaussian"
    patch_transformation: Literal["rotation", "shear", "none"] = "rotation"
    patch_scales: list[float | int] | tuple[float | int, ...] = (32.0, 48.0, 56.0, 64.0, 96.0, 128.0)
    patch_ratios: list[float | int] | tuple[float | int, ...] = (0.5, 0.67, 0.75, 1.0, 1.33, 1.5, 2.0)
    scale_jitter: float | int = 0.18
    key_frame_probs: list[float | int] | tuple[float | int, ...] = (0.5, 0.3, 0.2)
    rot_velocity: float | int = 6.0
    shear_velocity: float | int = 0.066
    size_velocity: float | int = 0.0001
    loc_velocity: float | int = 10.0
    label_prob: float | int = 1.0
    align_clipped_patch: bool = False
    still_probability: float | int = 0.0
    colour_probability: float | int = 0.2

    def __post_init__(self, **kwargs: object) -> None:
        """Resolve the size of the frames, which depends on the backbone."""
        if self.image_size is None:
            self.image_size = 224 if self.backbone == "i3d" else 112
        super().__post_init__(**kwargs)

    @property
    def backbone_config(self) -> ResNet3DConfig | I3DConfig:
        """The backbone's own configuration."""
        shared = {name: getattr(self, name) for name in SHARED} | {"image_size": self.image_size}
        options = {**shared, **(self.backbone_options or {})}
        if self.backbone == "i3d":
            return I3DConfig(**options)
        return ResNet3DConfig(**{"convolution": "3d" if self.backbone == "r3d_18" else "2plus1d", **options})

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.backbone_config.feature_size

    @property
    def num_values(self) -> int:
        """Approximate number of weights, those of the backbone."""
        return self.backbone_config.num_values

    @property
    def motion(self) -> "MotionSettings":
        """How the motions of patches are drawn."""
        from tubelets.motion import MotionSettings

        return MotionSettings.tubelet_contrast(
            num_objects=self.num_tubelets,
            path=PATHS[self.motion_type],
            scales=tuple(self.patch_scales),
            ratios=tuple(self.patch_ratios),
            scale_jitter=self.scale_jitter,
            key_frame_probabilities=tuple(self.key_frame_probs),
            rotation_velocity=self.rot_velocity if self.patch_transformation == "rotation" else 0.0,
            shear_velocity=self.shear_velocity if self.patch_transformation == "shear" else 0.0,
            size_velocity=self.size_velocity,
            location_velocity=self.loc_velocity,
            draw_probability=self.label_prob,
            shift_clipped=not self.align_clipped_patch,
        )

    @property
    def pretraining_specs(self) -> dict[str, InputSpec]:
        """Frames; two clips of each video where they are contrasted with each other."""
        size = self.image_height_width
        views = 2 if self.contrast == "temporal" else 1
        return {"pixel_values": VideoSpec(self.num_frames, size, self.num_channels, clips_per_sample=views)}

    def validate_contrast(self) -> None:
        """Reject numbers out of range."""
        if not 0 <= self.momentum <= 1 or not self.temperature > 0:
            raise ValueError(
                f"momentum must lie in [0, 1] and temperature be positive, got {self.momentum} and {self.temperature}"
            )
        if not 1 <= self.projection_size <= 2**14 or not 1 <= self.queue_size <= 2**24:
            raise ValueError(
                "projection_size must lie in [1, 16384] and queue_size in [1, 2**24], got "
                f"{self.projection_size} and {self.queue_size}"
            )
        unknown = set(self.backbone_options or {}) - set(
            (I3DConfig if self.backbone == "i3d" else ResNet3DConfig).__dataclass_fields__
        )
        if unknown:
            raise ValueError(f"backbone_options of {self.backbone} has no fields {sorted(unknown)}")
        if self.queue_size * self.projection_size > 2**28:
            raise ValueError(
                f"a queue of {self.queue_size} x {self.projection_size} values is beyond memory; it may have 2**28"
            )
        _ = self.backbone_config  # refuses sizes that the backbone does not have

    def validate_motion(self) -> None:
        """Reject invalid motions."""
        if not 1 <= self.num_tubelets <= 64:
            raise ValueError(f"num_tubelets must lie in [1, 64], got {self.num_tubelets}")
        for name in ("still_probability", "colour_probability", "label_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.contrast == "tubelet" and self.num_frames < 2:
            raise ValueError(f"num_frames must be at least 2 for patches to move, got {self.num_frames}")
        _ = self.motion  # refuses what it cannot draw
