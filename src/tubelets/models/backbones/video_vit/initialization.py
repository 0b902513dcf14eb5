"""How linear layers are initialised in the official code (sigma.md, sections 2.4 and 7.1).

transformers initialises modules one by one, children first and without their names, so each layer carries its scheme.
"""

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from transformers import initialization as init


def mark_initialization(module: nn.Linear, scheme: Callable[..., Tensor], **kwargs: float) -> None:
    """Set how a linear layer's weight is initialised; its bias becomes zero.

    Args:
        module: the layer.
        scheme: a function of `transformers.initialization`.
        **kwargs: its arguments.
    """
    # Plain data, so that models can be pickled.
    module._tubelets_init = partial(scheme, **kwargs)  # type: ignore[assignment]


def mark_xavier(layers: nn.ModuleList) -> None:
    """Xavier-uniform weights for transformer blocks (sigma.md, section 2.4).

    The official code initialises query, key and value as one matrix of 3 x width rows, whose Xavier bound is
    `sqrt(6 / (4 * width))`: `sqrt(1/2)` of the bound of a square matrix.

    Args:
        layers: blocks of the encoder or decoder.
    """
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                mark_initialization(module, init.xavier_uniform_)
        attention = layer.attention.attention
        for module in (attention.query, attention.key, attention.value):
            mark_initialization(module, init.xavier_uniform_, gain=math.sqrt(0.5))


def mark_truncated_normal(layers: nn.ModuleList) -> None:
    """Truncated-normal weights for the blocks of a classifier (sigma.md, section 7.1): std 0.02, bounds +-2.

    Args:
        layers: blocks of the encoder.
    """
    for module in layers.modules():
        if isinstance(module, nn.Linear):
            mark_initialization(module, init.trunc_normal_, std=0.02, a=-2.0, b=2.0)
