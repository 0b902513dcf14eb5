"""Weights that a model changes itself, besides the optimiser, in a way that sharding keeps."""

from typing import Any

import torch
from torch import distributed, nn


class UpdatesWeights:
    """Mixin of a model that changes some of its own weights before every forward pass; named before the model class.

    FSDP2 gathers the shards of a weight into a temporary copy for the forward pass, and writes to that copy are lost.
    Such a change therefore belongs in `update_weights`, which sees the shards, as DTensors. Buffers are not sharded
    and may be changed in `forward`.

    Example:
        >>> class Decaying(UpdatesWeights, nn.Linear):
        ...     def update_weights(self):
        ...         self.weight.mul_(0.5)
        >>> layer = Decaying(1, 1, bias=False)
        >>> _ = nn.init.ones_(layer.weight)
        >>> layer(torch.ones(1, 1)).item(), layer(torch.ones(1, 1)).item()
        (0.5, 0.25)
    """

    def update_weights(self) -> None:
        """Change weights in place; called without gradient before each forward pass, in training and evaluation."""
        # Not an abstract method: FSDP2 replaces the class of a model, which an ABC among its bases prevents.
        raise NotImplementedError(f"{type(self).__name__} must define update_weights")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Update the weights, then run the hooks and `forward`."""
        # Not a forward pre-hook: FSDP2 puts its own, which gathers the weights, before all others.
        if not torch.compiler.is_compiling():
            free_gathered_weights(self)  # type: ignore[arg-type]
        with torch.no_grad():
            self.update_weights()
        return super().__call__(*args, **kwargs)  # type: ignore[misc]


def free_gathered_weights(model: nn.Module) -> None:
    """Return to the shards of weights that an earlier pass without a backward left gathered; nothing without FSDP2.

    Args:
        model: changed in place.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return
    # Imported here: it needs a build with distributed support.
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
