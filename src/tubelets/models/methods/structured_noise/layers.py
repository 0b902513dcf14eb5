"""Layers that the audio and the audio-visual networks share."""

import functools
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from tubelets.kernels.products import Linear
from tubelets.models.backbones.video_vit.initialization import mark_initialization, mark_xavier
from tubelets.models.backbones.video_vit.modeling_video_vit import TubeletsVideoMAELayer
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio import StructuredNoiseAudioConfig
from tubelets.models.methods.structured_noise.spectrograms import (
    grid_positions,
    spectrogram_patches,
    take_tokens,
    token_grid,
)
from tubelets.models.methods.structured_noise.window_decoder import WindowAttention


class SpectrogramLayer(TubeletsVideoMAELayer):
    """The pre-norm block of the masked-video base, with a bias for the keys too."""

    def __init__(self, config: Any, drop_path: float = 0.0) -> None:
        super().__init__(config, drop_path)
        self.attention.attention.key = Linear(config.hidden_size, config.hidden_size)


def encoder_layers(config: Any) -> nn.ModuleList:
    """Blocks of an encoder; stochastic depth grows linearly with depth."""
    depth = config.num_hidden_layers
    return nn.ModuleList(
        SpectrogramLayer(config, config.drop_path_rate * index / max(depth - 1, 1)) for index in range(depth)
    )


class SpectrogramEncoder(nn.Module):
    """The encoder's stack of blocks."""

    def __init__(self, config: StructuredNoiseAudioConfig) -> None:
        super().__init__()
        self.layer = encoder_layers(config)
        self.gradient_checkpointing = False

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Transform `(B, N, hidden_size)`."""
        for layer in self.layer:
            hidden_states = layer(hidden_states)
        return hidden_states


class TokenDecoder(nn.Module):
    """Plain blocks over visible and masked tokens, of which the last one queries the masked ones only."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        sizes = deepcopy(config)
        sizes.hidden_size = config.decoder_hidden_size
        sizes.num_attention_heads = config.decoder_num_attention_heads
        sizes.intermediate_size = config.decoder_intermediate_size
        self.layers = nn.ModuleList(SpectrogramLayer(sizes) for _ in range(config.decoder_num_hidden_layers))
        for layer in self.layers:
            # The attention kernel is chosen through the model's own configuration, not through the resized copy.
            layer.attention.attention.config = config
        self.norm = nn.LayerNorm(config.decoder_hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False

    def forward(self, visible: Tensor, masked: Tensor) -> Tensor:
        """Transform the masked tokens `(B, M, width)`, which may ask the visible ones `(B, N, width)`."""
        hidden_states = torch.cat([visible, masked], dim=1)
        for layer in self.layers[:-1]:
            hidden_states = layer(hidden_states)
        for layer in self.layers[-1:]:
            hidden_states = layer(hidden_states, masked.shape[1])
        return self.norm(hidden_states)


class PositionTable(nn.Module):
    """Positions of the tokens of a grid: sines and cosines, fixed or trained, and kept in checkpoints.

    Args:
        rows: rows of the grid.
        columns: columns of the grid.
        width: width of a token.
        learned: whether they are trained.
        class_token: whether a class token, whose position is zero, comes first.
        table: makes another table than `grid_positions`.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        width: int,
        learned: bool,
        class_token: bool = False,
        table: Callable[[], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.class_token = class_token
        # A partial function can be pickled with the module; a lambda cannot.
        self.make_table = table or functools.partial(grid_positions, rows, columns, width)
        count = self.make_table().shape[1] + class_token
        if learned:
            self.position_embeddings = nn.Parameter(torch.zeros(1, count, width))
        else:
            # Kept in checkpoints too: the official tables are not all what their grids would give.
            self.register_buffer("position_embeddings", torch.zeros(1, count, width))

    def initial(self) -> Tensor:
        """The table that training starts from, `(1, tokens, width)`."""
        table = self.make_table()
        return torch.cat([torch.zeros_like(table[:, :1]), table], dim=1) if self.class_token else table

    @torch.no_grad()
    def resize(self, old: tuple[int, int], new: tuple[int, int]) -> None:
        """Cut the table of a grid of tokens to the first rows and columns, or make that of a larger grid anew.

        Args:
            old: rows and columns it has.
            new: rows and columns that are wanted.

        Raises:
            ValueError: if a larger grid is wanted and the table is not the one of sines, which could go on.
        """
        start, place = int(self.class_token), self.position_embeddings
        width = place.shape[2]
        larger = new[0] > old[0] or new[1] > old[1]
        if larger and not torch.allclose(place, self.initial().to(place), atol=1e-5):
            raise ValueError(
                f"positions of a grid of {old} tokens cannot be brought to {new}: they were trained, or numbered in "
                "another way, and do not tell what comes behind; choose shorter spectrograms"
            )
        self.make_table = functools.partial(grid_positions, *new, width)
        grid = place[:, start:].unflatten(1, old)[:, : new[0], : new[1]].flatten(1, 2)
        table = self.initial().to(place) if larger else torch.cat([place[:, :start], grid], dim=1)
        if isinstance(place, nn.Parameter):
            self.position_embeddings = nn.Parameter(table, requires_grad=place.requires_grad)
        else:
            self.position_embeddings = table

    def forward(self, ids: Tensor | None = None) -> Tensor:
        """Positions of the tokens `ids`, int64 `(B, M)`, or of all; without the class token's."""
        table = self.position_embeddings[:, int(self.class_token) :]
        return table if ids is None else take_tokens(table, ids)


class SpectrogramEmbeddings(nn.Module):
    """Embedding of the patches that are kept, plus positions; with a class token in front, or a modality's vector."""

    def __init__(self, config: StructuredNoiseAudioConfig, class_token: bool = True) -> None:
        super().__init__()
        self.config = config
        self.patch_embeddings = Linear(config.values_per_patch, config.hidden_size)
        mark_initialization(self.patch_embeddings, init.xavier_uniform_)
        self.positions = PositionTable(
            *token_grid(config), config.hidden_size, config.learned_positions, class_token=class_token
        )
        vector = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.cls_token = vector if class_token else None
        self.modality = None if class_token else vector

    def forward(self, input_values: Tensor, visible_ids: Tensor | None = None) -> Tensor:
        """Embed the visible patches: `(B, N_vis, hidden_size)`, or one more with the class token."""
        patches = spectrogram_patches(input_values, self.config)
        if visible_ids is not None:
            patches = take_tokens(patches, visible_ids)
        tokens = self.patch_embeddings(patches.to(self.patch_embeddings.weight.dtype))
        tokens = tokens + self.positions(visible_ids)
        if self.cls_token is None:
            return tokens + self.modality
        first = self.cls_token + self.positions.position_embeddings[:, :1]
        return torch.cat([first.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], dim=1)


def mark_decoder(decoder: nn.Module, *others: nn.Linear) -> None:
    """Xavier-uniform weights for a decoder, and for the layers before and behind it."""
    if isinstance(decoder, TokenDecoder):
        mark_xavier(decoder.layers)
    for module in (*decoder.modules(), *others):
        if isinstance(module, nn.Linear) and not hasattr(module, "_tubelets_init"):
            mark_initialization(module, init.xavier_uniform_)
        if isinstance(module, WindowAttention):
            # The official code initialises the three as one matrix of three times the rows.
            for projection in (module.query, module.key, module.value):
                mark_initialization(projection, init.xavier_uniform_, gain=0.5**0.5)


def mark_head(classifier: nn.Linear, scale: float) -> None:
    """`scale` times a truncated normal of deviation 0.02, which is one of that deviation and bounds."""
    mark_initialization(classifier, init.trunc_normal_, std=0.02 * scale, a=-2.0 * scale, b=2.0 * scale)
