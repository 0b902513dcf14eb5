"""Self-attention of masked-video models: fewer queries than keys, and the fastest way to attend on CPU."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.videomae.modeling_videomae import VideoMAESelfAttention, eager_attention_forward

from tubelets.kernels.blockwise_attention import blockwise_attention
from tubelets.kernels.products import cast_once, takes_onednn

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]

# Longest sequences for which attending block by block does not pay, in bfloat16 and in other types.
SHORT_IN_BFLOAT16 = 256
SHORT_SEQUENCE = 512


class TubeletsVideoMAESelfAttention(VideoMAESelfAttention):
    """Self-attention in which only the last `num_queries` tokens ask, and all answer."""

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, num_queries: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend: `(B, N, width)` to `(B, num_queries or N, width)` and, if computed eagerly, the attention map."""
        hidden_states = cast_once(hidden_states)
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
        """What attends: the implementation that was asked for, or what is faster on CPU.

        Args:
            query: `(B, heads, queries, width)`.
            key: `(B, heads, keys, width)`.
            dropout: probability in [0, 1] that a weight is dropped.
        """
        in_bfloat16_on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16
        if in_bfloat16_on_cpu and key.shape[2] <= SHORT_IN_BFLOAT16:
            return eager_attention_forward
        by_blocks = in_bfloat16_on_cpu or (key.shape[2] > SHORT_SEQUENCE and takes_onednn(query, key))
        if (
            by_blocks
            and self.config._attn_implementation == "sdpa"
            and not dropout
            and not torch.compiler.is_compiling()
        ):
            return blockwise_attention
        return ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
