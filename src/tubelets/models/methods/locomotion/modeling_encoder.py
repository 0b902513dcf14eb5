"""LocoMotion's towers together: an encoder of videos, of texts, and of both (locomotion.md, section 3)."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import ModelOutput, can_return_tuple

from tubelets.models.common.backbone import VideoBackbone
from tubelets.models.methods.locomotion.configuration_locomotion import LocoMotionConfig
from tubelets.models.methods.locomotion.modeling_towers import (
    LocoMotionPreTrainedModel,
    VideoTower,
    check_clips,
    check_texts,
)
from tubelets.models.methods.locomotion.text_encoder import FusionEncoder, TextEncoder
from tubelets.objectives.matching import frame_text_similarity


@dataclass
class LocoMotionOutput(ModelOutput):
    """Features of B clips and, if given, B texts.

    Args:
        last_hidden_state: `(B, T * (1 + patches), width)`, frame by frame, the class token of each first.
        pooler_output: `(B, width)`, its mean.
        video_embeds: `(B, projection_size)`, mean over frames of unit vectors; with texts.
        text_embeds: `(B, projection_size)` of unit length; with texts.
        logits_per_video: `(B, B)`, similarity of videos and texts over the temperature; with texts.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    video_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    logits_per_video: Tensor | None = None


class LocoMotionModel(VideoBackbone, LocoMotionPreTrainedModel):
    """Video tower, text tower, and the layers that join them; without texts a backbone of videos.

    Args:
        config: sizes.
        video_only: without everything that texts need, as in a classifier.

    Example:
        >>> tower = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 48}
        >>> video = {**tower, "image_size": 32, "temporal_head_size": 16}
        >>> config = LocoMotionConfig(
        ...     video_config=video, text_config={**tower, "vocab_size": 60}, fusion_encoder_config=tower
        ... )
        >>> model = LocoMotionModel(config)
        >>> model(torch.zeros(2, 4, 3, 32, 32)).last_hidden_state.shape
        torch.Size([2, 20, 32])
        >>> model.get_text_features(torch.tensor([[1, 7, 2]])).shape
        torch.Size([1, 256])
    """

    _keys_to_ignore_on_load_unexpected = [r"^matching_head\.", r"^language_head\.", r"^classifier\."]

    def __init__(self, config: LocoMotionConfig, video_only: bool = False) -> None:
        super().__init__(config)
        self.video_model = VideoTower(config.video_config, pools=not video_only)
        self.has_text = not video_only
        if self.has_text:
            self.text_model = TextEncoder(config.text_config)
            self.fusion_model = FusionEncoder(config.fusion_encoder_config)
            self.video_projection = nn.Linear(config.video_config.hidden_size, config.projection_size)
            self.text_projection = nn.Linear(config.text_config.hidden_size, config.projection_size)
            # A vector: FSDP2 cannot shard scalars.
            self.temperature = nn.Parameter(torch.full((1,), float(config.temperature)))
        self.post_init()
        self.freeze_unused()

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.config.hidden_size

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of patches."""
        return self.video_model.encoder.embeddings

    def freeze_unused(self) -> None:
        """Exclude BEiT's pooling from every optimiser where class tokens are contrasted instead."""
        if self.video_model.pooler is not None and self.config.video_config.pools_class_tokens:
            self.video_model.pooler.requires_grad_(False)

    def train(self, mode: bool = True) -> "LocoMotionModel":
        """Switch between training and evaluation; what is not used stays frozen in both."""
        # Loading replaces parameters by ones that require gradients, and then calls `eval`.
        self.freeze_unused()
        return super().train(mode)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> LocoMotionOutput:
        """Encode clips, and compare them with texts if any are given.

        Args:
            pixel_values: `(B, frames, channels, height, width)`, normalised float or raw uint8.
            input_ids: int64 `(B, L)`, one text for each clip, or None.
            attention_mask: int64 `(B, L)`, 1 for words and 0 for padding; None takes every `pad_token_id` for padding.
            **kwargs: `return_dict`.

        Returns:
            Features of the clips; with texts also those of the texts, and similarities.

        Raises:
            ValueError: if an input does not fit the configuration.
        """
        tokens, frames = self.encode_video(pixel_values)
        output = LocoMotionOutput(last_hidden_state=tokens.flatten(1, 2), pooler_output=tokens.mean(dim=(1, 2)))
        if input_ids is None:
            return output
        check_texts(self.config.text_config, pixel_values, input_ids=input_ids, attention_mask=attention_mask)
        video, text = self.video_vectors(frames), self.text_vectors(self.encode_text(input_ids, attention_mask))
        output.video_embeds, output.text_embeds = video.mean(dim=1), text
        output.logits_per_video = frame_text_similarity(video, text, self.temperature)
        return output

    def feature_map(self, pixel_values: Tensor) -> Tensor:
        """Features of clips on the grid of patches.

        Args:
            pixel_values: as for `forward`.

        Returns:
            `(B, width, frames, rows, columns)`.
        """
        tokens, _ = self.encode_video(pixel_values)
        rows = self.config.video_config.rows
        return tokens[:, :, 1:].unflatten(2, (rows, rows)).permute(0, 4, 1, 2, 3)

    def tokens(self, last_hidden_state: Tensor) -> Tensor:
        """Return the tokens of patches, without the class token of each frame; see `Backbone.tokens`."""
        per_frame = self.config.video_config.num_tokens
        return last_hidden_state.unflatten(1, (-1, per_frame))[:, :, 1:].flatten(1, 2)

    def get_video_features(self, pixel_values: Tensor) -> Tensor:
        """Features of clips, whose product with those of texts is the similarity.

        Args:
            pixel_values: as for `forward`.

        Returns:
            `(B, projection_size)`, the mean over frames of unit vectors.
        """
        return self.video_vectors(self.encode_video(pixel_values)[1]).mean(dim=1)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Features of texts.

        Args:
            input_ids: int64 `(C, L)`.
            attention_mask: as for `forward`.

        Returns:
            `(C, projection_size)` of unit length.
        """
        check_texts(self.config.text_config, input_ids=input_ids, attention_mask=attention_mask)
        return self.text_vectors(self.encode_text(input_ids, attention_mask))

    def encode_video(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens `(B, T, 1 + patches, width)` and vectors of frames `(B, T, width)`; see `VideoTower.forward`."""
        check_clips(pixel_values, self.config.video_config)
        return self.video_model(pixel_values)

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Tokens `(C, L, width)` of texts, which the first token pools."""
        return self.text_model(input_ids, self.words(input_ids, attention_mask))

    def words(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The mask of words `(C, L)`: the one given, or everything but padding."""
        return (input_ids != self.config.text_config.pad_token_id).long() if attention_mask is None else attention_mask

    def video_vectors(self, frames: Tensor) -> Tensor:
        """Contrasted vectors of frames: `(B, T, width)` to unit vectors `(B, T, projection_size)`."""
        return F.normalize(self.video_projection(frames).float(), dim=-1)

    def text_vectors(self, states: Tensor) -> Tensor:
        """Contrasted vectors of texts: `(C, L, width)` to unit vectors `(C, projection_size)`."""
        return F.normalize(self.text_projection(states[:, 0]).float(), dim=-1)
