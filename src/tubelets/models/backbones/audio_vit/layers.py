"""Layers of the spectrogram ViT: embedding of patches, blocks, encoder."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from tubelets.models.backbones.audio_vit.positions import PositionTable
from tubelets.models.backbones.audio_vit.sizes import AudioVitSizes
from tubelets.models.backbones.audio_vit.spectrograms import spectrogram_patches, take_tokens, token_grid
from tubelets.models.backbones.video_vit.initialization import mark_initialization
from tubelets.models.backbones.video_vit.modeling_video_vit import TubeletsVideoMAELayer


class SpectrogramLayer(TubeletsVideoMAELayer):
    """The pre-norm block of the video ViT, with a bias for the keys as well."""

    def __init__(self, config: Any, drop_path: float = 0.0) -> None:
        super().__init__(config, drop_path)
        self.attention.attention.key = nn.Linear(config.hidden_size, config.hidden_size)


def encoder_layers(config: Any) -> nn.ModuleList:
    """Blocks of an encoder; stochastic depth grows linearly with depth."""
    depth = config.num_hidden_layers
    return nn.ModuleList(
        SpectrogramLayer(config, config.drop_path_rate * index / max(depth - 1, 1)) for index in range(depth)
    )


class SpectrogramEncoder(nn.Module):
    """The encoder's stack of blocks."""

    def __init__(self, config: AudioVitSizes) -> None:
        super().__init__()
        self.layer = encoder_layers(config)
        self.gradient_checkpointing = False

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Transform `(B, N, hidden_size)`."""
        for layer in self.layer:
            hidden_states = layer(hidden_states)
        return hidden_states


class SpectrogramEmbeddings(nn.Module):
    """Embedding of the visible patches, plus positions; with a class token in front, or a vector of the modality."""

    def __init__(self, config: AudioVitSizes, class_token: bool = True) -> None:
        super().__init__()
        self.config = config
        self.patch_embeddings = nn.Linear(config.values_per_patch, config.hidden_size)
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
