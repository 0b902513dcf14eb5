"""Structured-noise masking of audio and frames ("structured noise", arXiv 2503.16311): an audio-visual model.

The network is CAV-MAE's (Gong et al., ICLR 2023, arXiv 2210.07839): blocks per modality, then shared blocks with
separate norms for sound, frames and both. Masked patches of both are reconstructed, and sounds are matched with frames.
The method changes only the masks: regularised blue noise for the sound, green noise for the frames.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import ModelOutput, can_return_tuple

from tubelets.models.backbones.audio_vit.layers import SpectrogramEmbeddings, encoder_layers
from tubelets.models.backbones.audio_vit.positions import PositionTable
from tubelets.models.backbones.audio_vit.spectrograms import check_spectrogram, spectrogram_patches, token_grid
from tubelets.models.backbones.video_vit.initialization import mark_xavier
from tubelets.models.backbones.video_vit.pixels import normalize_pixels
from tubelets.models.backbones.video_vit.tubes import (
    check_video,
    count_masked,
    gather_tubes,
    split_tokens,
)
from tubelets.models.common.backbone import VideoBackbone
from tubelets.models.common.batch_checks import check_batch
from tubelets.models.common.classification_head import ClassificationHead
from tubelets.models.methods.structured_noise.audio_video_layers import (
    FrameEmbeddings,
    SharedLayer,
    frame_positions,
)
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio_video import (
    StructuredNoiseAudioVideoConfig,
)
from tubelets.models.methods.structured_noise.decoders import TokenDecoder, mark_decoder, mark_head
from tubelets.models.methods.structured_noise.modeling_structured_noise_audio import (
    PRETRAINING_KEYS,
    StructuredNoiseAudioPreTrainedModel,
    patch_targets,
)
from tubelets.objectives import audio_visual_contrastive_loss, masked_regression_loss

MODALITIES = ("both", "audio", "video")


@dataclass
class AudioVideoOutput(ModelOutput):
    """Token features of clips; B clips, N_a audio and N_v video tokens. Features of missing inputs are None.

    Args:
        last_hidden_state: `(B, N_a + N_v, hidden_size)` of both jointly, sound first, or of the only modality.
        pooler_output: `(B, hidden_size)`, its mean over tokens.
        audio_hidden_state: `(B, N_a, hidden_size)` of the sound without the frames.
        video_hidden_state: `(B, N_v, hidden_size)` of the frames without the sound.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    audio_hidden_state: Tensor | None = None
    video_hidden_state: Tensor | None = None


@dataclass
class MaskedAudioVideoOutput(ModelOutput):
    """Output of audio-visual pretraining; B clips, M_a and M_v masked audio and video tokens.

    Args:
        loss: scalar, the weighted sum of the next three.
        audio_loss: reconstruction of masked spectrogram patches.
        video_loss: reconstruction of masked video tokens.
        contrastive_loss: matching of sounds and frames.
        contrastive_accuracy: share of clips whose own sound is the best match.
        audio_logits: `(B, M_a, values_per_patch)`.
        video_logits: `(B, M_v, pixels_per_tube)`.
        audio_targets: of the shape of `audio_logits`.
        video_targets: of the shape of `video_logits`.
    """

    loss: Tensor | None = None
    audio_loss: Tensor | None = None
    video_loss: Tensor | None = None
    contrastive_loss: Tensor | None = None
    contrastive_accuracy: Tensor | None = None
    audio_logits: Tensor | None = None
    video_logits: Tensor | None = None
    audio_targets: Tensor | None = None
    video_targets: Tensor | None = None


class StructuredNoiseAudioVideoPreTrainedModel(StructuredNoiseAudioPreTrainedModel):
    """Loading, saving and initialisation shared by the audio-visual models."""

    config: StructuredNoiseAudioVideoConfig
    config_class = StructuredNoiseAudioVideoConfig
    base_model_prefix = "audio_video"
    input_modalities = ("audio", "video")
    _no_split_modules = ["SpectrogramEmbeddings", "FrameEmbeddings", "SpectrogramLayer", "SharedLayer"]
    # Several stacks with sequences of different lengths would end up in one list.
    _can_record_outputs = {}


class StructuredNoiseAudioVideoModel(VideoBackbone, StructuredNoiseAudioVideoPreTrainedModel):
    """Encoder of sound, frames, or both.

    Args:
        config: sizes and constants.

    Example:
        >>> sizes = {"max_length": 32, "num_mel_bins": 32, "image_size": 32, "num_hidden_layers": 1}
        >>> model = StructuredNoiseAudioVideoModel(StructuredNoiseAudioVideoConfig(**sizes))
        >>> model(torch.zeros(2, 32, 32), torch.zeros(2, 1, 3, 32, 32)).last_hidden_state.shape
        torch.Size([2, 8, 768])
        >>> model(pixel_values=torch.zeros(2, 1, 3, 32, 32)).last_hidden_state.shape
        torch.Size([2, 4, 768])
    """

    _keys_to_ignore_on_load_unexpected = [
        *PRETRAINING_KEYS, r"^(audio|video)_prediction\.", r"^decoder_modality", r"^(audio|video)_decoder_positions",
        r"^fc_norm\.", r"^classifier\.",
    ]  # fmt: skip

    def __init__(self, config: StructuredNoiseAudioVideoConfig) -> None:
        super().__init__(config)
        self.audio_embeddings = SpectrogramEmbeddings(config, class_token=False)
        self.video_embeddings = FrameEmbeddings(config)
        self.audio_layers = encoder_layers(config)
        self.video_layers = encoder_layers(config)
        self.shared_layers = nn.ModuleList(SharedLayer(config) for _ in range(config.num_shared_layers))
        self.audio_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.video_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.joint_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        for layers in (self.audio_layers, self.video_layers, self.shared_layers):
            mark_xavier(layers)
        self.gradient_checkpointing = False
        self.default_masked = (
            config.build_mask_generator().num_masked,
            config.build_video_mask_generator().num_masked,
        )
        self.post_init()

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.config.hidden_size

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of the sound's patches."""
        return self.audio_embeddings

    @can_return_tuple
    def forward(
        self, input_values: Tensor | None = None, pixel_values: Tensor | None = None, **kwargs: Any
    ) -> AudioVideoOutput:
        """Encode sound, frames, or both.

        Args:
            input_values: float `(B, max_length, num_mel_bins)`, normalised, or None.
            pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8, or None.
            **kwargs: `return_dict`.

        Returns:
            Features of both jointly, and of each alone.

        Raises:
            ValueError: if both are None, or an input does not fit the configuration.
        """
        audio = None if input_values is None else self.encode_audio(input_values)
        video = None if pixel_values is None else self.encode_video(pixel_values)
        if audio is None and video is None:
            raise ValueError("input_values and pixel_values are both None; give one of them or both")
        check_batch(input_values=input_values, pixel_values=pixel_values)
        heard = None if audio is None else self.share(audio, "audio")
        seen = None if video is None else self.share(video, "video")
        if audio is None or video is None:
            joint = seen if heard is None else heard
        else:
            joint = self.share(torch.cat([audio, video], dim=1), "both")
        return AudioVideoOutput(
            last_hidden_state=joint,
            pooler_output=joint.mean(dim=1),
            audio_hidden_state=heard,
            video_hidden_state=seen,
        )

    def feature_map(self, pixel_values: Tensor) -> Tensor:
        """Features `(B, hidden_size, T, H, W)` of the frames without the sound; arguments as for `forward`."""
        tokens = self.share(self.encode_video(pixel_values), "video")
        return tokens.unflatten(1, self.config.grid).permute(0, 4, 1, 2, 3)

    def encode_audio(self, input_values: Tensor, visible_ids: Tensor | None = None) -> Tensor:
        """The sound through its own blocks: `(B, N, hidden_size)`."""
        check_spectrogram(input_values, self.config)
        tokens = self.audio_embeddings(input_values, visible_ids)
        for layer in self.audio_layers:
            tokens = layer(tokens)
        return tokens

    def encode_video(self, pixel_values: Tensor, visible_ids: Tensor | None = None) -> Tensor:
        """The frames through their own blocks: `(B, N, hidden_size)`."""
        check_video(pixel_values, self.config)  # type: ignore[arg-type]
        tokens = self.video_embeddings(pixel_values, visible_ids)
        for layer in self.video_layers:
            tokens = layer(tokens)
        return tokens

    def share(self, tokens: Tensor, modality: str) -> Tensor:
        """Tokens through the shared blocks, with the norms of `both`, `audio` or `video`."""
        for layer in self.shared_layers:
            tokens = layer(tokens, modality)
        norm = {"both": self.joint_norm, "audio": self.audio_norm, "video": self.video_norm}[modality]
        return norm(tokens)


class StructuredNoiseAudioVideoForPreTraining(StructuredNoiseAudioVideoPreTrainedModel):
    """Masked autoencoding of sound and frames, and matching of the two.

    Args:
        config: sizes and constants.

    Example:
        >>> sizes = {"max_length": 32, "num_mel_bins": 32, "image_size": 32, "num_hidden_layers": 1}
        >>> model = StructuredNoiseAudioVideoForPreTraining(StructuredNoiseAudioVideoConfig(**sizes))
        >>> mask = torch.tensor([[True, False, True, True], [False, True, True, True]])
        >>> output = model(torch.zeros(2, 32, 32), torch.zeros(2, 1, 3, 32, 32), mask, mask)
        >>> output.audio_logits.shape, output.video_logits.shape
        (torch.Size([2, 3, 256]), torch.Size([2, 3, 768]))
    """

    def __init__(self, config: StructuredNoiseAudioVideoConfig) -> None:
        super().__init__(config)
        width = config.decoder_hidden_size
        self.audio_video = StructuredNoiseAudioVideoModel(config)
        self.encoder_to_decoder = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_modality_audio = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_modality_video = nn.Parameter(torch.zeros(1, 1, width))
        self.audio_decoder_positions = PositionTable(*token_grid(config), width, config.learned_positions)
        self.video_decoder_positions = frame_positions(config, width)
        self.decoder = TokenDecoder(config)
        self.audio_prediction = nn.Linear(width, config.values_per_patch)
        self.video_prediction = nn.Linear(width, config.pixels_per_tube)
        mark_decoder(self.decoder, self.encoder_to_decoder, self.audio_prediction, self.video_prediction)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        pixel_values: Tensor,
        audio_bool_masked_pos: Tensor,
        video_bool_masked_pos: Tensor,
        num_masked_audio: int | None = None,
        num_masked_video: int | None = None,
        **kwargs: Any,
    ) -> MaskedAudioVideoOutput:
        """Predict masked patches of both modalities, and match their visible ones.

        Args:
            input_values: float `(B, max_length, num_mel_bins)`, normalised.
            pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8.
            audio_bool_masked_pos: bool `(B, audio tokens)`, True = masked, the same number in every clip.
            video_bool_masked_pos: bool `(B, video tokens)`, likewise.
            num_masked_audio: masked audio tokens per clip; saves a synchronisation on accelerators.
            num_masked_video: masked video tokens per clip.
            **kwargs: `return_dict`.

        Returns:
            The loss and its parts, the predictions and the targets.

        Raises:
            ValueError: if an input or a mask does not fit the configuration.
        """
        config, encoder = self.config, self.audio_video
        check_spectrogram(input_values, config)
        check_video(pixel_values, config)  # type: ignore[arg-type]
        check_batch(input_values=input_values, pixel_values=pixel_values)
        heard, unheard = self.split(audio_bool_masked_pos, num_masked_audio, len(input_values), 0)
        seen, unseen = self.split(video_bool_masked_pos, num_masked_video, len(pixel_values), 1)
        audio, video = encoder.encode_audio(input_values, heard), encoder.encode_video(pixel_values, seen)

        joint = encoder.share(torch.cat([audio, video], dim=1), "both")
        audio_logits, video_logits = self.predict(joint, heard, seen, unheard, unseen)
        audio_targets = patch_targets(spectrogram_patches(input_values, config), unheard, config.norm_pix_loss)
        video_targets = self.video_targets(pixel_values, unseen)
        audio_loss = masked_regression_loss(audio_logits, audio_targets)
        video_loss = masked_regression_loss(video_logits, video_targets)

        contrastive_loss, accuracy = audio_visual_contrastive_loss(
            encoder.share(audio, "audio").mean(dim=1),
            encoder.share(video, "video").mean(dim=1),
            config.contrastive_temperature,
        )
        return MaskedAudioVideoOutput(
            loss=config.reconstruction_weight * (audio_loss + video_loss)
            + config.contrastive_weight * contrastive_loss,
            audio_loss=audio_loss,
            video_loss=video_loss,
            contrastive_loss=contrastive_loss,
            contrastive_accuracy=accuracy,
            audio_logits=audio_logits,
            video_logits=video_logits,
            audio_targets=audio_targets,
            video_targets=video_targets,
        )

    def split(self, mask: Tensor, num_masked: int | None, num_clips: int, which: int) -> tuple[Tensor, Tensor]:
        """Indices of visible and of masked tokens of the sound (`which` 0) or the frames (1)."""
        tokens = (self.config.num_audio_tokens, self.config.num_video_tokens)[which]
        count = count_masked(mask, num_masked, self.audio_video.default_masked[which], num_clips, tokens)
        return split_tokens(mask, count)

    def predict(
        self, joint: Tensor, heard: Tensor, seen: Tensor, unheard: Tensor, unseen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode visible tokens of both into predictions for the masked tokens of each."""
        tokens = self.encoder_to_decoder(joint)
        of_audio, of_video = self.decoder_modality_audio, self.decoder_modality_video
        places = [
            self.audio_decoder_positions(heard) + of_audio,
            self.video_decoder_positions(seen) + of_video,
            self.mask_token + self.audio_decoder_positions(unheard) + of_audio,
            self.mask_token + self.video_decoder_positions(unseen) + of_video,
        ]
        visible = tokens + torch.cat(places[:2], dim=1).to(tokens.dtype)
        decoded = self.decoder(visible, torch.cat(places[2:], dim=1).to(tokens.dtype))
        count = unheard.shape[1]
        return self.audio_prediction(decoded[:, :count]), self.video_prediction(decoded[:, count:])

    @torch.no_grad()
    def video_targets(self, pixel_values: Tensor, masked_ids: Tensor) -> Tensor:
        """Normalised pixels of the masked tokens, the channel fastest, standardised over all of a token's values."""
        tubes = gather_tubes(pixel_values, masked_ids, self.config)  # type: ignore[arg-type]
        pixels = normalize_pixels(tubes, self.config, channel_dim=2).movedim(2, -1).flatten(2)  # type: ignore[arg-type]
        order = torch.arange(pixels.shape[1], device=pixels.device).expand(len(pixels), -1)
        return patch_targets(pixels, order, self.config.norm_pix_loss)


class StructuredNoiseAudioVideoForVideoClassification(ClassificationHead, StructuredNoiseAudioVideoPreTrainedModel):
    """Classifier of sound, frames, or both: mean over tokens, LayerNorm, linear head.

    `config.modality` selects the inputs; weights of the other modality and norms of other passes are not trained. A
    classifier of both that gets one modality averages the features under its joint and its single norms, as the
    official code does.

    Args:
        config: sizes, labels and constants.

    Example:
        >>> sizes = {"max_length": 32, "num_mel_bins": 32, "image_size": 32, "num_hidden_layers": 1, "num_labels": 3}
        >>> model = StructuredNoiseAudioVideoForVideoClassification(StructuredNoiseAudioVideoConfig(**sizes))
        >>> model(torch.zeros(2, 32, 32), torch.zeros(2, 1, 3, 32, 32)).logits.shape
        torch.Size([2, 3])
    """

    _keys_to_ignore_on_load_unexpected = StructuredNoiseAudioVideoModel._keys_to_ignore_on_load_unexpected[:-2]

    def __init__(self, config: StructuredNoiseAudioVideoConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.audio_video = StructuredNoiseAudioVideoModel(config)
        self.add_classification_head(
            config.hidden_size, config.num_labels, dropout=config.head_dropout, norm_eps=config.layer_norm_eps
        )
        mark_head(self.classifier, config.head_init_scale)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor | None = None,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        modality: str | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Score classes.

        Args:
            input_values: float `(B, max_length, num_mel_bins)`, normalised; not needed for `video`.
            pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8; not needed for
                `audio`.
            labels: as for `StructuredNoiseAudioForAudioClassification`.
            modality: `both`, `audio` or `video` instead of the configured one.
            **kwargs: `return_dict`.

        Returns:
            `logits` `(B, num_labels)` and, with labels, the `loss`.

        Raises:
            ValueError: if an input of the modality is missing, or an input or label does not fit the configuration.
        """
        pooled = self.pool(input_values, pixel_values, modality or self.config.modality)
        loss, logits = self.classify(pooled, labels, self.config.problem_type)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def pool(self, input_values: Tensor | None, pixel_values: Tensor | None, modality: str) -> Tensor:
        """Pool the features of a modality: `(B, hidden_size)`."""
        if modality not in MODALITIES:
            raise ValueError(f"modality must be one of {MODALITIES}, got {modality!r}")
        encoder = self.audio_video
        audio = encoder.encode_audio(input_values) if input_values is not None and modality != "video" else None
        video = encoder.encode_video(pixel_values) if pixel_values is not None and modality != "audio" else None
        if audio is not None and video is not None:
            check_batch(input_values=audio, pixel_values=video)
            return encoder.share(torch.cat([audio, video], dim=1), "both").mean(dim=1)
        tokens, given = (audio, "audio") if audio is not None else (video, "video")
        if tokens is None:
            needed = {"both": "input_values or pixel_values", "audio": "input_values", "video": "pixel_values"}
            raise ValueError(f"modality={modality!r} needs {needed[modality]}, got None")
        alone = encoder.share(tokens, given).mean(dim=1)
        if modality != "both":
            return alone
        return (encoder.share(tokens, "both").mean(dim=1) + alone) / 2
