"""Configuration of ST-GCN (skeleton_contrast.md, section 3.4)."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict

from tubelets.models.backbones.skeleton_networks.configuration_graph import GraphConfig
from tubelets.models.common.field_checks import SHARE


@strict
class StgcnConfig(GraphConfig):
    r"""Constants of ST-GCN.

    Args:
        dropout: in every block but the first, in [0, 1).
        num_frames: frames of a clip; the public recipe pads clips to 300 frames and does not resize them.
        normalization: see `SkeletonConfig`; the public recipe keeps the raw coordinates.
        **kwargs: fields of `GraphConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> StgcnConfig().feature_size, StgcnConfig().num_frames
        (256, 300)
    """

    model_type = "stgcn"
    field_ranges: ClassVar = {**GraphConfig.field_ranges, "dropout": SHARE}

    dropout: float | int = 0.5
    num_frames: int = 300
    normalization: Literal["upright", "scale", "centre", "none"] = "none"
