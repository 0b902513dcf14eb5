"""Attention made of matrix products, for CPUs on which PyTorch's fused kernel is slow.

In bfloat16 the fused kernel takes two to three times as long as plain products, as processors have instructions that
multiply matrices of bfloat16; in float32 it is slow where `tubelets.kernels.products` says so.
`scripts/benchmark_pretraining.py` shows what it is worth. No attention map is kept: it is made a head or a few rows at
a time, so that it stays in the processor's cache, and again in the backward pass.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tubelets.kernels.products import LOG2_E, Workspace, onednn_product, takes_onednn

# Multiplies matrices of some heads, `(heads, m, k)` and `(heads, k, n)`. The result is the third argument, or new.
Multiplication = Callable[[Tensor, Tensor, Tensor], Tensor]

# Entries of attention maps that are worked on at a time, some megabytes: in bfloat16 one head of 16 frames.
BLOCK_ENTRIES = 5 << 19
ONEDNN_BLOCK_ENTRIES = 5 << 17

# Columns that are appended to factors, see `_widen`.
COLUMNS = 2

# Scores up to this size need no shift for their powers, and sums of these, to stay far from over- and underflow.
SAFE_SCORE = 32.0


_workspace = Workspace()


class _BlockwiseAttention(torch.autograd.Function):
    """`(B, heads, tokens, width)` three times to `(B, queries, heads, width)`.

    Scores are exponents of two, as powers of two cost less than those of e. Blocks hold not weights but
    `2 ** (score - shift)`. Instead of their rows, the `width` numbers that a row leads to are divided by the row's sum.
    Gradients are made block of keys by block of keys, as in FlashAttention-2 (arXiv 2307.08691, algorithm 2).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        asked, known, values = _widen(query, scaling * LOG2_E), _widen(key), _widen(value)
        multiply = _multiplication(asked)
        shift = _row_shift(asked, known, multiply)
        _set_columns(asked, -shift)
        sums = torch.empty_like(shift)
        attended = asked.new_empty(*asked.shape[:2], value.shape[3])
        for heads, rows, (room, _) in _blocks(asked, known):
            weights = multiply(asked[heads, rows], known[heads].mT, room).exp2_()
            sums[heads, rows] = _row_sums(weights, sums.dtype)
            _multiply_into(attended[heads, rows], multiply, weights, _narrow(values[heads]))
        sizes = query.shape[:2]
        result = value.new_empty(query.shape[0], query.shape[2], query.shape[1], value.shape[3])
        torch.div(attended.unflatten(0, sizes), sums.unflatten(0, sizes), out=result.transpose(1, 2))
        ctx.save_for_backward(asked, known, values, result, sums)
        ctx.scaling = scaling
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        asked, known, values, result, sums = ctx.saved_tensors
        multiply = _multiplication(asked)
        count = gradient.shape[2]
        # Rounded before all else, so that a row's numbers still belong together.
        division = (1 / sums).to(asked.dtype)
        change = _widen(gradient.transpose(1, 2), division)
        # A row's gradient by its scores is weight * (gradient by the weight - what the row has in common).
        common = (gradient.to(sums.dtype) * result).sum(-1, keepdim=True).transpose(1, 2).flatten(0, 1)
        _set_columns(change, -common * division)
        by_query, by_key, by_value = (torch.empty_like(_narrow(states)) for states in (asked, known, values))
        for heads, rows, (room, more_room) in _blocks(known, asked):
            weights = multiply(known[heads, rows], asked[heads].mT, room).exp2_()
            _multiply_into(by_value[heads, rows], multiply, weights, _narrow(change[heads]))
            by_score = multiply(values[heads, rows], change[heads].mT, more_room).mul_(weights)
            _multiply_into(by_key[heads, rows], multiply, by_score, _narrow(asked[heads]))
            _multiply_into(by_query[heads], multiply, by_score.mT, _narrow(known[heads, rows]), add=rows.start > 0)
        changes = by_query.mul_(ctx.scaling), by_key.div_(LOG2_E), by_value
        return *(_split_heads(states, count) for states in changes), None


def _widen(states: Tensor, factor: Tensor | float = 1.0) -> Tensor:
    """`(B, heads, tokens, width)` times a factor, as `(B * heads, tokens, width + 2)` that ends in two ones.

    Products with it contain what `_set_columns` appends to the other factor.
    """
    sizes = states.shape[:2]
    wide = states.new_empty(sizes.numel(), states.shape[2], states.shape[3] + COLUMNS)
    factor = factor.unflatten(0, sizes) if isinstance(factor, Tensor) else factor
    torch.mul(states, factor, out=_narrow(wide).unflatten(0, sizes))
    wide[..., -COLUMNS:] = 1
    return wide


def _narrow(wide: Tensor) -> Tensor:
    """What `_widen` was given."""
    return wide[..., :-COLUMNS]


def _set_columns(wide: Tensor, column: Tensor) -> None:
    """Append a column `(heads, tokens, 1)` of higher precision, as the sum of two."""
    high = column.to(wide.dtype)
    wide[..., -2:-1] = high
    wide[..., -1:] = column - high


def _split_heads(states: Tensor, count: int) -> Tensor:
    """`(B * heads, tokens, width)` to `(B, heads, tokens, width)`; in memory a token's heads lie together."""
    states = states.unflatten(0, (-1, count))
    return states.new_empty(len(states), states.shape[2], count, states.shape[3]).transpose(1, 2).copy_(states)


def _row_shift(asked: Tensor, known: Tensor, multiply: Multiplication) -> Tensor:
    """What is subtracted from a query's scores: nothing, or the highest of them if powers could over- or underflow.

    Args:
        asked: `(heads, queries, width + 2)`.
        known: `(heads, keys, width + 2)`.
        multiply: how matrices are multiplied.

    Returns:
        float32, or float64 if queries are, `(heads, queries, 1)`.
    """
    shift = torch.zeros(*asked.shape[:2], 1, dtype=torch.promote_types(asked.dtype, torch.float32))
    longest = [torch.linalg.vector_norm(_narrow(states), dim=-1).amax() for states in (asked, known)]
    if longest[0] * longest[1] <= SAFE_SCORE:
        return shift
    for heads, rows, (room, _) in _blocks(asked, known):
        scores = multiply(_narrow(asked[heads, rows]), _narrow(known[heads]).mT, room)
        shift[heads, rows] = scores.amax(-1, keepdim=True).to(shift.dtype)
    return shift


def _row_sums(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums of the rows of `(heads, rows, columns)` in higher precision, `(heads, rows, 1)`.

    A sum is rounded to the type of what it adds up, or else a copy of that in the higher precision is made, in new
    memory, which costs more than the products. Sums of parts are rounded independently.
    """
    if weights.dtype == dtype:
        return weights.sum(-1, keepdim=True)
    parts = math.gcd(weights.shape[-1], 8)
    return weights.unflatten(-1, (parts, -1)).sum(-1).sum(-1, keepdim=True, dtype=dtype)


def _multiplication(states: Tensor) -> Multiplication:
    """How products of tensors like this one are made."""
    if takes_onednn(states):
        return _multiply_with_onednn
    return lambda left, right, room: torch.bmm(left, right, out=room)


def _multiply_with_onednn(left: Tensor, right: Tensor, room: Tensor) -> Tensor:
    """The product of one head's matrices, in new memory."""
    if left.stride(-1) != 1:  # a turned map, which is faster as the right factor
        return onednn_product(right[0].mT, left[0]).mT[None]
    return onednn_product(left[0], right[0].mT)[None]


def _multiply_into(out: Tensor, multiply: Multiplication, left: Tensor, right: Tensor, add: bool = False) -> None:
    """Write a product to `out`, or add it."""
    product = multiply(left, right, torch.empty_like(out) if add else out)
    if add:
        out.add_(product)
    elif product is not out:
        out.copy_(product)


def _blocks(left: Tensor, right: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Walk over the maps of `(heads, rows, width)` by `(heads, columns, width)` in blocks of whole rows.

    Yields:
        The block's heads, its rows, and room for two blocks of its size, the same memory again and again.
    """
    one_head = takes_onednn(left)
    group, height = block_sizes(
        1 if one_head else len(left), left.shape[1], right.shape[1], ONEDNN_BLOCK_ENTRIES if one_head else BLOCK_ENTRIES
    )
    room = _workspace.take(left, 2, group, height, right.shape[1])
    for first in range(0, len(left), group):
        heads = slice(first, min(first + group, len(left)))
        for start in range(0, left.shape[1], height):
            rows = slice(start, min(start + height, left.shape[1]))
            yield heads, rows, room[:, : heads.stop - first, : rows.stop - start]


def block_sizes(heads: int, rows: int, columns: int, entries: int) -> tuple[int, int]:
    """How many heads, and how many rows of each, are worked on at a time.

    Args:
        heads: heads of all clips together.
        rows: rows of a head's map.
        columns: columns of a head's map.
        entries: entries of the maps that a block should have at most.

    Returns:
        Both numbers, each at least 1 and no more than there are.

    Example:
        >>> block_sizes(6, 1568, 1568, 5 << 19), block_sizes(6, 200, 600, 5 << 19), block_sizes(6, 4000, 4000, 5 << 19)
        ((1, 1568), (6, 200), (1, 655))
    """
    height = min(max(entries // columns, 1), rows)
    return min(max(entries // (height * columns), 1), heads), height


def blockwise_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    scaling: float,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attend by matrix products on CPU; called as the functions of transformers' attention interface are.

    Args:
        module: the layer; not used.
        query: bfloat16, float32 or float64 `(B, heads, queries, width)`.
        key: `(B, heads, keys, width)`.
        value: `(B, heads, keys, width)`.
        attention_mask: None; every query sees every key.
        scaling: multiplies the scores.
        **kwargs: `dropout`, which must be 0; others are ignored.

    Returns:
        `(B, queries, heads, width)` and None, as no attention map is kept. Differentiable once.

    Raises:
        ValueError: if a mask or dropout is asked for, or the type is float16, whose range is too small.

    Example:
        >>> query, key, value = torch.randn(3, 1, 2, 5, 8).unbind()
        >>> blockwise_attention(nn.Identity(), query, key, value, None, scaling=8**-0.5)[0].shape
        torch.Size([1, 5, 2, 8])
    """
    if attention_mask is not None or kwargs.get("dropout"):
        raise ValueError("blockwise attention takes neither a mask nor dropout; use attn_implementation='sdpa'")
    if query.dtype == torch.float16:
        raise ValueError("blockwise attention does not take float16; use bfloat16 or attn_implementation='sdpa'")
    return _BlockwiseAttention.apply(query, key, value, scaling), None  # type: ignore[no-untyped-call]
