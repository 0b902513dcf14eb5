"""Structured-noise masking of audio ("structured noise", arXiv 2503.16311): a masked autoencoder of spectrograms.

The network is AudioMAE's (Huang et al., NeurIPS 2022, arXiv 2207.06405): a ViT encodes the visible patches of a log-mel
spectrogram, and a decoder predicts the standardised values of the masked ones. The method changes only the masks, to
regularised blue noise. With other sizes and `token_order="frequency"` the network is MaskSpec's (arXiv 2204.12768).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.utils import ModelOutput, can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from tubelets.models.backbones.audio_vit.layers import SpectrogramEmbeddings, SpectrogramEncoder
from tubelets.models.backbones.audio_vit.positions import PositionTable
from tubelets.models.backbones.audio_vit.spectrograms import (
    check_spectrogram,
    spectrogram_patches,
    take_tokens,
    token_grid,
)
from tubelets.models.backbones.video_vit.initialization import mark_truncated_normal, mark_xavier
from tubelets.models.backbones.video_vit.modeling_video_vit import TubeletsVideoMAEPreTrainedModel, with_mean_pooling
from tubelets.models.backbones.video_vit.tubes import count_masked, split_tokens
from tubelets.models.common.backbone import Backbone
from tubelets.models.common.classification_head import ClassificationHead
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio import StructuredNoiseAudioConfig
from tubelets.models.methods.structured_noise.decoders import TokenDecoder, mark_decoder, mark_head
from tubelets.models.methods.structured_noise.window_decoder import WindowAttention, WindowDecoder
from tubelets.objectives import masked_regression_loss, standardize_patches

# Weights of a pretraining checkpoint that are not the encoder's.
PRETRAINING_KEYS = [r"^decoder\.", r"^decoder_positions", r"^encoder_to_decoder\.", r"^mask_token$", r"^prediction\."]


@dataclass
class MaskedAudioOutput(ModelOutput):
    """Output of masked-audio pretraining; B clips, N_vis visible and M masked patches.

    Args:
        loss: scalar.
        logits: `(B, M, values_per_patch)` predictions for the masked patches, in token order.
        targets: `(B, M, values_per_patch)` of the predictions.
        encoder_last_hidden_state: `(B, 1 + N_vis, hidden_size)`, after the final norm, the class token first.
        hidden_states: encoder states, if requested.
        attentions: encoder attention maps, if requested and computed eagerly.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    targets: Tensor | None = None
    encoder_last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class StructuredNoiseAudioPreTrainedModel(TubeletsVideoMAEPreTrainedModel):
    """Loading, saving and initialisation shared by the audio and audio-visual models."""

    config: Any
    config_class = StructuredNoiseAudioConfig
    base_model_prefix = "audio"
    main_input_name = "input_values"
    input_modalities = "audio"
    _no_split_modules = ["SpectrogramEmbeddings", "SpectrogramLayer", "WindowLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, PositionTable):
            init.copy_(module.position_embeddings, module.initial())
        elif isinstance(module, WindowAttention):
            init.ones_(module.temperature)
        for name in ("cls_token", "modality", "mask_token", "decoder_modality_audio", "decoder_modality_video"):
            vector = module._parameters.get(name)
            if vector is not None:
                init.normal_(vector, std=0.02)

    def resize_spectrograms(self, max_length: int) -> None:
        """Change the length of the spectrograms of an encoder or classifier, e.g. to fine-tune on shorter sounds.

        Patches keep their positions; longer spectrograms continue the same sines.

        Args:
            max_length: frames, a multiple of the patch size.

        Raises:
            ValueError: if the model has a decoder, or its positions cannot be extended to longer spectrograms.

        Example:
            >>> model = StructuredNoiseAudioModel(StructuredNoiseAudioConfig(max_length=64, num_hidden_layers=1))
            >>> model.resize_spectrograms(32)
            >>> model(torch.zeros(1, 32, 128)).last_hidden_state.shape
            torch.Size([1, 17, 768])
        """
        if any(name.startswith("decoder") for name, _ in self.named_children()):
            raise ValueError(
                f"{type(self).__name__} has a decoder for {self.config.max_length} frames; load its encoder or a "
                "classifier instead"
            )
        if max_length < 1 or max_length % self.config.patch_size:
            raise ValueError(
                f"max_length={max_length} must be a positive multiple of patch_size={self.config.patch_size}"
            )
        old = token_grid(self.config)
        # One configuration is shared by all parts of the model.
        self.config.max_length = max_length
        for module in self.modules():
            if isinstance(module, SpectrogramEmbeddings):
                module.positions.resize(old, token_grid(self.config))


class StructuredNoiseAudioModel(Backbone, StructuredNoiseAudioPreTrainedModel):
    """Audio ViT encoder that returns token features of spectrograms.

    Args:
        config: sizes and constants.
        initialize_blocks: marks how the blocks' weights are initialised; classifiers differ from pretraining.

    Example:
        >>> config = StructuredNoiseAudioConfig(max_length=64, num_mel_bins=32, num_hidden_layers=1)
        >>> model = StructuredNoiseAudioModel(config)
        >>> model(torch.zeros(1, 64, 32)).last_hidden_state.shape
        torch.Size([1, 9, 768])
    """

    num_class_tokens = 1
    _keys_to_ignore_on_load_unexpected = [*PRETRAINING_KEYS, r"^fc_norm\.", r"^classifier\."]

    def __init__(
        self, config: StructuredNoiseAudioConfig, initialize_blocks: Callable[[nn.ModuleList], None] | None = None
    ) -> None:
        super().__init__(config)
        self.embeddings = SpectrogramEmbeddings(config)
        self.encoder = SpectrogramEncoder(config)
        self.layernorm = None if config.use_mean_pooling else nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        (initialize_blocks or mark_xavier)(self.encoder.layer)
        self.default_masked = config.build_mask_generator().num_masked
        self.post_init()

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.config.hidden_size

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of patches."""
        return self.embeddings

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        bool_masked_pos: Tensor | None = None,
        num_masked: int | None = None,
        visible_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Encode spectrograms, or their visible patches.

        Args:
            input_values: float `(B, max_length, num_mel_bins)`, normalised.
            bool_masked_pos: bool `(B, tokens)`, True = masked, the same number in every clip; None encodes all patches.
            num_masked: masked patches per clip; saves a synchronisation on accelerators.
            visible_ids: int64 `(B, N_vis)`, instead of `bool_masked_pos`.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `last_hidden_state` `(B, 1 + N_vis, hidden_size)`, the class token first, after the final norm unless
            `use_mean_pooling`; and `pooler_output` `(B, hidden_size)`, the mean over the patches.

        Raises:
            ValueError: if the spectrogram or the mask does not fit the configuration.
        """
        check_spectrogram(input_values, self.config)
        if visible_ids is None and bool_masked_pos is not None:
            visible_ids, _ = self.split_tokens(input_values, bool_masked_pos, num_masked)
        tokens = self.encoder(self.embeddings(input_values, visible_ids))
        if self.layernorm is not None:
            tokens = self.layernorm(tokens)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=tokens[:, 1:].mean(dim=1))

    def split_tokens(
        self, input_values: Tensor, bool_masked_pos: Tensor, num_masked: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Indices `(B, N_vis)` of visible and `(B, M)` of masked patches; see `tubes.count_masked` for the checks."""
        check_spectrogram(input_values, self.config)
        tokens = self.config.num_audio_tokens
        count = count_masked(bool_masked_pos, num_masked, self.default_masked, len(input_values), tokens)
        return split_tokens(bool_masked_pos, count)


class StructuredNoiseAudioForPreTraining(StructuredNoiseAudioPreTrainedModel):
    """Masked autoencoding of spectrograms.

    Args:
        config: sizes and constants.

    Example:
        >>> config = StructuredNoiseAudioConfig(max_length=64, num_mel_bins=64, num_hidden_layers=1)
        >>> model = StructuredNoiseAudioForPreTraining(config)
        >>> mask = torch.arange(16).repeat(2, 1) < 13
        >>> model(torch.zeros(2, 64, 64), mask).logits.shape
        torch.Size([2, 13, 256])
    """

    def __init__(self, config: StructuredNoiseAudioConfig) -> None:
        config = with_mean_pooling(config, False)
        super().__init__(config)
        width = config.decoder_hidden_size
        self.audio = StructuredNoiseAudioModel(config)
        self.encoder_to_decoder = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_positions = PositionTable(*token_grid(config), width, config.learned_positions, class_token=True)
        self.decoder = WindowDecoder(config) if config.decoder_type == "window" else TokenDecoder(config)
        self.prediction = nn.Linear(width, config.values_per_patch)
        mark_decoder(self.decoder, self.encoder_to_decoder, self.prediction)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_values: Tensor, bool_masked_pos: Tensor, num_masked: int | None = None, **kwargs: Any
    ) -> MaskedAudioOutput:
        """Predict the masked patches.

        Args:
            input_values: float `(B, max_length, num_mel_bins)`, normalised.
            bool_masked_pos: bool `(B, tokens)`, True = masked, the same number in every clip.
            num_masked: masked patches per clip, an integer; saves a synchronisation on accelerators.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            The loss, the predictions and the targets.

        Raises:
            ValueError: if the spectrogram or the mask does not fit the configuration.
        """
        visible_ids, masked_ids = self.audio.split_tokens(input_values, bool_masked_pos, num_masked)
        encoded = self.audio(input_values, visible_ids=visible_ids, **{**kwargs, "return_dict": True})
        predictions = self.predict(encoded.last_hidden_state, visible_ids, masked_ids)
        targets = patch_targets(spectrogram_patches(input_values, self.config), masked_ids, self.config.norm_pix_loss)
        return MaskedAudioOutput(
            loss=masked_regression_loss(predictions, targets),
            logits=predictions,
            targets=targets,
            encoder_last_hidden_state=encoded.last_hidden_state,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def predict(self, encoded: Tensor, visible_ids: Tensor, masked_ids: Tensor) -> Tensor:
        """Decode the class token and the visible patches into predictions `(B, M, values_per_patch)`."""
        tokens = self.encoder_to_decoder(encoded)
        visible = tokens[:, 1:] + self.decoder_positions(visible_ids).to(tokens.dtype)
        masked = (self.mask_token + self.decoder_positions(masked_ids)).to(tokens.dtype)
        if self.config.decoder_type == "plain":
            first = tokens[:, :1] + self.decoder_positions.position_embeddings[:, :1].to(tokens.dtype)
            return self.prediction(self.decoder(torch.cat([first, visible], dim=1), masked))
        # Windows tile the whole grid, which does not include the class token.
        order = torch.cat([visible_ids, masked_ids], dim=1).argsort(dim=1)
        decoded = self.decoder(take_tokens(torch.cat([visible, masked], dim=1), order))
        return self.prediction(take_tokens(decoded, masked_ids))


class StructuredNoiseAudioForAudioClassification(ClassificationHead, StructuredNoiseAudioPreTrainedModel):
    """Audio classifier: mean over patches, LayerNorm, linear head, for one label or several.

    In training it drops whole time steps and bands of patches if so configured, drawn from the device's generator as
    dropout is.

    Args:
        config: sizes, labels and constants.

    Example:
        >>> sizes = {"max_length": 64, "num_mel_bins": 32, "num_hidden_layers": 1, "num_labels": 3}
        >>> model = StructuredNoiseAudioForAudioClassification(StructuredNoiseAudioConfig(**sizes))
        >>> model(torch.zeros(2, 64, 32), labels=torch.tensor([0, 2])).logits.shape
        torch.Size([2, 3])
    """

    _keys_to_ignore_on_load_unexpected = [*PRETRAINING_KEYS, r"^(audio\.)?layernorm\."]

    def __init__(self, config: StructuredNoiseAudioConfig) -> None:
        config = with_mean_pooling(config, True)
        super().__init__(config)
        self.num_labels = config.num_labels
        self.audio = StructuredNoiseAudioModel(config, mark_truncated_normal)
        self.add_classification_head(
            self.audio.feature_size, config.num_labels, dropout=config.head_dropout, norm_eps=config.layer_norm_eps
        )
        mark_head(self.classifier, config.head_init_scale)
        self.post_init()

    @can_return_tuple
    def forward(self, input_values: Tensor, labels: Tensor | None = None, **kwargs: Any) -> SequenceClassifierOutput:
        """Score classes.

        Args:
            input_values: float `(B, max_length, num_mel_bins)`, normalised.
            labels: int64 `(B,)` class indices, float `(B, num_labels)` class probabilities (mixup), or float
                `(B, num_labels)` in {0, 1} with `config.problem_type = "multi_label_classification"`.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `logits` `(B, num_labels)` and, with labels, the `loss`.

        Raises:
            ValueError: if the spectrogram does not fit the configuration, or labels are out of range or of another
                shape.
        """
        kept = None
        if self.training and (self.config.time_mask_ratio or self.config.frequency_mask_ratio):
            kept = draw_kept_patches(self.config, len(input_values), input_values.device)
        encoded = self.audio(input_values, visible_ids=kept, **{**kwargs, "return_dict": True})
        loss, logits = self.classify(encoded.pooler_output, labels, self.config.problem_type)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )


@torch.no_grad()
def patch_targets(patches: Tensor, masked_ids: Tensor, standardized: bool) -> Tensor:
    """The masked patches of all `(B, N, values)`, each standardised if requested: float32 `(B, M, values)`."""
    masked = take_tokens(patches, masked_ids).float()
    return standardize_patches(masked) if standardized else masked


def draw_kept_patches(config: StructuredNoiseAudioConfig, batch_size: int, device: torch.device) -> Tensor:
    """Draw the patches outside of the dropped time steps and bands, independently for each clip.

    Args:
        config: grid and ratios; `int(steps * (1 - ratio))` of each axis are kept.
        batch_size: clips.
        device: its generator is the source of the draw.

    Returns:
        int64 `(batch_size, kept)` in token order.

    Example:
        >>> config = StructuredNoiseAudioConfig(time_mask_ratio=0.2, frequency_mask_ratio=0.2)
        >>> draw_kept_patches(config, 2, torch.device("cpu")).shape
        torch.Size([2, 306])
    """
    kept = []
    for side, ratio in zip(config.audio_grid, (config.time_mask_ratio, config.frequency_mask_ratio), strict=True):
        order = torch.rand(batch_size, side, device=device).argsort(dim=1)
        kept.append(order[:, : max(int(side * (1 - ratio)), 1)].sort(dim=1).values)
    rows, columns = kept if config.token_order == "time" else kept[::-1]
    return (rows[:, :, None] * token_grid(config)[1] + columns[:, None]).flatten(1)
