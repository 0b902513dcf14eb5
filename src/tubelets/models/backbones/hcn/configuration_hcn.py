"""Configuration of the image encoder of Skeleton-Contrast (skeleton_contrast.md, section 3.3)."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict

from tubelets.models.backbones.skeleton_networks.configuration_skeleton import SkeletonConfig
from tubelets.models.common.field_checks import SHARE

# Four poolings halve frames and joint channels.
POOLED = 16


@strict
class HcnConfig(SkeletonConfig):
    r"""Constants of HCN.

    Args:
        width: channels of the first convolution, even; the later ones follow.
        hidden_size: units of a layer on the flattened map, as in the public HCN (512); None, the encoder of
            Skeleton-Contrast, has none.
        dropout: in the convolutions, of whole channels, and after that layer, in [0, 1).
        num_frames: frames of a clip, a multiple of 16; the network reads no other number.
        **kwargs: fields of `SkeletonConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> HcnConfig().feature_size, HcnConfig(hidden_size=512).feature_size
        (4096, 512)
    """

    model_type = "hcn"
    field_ranges: ClassVar = {
        **SkeletonConfig.field_ranges, "width": (2, 2**12), "hidden_size": (1, 2**14), "dropout": SHARE,
    }  # fmt: skip

    width: int = 64
    hidden_size: int | None = None
    dropout: float | int = 0.5

    @property
    def map_size(self) -> int:
        """Numbers of the last feature map."""
        return 4 * self.width * (self.num_frames // POOLED) ** 2

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.hidden_size or self.map_size

    @property
    def num_values(self) -> int:
        """Approximate number of weights."""
        width = self.width
        branch = width * (self.num_coordinates + 3 * self.num_frames) + 9 * width * (self.num_joints + width) // 2
        return 2 * branch + 9 * 12 * width**2 + self.map_size * (self.hidden_size or 0)

    def validate_frames(self) -> None:
        """Reject sizes that cannot be halved as often as the network does."""
        if self.num_frames % POOLED or self.width % 2:
            raise ValueError(
                f"num_frames must be a multiple of {POOLED} and width even, got {self.num_frames} and {self.width}"
            )
