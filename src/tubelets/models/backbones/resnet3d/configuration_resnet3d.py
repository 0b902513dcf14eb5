"""Configuration of the video ResNets; the defaults are R(2+1)D-18 as in tubelet_contrast.md, section 3."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from tubelets.models.backbones.convolutional.configuration_convolutional import ConvolutionalConfig


@strict
class ResNet3DConfig(ConvolutionalConfig):
    r"""Sizes and constants of a video ResNet.

    Args:
        convolution: `2plus1d` factorises each convolution into one over space and one over time, `3d` does not.
        depths: blocks of each stage.
        hidden_sizes: channels of each stage.
        stem_size: channels between the two convolutions of a factorised stem.
        dilated_last_stage: the variant of TCLR: the first convolution of the last stage is a full one, dilated in time,
            and that stage keeps its time steps (severe_benchmark.md, section 4).
        **kwargs: fields of `ConvolutionalConfig`. The default epsilon is the official pretraining's 1e-3; torchvision
            and the SEVERE checkpoints have 1e-5.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> ResNet3DConfig().feature_size, ResNet3DConfig(convolution="3d").depths
        (512, (2, 2, 2, 2))
    """

    model_type = "resnet3d"

    convolution: Literal["2plus1d", "3d"] = "2plus1d"
    depths: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    stem_size: int = 45
    dilated_last_stage: bool = False

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.hidden_sizes[-1]

    @property
    def num_values(self) -> int:
        """Approximate number of weights: two convolutions of 27 places a block, and the classifier."""
        stages = zip(self.depths, self.hidden_sizes, strict=False)
        blocks = sum(54 * depth * size**2 for depth, size in stages)
        return blocks + self.feature_size * self.num_labels if self.hidden_sizes else 0

    def validate_stages(self) -> None:
        """Reject inconsistent stages and sizes beyond any published model."""
        if len(self.depths) != len(self.hidden_sizes) or not self.depths:
            raise ValueError(
                f"depths and hidden_sizes must have an entry for each stage, got {self.depths} and {self.hidden_sizes}"
            )
        if not 1 <= min(self.depths) <= max(self.depths) <= 256 or not min(self.hidden_sizes) >= 1:
            raise ValueError(f"depths must lie in [1, 256] and sizes be positive, got {self.depths}")
        if max(*self.hidden_sizes, self.stem_size) > 2**14 or self.stem_size < 1 or len(self.depths) > 16:
            raise ValueError(
                f"a video ResNet has at most 16 stages of 16384 channels, got {self.hidden_sizes} and a stem of "
                f"{self.stem_size}"
            )
