"""Configuration of I3D (Carreira and Zisserman, CVPR 2017, arXiv 1705.07750; tubelet_contrast.md, section 3.3)."""

from huggingface_hub.dataclasses import strict

from tubelets.models.backbones.convolutional.configuration_convolutional import ConvolutionalConfig


@strict
class I3DConfig(ConvolutionalConfig):
    r"""Constants of I3D.

    Args:
        width_multiplier: factor on the channels of every layer; 1 is the published network.
        **kwargs: fields of `ConvolutionalConfig`; frames have 224 pixels and epsilon is 1e-5 here.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> I3DConfig().feature_size, I3DConfig().batch_norm_eps
        (1024, 1e-05)
    """

    model_type = "i3d"

    image_size: int = 224
    batch_norm_eps: float | int = 1e-5
    width_multiplier: float | int = 1.0

    def width(self, channels: int) -> int:
        """Scale the published number of channels of a layer."""
        return max(1, round(channels * self.width_multiplier))

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return sum(map(self.width, (384, 384, 128, 128)))

    @property
    def num_values(self) -> int:
        """Approximate number of weights."""
        return round(12.3e6 * self.width_multiplier**2) + self.feature_size * self.num_labels

    def validate_width(self) -> None:
        """Reject factors out of range."""
        if not 0 < self.width_multiplier <= 16:
            raise ValueError(f"width_multiplier must lie in (0, 16], got {self.width_multiplier}")
