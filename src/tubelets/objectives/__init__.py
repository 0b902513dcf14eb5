"""Losses and their state: tensors in, tensors out, no model inside."""

from tubelets.objectives.reconstruction import masked_regression_loss, standardize_features, standardize_tubes
from tubelets.objectives.sinkhorn import SinkhornSolution, sinkhorn, solve_sinkhorn
from tubelets.objectives.swapped_prediction import (
    SwappedPrediction,
    assignment_statistics,
    prototype_scores,
    swapped_prediction_loss,
)

__all__ = [
    "SinkhornSolution",
    "SwappedPrediction",
    "assignment_statistics",
    "masked_regression_loss",
    "prototype_scores",
    "sinkhorn",
    "solve_sinkhorn",
    "standardize_features",
    "standardize_tubes",
    "swapped_prediction_loss",
]
