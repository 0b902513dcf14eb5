"""Losses and their state: tensors in, tensors out, no model inside."""

from tubelets.objectives.audio_visual import audio_visual_contrastive_loss
from tubelets.objectives.contrastive import (
    KeyQueue,
    gather_keys,
    info_nce,
    shuffle_batches,
    symmetric_nce,
    unshuffle_batches,
    update_momentum,
)
from tubelets.objectives.reconstruction import (
    masked_regression_loss,
    standardize_features,
    standardize_patches,
    standardize_tubes_,
)
from tubelets.objectives.sinkhorn import sinkhorn
from tubelets.objectives.swapped_prediction import (
    PrototypeAssignment,
    assign_prototypes,
    assignment_statistics,
    prototype_cross_entropy,
)
from tubelets.objectives.video_text import dual_softmax, video_text_contrastive_loss, video_text_sigmoid_loss

__all__ = [
    "KeyQueue",
    "PrototypeAssignment",
    "assign_prototypes",
    "assignment_statistics",
    "audio_visual_contrastive_loss",
    "dual_softmax",
    "gather_keys",
    "info_nce",
    "masked_regression_loss",
    "prototype_cross_entropy",
    "shuffle_batches",
    "sinkhorn",
    "standardize_features",
    "standardize_patches",
    "standardize_tubes_",
    "symmetric_nce",
    "unshuffle_batches",
    "update_momentum",
    "video_text_contrastive_loss",
    "video_text_sigmoid_loss",
]
