"""Parts of the training scripts in `training/`: recipes, optimisation, checkpoints, logging."""
