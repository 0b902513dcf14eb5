"""Publishing: the checkpoints that can be published, and model cards."""
