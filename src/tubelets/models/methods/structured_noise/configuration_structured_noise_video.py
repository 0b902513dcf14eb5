"""Configuration of VideoMAE under Green3D masks (arXiv 2503.16311)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig


@strict
class StructuredNoiseVideoConfig(TubeletsVideoMAEConfig):
    r"""The masked-video base with structured masks; the method changes nothing else.

    Args:
        mask_type: mask of pretraining; `green3d` is the method's, the others are its ablation.
        **kwargs: fields of `TubeletsVideoMAEConfig`; `mask_options` sets the noise.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a field has the wrong type or the fields contradict each other.

    Example:
        >>> StructuredNoiseVideoConfig().build_mask_generator().kind
        'green3d'
    """

    model_type = "structured_noise_video"

    mask_type: Literal["tube", "random", "red2d", "blue2d", "green2d", "red3d", "blue3d", "green3d"] = "green3d"
