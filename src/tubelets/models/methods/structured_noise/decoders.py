"""The plain decoder of the audio and audio-visual models, and how decoders and heads are initialised."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from tubelets.models.backbones.audio_vit.layers import SpectrogramLayer
from tubelets.models.backbones.video_vit.initialization import mark_initialization, mark_xavier
from tubelets.models.methods.structured_noise.window_decoder import WindowAttention


class TokenDecoder(nn.Module):
    """Plain blocks over visible and masked tokens; the last one queries the masked tokens only."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        sizes = deepcopy(config)
        sizes.hidden_size = config.decoder_hidden_size
        sizes.num_attention_heads = config.decoder_num_attention_heads
        sizes.intermediate_size = config.decoder_intermediate_size
        self.layers = nn.ModuleList(SpectrogramLayer(sizes) for _ in range(config.decoder_num_hidden_layers))
        for layer in self.layers:
            # transformers selects the attention kernel through the model's configuration, not through this copy.
            layer.attention.attention.config = config
        self.norm = nn.LayerNorm(config.decoder_hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False

    def forward(self, visible: Tensor, masked: Tensor) -> Tensor:
        """Transform the masked tokens `(B, M, width)`, which also attend to the visible ones `(B, N, width)`."""
        hidden_states = torch.cat([visible, masked], dim=1)
        for layer in self.layers[:-1]:
            hidden_states = layer(hidden_states)
        for layer in self.layers[-1:]:
            hidden_states = layer(hidden_states, masked.shape[1])
        return self.norm(hidden_states)


def mark_decoder(decoder: nn.Module, *others: nn.Linear) -> None:
    """Xavier-uniform weights for a decoder, and for the layers before and after it."""
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
