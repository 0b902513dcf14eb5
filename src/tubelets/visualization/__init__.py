"""Pictures for people: training curves, masks over frames, prototype assignments over frames."""

from tubelets.visualization.figures import save_assignments, save_masks, save_training_curves

__all__ = ["save_assignments", "save_masks", "save_training_curves"]
