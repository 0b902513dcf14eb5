"""Figures: training curves, masks, prototype assignments, scores, confusion matrices, synthetic motion."""

from tubelets.visualization.confusion import save_confusion_matrix
from tubelets.visualization.evaluation import save_curves, save_scores
from tubelets.visualization.figures import save_assignments, save_masks, save_strips, save_training_curves
from tubelets.visualization.motion import draw_boxes, hide_tokens, save_gif

__all__ = [
    "draw_boxes",
    "hide_tokens",
    "save_assignments",
    "save_confusion_matrix",
    "save_curves",
    "save_gif",
    "save_masks",
    "save_scores",
    "save_strips",
    "save_training_curves",
]
