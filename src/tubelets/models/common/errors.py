"""Errors of checkpoints."""


class UnsafeCheckpointError(ValueError):
    """A file contains more than tensors, plain containers and argparse namespaces, and was not loaded."""


class CheckpointLayoutError(ValueError):
    """The tensors of a checkpoint do not match the expected layout."""
