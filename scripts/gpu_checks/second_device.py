"""A second device in memory: tensors that are not on the CPU, for machines without an accelerator.

PyTorch lets a Python program provide a device. The tensors of this one keep their values in ordinary memory and compute
on the CPU, but mixing them with CPU tensors is an error, as on a GPU, and whatever would make the host wait for a GPU
is recorded. It shows wrong placement and needless waiting. It shows nothing about kernels, precision or speed.

Example:
    with second_device() as record:
        model(video.to(DEVICE_NAME)).loss.backward()
    print(record.waits)
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE_NAME = "second"

_aten = torch.ops.aten
# Results whose shape or value the host has to know.
_WAITS = {
    _aten._local_scalar_dense.default,
    _aten.nonzero.default,
    _aten.masked_select.default,
    _aten.equal.default,
    _aten._unique2.default,
    _aten.repeat_interleave.Tensor,
}
# CUDA accepts CPU tensors here: copies, and indices.
_MAY_MIX = {
    _aten.copy_.default,
    _aten._to_copy.default,
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}
_MATH_ATTENTION = 0  # of the backends of scaled_dot_product_attention, the one that is made of other operations


class WrongDeviceError(RuntimeError):
    """An operation got tensors, or a generator, of different devices."""


@dataclass
class Record:
    """What happened on the second device.

    Attributes:
        waits: names of operations that would have made the host wait for a GPU, in order.
    """

    waits: list[str] = field(default_factory=list)


def is_available() -> bool:
    """Whether this PyTorch can register a device in Python; the interface is private and may be missing."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


@contextmanager
def second_device() -> Iterator[Record]:
    """Provide the device `second`; its tensors can only be used inside.

    Yields:
        A record that grows with the operations.

    Raises:
        RuntimeError: if this PyTorch cannot register a device in Python.
    """
    _register()
    record = Record()
    with _Functions(record), _Operations(record):
        yield record


@functools.cache
def _register() -> None:
    if not is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} cannot register a device in Python; use 2.10 or newer")
    # What autocast asks a device for; here it is only ever switched off.
    module: Any = backend_registration._DummyBackendModule()
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    backend_registration._setup_privateuseone_for_python_backend(DEVICE_NAME, module)


class _Remote(Tensor):
    """A tensor on the second device; `values` is the CPU tensor behind it."""

    values: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor) -> "_Remote":
        made = Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=torch.device(DEVICE_NAME, 0),
        )
        made.values = values
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"{self.values!r} on {DEVICE_NAME}"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return _compute(function, arguments, named or {}, Record())


class _Operations(TorchDispatchMode):
    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return _compute(function, arguments, named or {}, self.record)


class _Functions(TorchFunctionMode):
    """What exchanges Python numbers with the device, which does not pass through `_Operations`."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = named or {}
        if function in (torch.tensor, torch.as_tensor, torch.asarray) and _is_second(named.get("device")):
            self.record.waits.append(f"{function.__name__} of Python numbers")
            return _Remote(function(*arguments, **{**named, "device": "cpu"}).detach())
        if arguments and isinstance(arguments[0], _Remote):
            if function is Tensor.tolist:
                self.record.waits.append("tolist")
                return arguments[0].values.tolist()
            if function is Tensor.__getitem__:
                return function(arguments[0], self._with_tensors(arguments[1]))
        return function(*arguments, **named)

    def _with_tensors(self, index: Any) -> Any:
        """An index in which lists of numbers are tensors of the device."""
        if isinstance(index, tuple):
            return tuple(self._with_tensors(each) for each in index)
        if not isinstance(index, list):
            return index
        self.record.waits.append("index by Python numbers")
        return _Remote(torch.tensor(index))


def _is_second(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE_NAME


def _compute(function: Any, arguments: Any, named: Mapping[str, Any], record: Record) -> Any:
    """Run an operation on the CPU tensors behind its arguments; its results are where a GPU would leave them."""
    tensors = [each for each in tree_leaves((arguments, named)) if isinstance(each, Tensor)]
    remote = [each for each in tensors if isinstance(each, _Remote)]
    requested = named.get("device")
    there = _is_second(requested) if requested is not None else bool(remote)
    if function is _aten.copy_.default:
        there = isinstance(arguments[0], _Remote)
    if remote or there:
        _check_devices(function, tensors if remote else [], named.get("generator"))
        if _is_wait(function, arguments, named, there):
            record.waits.append(str(function))
    if remote and function is _aten._fused_sdp_choice.default:
        return _MATH_ATTENTION
    if requested is not None:
        named = {**named, "device": torch.device("cpu") if there else requested}
    function = _ON_CPU.get(function, function) if remote else function
    found = function(*tree_map(_values, arguments), **tree_map(_values, dict(named)))
    return tree_map(_wrap({id(each.values): each for each in remote}), found) if there else found


def _gru_cell(
    inputs: Tensor, hidden: Tensor, before: Tensor, input_bias: Tensor | None = None, hidden_bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A step of a GRU, which PyTorch computes in one operation everywhere but on the CPU; what its gradient needs."""
    inputs = inputs if input_bias is None else inputs + input_bias
    hidden = hidden if hidden_bias is None else hidden + hidden_bias
    (reset, update, new), (hidden_reset, hidden_update, kept) = inputs.chunk(3, 1), hidden.chunk(3, 1)
    reset, update = (reset + hidden_reset).sigmoid(), (update + hidden_update).sigmoid()
    new = (new + reset * kept).tanh()
    return new + update * (before - new), torch.cat([reset, update, new, before, kept], dim=1)


def _gru_cell_backward(gradient: Tensor, workspace: Tensor, has_bias: bool) -> tuple[Tensor | None, ...]:
    """Gradients of `_gru_cell`: of both gates, the state before, and both biases."""
    reset, update, new, before, kept = workspace.chunk(5, 1)
    to_new = gradient * (1 - update) * (1 - new**2)
    to_update = gradient * (before - new) * update * (1 - update)
    to_reset = to_new * kept * reset * (1 - reset)
    inputs = torch.cat([to_reset, to_update, to_new], dim=1)
    hidden = torch.cat([to_reset, to_update, to_new * reset], dim=1)
    biases = (inputs.sum(dim=0), hidden.sum(dim=0)) if has_bias else (None, None)
    return inputs, hidden, gradient * update, *biases


# Operations that the CPU does not have.
_ON_CPU = {
    _aten._thnn_fused_gru_cell.default: _gru_cell,
    _aten._thnn_fused_gru_cell_backward.default: _gru_cell_backward,
}


def _values(value: Any) -> Any:
    return value.values if isinstance(value, _Remote) else value


def _wrap(known: Mapping[int, "_Remote"]) -> Callable[[Any], Any]:
    """Puts results on the second device; an operation in place returns the tensor it changed."""

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else _Remote(value)

    return wrap


def _check_devices(function: Any, tensors: list[Tensor], generator: torch.Generator | None) -> None:
    # A tensor without dimensions may be on the CPU: its value is an argument of the kernel.
    here = [tuple(each.shape) for each in tensors if not isinstance(each, _Remote) and each.ndim]
    if here and function not in _MAY_MIX:
        raise WrongDeviceError(f"{function} got tensors of {DEVICE_NAME} and CPU tensors of the shapes {here}")
    if generator is not None:
        raise WrongDeviceError(f"{function} got tensors of {DEVICE_NAME} and a generator on {generator.device}")


def _is_wait(function: Any, arguments: Any, named: Mapping[str, Any], there: bool) -> bool:
    if function is _aten._to_copy.default:
        crosses = isinstance(arguments[0], _Remote) != there
        return crosses and not (there and named.get("non_blocking"))
    if function is _aten.index.Tensor:
        # By a mask, whose number of elements the host has to know, or by an index that is copied to the device.
        indices = [each for each in arguments[1] if isinstance(each, Tensor)]
        return any(each.dtype == torch.bool or not isinstance(each, _Remote) for each in indices)
    return function in _WAITS
