"""Masked video autoencoding: VideoMAE (Tong et al., NeurIPS 2022), without work on tokens whose output is discarded.

The encoder embeds only visible tubes, targets are computed only for masked ones, and the last decoder block has queries
for masked tokens only. Parameter names are those of `transformers.VideoMAEForPreTraining`; constants and initialisation
are the official code's (sigma.md, sections 2 and 7).
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig
from tubelets.models.backbones.video_vit.initialization import mark_initialization, mark_xavier
from tubelets.models.backbones.video_vit.modeling_video_vit import (
    TubeletsVideoMAELayer,
    TubeletsVideoMAEModel,
    TubeletsVideoMAEPreTrainedModel,
    with_mean_pooling,
)
from tubelets.models.backbones.video_vit.pixels import pixel_targets
from tubelets.models.backbones.video_vit.tubes import position_table
from tubelets.objectives import masked_regression_loss


@dataclass
class MaskedVideoOutput(ModelOutput):
    """Output of masked-video pretraining; B clips, N_vis visible and M masked tokens.

    The training loop logs every scalar field by name.

    Args:
        loss: scalar.
        logits: `(B, M, prediction_size)` predictions for the masked tokens, in token order.
        targets: `(B, M, prediction_size)` targets of the masked tokens.
        encoder_last_hidden_state: `(B, N_vis, hidden_size)`, after the final norm.
        hidden_states: encoder states, if requested.
        attentions: encoder attention maps, if requested and computed eagerly.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    targets: Tensor | None = None
    encoder_last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class TubeletsVideoMAEDecoder(nn.Module):
    """Light decoder over visible then masked tokens; returns predictions for the masked ones."""

    def __init__(self, config: TubeletsVideoMAEConfig) -> None:
        super().__init__()
        width = config.decoder_hidden_size
        sizes = deepcopy(config)
        sizes.hidden_size = width
        sizes.num_attention_heads = config.decoder_num_attention_heads
        sizes.intermediate_size = config.decoder_intermediate_size
        self.decoder_layers = nn.ModuleList(
            TubeletsVideoMAELayer(sizes) for _ in range(config.decoder_num_hidden_layers)
        )
        for layer in self.decoder_layers:
            # The attention kernel is chosen through the model's own configuration, not through the resized copy.
            layer.attention.attention.config = config
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.head = nn.Linear(width, config.prediction_size)
        self.gradient_checkpointing = False
        self.register_buffer("position_embeddings", position_table(config, width), persistent=False)

    def forward(self, visible: Tensor, mask_token: Tensor, visible_ids: Tensor, masked_ids: Tensor) -> Tensor:
        """Predict the masked tokens: `(B, M, prediction_size)`."""
        num_masked = masked_ids.shape[1]
        # In the weights' precision, not autocast's: the residual stream stays float32, as in the official code.
        positions = self.position_embeddings[0].to(mask_token.dtype)
        visible = visible + positions[visible_ids]  # (B, N_vis, width)
        masked = mask_token + positions[masked_ids]  # (B, M, width)
        hidden_states = torch.cat([visible, masked], dim=1)
        for layer in self.decoder_layers[:-1]:
            hidden_states = layer(hidden_states)
        for layer in self.decoder_layers[-1:]:
            hidden_states = layer(hidden_states, num_queries=num_masked)
        return self.head(self.norm(hidden_states[:, -num_masked:]))


class MaskedVideoAutoencoder(TubeletsVideoMAEPreTrainedModel):
    """Encoder and decoder of masked-video pretraining, without an objective.

    Methods subclass it, add the modules of their objective and then call `post_init`.

    Args:
        config: sizes and constants.
    """

    def __init__(self, config: TubeletsVideoMAEConfig) -> None:
        config = with_mean_pooling(config, False)
        super().__init__(config)
        self.videomae = TubeletsVideoMAEModel(config)
        self.encoder_to_decoder = nn.Linear(config.hidden_size, config.decoder_hidden_size, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.decoder_hidden_size))
        self.decoder = TubeletsVideoMAEDecoder(config)
        mark_xavier(self.decoder.decoder_layers)
        mark_initialization(self.decoder.head, init.xavier_uniform_)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        elif isinstance(module, TubeletsVideoMAEDecoder):
            init.copy_(module.position_embeddings, position_table(self.config, module.position_embeddings.shape[2]))

    def decode(self, visible: Tensor, visible_ids: Tensor, masked_ids: Tensor) -> Tensor:
        """Predict the masked tokens from the encoded visible ones.

        Args:
            visible: `(B, N_vis, hidden_size)`.
            visible_ids: int64 `(B, N_vis)`.
            masked_ids: int64 `(B, M)`.

        Returns:
            `(B, M, prediction_size)`, in the order of `masked_ids`.
        """
        return self.decoder(self.encoder_to_decoder(visible), self.mask_token, visible_ids, masked_ids)


class TubeletsVideoMAEForPreTraining(MaskedVideoAutoencoder):
    """Masked autoencoding of standardised pixels: the VideoMAE baseline (sigma.md, section 3, target `pixel`).

    Args:
        config: sizes and constants.

    Example:
        >>> config = TubeletsVideoMAEConfig(image_size=32, num_frames=4, num_hidden_layers=1, mask_ratio=0.5)
        >>> model = TubeletsVideoMAEForPreTraining(config)
        >>> mask = config.build_mask_generator()(2)
        >>> model(torch.zeros(2, 4, 3, 32, 32), mask).logits.shape
        torch.Size([2, 4, 1536])
    """

    def __init__(self, config: TubeletsVideoMAEConfig) -> None:
        super().__init__(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, bool_masked_pos: Tensor, num_masked: int | None = None, **kwargs: Any
    ) -> MaskedVideoOutput:
        """Predict the pixels of masked tubes.

        Args:
            pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8.
            bool_masked_pos: bool `(B, tokens)`, True = masked, the same number in every clip.
            num_masked: masked tokens per clip; passing it avoids a synchronisation on accelerators.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            The loss, the predictions and the targets.

        Raises:
            ValueError: if the video or the mask does not fit the configuration.
        """
        visible_ids, masked_ids = self.videomae.split_tokens(pixel_values, bool_masked_pos, num_masked)
        encoded = self.videomae(
            pixel_values, visible_ids=visible_ids, return_dict=True, **kwargs
        )  # (B, N_vis, hidden_size)
        predictions = self.decode(encoded.last_hidden_state, visible_ids, masked_ids)  # (B, M, pixels_per_tube)
        targets = pixel_targets(pixel_values, masked_ids, self.config)
        loss = masked_regression_loss(predictions, targets)
        return MaskedVideoOutput(
            loss=loss,
            logits=predictions,
            targets=targets,
            encoder_last_hidden_state=encoded.last_hidden_state,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
