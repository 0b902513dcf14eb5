"""A dual encoder of videos and texts: any video backbone or image encoder beside any text tower.

Each side gives a vector of unit length; their dot products rank videos for a text and texts for a video. Like
`transformers.VisionTextDualEncoderModel`, for videos.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from tubelets.models.backbones.video_vit.pixels import normalize_pixels
from tubelets.models.common.backbone import Backbone
from tubelets.models.common.batch_checks import check_batch
from tubelets.models.common.pretrained_model import SafePreTrainedModel
from tubelets.models.common.token_checks import check_tokens
from tubelets.models.heads.video_text.configuration_video_text import VideoTextDualEncoderConfig
from tubelets.models.heads.video_text.temporal_pooling import TemporalTransformer
from tubelets.models.heads.video_text.towers import TextTower, VideoTower, build_encoder
from tubelets.objectives import video_text_contrastive_loss, video_text_sigmoid_loss

MAX_LOGIT_SCALE = math.log(100)
"""Largest logarithm of the factor on similarities, as in CLIP."""


@dataclass
class VideoTextOutput(ModelOutput):
    """Output of a dual encoder; V videos of S clips or frames, T texts.

    Args:
        loss: scalar, if it was asked for.
        logits_per_video: `(V, T)`, scaled similarities, with the bias of the sigmoid loss.
        logits_per_text: `(T, V)`.
        video_embeds: `(V, projection_dim)` of unit length.
        text_embeds: `(T, projection_dim)` of unit length; None without texts.
        last_hidden_state: `(V, S, width)`, a vector for each clip or frame, after the temporal transformer if there is
            one.
        pooler_output: `(V, projection_dim)`, the video embedding before it is scaled to unit length: the mean of the
            projected clips or frames, each of unit length, or the projected mean of the temporal transformer.
    """

    loss: Tensor | None = None
    logits_per_video: Tensor | None = None
    logits_per_text: Tensor | None = None
    video_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None


class VideoTextDualEncoderModel(Backbone, SafePreTrainedModel):
    """Two encoders and their projections to a common space.

    As a backbone it encodes videos alone.

    Args:
        config: towers, pooling and loss.
        video_model: a loaded encoder for the video side; None makes one of random weights.
        text_model: the same for the text side.

    Raises:
        ValueError: if a tower does not read clips, images or words, or widths do not fit.

    Example:
        >>> words = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        ...          "intermediate_size": 16, "vocab_size": 50}
        >>> clips = {"model_type": "resnet3d", "hidden_sizes": [8, 8, 8, 8], "stem_size": 4, "num_frames": 4}
        >>> config = VideoTextDualEncoderConfig(video_tower=clips, text_tower=words, projection_dim=12)
        >>> model = VideoTextDualEncoderModel(config).eval()
        >>> output = model(torch.rand(2, 4, 3, 32, 32), torch.randint(50, (3, 7)))
        >>> output.logits_per_text.shape, model.get_text_features(torch.randint(50, (3, 7))).shape
        (torch.Size([3, 2]), torch.Size([3, 12]))
    """

    config: VideoTextDualEncoderConfig
    config_class = VideoTextDualEncoderConfig
    base_model_prefix = "dual_encoder"
    main_input_name = "pixel_values"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(
        self,
        config: VideoTextDualEncoderConfig,
        video_model: nn.Module | None = None,
        text_model: nn.Module | None = None,
    ) -> None:
        super().__init__(config)
        # Other implementations are chosen by the towers, not all of which have the same ones.
        attention = "eager" if config._attn_implementation == "eager" else None
        video_config, text_config = config.video_model_config, config.text_model_config
        frames, channels = config.input_specs["pixel_values"].shape[:2]
        self._frames_channels = (frames, channels)
        self.video_tower = VideoTower(video_model or build_encoder(video_config, "video", attention), video_config)
        text_encoder = text_model or build_encoder(text_config, "text", attention)
        self.text_tower = TextTower(text_encoder, text_config, config.text_pooling)
        widths = self.video_tower.feature_size, self.text_tower.feature_size
        self.temporal = None
        if config.pooling == "temporal":
            layers, heads = config.temporal_layers, config.temporal_heads
            self.temporal = TemporalTransformer(widths[0], config.num_segments, layers, heads)
        if config.projection_dim is None and widths[0] != widths[1]:
            raise ValueError(
                f"features of width {widths[0]} and {widths[1]} cannot be compared without projections; set "
                "projection_dim"
            )
        self.video_projection, self.text_projection = (
            nn.Identity() if config.projection_dim is None else nn.Linear(width, config.projection_dim, bias=False)
            for width in widths
        )
        # One-dimensional, because sharding (FSDP2) takes no scalars.
        self.logit_scale = nn.Parameter(torch.tensor([float(config.logit_scale_init)]))
        self.logit_bias = None
        if config.loss_type == "sigmoid":
            self.logit_bias = nn.Parameter(torch.tensor([float(config.logit_bias_init)]))
        # What the towers keep on one device, and the blocks of the temporal transformer. Tables of words are sharded
        # alone: accelerate's FSDP2 does so with the input embeddings of a model.
        inner = [each for each in self.modules() if isinstance(each, PreTrainedModel) and each is not self]
        names = {name for each in inner for name in each._no_split_modules or () if not name.endswith("Embeddings")}
        self._no_split_modules = sorted({*names, "TemporalBlock"})
        self.post_init()
        self._freeze()

    @property
    def feature_size(self) -> int:
        """Width of the common space."""
        return self.config.projection_dim or self.video_tower.feature_size

    def get_input_embeddings(self) -> nn.Module:
        """The words of the text tower."""
        return self.text_tower.encoder.get_input_embeddings()

    def _freeze(self) -> None:
        """Take frozen towers out of training."""
        for frozen, tower in self._towers:
            if frozen:
                tower.requires_grad_(False)

    @property
    def _towers(self) -> tuple[tuple[bool, nn.Module], ...]:
        return (self.config.freeze_video, self.video_tower), (self.config.freeze_text, self.text_tower)

    def train(self, mode: bool = True) -> "VideoTextDualEncoderModel":
        """Switch between training and evaluation; frozen towers stay in evaluation mode."""
        super().train(mode)
        for frozen, tower in self._towers:
            if frozen:
                tower.eval()
        return self

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # The towers initialise themselves; open_clip's in their constructors, apart from a buffer.
        if module is self:
            init.constant_(self.logit_scale, float(self.config.logit_scale_init))
            if self.logit_bias is not None:
                init.constant_(self.logit_bias, float(self.config.logit_bias_init))
            for projection in (self.video_projection, self.text_projection):
                if isinstance(projection, nn.Linear):
                    init.normal_(projection.weight, std=projection.in_features**-0.5)
        elif isinstance(module, TemporalTransformer):
            module.reset_parameters()
        elif module is self.text_tower.encoder and (mask := self.text_tower.causal_mask()) is not None:
            init.copy_(*mask)

    def get_video_features(self, pixel_values: Tensor) -> Tensor:
        """Embeddings of videos.

        Args:
            pixel_values: `(V, segments * frames, channels, height, width)`, normalised float or raw uint8.

        Returns:
            `(V, projection_dim)` of unit length.

        Raises:
            ValueError: if the shape is another one.
        """
        return F.normalize(self._encode_videos(pixel_values)[1].float(), dim=1)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Embeddings of texts.

        Args:
            input_ids: int64 `(T, tokens)`.
            attention_mask: int64 `(T, tokens)`, 0 at padding; None if nothing is padded.

        Returns:
            `(T, projection_dim)` of unit length.

        Raises:
            ValueError: if shapes or types are other ones.
        """
        check_tokens(input_ids, attention_mask)
        return F.normalize(self.text_projection(self.text_tower(input_ids, attention_mask)).float(), dim=1)

    def _encode_videos(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of the clips or frames, and the projected video vector."""
        check_batch(pixel_values=pixel_values)
        if pixel_values.ndim != 5 or tuple(pixel_values.shape[1:3]) != self._frames_channels:
            frames, channels = self._frames_channels
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}, expected (videos, {frames}, {channels}, height, "
                "width)"
            )
        vectors = self.video_tower(normalize_pixels(pixel_values, self.config, channel_dim=2))  # type: ignore[arg-type]
        if self.temporal is not None:
            vectors = self.temporal(vectors)
            return vectors, self.video_projection(vectors.mean(dim=1))
        # Of unit length, so that the similarity of a video is the mean of those of its clips or frames.
        return vectors, F.normalize(self.video_projection(vectors).float(), dim=-1).mean(dim=1)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        caption_ids: Tensor | None = None,
        return_loss: bool | None = None,
        **kwargs: Any,
    ) -> VideoTextOutput:
        """Embed videos and texts and compare them.

        Args:
            pixel_values: `(V, segments * frames, channels, height, width)`, normalised float or raw uint8.
            input_ids: int64 `(T, tokens)`; None encodes videos alone.
            attention_mask: int64 `(T, tokens)`, 0 at padding; None if nothing is padded.
            caption_ids: int64 `(V,)`, equal for pairs whose videos and texts all fit each other, such as those with
                equal captions; None if each text fits its own video alone.
            return_loss: compute the loss; text i then belongs to video i, in every process.
            **kwargs: `return_dict`.

        Returns:
            See `VideoTextOutput`.

        Raises:
            ValueError: if shapes or types do not fit.
        """
        vectors, pooled = self._encode_videos(pixel_values)
        video = F.normalize(pooled.float(), dim=1)
        output = VideoTextOutput(video_embeds=video, last_hidden_state=vectors, pooler_output=pooled)
        if input_ids is None:
            return output
        if return_loss:
            check_tokens(input_ids, attention_mask, batch=len(pixel_values))
        text = output.text_embeds = self.get_text_features(input_ids, attention_mask)
        scale = self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        scores = video @ text.T * scale
        output.logits_per_video = scores if self.logit_bias is None else scores + self.logit_bias
        output.logits_per_text = output.logits_per_video.T
        if return_loss:
            output.loss = self.contrast(video, text, caption_ids)
        return output

    def contrast(self, video: Tensor, text: Tensor, caption_ids: Tensor | None = None) -> Tensor:
        """The configured loss of embeddings; with several processes that of the batches of all.

        Args:
            video: `(B, projection_dim)`.
            text: `(B, projection_dim)`, row i belongs to video i.
            caption_ids: int64 `(B,)`, see `forward`.

        Returns:
            Scalar.

        Raises:
            ValueError: if shapes or types do not fit.
        """
        if caption_ids is not None and (caption_ids.is_floating_point() or caption_ids.shape != video.shape[:1]):
            raise ValueError(
                f"caption_ids must be int64 ({len(video)},), a row for each of the videos, got {caption_ids.dtype} "
                f"{tuple(caption_ids.shape)}"
            )
        temperature = (-self.logit_scale.clamp(max=MAX_LOGIT_SCALE)).exp()
        if self.logit_bias is None:
            return video_text_contrastive_loss(video, text, temperature, caption_ids)
        return video_text_sigmoid_loss(video, text, temperature, self.logit_bias, caption_ids)

    @classmethod
    def from_video_text_pretrained(cls, video: Any, text: Any, **fields: Any) -> "VideoTextDualEncoderModel":
        """Join two trained encoders; projections, and a temporal transformer, start from random weights.

        Args:
            video: folder or Hub id of a video model of this package or of transformers, or of an image encoder;
                `open_clip:ARCHITECTURE/WEIGHTS`; or a loaded model.
            text: folder or Hub id of a text encoder of transformers, `open_clip:ARCHITECTURE/WEIGHTS`, or a loaded
                model; `stand_in:minilm_l6_v2` is a small sentence encoder that needs no Hub.
            **fields: further fields of `VideoTextDualEncoderConfig`, such as `freeze_text` and `num_segments`.

        Returns:
            The model, in evaluation mode.

        Raises:
            ValueError: if a side is neither a video, image nor text encoder.
            tubelets.models.common.errors.UnsafeCheckpointError: if files contain code, or need code of their
                repository.
            OSError: if there is no such model.

        Example:
            >>> import tempfile
            >>> from transformers import BertConfig, BertModel
            >>> from tubelets import ResNet3DConfig, ResNet3DModel
            >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
            >>> text = BertModel(BertConfig(**sizes, vocab_size=50))
            >>> video = ResNet3DModel(ResNet3DConfig(hidden_sizes=(8, 8, 8, 8), stem_size=4))
            >>> model = VideoTextDualEncoderModel.from_video_text_pretrained(video, text, freeze_text=True)
            >>> any(parameter.requires_grad for parameter in model.text_tower.parameters())
            False
        """
        from tubelets.models.heads.video_text.joining import join

        return join(cls, video, text, fields)

    @classmethod
    def from_image_text_pretrained(
        cls, where: Any, num_segments: int = 8, **fields: Any
    ) -> "VideoTextDualEncoderModel":
        """An image-text model that averages frames, without any new weights: the baseline of video-text models.

        Args:
            where: `open_clip:ARCHITECTURE/WEIGHTS`, or folder or Hub id of a CLIP or SigLIP of transformers, or one
                that is loaded.
            num_segments: frames of a video.
            **fields: further fields of `VideoTextDualEncoderConfig`.

        Returns:
            The model, in evaluation mode.

        Raises:
            ValueError: if it is another kind of model.
            tubelets.models.common.errors.UnsafeCheckpointError: if files contain code, or need code of their
                repository.
            OSError: if there is no such model.
        """
        from tubelets.models.heads.video_text.joining import take_over

        return take_over(cls, where, {"num_segments": num_segments, **fields})
