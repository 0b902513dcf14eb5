"""Self-attention of masked-video models, made of matrix products for training in bfloat16 on CPU.

PyTorch's fused CPU kernel takes two to three times as long as plain products, as processors have instructions that
multiply matrices of bfloat16; `scripts/benchmark_pretraining.py` shows what it is worth. No attention map is kept: it
is made a head or a few rows at a time, so that it stays in the processor's cache, and again in the backward pass.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.videomae.modeling_videomae import VideoMAESelfAttention, eager_attention_forward

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]

# Longest sequence for which plain attention is used in bfloat16 on CPU, where the fused kernel takes two to three times
# as long.
SHORT_SEQUENCE = 512

# Entries of attention maps that are worked on at a time, some megabytes in bfloat16: one head of 16 frames.
BLOCK_ENTRIES = 5 << 19

# One pass over a block where public operations take three.
_softmax_backward = torch.ops.aten._softmax_backward_data.out


class _BlockwiseAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.scaling = scaling  # type: ignore[attr-defined]
        result = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        tensors = [x.contiguous().flatten(0, 1) for x in (query * scaling, key, value)]
        _forward_in_blocks(tensors, result.flatten(0, 1))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        states: tuple[Tensor, ...] = ctx.saved_tensors  # type: ignore[attr-defined]
        query, key, value, change = (x.contiguous().flatten(0, 1) for x in (*states, gradient))
        query = query * ctx.scaling  # type: ignore[attr-defined]
        tensors = query, key, value, change, query.mT.contiguous(), change.mT.contiguous()
        changes = torch.empty_like(query), *query.new_empty(2, len(key), key.shape[2], key.shape[1])
        group, rows = block_sizes(len(query), query.shape[1], key.shape[1])
        scratch = query.new_empty(3, group, rows, key.shape[1])
        for first in range(0, len(query), group):
            heads = slice(first, first + group)
            _backward_of_heads([x[heads] for x in tensors], [x[heads] for x in changes], scratch)
        by_query, by_key, by_value = changes[0].mul_(ctx.scaling), changes[1].mT, changes[2].mT  # type: ignore[attr-defined]
        sizes = states[0].shape[:2]
        return by_query.unflatten(0, sizes), by_key.unflatten(0, sizes), by_value.unflatten(0, sizes), None


def _forward_in_blocks(tensors: list[Tensor], result: Tensor) -> None:
    """Write what queries see.

    Args:
        tensors: scaled queries, keys and values, each `(heads, tokens, width)`.
        result: to be written, `(heads, queries, width)`.
    """
    query, key, value = tensors
    group, rows = block_sizes(len(query), query.shape[1], key.shape[1])
    scratch = query.new_empty(2, group, rows, key.shape[1])
    for first in range(0, len(query), group):
        heads = slice(first, first + group)
        for start in range(0, query.shape[1], rows):
            asked = query[heads, start : start + rows]
            scores, weights = scratch[:, : len(asked), : asked.shape[1]]
            torch.bmm(asked, key[heads].mT, out=scores)
            torch.softmax(scores, dim=-1, out=weights)
            torch.bmm(weights, value[heads], out=result[heads, start : start + rows])


def block_sizes(heads: int, queries: int, keys: int) -> tuple[int, int]:
    """How many heads, and how many rows of each, are worked on at a time.

    Args:
        heads: heads of all clips together.
        queries: rows of a head.
        keys: columns of a head.

    Returns:
        Both numbers, each at least 1 and no more than there are.

    Example:
        >>> block_sizes(6, 1568, 1568), block_sizes(6, 200, 600), block_sizes(6, 4000, 4000)
        ((1, 1568), (6, 200), (1, 655))
    """
    rows = min(max(BLOCK_ENTRIES // keys, 1), queries)
    return min(max(BLOCK_ENTRIES // (rows * keys), 1), heads), rows


def _backward_of_heads(tensors: list[Tensor], changes: list[Tensor], scratch: Tensor) -> None:
    """Write the gradients of some heads, block of rows by block.

    Args:
        tensors: scaled queries, keys, values and the gradient of the result, each `(heads, tokens, width)`; queries and
            gradient once more as `(heads, width, tokens)`. So a block of the map always is a factor as it lies in
            memory: to turn it takes longer than to multiply it.
        changes: gradients to be written, of the scaled queries `(heads, tokens, width)`, of keys and of values
            `(heads, width, tokens)`.
        scratch: room for three blocks of the attention map, `(3, heads or more, rows, keys)`.
    """
    query, key, value, gradient, query_t, gradient_t = tensors
    for start in range(0, query.shape[1], scratch.shape[2]):
        block = slice(start, start + scratch.shape[2])
        asked, change = query[:, block], gradient[:, block]
        scores, weights, by_score = scratch[:, : len(asked), : asked.shape[1]]
        torch.bmm(asked, key.mT, out=scores)
        torch.softmax(scores, dim=-1, out=weights)
        by_weight = torch.bmm(change, value.mT, out=scores)
        _softmax_backward(by_weight, weights, -1, weights.dtype, grad_input=by_score)
        torch.bmm(by_score, key, out=changes[0][:, block])
        for total, left, right in ((changes[1], query_t, by_score), (changes[2], gradient_t, weights)):
            if start == 0:
                torch.bmm(left[..., block], right, out=total)
            else:
                total.baddbmm_(left[..., block], right)


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
        query: `(B, heads, queries, width)`.
        key: `(B, heads, keys, width)`.
        value: `(B, heads, keys, width)`.
        attention_mask: None; every query sees every key.
        scaling: multiplies the scores.
        **kwargs: `dropout`, which must be 0; others are ignored.

    Returns:
        `(B, queries, heads, width)` and None, as no attention map is kept. Differentiable once.

    Raises:
        ValueError: if a mask or dropout is asked for.

    Example:
        >>> query, key, value = torch.randn(3, 1, 2, 5, 8).unbind()
        >>> blockwise_attention(nn.Identity(), query, key, value, None, scaling=8**-0.5)[0].shape
        torch.Size([1, 5, 2, 8])
    """
    if attention_mask is not None or kwargs.get("dropout"):
        raise ValueError("blockwise attention takes neither a mask nor dropout; use attn_implementation='sdpa'")
    attended = _BlockwiseAttention.apply(query, key, value, scaling)
    return attended.transpose(1, 2).contiguous(), None


class TubeletsVideoMAESelfAttention(VideoMAESelfAttention):
    """Self-attention in which only the last `num_queries` tokens ask, and all answer."""

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, num_queries: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend: `(B, N, width)` to `(B, num_queries or N, width)` and, if computed eagerly, the attention map."""
        asking = hidden_states if num_queries is None else hidden_states[:, -num_queries:]
        query, key, value = (
            projection(states).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)
            for projection, states in ((self.query, asking), (self.key, hidden_states), (self.value, hidden_states))
        )
        dropout = self.dropout_prob if self.training else 0.0
        attend = self.attention_function(query, key, dropout)
        context, attention = attend(
            self, query, key, value, None, is_causal=False, scaling=self.scaling, dropout=dropout
        )
        return context.flatten(2), attention

    def attention_function(self, query: Tensor, key: Tensor, dropout: float) -> AttentionFunction:
        """What attends: the implementation that was asked for, or what is faster in bfloat16 on CPU.

        Args:
            query: `(B, heads, queries, width)`.
            key: `(B, heads, keys, width)`.
            dropout: probability in [0, 1] that a weight is dropped.
        """
        if query.device.type == "cpu" and query.dtype == torch.bfloat16:
            if key.shape[2] <= SHORT_SEQUENCE:
                return eager_attention_forward
            if self.config._attn_implementation == "sdpa" and not dropout and not torch.compiler.is_compiling():
                return blockwise_attention
        return ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
