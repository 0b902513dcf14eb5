"""Configuration of AVID-CMA's and RSPNet's own networks (severe_benchmark.md, section 4)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from tubelets.models.backbones.convolutional.configuration_convolutional import ConvolutionalConfig

DEPTHS = {"avid_cma": (2, 2, 2, 2), "rspnet": (1, 1, 1, 1)}


@strict
class R2Plus1DNativeConfig(ConvolutionalConfig):
    r"""Sizes of a video ResNet with factorised convolutions other than the common R(2+1)D-18.

    Args:
        variant: `avid_cma` (Morgado et al., CVPR 2021): full stem with max pooling, factors without widening, sum with
            the shortcut before the last batch norm, maximum over time and place. `rspnet` (Chen et al., AAAI 2021):
            factorised stem and shortcuts, widening computed for each convolution, mean over time and place.
        depths: blocks of each stage; None uses the published ones: two for AVID-CMA, one for RSPNet.
        hidden_sizes: channels of each stage.
        **kwargs: fields of `ConvolutionalConfig`; epsilon is 1e-5 here.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> R2Plus1DNativeConfig().depths, R2Plus1DNativeConfig(variant="rspnet").depths
        ((2, 2, 2, 2), (1, 1, 1, 1))
    """

    model_type = "r2plus1d_native"

    batch_norm_eps: float | int = 1e-5
    variant: Literal["avid_cma", "rspnet"] = "avid_cma"
    depths: list[int] | tuple[int, ...] | None = None
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 256, 512)

    def __post_init__(self, **kwargs: object) -> None:
        """Resolve the depths, which depend on the variant."""
        if self.depths is None:
            self.depths = DEPTHS.get(self.variant)
        super().__post_init__(**kwargs)

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.hidden_sizes[-1]

    @property
    def num_values(self) -> int:
        """Approximate number of weights: two convolutions of 27 places a block, and the classifier."""
        stages = zip(self.depths or (), self.hidden_sizes, strict=False)
        blocks = sum(54 * depth * size**2 for depth, size in stages)
        return blocks + self.feature_size * self.num_labels if self.hidden_sizes else 0

    def validate_stages(self) -> None:
        """Reject inconsistent stages and sizes beyond any published model."""
        depths, sizes = self.depths or (), self.hidden_sizes
        if len(depths) != len(sizes) or not 1 <= len(sizes) <= 16:
            raise ValueError(f"depths and hidden_sizes must have an entry for each stage, got {depths} and {sizes}")
        if not 1 <= min(depths) <= max(depths) <= 256 or not 1 <= min(sizes) <= max(sizes) <= 2**14:
            raise ValueError(f"depths must lie in [1, 256] and sizes in [1, 16384], got {depths} and {sizes}")
