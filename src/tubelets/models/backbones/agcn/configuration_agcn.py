"""Configuration of the graph encoder of Skeleton-Contrast (skeleton_contrast.md, section 3.2)."""

from huggingface_hub.dataclasses import strict

from tubelets.models.backbones.skeleton_networks.configuration_graph import GraphConfig


@strict
class AgcnConfig(GraphConfig):
    r"""Constants of AGCN, the joint stream of 2s-AGCN.

    Args:
        **kwargs: fields of `GraphConfig`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or is out of range.

    Example:
        >>> AgcnConfig().feature_size, AgcnConfig(layout="coco-17", normalization="none").num_joints
        (256, 17)
    """

    model_type = "agcn"
