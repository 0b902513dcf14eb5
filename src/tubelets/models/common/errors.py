"""What is wrong with a checkpoint."""


class UnsafeCheckpointError(ValueError):
    """A file holds more than tensors, plain containers and argparse namespaces, and was not loaded."""


class CheckpointLayoutError(ValueError):
    """The tensors of a checkpoint are not those of the layout it was taken for."""
