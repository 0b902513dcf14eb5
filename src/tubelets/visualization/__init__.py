"""Pictures for people: training curves, masks, prototype assignments, scores, confusion matrices."""

from tubelets.visualization.confusion import save_confusion_matrix
from tubelets.visualization.evaluation import save_curves, save_scores
from tubelets.visualization.figures import save_assignments, save_masks, save_training_curves

__all__ = [
    "save_assignments",
    "save_confusion_matrix",
    "save_curves",
    "save_masks",
    "save_scores",
    "save_training_curves",
]
