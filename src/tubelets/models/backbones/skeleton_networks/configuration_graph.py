"""Fields that the graph networks of skeletons share."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict

from tubelets.models.backbones.skeleton_networks.configuration_skeleton import SkeletonConfig

NUM_SUBSETS = 3
TEMPORAL_KERNEL = 9


@strict
class GraphConfig(SkeletonConfig):
    r"""Fields of a graph network.

    Args:
        hidden_sizes: channels of its blocks; a block with more channels than the one before halves the frames.
        **kwargs: fields of `SkeletonConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.
    """

    field_ranges: ClassVar = SkeletonConfig.field_ranges

    hidden_sizes: list[int] | tuple[int, ...] = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.hidden_sizes[-1]

    @property
    def num_values(self) -> int:
        """Approximate number of weights."""
        pairs = list(zip((self.num_coordinates, *self.hidden_sizes), self.hidden_sizes, strict=False))
        graphs = len(pairs) * NUM_SUBSETS * self.num_joints**2
        return sum(TEMPORAL_KERNEL * out * out + (NUM_SUBSETS + 2) * size * out for size, out in pairs) + graphs

    def validate_hidden_sizes(self) -> None:
        """Reject widths out of range."""
        if not self.hidden_sizes or not all(4 <= size <= 2**13 for size in self.hidden_sizes):
            raise ValueError(f"hidden_sizes must be numbers from 4 to {2**13}, at least one, got {self.hidden_sizes}")
