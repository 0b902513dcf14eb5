"""A small transformer over the vectors of a video's clips or frames."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

STD = 0.02


class TemporalBlock(nn.Module):
    """Attention over time and an MLP, each behind a LayerNorm and added to its input.

    Args:
        width: of the vectors.
        heads: of the attention; they divide the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, vectors: Tensor) -> Tensor:
        """New vectors `(B, S, width)`."""
        parts = self.queries_keys_values(self.attention_norm(vectors)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        vectors = vectors + self.output(mixed)
        return vectors + self.contract(F.gelu(self.expand(self.mlp_norm(vectors))))


class TemporalTransformer(nn.Module):
    """Learnt positions in time and blocks of attention; it starts as the identity.

    Args:
        width: of the vectors.
        length: most vectors of a video.
        layers: blocks.
        heads: of the attention; they divide the width.

    Raises:
        ValueError: if they do not.

    Example:
        >>> temporal = TemporalTransformer(8, length=4, layers=1, heads=2)
        >>> vectors = torch.randn(2, 4, 8)
        >>> torch.equal(temporal(vectors), vectors)
        True
    """

    def __init__(self, width: int, length: int, layers: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"temporal_heads={heads} must divide the width {width} of the video tower")
        self.positions = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.ModuleList(TemporalBlock(width, heads) for _ in range(layers))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights; the last layer of each branch is zero, so that pooling starts as the mean."""
        init.zeros_(self.positions)
        for block in self.blocks:
            for layer in (block.queries_keys_values, block.expand):
                init.normal_(layer.weight, std=STD)
                init.zeros_(layer.bias)
            for layer in (block.output, block.contract):
                init.zeros_(layer.weight)
                init.zeros_(layer.bias)
            for norm in (block.attention_norm, block.mlp_norm):
                init.ones_(norm.weight)
                init.zeros_(norm.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """New vectors `(B, S, width)`, S at most `length`."""
        vectors = vectors + self.positions[: vectors.shape[1]]
        for block in self.blocks:
            vectors = block(vectors)
        return vectors
