"""Key encoders that follow query encoders, as momentum contrast has them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from tubelets.models.common.weight_updates import UpdatesWeights
from tubelets.objectives import KeyQueue, update_momentum


class MomentumKeys(UpdatesWeights):
    """Mixin of a pretraining model with momentum key encoders and queues; named before the model class.

    Key encoders start as copies, never receive a gradient, and move towards the query encoders before each training
    step. Queues start with random keys of unit length. The configuration has the `momentum`.

    Example:
        >>> from tubelets import TubeletContrastForPreTraining
        >>> issubclass(TubeletContrastForPreTraining, MomentumKeys)
        True
    """

    def key_modules(self) -> dict[str, str]:
        """Name of each key module to that of the query module it follows; none without key encoders."""
        raise NotImplementedError(f"{type(self).__name__} must define key_modules")

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(getattr(self, key), getattr(self, query)) for key, query in self.key_modules().items()]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[misc]
        if isinstance(module, KeyQueue):
            init.normal_(module.keys)
            init.copy_(module.keys, F.normalize(module.keys, dim=0))
            init.zeros_(module.pointer)

    @torch.no_grad()
    def copy_query_to_key(self) -> None:
        """Give the key encoders the weights of the query encoders."""
        for key, query in self._pairs():
            key.load_state_dict(query.state_dict())
        self.freeze_key()

    def freeze_key(self) -> None:
        """Exclude the key encoders from every optimiser."""
        for key, _ in self._pairs():
            key.requires_grad_(False)

    def train(self, mode: bool = True) -> Any:
        """Switch between training and evaluation; the key encoders stay frozen in both."""
        # Loading replaces parameters by ones that require gradients, and then calls `eval`.
        self.freeze_key()
        return super().train(mode)  # type: ignore[misc]

    def update_weights(self) -> None:
        """Move the key encoders towards the query encoders before a training step."""
        if self.training:  # type: ignore[attr-defined]
            for key, query in self._pairs():
                update_momentum(key, query, self.config.momentum)  # type: ignore[attr-defined]
