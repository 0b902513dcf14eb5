"""Configuration of the 3D-ResNets family; the defaults are 3D-ResNeXt-101 for RGB."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from tubelets.data.modalities.specs import InputSpec, VideoSpec
from tubelets.models.backbones.convolutional.configuration_convolutional import ConvolutionalConfig

# The published weights expect values of 0 to 255 less these means, and are not divided by a deviation.
RGB_MEAN = (114.7748 / 255, 107.7354 / 255, 99.4750 / 255)
FLOW_MEAN = (127.5 / 255, 127.5 / 255)
UNIT = 1 / 255
EXPANSION = {"basic": 1, "bottleneck": 4, "resnext": 2}


@strict
class ResNeXt3DConfig(ConvolutionalConfig):
    r"""Sizes and constants of a network of the 3D-ResNets family.

    Source: feature_supervised_transfer.md, section 3.

    Args:
        block: `resnext` has grouped convolutions, `bottleneck` is that of ResNet-50, `basic` that of ResNet-18.
        depths: blocks of each stage.
        hidden_sizes: channels within the blocks of each stage; a block puts out 1, 4 or 2 times as many.
        stem_size: channels of the first convolution.
        cardinality: groups of the convolutions of `resnext`.
        shortcut: what changes the size of a shortcut: `B`, a convolution with batch norm, or `A`, strided with zeros
            for missing channels, as in the published ResNet-18 and 34.
        input_media: the medium that clips are read from: "video", "flow" or "depth".
        **kwargs: fields of `ConvolutionalConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> ResNeXt3DConfig().feature_size
        2048
        >>> ResNeXt3DConfig(block="basic", depths=(2, 2, 2, 2), hidden_sizes=(64, 128, 256, 512)).feature_size
        512
    """

    model_type = "resnext3d"

    block: Literal["basic", "bottleneck", "resnext"] = "resnext"
    depths: list[int] | tuple[int, ...] = (3, 4, 23, 3)
    hidden_sizes: list[int] | tuple[int, ...] = (128, 256, 512, 1024)
    stem_size: int = 64
    cardinality: int = 32
    shortcut: Literal["A", "B"] = "B"
    input_media: Literal["video", "flow", "depth"] = "video"
    batch_norm_eps: float | int = 1e-5
    image_mean: list[float] | tuple[float, ...] = RGB_MEAN
    image_std: list[float] | tuple[float, ...] = (UNIT, UNIT, UNIT)

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return EXPANSION[self.block] * self.hidden_sizes[-1]

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """Frames, flow or depth."""
        statistics = tuple(self.image_mean), tuple(self.image_std)
        size = self.image_height_width
        return {
            "pixel_values": VideoSpec(self.num_frames, size, self.num_channels, *statistics, media=self.input_media)
        }

    @property
    def num_values(self) -> int:
        """Approximate number of weights: as if every convolution of 27 places were a full one."""
        blocks = sum(depth * 54 * size**2 for depth, size in zip(self.depths, self.hidden_sizes, strict=False))
        return blocks // (self.cardinality if self.block == "resnext" else 1) + self.feature_size * self.num_labels

    def validate_stages(self) -> None:
        """Reject inconsistent stages and sizes beyond any published model."""
        if len(self.depths) != len(self.hidden_sizes) or not 1 <= len(self.depths) <= 16:
            raise ValueError(
                "depths and hidden_sizes must have an entry for each of 1 to 16 stages, got "
                f"{self.depths} and {self.hidden_sizes}"
            )
        if not 1 <= min(self.depths) <= max(self.depths) <= 256:
            raise ValueError(f"depths must lie in [1, 256], got {self.depths}")
        if not 1 <= min(*self.hidden_sizes, self.stem_size) <= max(*self.hidden_sizes, self.stem_size) <= 2**14:
            raise ValueError(f"channels must lie in [1, 16384], got {self.hidden_sizes} and a stem of {self.stem_size}")
        if self.cardinality < 1 or (self.block == "resnext" and min(self.hidden_sizes) < self.cardinality):
            raise ValueError(
                f"cardinality must lie in [1, {min(self.hidden_sizes)}], the channels of a block, got "
                f"{self.cardinality}"
            )
