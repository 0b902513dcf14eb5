"""Structured-noise masking of video ("structured noise", arXiv 2503.16311): VideoMAE whose masks are Green3D noise.

Only the masks change; the networks and the loss are those of `tubelets.models.videomae`.
"""

from tubelets.models.structured_noise.configuration_structured_noise_video import StructuredNoiseVideoConfig
from tubelets.models.videomae.modeling_videomae import (
    TubeletsVideoMAEForPreTraining,
    TubeletsVideoMAEForVideoClassification,
    TubeletsVideoMAEModel,
)


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
