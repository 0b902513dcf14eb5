"""Records of tensors that move between devices as one."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Own = TypeVar("Own", bound="Movable")


class Movable:
    """Base class of frozen dataclasses whose fields are tensors, such records, tuples of both, or plain values.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Pair(Movable):
        ...     first: Tensor
        ...     name: str
        >>> Pair(torch.zeros(2), "zeros").to("meta").first.device.type
        'meta'
    """

    def to(self: Own, device: torch.device | str) -> Own:
        """The record with all its tensors on a device; copies from pinned memory do not wait."""
        return _mapped(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self: Own) -> Own:
        """The record in pinned memory; a DataLoader calls it on a batch that holds the record."""
        return _mapped(self, lambda tensor: tensor.pin_memory())


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple):
        return tuple(_mapped(each, function) for each in value)
    if isinstance(value, Movable) and dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: _mapped(getattr(value, name), function) for name in names})
    return value
