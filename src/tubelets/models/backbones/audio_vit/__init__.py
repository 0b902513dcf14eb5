"""A vision transformer of log-mel spectrograms, and the features it reads (AudioMAE, MaskSpec, CAV-MAE)."""
