"""Configuration of Tubelet-Contrast (ICCV 2023, arXiv 2303.11003); the defaults are R(2+1)D-18 on Mini-Kinetics."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from tubelets.models.convolutional.configuration_convolutional import ConvolutionalConfig
from tubelets.models.i3d.configuration_i3d import I3DConfig
from tubelets.models.resnet3d.configuration_resnet3d import ResNet3DConfig

# Fields that a backbone shares with the method.
SHARED = ("num_frames", "num_channels", "batch_norm_momentum", "head_dropout", "image_mean", "image_std")


@strict
class TubeletContrastConfig(ConvolutionalConfig):
    r"""Constants of Tubelet-Contrast's networks and loss.

    Args:
        backbone: `r2plus1d_18`, `r3d_18` or `i3d`.
        backbone_options: fields of the backbone's configuration that differ from its defaults, such as `hidden_sizes`.
        projection_size: width of the contrasted features.
        queue_size: older keys that serve as negatives; a multiple of the global batch.
        momentum: share of the key encoder that is kept in each step.
        temperature: divides the similarities.
        **kwargs: fields of `ConvolutionalConfig`; the epsilon of batch norm is the backbone's own unless it is given
            among its options, and I3D takes 224 pixels.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> config = TubeletContrastConfig(backbone="i3d")
        >>> config.image_size, config.feature_size, config.backbone_config.batch_norm_eps
        (224, 1024, 1e-05)
    """

    model_type = "tubelet_contrast"

    image_size: int | None = None  # type: ignore[assignment]
    backbone: Literal["r2plus1d_18", "r3d_18", "i3d"] = "r2plus1d_18"
    backbone_options: dict[str, Any] | None = None
    projection_size: int = 128
    queue_size: int = 16384
    momentum: float | int = 0.999
    temperature: float | int = 0.2

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

    def validate_contrast(self) -> None:
        """Refuse numbers out of range."""
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
