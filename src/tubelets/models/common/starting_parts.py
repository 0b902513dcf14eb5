"""Pretraining that starts from checkpoints of a model's parts, which its configuration names."""

from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


class StartsFromParts:
    """Mixin of a model whose parts can start from checkpoints of other libraries, such as a text encoder's.

    A pretraining run calls `load_parts` of a model with random weights; a run with `model.init_from` does not.

    Example:
        >>> class Joint(StartsFromParts, nn.Module):
        ...     def load_parts(self):
        ...         self.started = True
        >>> model = start_from_parts(Joint())
        >>> model.started
        True
    """

    def load_parts(self) -> None:
        """Load what the configuration names, strictly apart from what is new; nothing if it names nothing."""
        raise NotImplementedError(f"{type(self).__name__} must define load_parts")


def start_from_parts(model: Model) -> Model:
    """Load the parts of a model that its configuration names checkpoints of.

    Args:
        model: changed in place; models without such parts stay as they are.

    Returns:
        The model.
    """
    if isinstance(model, StartsFromParts):
        model.load_parts()
    return model
