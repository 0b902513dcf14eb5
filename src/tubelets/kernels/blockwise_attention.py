"""Blockwise attention on CPUs, for processors with bfloat16 instructions.

No attention map is kept: it is computed for a head or a few rows at a time, so that it stays in the processor's cache,
and again in the backward pass. `tubelets.kernels.prefers_blockwise_attention` decides when it is faster than PyTorch's
fused kernel.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Powers of two are cheaper than those of e: `exp(x) = exp2(x * LOG2_E)`.
LOG2_E = math.log2(math.e)

# Entries of attention maps per block, some megabytes: one head of 16 frames in bfloat16.
BLOCK_ENTRIES = 5 << 19

# Columns that are appended to factors, see `_widen`.
COLUMNS = 2

# Scores up to this magnitude need no shift: their powers and row sums stay far from over- and underflow.
SAFE_SCORE = 32.0


class _BlockwiseAttention(torch.autograd.Function):
    """`(B, heads, tokens, width)` three times to `(B, queries, heads, width)`.

    Scores are exponents of two. Blocks hold `2 ** (score - shift)`, not weights: the `width` results of a row are
    divided by the row's sum instead. Gradients are computed one block of keys at a time, as in FlashAttention-2 (arXiv
    2307.08691, algorithm 2).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        asked, known, values = _widen(query, scaling * LOG2_E), _widen(key), _widen(value)
        shift = _row_shift(asked, known)
        _set_columns(asked, -shift)
        sums = torch.empty_like(shift)
        attended = asked.new_empty(*asked.shape[:2], value.shape[3])
        for heads, rows, (room, _) in _blocks(asked, known):
            weights = torch.bmm(asked[heads, rows], known[heads].mT, out=room).exp2_()
            sums[heads, rows] = _row_sums(weights, sums.dtype)
            torch.bmm(weights, _narrow(values[heads]), out=attended[heads, rows])
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
        count = gradient.shape[2]
        # Rounded first, so that all numbers of a row are divided by the same one.
        division = (1 / sums).to(asked.dtype)
        change = _widen(gradient.transpose(1, 2), division)
        # A row's gradient by its scores is weight * (gradient by the weight - what the row has in common).
        common = (gradient.to(sums.dtype) * result).sum(-1, keepdim=True).transpose(1, 2).flatten(0, 1)
        _set_columns(change, -common * division)
        by_query, by_key, by_value = (torch.empty_like(_narrow(states)) for states in (asked, known, values))
        for heads, rows, (room, more_room) in _blocks(known, asked):
            weights = torch.bmm(known[heads, rows], asked[heads].mT, out=room).exp2_()
            torch.bmm(weights, _narrow(change[heads]), out=by_value[heads, rows])
            by_score = torch.bmm(values[heads, rows], change[heads].mT, out=more_room).mul_(weights)
            torch.bmm(by_score, _narrow(asked[heads]), out=by_key[heads, rows])
            by_asked = by_score.mT @ _narrow(known[heads, rows])
            if rows.start:
                by_query[heads] += by_asked
            else:
                by_query[heads] = by_asked
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
    """Undo `_widen`."""
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


def _row_shift(asked: Tensor, known: Tensor) -> Tensor:
    """`(heads, queries, 1)` to subtract from scores: zero, or the highest score if powers could over- or underflow."""
    shift = torch.zeros(*asked.shape[:2], 1, dtype=torch.promote_types(asked.dtype, torch.float32))
    longest = [torch.linalg.vector_norm(_narrow(states), dim=-1).amax() for states in (asked, known)]
    if longest[0] * longest[1] <= SAFE_SCORE:
        return shift
    for heads, rows, (room, _) in _blocks(asked, known):
        scores = torch.bmm(_narrow(asked[heads, rows]), _narrow(known[heads]).mT, out=room)
        shift[heads, rows] = scores.amax(-1, keepdim=True).to(shift.dtype)
    return shift


def _row_sums(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums of the rows of `(heads, rows, columns)` in higher precision, `(heads, rows, 1)`.

    Summing in higher precision would first copy the block. Sums of eight parts are rounded independently, which is
    accurate enough.
    """
    if weights.dtype == dtype:
        return weights.sum(-1, keepdim=True)
    parts = math.gcd(weights.shape[-1], 8)
    return weights.unflatten(-1, (parts, -1)).sum(-1).sum(-1, keepdim=True, dtype=dtype)


def _blocks(left: Tensor, right: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield blocks of whole rows of the maps `(heads, rows, columns)`: heads, rows, and two buffers used for all."""
    group, height = block_sizes(len(left), left.shape[1], right.shape[1], BLOCK_ENTRIES)
    room = left.new_empty(2, group, height, right.shape[1])
    for first in range(0, len(left), group):
        heads = slice(first, min(first + group, len(left)))
        for start in range(0, left.shape[1], height):
            rows = slice(start, min(start + height, left.shape[1]))
            yield heads, rows, room[:, : heads.stop - first, : rows.stop - start]


def block_sizes(heads: int, rows: int, columns: int, entries: int) -> tuple[int, int]:
    """Number of heads, and of rows per head, in a block with a maximum number of entries.

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
    """Attention with the signature of transformers' attention interface; on CPU, and differentiable once.

    Args:
        module: the layer; not used.
        query: bfloat16, float32 or float64 `(B, heads, queries, width)`.
        key: `(B, heads, keys, width)`.
        value: `(B, heads, keys, width)`.
        attention_mask: None; every query attends to every key.
        scaling: multiplies the scores.
        **kwargs: `dropout`, which must be 0; others are ignored.

    Returns:
        `(B, queries, heads, width)`, and None in place of the attention map.

    Raises:
        ValueError: if a mask or dropout is given, the type is float16, whose range is too small, or tensors are not
            on the CPU.

    Example:
        >>> query, key, value = torch.randn(3, 1, 2, 5, 8).unbind()
        >>> blockwise_attention(nn.Identity(), query, key, value, None, scaling=8**-0.5)[0].shape
        torch.Size([1, 5, 2, 8])
    """
    if attention_mask is not None or kwargs.get("dropout"):
        raise ValueError("blockwise attention supports neither a mask nor dropout; use attn_implementation='sdpa'")
    if query.dtype == torch.float16 or query.device.type != "cpu":
        raise ValueError(
            f"blockwise attention got {query.dtype} on {query.device.type} and supports bfloat16, float32 and float64 "
            "on CPUs; use attn_implementation='sdpa'"
        )
    return _BlockwiseAttention.apply(query, key, value, scaling), None  # type: ignore[no-untyped-call]
