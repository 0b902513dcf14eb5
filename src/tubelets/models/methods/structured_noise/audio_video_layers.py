"""Layers of the audio-visual encoder: embedding of frames, and blocks that both modalities share."""

from functools import partial

import torch
from torch import Tensor, nn
from transformers import initialization as init

from tubelets.models.backbones.audio_vit.layers import SpectrogramLayer
from tubelets.models.backbones.audio_vit.positions import PositionTable, grid_positions
from tubelets.models.backbones.video_vit.initialization import mark_initialization
from tubelets.models.backbones.video_vit.pixels import normalize_pixels
from tubelets.models.backbones.video_vit.tubes import gather_tubes, sinusoid_table
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio_video import (
    StructuredNoiseAudioVideoConfig,
)


class FrameEmbeddings(nn.Module):
    """Embedding of the visible video tokens, plus positions and a vector of the modality."""

    def __init__(self, config: StructuredNoiseAudioVideoConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embeddings = nn.Linear(config.pixels_per_tube, config.hidden_size)
        mark_initialization(self.patch_embeddings, init.xavier_uniform_)
        self.positions = frame_positions(config, config.hidden_size)
        self.modality = nn.Parameter(torch.zeros(1, 1, config.hidden_size))

    def forward(self, pixel_values: Tensor, visible_ids: Tensor | None = None) -> Tensor:
        """Embed the visible tokens of float or uint8 frames: `(B, N_vis, hidden_size)`."""
        tubes = normalize_pixels(gather_tubes(pixel_values, visible_ids, self.config), self.config, channel_dim=2)
        tokens = self.patch_embeddings(tubes.flatten(2).to(self.patch_embeddings.weight.dtype))
        return tokens + self.positions(visible_ids) + self.modality


def frame_positions(config: StructuredNoiseAudioVideoConfig, width: int) -> PositionTable:
    """Positions of the video tokens: 2-D as for one image; with several time steps, sines of the time are added."""
    _, rows, columns = config.grid
    table = partial(_frame_table, config.grid, width)
    return PositionTable(rows, columns, width, config.learned_positions, table=table)


def _frame_table(grid: tuple[int, int, int], width: int) -> Tensor:
    time, rows, columns = grid
    image = grid_positions(rows, columns, width)
    if time == 1:
        return image
    return (sinusoid_table(time, width)[0][:, None] + image).flatten(0, 1)[None]


class SharedLayer(SpectrogramLayer):
    """Block shared by sound, frames and both, with separate norms."""

    def __init__(self, config: StructuredNoiseAudioVideoConfig) -> None:
        super().__init__(config, config.drop_path_rate)
        for modality in ("audio", "video"):
            for place in ("before", "after"):
                norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
                setattr(self, f"layernorm_{place}_{modality}", norm)

    def forward(self, hidden_states: Tensor, modality: str = "both") -> Tensor:  # type: ignore[override]
        """Transform `(B, N, hidden_size)` with the norms of `both`, `audio` or `video`."""
        suffix = "" if modality == "both" else f"_{modality}"
        before, after = getattr(self, f"layernorm_before{suffix}"), getattr(self, f"layernorm_after{suffix}")
        attended, _ = self.attention.attention(before(hidden_states))
        hidden_states = hidden_states + self.drop_path(self.attention.output(attended, hidden_states))
        expanded = self.intermediate(after(hidden_states))
        return hidden_states + self.drop_path(self.output.dropout(self.output.dense(expanded)))
