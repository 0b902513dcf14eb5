"""Decoder blocks that attend within windows, every second one shifted (structured_noise_masking.md, section 8).

Attention is by cosine similarity with a learned temperature for each head, plus a bias that a small network computes
from the logarithmic distance of two places; the norms come after the branches (Swin Transformer V2).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from tubelets.models.methods.structured_noise.configuration_structured_noise_audio import StructuredNoiseAudioConfig

MIN_TEMPERATURE = 0.01


def log_offsets(window: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Signed logarithmic distances between the places of a window.

    Args:
        window: rows and columns.
        device: of the result.

    Returns:
        float32 `(places, places, 2)`: `sign(d) * log(1 + |d|)` of the rows and of the columns.

    Example:
        >>> log_offsets((1, 2))[:, :, 1]
        tensor([[ 0.0000, -0.6931],
                [ 0.6931,  0.0000]])
    """
    rows = torch.arange(window[0], device=device, dtype=torch.float32)
    columns = torch.arange(window[1], device=device, dtype=torch.float32)
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
    offsets = places[:, None] - places
    return offsets.sign() * offsets.abs().log1p()


def to_windows(tokens: Tensor, grid: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Group tokens by window: `(B, rows * columns, D)` to `(B, windows, places, D)`."""
    blocks = tokens.unflatten(1, (grid[0] // window[0], window[0], grid[1] // window[1], window[1]))
    return blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(windows: Tensor, grid: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Undo `to_windows`."""
    blocks = windows.unflatten(1, (grid[0] // window[0], grid[1] // window[1])).unflatten(3, window)
    return blocks.transpose(2, 3).flatten(1, 4)


def blocked_pairs(
    grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], device: torch.device | None = None
) -> Tensor:
    """Pairs of places that share a window only because a shifted grid is wrapped around.

    Args:
        grid: rows and columns of the tokens.
        window: rows and columns of a window.
        shift: by how much the grid is rolled back before it is split into windows.
        device: of the result.

    Returns:
        bool `(windows, places, places)`, True = must not attend to each other.

    Example:
        >>> blocked_pairs((4, 1), (2, 1), (1, 0)).any(dim=(1, 2))
        tensor([False,  True])
    """
    wrapped = [torch.arange(side, device=device) >= side - moved for side, moved in zip(grid, shift, strict=True)]
    part = 2 * wrapped[0].long()[:, None] + wrapped[1].long()
    parts = to_windows(part.flatten()[None, :, None], grid, window)[0, :, :, 0]
    return parts[:, :, None] != parts[:, None]


class WindowAttention(nn.Module):
    """Scaled cosine attention within windows, with a bias computed from log-spaced distances."""

    def __init__(self, config: StructuredNoiseAudioConfig) -> None:
        super().__init__()
        width, self.num_heads = config.decoder_hidden_size, config.decoder_num_attention_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.temperature = nn.Parameter(torch.ones(self.num_heads))
        self.position_hidden = nn.Linear(2, config.decoder_position_hidden_size)
        self.position_output = nn.Linear(config.decoder_position_hidden_size, self.num_heads)
        self.dropout = nn.Dropout(config.decoder_position_dropout)

    def position_bias(self, offsets: Tensor) -> Tensor:
        """`(heads, places, places)` of the distances `(places, places, 2)`."""
        hidden = self.dropout(F.relu(self.position_hidden(offsets.to(self.position_hidden.weight.dtype))))
        return self.dropout(self.position_output(hidden)).permute(2, 0, 1)

    def forward(self, windows: Tensor, offsets: Tensor, blocked: Tensor | None = None) -> Tensor:
        """Attend within each window.

        Args:
            windows: `(B, W, places, width)`.
            offsets: as `log_offsets` gives them.
            blocked: as `blocked_pairs` gives them, or None.

        Returns:
            Same shape as `windows`.
        """
        count = windows.shape[1]
        query, key, value = (
            projection(windows).unflatten(-1, (self.num_heads, -1)).transpose(2, 3)  # (B, W, heads, places, D)
            for projection in (self.query, self.key, self.value)
        )
        query = F.normalize(query, dim=-1) / self.temperature.clamp(min=MIN_TEMPERATURE)[:, None, None].to(query.dtype)
        bias = self.position_bias(offsets).to(query.dtype).expand(count, -1, -1, -1)
        if blocked is not None:
            bias = bias.masked_fill(blocked[:, None], float("-inf"))
        # Windows are folded into the heads: fused kernels expect four dimensions.
        attended = F.scaled_dot_product_attention(
            query.flatten(1, 2),
            F.normalize(key, dim=-1).to(query.dtype).flatten(1, 2),
            value.to(query.dtype).flatten(1, 2),
            attn_mask=bias.flatten(0, 1)[None],
            scale=1.0,
        )
        attended = attended.unflatten(1, (count, self.num_heads)).transpose(2, 3).flatten(3)
        return self.output(attended.to(self.output.weight.dtype))


class WindowLayer(GradientCheckpointingLayer):
    """Block with attention within windows, and norms after its two branches.

    Args:
        config: sizes and constants.
        shifted: whether the windows are shifted.
    """

    def __init__(self, config: StructuredNoiseAudioConfig, shifted: bool) -> None:
        super().__init__()
        width = config.decoder_hidden_size
        self.shifted = shifted
        self.grid, self.window, self.shift = window_geometry(config)
        self.attention = WindowAttention(config)
        self.layernorm_attention = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.intermediate = nn.Linear(width, config.decoder_intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.output = nn.Linear(config.decoder_intermediate_size, width)
        self.layernorm_output = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, hidden_states: Tensor, offsets: Tensor, blocked: Tensor) -> Tensor:
        """Transform `(B, rows * columns, width)`; `blocked` is for shifted windows."""
        attended = self.attend(hidden_states, offsets, blocked)
        hidden_states = hidden_states + self.layernorm_attention(attended)
        expanded = self.output(self.activation(self.intermediate(hidden_states)))
        return hidden_states + self.layernorm_output(expanded)

    def attend(self, hidden_states: Tensor, offsets: Tensor, blocked: Tensor) -> Tensor:
        """Roll the grid, attend within windows, roll it back."""
        if not self.shifted:
            windows = to_windows(hidden_states, self.grid, self.window)
            return from_windows(self.attention(windows, offsets), self.grid, self.window)
        back = tuple(-each for each in self.shift)
        rolled = hidden_states.unflatten(1, self.grid).roll(back, dims=(1, 2)).flatten(1, 2)
        windows = self.attention(to_windows(rolled, self.grid, self.window), offsets, blocked)
        return (
            from_windows(windows, self.grid, self.window).unflatten(1, self.grid).roll(self.shift, (1, 2)).flatten(1, 2)
        )


def window_geometry(config: StructuredNoiseAudioConfig) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Grid, window and shift in token order; a window covers at most the grid, and then does not shift.

    Example:
        >>> window_geometry(StructuredNoiseAudioConfig(max_length=32))
        ((2, 8), (2, 4), (0, 0))
    """
    sides, windows, shifts = [], [], []
    for side, window, shift in zip(
        config.audio_grid, config.decoder_window_size, config.decoder_window_shift, strict=True
    ):
        sides.append(side)
        windows.append(min(side, window))
        shifts.append(shift if side > window else 0)
    order = slice(None) if config.token_order == "time" else slice(None, None, -1)
    grid, window, shift = (tuple(each[order]) for each in (sides, windows, shifts))
    return grid, window, shift  # type: ignore[return-value]


class WindowDecoder(nn.Module):
    """Stack of window blocks over the whole grid of tokens, every second one shifted."""

    def __init__(self, config: StructuredNoiseAudioConfig) -> None:
        super().__init__()
        self.grid, self.window, self.shift = window_geometry(config)
        self.layers = nn.ModuleList(
            WindowLayer(config, index % 2 == 1 and any(self.shift)) for index in range(config.decoder_num_hidden_layers)
        )
        self.norm = nn.LayerNorm(config.decoder_hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Transform `(B, tokens, width)`, all tokens in order."""
        device = hidden_states.device
        offsets = log_offsets(self.window, device)
        blocked = blocked_pairs(self.grid, self.window, self.shift, device)
        for layer in self.layers:
            hidden_states = layer(hidden_states, offsets, blocked)
        return self.norm(hidden_states)
