"""How linear layers are initialised in the official code (sigma.md, sections 2.4 and 7.1).

Layers carry their scheme themselves: transformers initialises modules one by one, children first and without their
names, and skips modules of other packages that have no parameters of their own.
"""

import functools
import math
from collections.abc import Callable

from torch import Tensor, nn
from transformers import initialization as init


def mark_initialization(module: nn.Linear, scheme: Callable[..., Tensor], **kwargs: float) -> None:
    """Say how a linear layer's weight is initialised; its bias becomes zero.

    transformers initialises modules one by one, children first and without their names, so that the layer has to carry
    the scheme itself.

    Args:
        module: the layer.
        scheme: a function of `transformers.initialization`.
        **kwargs: its arguments.
    """
    # A partial function can be pickled with the layer; a local one cannot.
    module._tubelets_init = functools.partial(scheme, **kwargs)  # type: ignore[assignment]


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
