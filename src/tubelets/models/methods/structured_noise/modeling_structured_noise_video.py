"""Structured-noise masking of video ("structured noise", arXiv 2503.16311): VideoMAE with Green3D masks.

Only the masks change; the networks and the loss are those of `tubelets.models.methods.masked_video`. Recipes set the
masks of `tubelets_videomae` or `sigma` instead. This model type has the method's masks as defaults, and its cards
cite the method's paper. It is public, so saved models of this type must keep loading.
"""

from tubelets.models.backbones.video_vit.modeling_video_vit import (
    TubeletsVideoMAEForVideoClassification,
    TubeletsVideoMAEModel,
)
from tubelets.models.methods.masked_video.modeling_masked_video import TubeletsVideoMAEForPreTraining
from tubelets.models.methods.structured_noise.configuration_structured_noise_video import StructuredNoiseVideoConfig


class StructuredNoiseVideoModel(TubeletsVideoMAEModel):
    """Video encoder: token features of clips. See `TubeletsVideoMAEModel`."""

    config_class = StructuredNoiseVideoConfig
    config: StructuredNoiseVideoConfig


class StructuredNoiseVideoForPreTraining(TubeletsVideoMAEForPreTraining):
    """Masked autoencoding of pixels under structured masks. See `TubeletsVideoMAEForPreTraining`."""

    config_class = StructuredNoiseVideoConfig
    config: StructuredNoiseVideoConfig


class StructuredNoiseVideoForVideoClassification(TubeletsVideoMAEForVideoClassification):
    """Video classifier. See `TubeletsVideoMAEForVideoClassification`."""

    config_class = StructuredNoiseVideoConfig
    config: StructuredNoiseVideoConfig
