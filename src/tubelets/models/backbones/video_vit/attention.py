"""Self-attention of the video ViT, with fewer queries than keys where only some tokens are needed."""

from collections.abc import Callable

from torch import Tensor
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.videomae.modeling_videomae import VideoMAESelfAttention, eager_attention_forward

from tubelets.kernels import prefers_blockwise_attention
from tubelets.kernels.blockwise_attention import blockwise_attention

AttentionInterface.register("blockwise", blockwise_attention)


class TubeletsVideoMAESelfAttention(VideoMAESelfAttention):
    """Self-attention with queries for the last `num_queries` tokens, and keys and values for all."""

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, num_queries: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend: `(B, N, width)` to `(B, num_queries or N, width)` and, if computed eagerly, the attention map."""
        asking = hidden_states if num_queries is None else hidden_states[:, -num_queries:]
        query = self._split_heads(self.query(asking))  # (B, heads, num_queries or N, width of a head)
        key = self._split_heads(self.key(hidden_states))  # (B, heads, N, width of a head)
        value = self._split_heads(self.value(hidden_states))
        dropout = self.dropout_prob if self.training else 0.0
        attend = attention_function(self.config._attn_implementation, key, dropout)
        context, attention = attend(
            self, query, key, value, None, is_causal=False, scaling=self.scaling, dropout=dropout
        )
        return context.flatten(2), attention

    def _split_heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)


def attention_function(implementation: str, key: Tensor, dropout: float) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The function of transformers' attention interface; the default `sdpa` gives way where `blockwise` is faster."""
    if implementation == "sdpa" and not dropout and prefers_blockwise_attention(key):
        implementation = "blockwise"
    return ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
