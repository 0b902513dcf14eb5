"""Products of matrices on CPU that take less time, or less memory, than PyTorch's own.

PyTorch multiplies float32 matrices with MKL, which on AMD's processors stays with vectors of 256 bits. oneDNN, which
the same builds of PyTorch carry, uses all 512 where there are that many: it took half of the time on a processor of the
family Zen 5, the only one measured. Under autocast layers cast their weights again and again instead of keeping the
copies. `scripts/benchmark_pretraining.py` shows what both are worth. Everywhere else all of this is
`torch.nn.functional.linear`.
"""

import math
import threading
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

# Powers of two cost a third of those of e on CPU: `exp(x) = exp2(x * LOG2_E)`.
LOG2_E = 1 / math.log(2)

# Multiplications and additions below which the call of oneDNN costs more than it saves.
MIN_OPERATIONS = 1 << 22


@lru_cache
def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than PyTorch's default library on this machine.

    Returns:
        True on processors by AMD with vectors of 512 bits, if PyTorch was built with oneDNN.

    Example:
        >>> onednn_is_faster() in (True, False)
        True
    """
    # The operator is what torch.compile multiplies by; it has no public name outside compiled code.
    has_operator = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    if not has_operator or not hasattr(torch.cpu, "get_capabilities"):
        return False
    processor = torch.cpu.get_capabilities()
    return "AMD" in str(processor.get("cpu_name")) and torch.backends.cpu.get_cpu_capability() == "AVX512"


def takes_onednn(*tensors: Tensor) -> bool:
    """Whether products of these tensors should be oneDNN's: plain float32 on a CPU where that is faster, run eagerly.

    Args:
        *tensors: factors, of any shape. Subclasses of tensors (sharded, quantised, traced) answer False.

    Returns:
        False too under autocast, while compiling or tracing, and if oneDNN is switched off
        (`torch.backends.mkldnn.enabled`) or float32 products may be rounded (`torch.set_float32_matmul_precision`).

    Example:
        >>> takes_onednn(torch.zeros(2, 2, dtype=torch.bfloat16))
        False
    """
    return bool(
        _are_plain(*tensors)
        and onednn_is_faster()
        and all(tensor.dtype == torch.float32 for tensor in tensors)
        and torch.backends.mkldnn.enabled
        and torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")  # type: ignore[attr-defined]
        and not torch.is_autocast_enabled("cpu")
    )


def _are_plain(*tensors: Tensor) -> bool:
    """Whether these are tensors of no subclass, on CPU, in code that runs eagerly."""
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and all(type(tensor) in (Tensor, nn.Parameter) and tensor.device.type == "cpu" for tensor in tensors)
    )


def onednn_product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """`left @ right.T + bias` by oneDNN, without a gradient.

    Args:
        left: float32 `(..., K)` on CPU.
        right: float32 `(N, K)`, in any memory layout; copied if there are gaps between its rows or columns.
        bias: float32 `(N,)` or None.

    Returns:
        float32 `(..., N)`.

    Example:
        >>> onednn_product(torch.ones(2, 3), torch.ones(4, 3)).shape
        torch.Size([2, 4])
    """
    if not (right.is_contiguous() or right.t().is_contiguous()):
        right = right.contiguous()  # or oneDNN takes a thousand times as long
    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(left, right, bias, "none", [], "")
    return product


def _rows(states: Tensor) -> Tensor:
    """`(..., K)` as a matrix; unlike `flatten`, also where gradients are made many at a time."""
    return states.reshape(-1, states.shape[-1])


class _Linear(torch.autograd.Function):
    """A linear layer all of whose products are oneDNN's; differentiable any number of times."""

    generate_vmap_rule = True

    @staticmethod
    def forward(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return onednn_product(states, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        states, weight, _ = inputs
        ctx.save_for_backward(states, weight)
        ctx.save_for_forward(states, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        states, weight = ctx.saved_tensors
        rows = _rows(gradient)
        # Before the other gradient: what is largest and stays longest would else find no gap that is large enough.
        by_weight = _summed_outer_products(rows, _rows(states)) if ctx.needs_input_grad[1] else None
        by_states = _Linear.apply(gradient, weight.t(), None) if ctx.needs_input_grad[0] else None
        return by_states, by_weight, rows.sum(0) if ctx.needs_input_grad[2] else None

    @staticmethod
    def jvp(ctx: Any, states: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        held_states, held_weight = ctx.saved_tensors
        result = torch.zeros((), dtype=held_states.dtype) if bias is None else bias
        if states is not None:
            result = result + _Linear.apply(states, held_weight, None)
        if weight is not None:
            result = result + _Linear.apply(held_states, weight, None)
        return result


def _summed_outer_products(left: Tensor, right: Tensor) -> Tensor:
    """`left.T @ right` for matrices of as many rows; oneDNN first copies a left factor that is turned in memory."""
    rows, height, width = *left.shape, right.shape[1]
    if rows * height > (rows + height) * width:
        product: Tensor = _Linear.apply(right.t(), left.t(), None)
        return product.t().contiguous()
    return _Linear.apply(left.t(), right.t(), None)


class Workspace(threading.local):
    """Memory that a thread makes passing results in: kept, as memory the system just gave costs more than products.

    Example:
        >>> Workspace().take(torch.zeros(()), 2, 3).shape
        torch.Size([2, 3])
    """

    memory: Tensor | None = None

    def take(self, like: Tensor, *size: int) -> Tensor:
        """Memory for one result.

        Args:
            like: has the type that is asked for.
            *size: the size that is asked for.

        Returns:
            A tensor over what was there before, valid until the next call.
        """
        count = math.prod(size)
        if self.memory is None or self.memory.dtype != like.dtype or len(self.memory) < count:
            with torch.inference_mode(False):  # so that it serves training too
                self.memory = torch.empty(count, dtype=like.dtype)
        return self.memory[:count].view(size)


_workspace = Workspace()


class _AutocastLinear(torch.autograd.Function):
    """A linear layer under autocast that keeps no copy of its weight in the lower precision.

    Autocast keeps its copies until the backward pass has used them: half as much memory again as a model's weights
    take, in pieces between those of the activations. Casting again instead makes a step no longer.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(states, weight)
        return F.linear(states, _lowered(weight, states), None if bias is None else bias.to(states.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        states, weight = ctx.saved_tensors
        rows = _rows(gradient)
        # In this order, as in `_Linear`.
        by_weight = (rows.t() @ _rows(states)).to(weight.dtype) if ctx.needs_input_grad[1] else None
        by_states = gradient @ _lowered(weight, gradient) if ctx.needs_input_grad[0] else None
        return by_states, by_weight, rows.sum(0).to(weight.dtype) if ctx.needs_input_grad[2] else None


def _lowered(weight: Tensor, like: Tensor) -> Tensor:
    """The weight in the type of another tensor: valid until the next call, unless derivatives are recorded."""
    if torch.is_grad_enabled():
        return weight.to(like.dtype)
    return _workspace.take(like, *weight.shape).copy_(weight)


def _takes_autocast(states: Tensor, *parameters: Tensor) -> bool:
    """Whether autocast would cast float32 parameters on CPU, in a pass without forward-mode derivatives."""
    tensors = (states, *parameters)
    return (
        _are_plain(*tensors)
        and torch.is_autocast_enabled("cpu")
        and states.dtype in (torch.float32, torch.get_autocast_dtype("cpu"))
        and all(tensor.dtype == torch.float32 for tensor in parameters)
        and not torch._C._are_functorch_transforms_active()
        and all(forward_ad.unpack_dual(tensor).tangent is None for tensor in tensors)
    )


def cast_once(states: Tensor) -> Tensor:
    """What autocast would make of a factor, for factors of several products: autocast would cast for each of them.

    Args:
        states: of any shape and type.

    Returns:
        It, or under autocast a copy in its type if it was float32.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     cast_once(torch.zeros(2)).dtype
        torch.bfloat16
    """
    device = states.device.type
    if states.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return states.to(torch.get_autocast_dtype(device))
    return states


def linear(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, by oneDNN where that is faster, and under autocast on CPU without kept copies.

    Args:
        states: `(..., K)`.
        weight: `(N, K)`.
        bias: `(N,)` or None.

    Returns:
        `(..., N)`.

    Example:
        >>> linear(torch.ones(2, 3), torch.ones(4, 3), torch.zeros(4))[0]
        tensor([3., 3., 3., 3.])
    """
    tensors = (states, weight) if bias is None else (states, weight, bias)
    onednn = takes_onednn(*tensors)
    # Sizes are looked at last, as compiled code would be bound to them.
    if not (onednn or _takes_autocast(*tensors)) or states.ndim < 2 or states.numel() * len(weight) < MIN_OPERATIONS:
        return F.linear(states, weight, bias)
    function = _Linear if onednn else _AutocastLinear
    result: Tensor = function.apply(cast_once(states), weight, bias)  # type: ignore[no-untyped-call]
    return result


class Linear(nn.Linear):
    """`torch.nn.Linear` whose products are `linear`'s.

    Example:
        >>> Linear(3, 4)(torch.zeros(2, 3)).shape
        torch.Size([2, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        """`(..., in_features)` to `(..., out_features)`."""
        return linear(input, self.weight, self.bias)


def replace_linear(module: nn.Module) -> None:
    """Make every `torch.nn.Linear` inside a module a `Linear` with the same parameters.

    Args:
        module: changed in place; subclasses of `torch.nn.Linear` are left as they are.

    Example:
        >>> block = nn.Sequential(nn.Linear(3, 4), nn.GELU())
        >>> replace_linear(block)
        >>> block[0]
        Linear(in_features=3, out_features=4, bias=True)
    """
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                # Made without memory and without random numbers.
                replacement = Linear(child.in_features, child.out_features, child.bias is not None, device="meta")
                replacement.weight, replacement.bias = child.weight, child.bias
                setattr(parent, name, replacement)
