"""Blocks whose activations can be recomputed in the backward pass, without updating batch-norm statistics twice."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers.modeling_layers import GradientCheckpointingLayer

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@contextmanager
def discarded_statistics(module: nn.Module) -> Iterator[None]:
    """Let the batch norms of a module update copies of their running statistics, which are dropped at the end.

    Args:
        module: holds batch norms of any kind; in training mode their outputs do not depend on running statistics.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with discarded_statistics(norm):
        ...     _ = norm(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
        >>> norm.running_mean.tolist(), norm.num_batches_tracked.item()
        ([0.0, 0.0], 0)
    """
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm)]
    kept = [{name: norm._buffers[name] for name in STATISTICS} for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        norm._buffers.update({name: None if value is None else value.clone() for name, value in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)


class CheckpointedBlock(GradientCheckpointingLayer):
    """A block of a convolutional network that `activation_checkpointing_enable` makes recompute its activations.

    A class that also derives from `nn.Sequential` names that first.

    Example:
        >>> class Block(nn.Sequential, CheckpointedBlock):
        ...     pass
        >>> Block(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4)).gradient_checkpointing
        False
    """

    @property
    def _gradient_checkpointing_func(self) -> Callable[..., Any]:
        """The function that transformers sets, which leaves the statistics alone when it recomputes the block."""
        if torch.compiler.is_compiling():
            return self._checkpoint  # compiled code recomputes operations, not updates of buffers
        return partial(self._checkpoint, context_fn=partial(_contexts, self))

    @_gradient_checkpointing_func.setter
    def _gradient_checkpointing_func(self, function: Callable[..., Any]) -> None:
        self._checkpoint = function


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), discarded_statistics(block)
