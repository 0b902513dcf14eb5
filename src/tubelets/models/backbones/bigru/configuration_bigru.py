"""Configuration of the recurrent encoder of Skeleton-Contrast (skeleton_contrast.md, section 3.1)."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict

from tubelets.models.backbones.skeleton_networks.configuration_skeleton import SkeletonConfig


@strict
class BiGruConfig(SkeletonConfig):
    r"""Constants of BiGRU.

    Args:
        hidden_size: units of a direction.
        num_layers: layers.
        time_reversed_backward: let the second direction read from the last frame to the first, as bidirectional GRUs
            do. False, the official encoder, lets both read forward, and only its weights can be loaded so.
        **kwargs: fields of `SkeletonConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> config = BiGruConfig()
        >>> config.feature_size, config.num_values
        (2048, 44998656)
    """

    model_type = "bigru"
    field_ranges: ClassVar = {**SkeletonConfig.field_ranges, "hidden_size": (1, 2**14), "num_layers": (1, 64)}

    hidden_size: int = 1024
    num_layers: int = 3
    time_reversed_backward: bool = False

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature: both directions."""
        return 2 * self.hidden_size

    @property
    def num_values(self) -> int:
        """Number of weights."""
        gates = 6 * self.hidden_size
        inputs = self.frame_size + (self.num_layers - 1) * self.feature_size
        return gates * (inputs + self.num_layers * (self.hidden_size + 2))
