"""BEiT over the frames of a clip, and divided attention over time between its layers (locomotion.md, 3.1 and 3.6)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.beit.modeling_beit import BeitDropPath, eager_attention_forward

from tubelets.models.methods.locomotion.configuration_towers import LocoMotionVideoConfig


class FrameEmbeddings(nn.Module):
    """A class token and embedded patches of each frame; with divided attention, positions in time."""

    def __init__(self, config: LocoMotionVideoConfig) -> None:
        super().__init__()
        self.patch_embeddings = nn.Conv2d(
            config.num_channels, config.hidden_size, config.patch_size, stride=config.patch_size
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.temporal_position_embeddings: nn.Parameter | None = None
        if config.temporal_attention == "divided":
            table = torch.zeros(1, config.num_frames, 1, config.hidden_size)
            self.temporal_position_embeddings = nn.Parameter(table)

    def forward(self, frames: Tensor) -> Tensor:
        """Embed normalised frames `(B, T, channels, height, width)`: `(B, T, 1 + patches, width)`."""
        patches = self.patch_embeddings(frames.flatten(0, 1).to(self.patch_embeddings.weight.dtype))
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens.unflatten(0, frames.shape[:2])
        if self.temporal_position_embeddings is None:
            return tokens
        return tokens + positions_in_time(self.temporal_position_embeddings, frames.shape[1]).to(tokens.dtype)


def positions_in_time(table: Tensor, frames: int) -> Tensor:
    """Positions of some frames: the first ones, or, for more frames than the table has, interpolated.

    Args:
        table: `(1, rows, 1, width)`.
        frames: number of frames.

    Returns:
        `(1, frames, 1, width)`.

    Example:
        >>> positions_in_time(torch.tensor([0.0, 1.0]).view(1, 2, 1, 1), 4).flatten().tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    if frames <= table.shape[1]:
        return table[:, :frames]
    rows = F.interpolate(table[:, :, 0].transpose(1, 2), size=frames, mode="linear", align_corners=False)
    return rows.transpose(1, 2)[:, :, None]


class RelativePositionBias(nn.Module):
    """A learnt number for each head and offset between two patches, added to the scores of attention.

    The last three rows of the table are for pairs with the class token.
    """

    relative_position_index: Tensor

    def __init__(self, rows: int, heads: int) -> None:
        super().__init__()
        self.rows = rows
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * rows - 1) ** 2 + 3, heads))
        self.register_buffer("relative_position_index", relative_positions(rows), persistent=False)

    def forward(self) -> Tensor:
        """The bias of all pairs of tokens of a frame, `(1, heads, tokens, tokens)`."""
        index = self.relative_position_index
        bias = self.relative_position_bias_table[index.flatten()].unflatten(0, index.shape)
        return bias.permute(2, 0, 1).contiguous()[None]


def relative_positions(rows: int) -> Tensor:
    """Row of the table of biases for each pair of tokens of a square frame.

    Args:
        rows: rows of patches, and columns.

    Returns:
        int64 `(1 + rows^2, 1 + rows^2)`; the class token is the first.

    Example:
        >>> relative_positions(1).tolist()
        [[3, 1], [2, 0]]
    """
    places = torch.cartesian_prod(torch.arange(rows, device="cpu"), torch.arange(rows, device="cpu")).view(-1, 2)
    offsets = places[:, None] - places[None] + rows - 1
    count = (2 * rows - 1) ** 2
    index = torch.empty(1 + rows**2, 1 + rows**2, dtype=torch.int64, device="cpu")
    index[1:, 1:] = offsets[..., 0] * (2 * rows - 1) + offsets[..., 1]
    index[0], index[:, 0], index[0, 0] = count, count + 1, count + 2
    return index


class FrameAttention(nn.Module):
    """Self-attention of BEiT, whose keys have no bias; names are those of transformers' `BeitAttention`."""

    is_causal = False

    def __init__(self, config: LocoMotionVideoConfig) -> None:
        super().__init__()
        self.config = config
        width, self.num_heads = config.hidden_size, config.num_attention_heads
        self.scaling = (width // self.num_heads) ** -0.5
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.o_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Attend within frames: `(frames, tokens, width)`, with the bias of `RelativePositionBias`."""
        query, key, value = (
            part(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        attend: Callable[..., tuple[Tensor, Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        # Autocast does not convert a bias that is given as a mask.
        context, _ = attend(self, query, key, value, bias.to(query.dtype), scaling=self.scaling, dropout=0.0)
        if torch.compiler.is_exporting():
            # An exporter replaces the attention by operations whose result lies otherwise in memory.
            context = context.clone(memory_format=torch.contiguous_format)
        return self.o_proj(context.flatten(2))


class DividedTemporalAttention(nn.Module):
    """Attention over the tokens of one place in all frames, added with a learnt factor that starts at 0.

    Args:
        hidden_size: width of a token.
        num_heads: heads of attention.
        layer_norm_eps: epsilon of the norm.
        drop_path_rate: share of clips for which it is left out in training.

    Example:
        >>> attention = DividedTemporalAttention(8, 2)
        >>> tokens = torch.randn(2, 3, 5, 8)
        >>> bool((attention(tokens) == tokens).all())
        True
    """

    def __init__(
        self, hidden_size: int, num_heads: int, layer_norm_eps: float = 1e-12, drop_path_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.temporal_attn = PackedAttention(hidden_size, num_heads)
        self.drop_path = BeitDropPath(drop_path_rate)
        # A vector: FSDP2 cannot shard scalars.
        self.scale = nn.Parameter(torch.zeros(1))
        self.linear = UnusedLinear(hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend over time: `(B, T, tokens, width)` of the same shape."""
        attended = self.temporal_attn(self.norm(tokens).transpose(1, 2).flatten(0, 1))
        attended = attended.unflatten(0, (tokens.shape[0], tokens.shape[2])).transpose(1, 2)
        return tokens + self.scale * self.drop_path(attended)


class PackedAttention(nn.Module):
    """Self-attention whose query, key and value share one matrix, as in `nn.MultiheadAttention`."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * hidden_size))
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend: `(B, N, width)` of the same shape."""
        packed = F.linear(tokens, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(context.transpose(1, 2).flatten(2))


class UnusedLinear(nn.Module):
    """Weights that VindLU stores and does not use: kept for the way back, never trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(width, width))
        self.register_buffer("bias", torch.zeros(width))


class FrameMLP(nn.Module):
    """MLP of a layer; names are those of transformers' `BeitMLP`."""

    def __init__(self, config: LocoMotionVideoConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform `(..., width)`."""
        return self.fc2(self.activation(self.fc1(tokens)))


class LocoMotionFrameLayer(GradientCheckpointingLayer):
    """A layer of BEiT on every frame, and attention over time behind it if the configuration divides attention."""

    def __init__(self, config: LocoMotionVideoConfig, drop_path_rate: float) -> None:
        super().__init__()
        width = config.hidden_size
        self.attention = FrameAttention(config)
        self.relative_position_bias = RelativePositionBias(config.rows, config.num_attention_heads)
        self.layernorm_before = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.layernorm_after = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = FrameMLP(config)
        self.drop_path = BeitDropPath(drop_path_rate)
        self.lambda_1 = nn.Parameter(torch.full((width,), float(config.layer_scale_init_value)))
        self.lambda_2 = nn.Parameter(torch.full((width,), float(config.layer_scale_init_value)))
        self.temporal: DividedTemporalAttention | None = None
        if config.temporal_attention == "divided":
            heads = width // config.temporal_head_size
            self.temporal = DividedTemporalAttention(width, heads, config.layer_norm_eps, config.temporal_dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform `(B, T, tokens, width)`."""
        shape, tokens = tokens.shape, tokens.flatten(0, 1)
        attended = self.attention(self.layernorm_before(tokens), self.relative_position_bias())
        tokens = tokens + self.drop_path(self.lambda_1 * attended)
        tokens = tokens + self.drop_path(self.lambda_2 * self.mlp(self.layernorm_after(tokens)))
        tokens = tokens.view(shape)
        return tokens if self.temporal is None or shape[1] == 1 else self.temporal(tokens)


class FrameEncoder(nn.Module):
    """BEiT without its final norm.

    Args:
        config: sizes.

    Example:
        >>> encoder = FrameEncoder(LocoMotionVideoConfig(image_size=32, num_hidden_layers=1))
        >>> encoder(torch.zeros(2, 4, 3, 32, 32)).shape
        torch.Size([2, 4, 5, 768])
    """

    def __init__(self, config: LocoMotionVideoConfig) -> None:
        super().__init__()
        self.embeddings = FrameEmbeddings(config)
        depth = config.num_hidden_layers
        rates = [config.drop_path_rate * place / max(depth - 1, 1) for place in range(depth)]
        self.layers = nn.ModuleList(LocoMotionFrameLayer(config, rate) for rate in rates)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode normalised frames.

        Args:
            frames: float `(B, T, channels, height, width)`.

        Returns:
            `(B, T, 1 + patches, width)`, not normalised.
        """
        tokens = self.embeddings(frames)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens
