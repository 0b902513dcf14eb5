"""The two sides of a dual encoder: clips or frames to vectors, and tokens to a vector.

A video tower returns one vector for each segment of a video: a clip of a video backbone, pooled by the backbone itself,
or a frame of an image encoder. A text tower returns one vector for each text.
"""

from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig

from tubelets.data.modalities.specs import VideoSpec
from tubelets.models.backbones.adapters import FAMILIES, as_backbone
from tubelets.models.common.configuration import RegisteredConfig
from tubelets.models.common.inputs import model_inputs
from tubelets.models.heads.video_text.configuration_video_text import OPEN_CLIP

# Text encoders of transformers whose pooler was trained to be compared with pictures.
COMPARED = {
    "altclip_text_model", "chinese_clip_text_model", "clip_text_model", "metaclip_2_text_model", "siglip2_text_model",
    "siglip_text_model", "xclip_text_model",
}  # fmt: skip
# Text encoders that take a mask of scores as well as one of tokens. From one of tokens, transformers reads whether
# there is padding at all, for which an accelerator is waited for in every step.
TAKES_SCORES = {"albert", "bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"}
# The smallest other side of an open_clip model, which is built and dropped.
_NO_PICTURES = {"layers": 1, "width": 64, "head_width": 64, "patch_size": 8, "image_size": 8}
_NO_WORDS = {"layers": 1, "width": 8, "heads": 1, "context_length": 1, "vocab_size": 2}


def is_video_model(config: PreTrainedConfig) -> bool:
    """Whether a tower reads clips; otherwise it reads single frames.

    Example:
        >>> from transformers import ViTConfig, VideoMAEConfig
        >>> is_video_model(VideoMAEConfig()), is_video_model(ViTConfig())
        (True, False)
    """
    return isinstance(config, RegisteredConfig) or config.model_type in FAMILIES


def video_input(config: PreTrainedConfig) -> VideoSpec:
    """One segment of a video tower: a clip, or a single frame.

    Args:
        config: of the tower.

    Returns:
        Its number of frames, size and channels; mean and deviation do not count.

    Raises:
        ValueError: if the tower has other inputs than one clip or image.

    Example:
        >>> from transformers import ViTConfig
        >>> video_input(ViTConfig()).shape
        (1, 3, 224, 224)
    """
    if is_video_model(config):
        specs = list(model_inputs(config).values())
        if len(specs) == 1 and isinstance(specs[0], VideoSpec):
            return specs[0]
        kinds = ", ".join(f"{name} ({spec.modality})" for name, spec in model_inputs(config).items())
        raise ValueError(f"the video tower is of type {config.model_type!r}, which expects {kinds}, not one clip")
    fields = config.to_dict()
    if config.model_type == OPEN_CLIP:
        fields = {"image_size": 224, **(fields.get("vision_cfg") or {})}
    size = fields.get("image_size")
    if size is None:
        raise ValueError(
            f"the video tower is of type {config.model_type!r}, which states no image_size; give a video backbone or "
            "an image encoder"
        )
    height, width = (size, size) if isinstance(size, int) else size
    return VideoSpec(1, (height, width), fields.get("num_channels", 3))


def text_size(config: PreTrainedConfig) -> int:
    """Number of different tokens of a text tower.

    Example:
        >>> from transformers import BertConfig
        >>> text_size(BertConfig())
        30522
    """
    fields = config.to_dict()
    if config.model_type == OPEN_CLIP:
        return int((fields.get("text_cfg") or {}).get("vocab_size", 49408))
    if "vocab_size" not in fields:
        raise ValueError(f"the text tower is of type {config.model_type!r}, which has no words; give a text encoder")
    return int(fields["vocab_size"])


def build_encoder(config: PreTrainedConfig, side: str, attention: str | None = None) -> nn.Module:
    """An encoder with random weights.

    Args:
        config: of the tower.
        side: "video" or "text".
        attention: implementation of attention in transformers' models; None is their own choice.

    Returns:
        A model of this package or of transformers, or one side of an open_clip model.

    Raises:
        ValueError: if open_clip's configuration lacks the side, or names a model of another library.
    """
    if config.model_type == OPEN_CLIP:
        return _open_clip_side(config.to_dict(), side)
    return AutoModel.from_config(config, **({} if attention is None else {"attn_implementation": attention}))


def _open_clip_side(fields: dict[str, Any], side: str) -> nn.Module:
    """One side of an open_clip model from its configuration."""
    name = {"video": "vision_cfg", "text": "text_cfg"}[side]
    own = fields.get(name)
    if not isinstance(own, dict) or "embed_dim" not in fields:
        raise ValueError(f"an open_clip tower needs embed_dim and {name}, got {sorted(fields)[:10]}")
    foreign = [key for key in ("timm_model_name", "hf_model_name") if own.get(key)]
    if foreign:
        raise ValueError(
            f"this open_clip model takes its {side} side from another library ({foreign[0]}={own[foreign[0]]!r}); name "
            "that model of transformers or timm as the tower itself"
        )
    # Token features are of no use to a dual encoder, and change what a tower returns.
    sides = {"vision_cfg": _NO_PICTURES, "text_cfg": _NO_WORDS, name: {**own, "output_tokens": False}}
    model = open_clip.CustomTextCLIP(fields["embed_dim"], quick_gelu=bool(fields.get("quick_gelu")), **sides)
    return model.visual if side == "video" else model.text


class VideoTower(nn.Module):
    """Clips of a video backbone, or frames of an image encoder, to vectors.

    Args:
        encoder: what `build_encoder` gives, or a loaded model of the same kind.
        config: its configuration.
    """

    def __init__(self, encoder: nn.Module, config: PreTrainedConfig) -> None:
        super().__init__()
        self.frames = video_input(config).num_frames
        self.reads_clips, self.is_open_clip = is_video_model(config), config.model_type == OPEN_CLIP
        self.encoder: Any = as_backbone(encoder) if self.reads_clips else encoder
        self.feature_size = int(config.embed_dim) if self.is_open_clip else self._width(config)

    def _width(self, config: PreTrainedConfig) -> int:
        if self.reads_clips:
            return self.encoder.feature_size
        fields = config.to_dict()
        return fields.get("hidden_size") or fields["hidden_sizes"][-1]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Vectors `(B, segments, feature_size)` of normalised videos `(B, segments * frames, C, H, W)`."""
        batch, frames = pixel_values.shape[:2]
        segments = frames // self.frames
        if self.reads_clips:
            clips = pixel_values.reshape(batch * segments, self.frames, *pixel_values.shape[2:])
            pooled = self.encoder(clips).pooler_output
        elif self.is_open_clip:
            pooled = self.encoder(pixel_values.flatten(0, 1))
        else:
            pooled = self.encoder(pixel_values=pixel_values.flatten(0, 1)).pooler_output
        return pooled.reshape(batch, segments, self.feature_size)


class TextTower(nn.Module):
    """Tokens to one vector for each text.

    Args:
        encoder: what `build_encoder` gives, or a loaded model of the same kind.
        config: its configuration.
        pooling: see `VideoTextDualEncoderConfig.text_pooling`.

    Raises:
        ValueError: if it is no text encoder, or has no pooler and its pooler is asked for.
    """

    def __init__(self, encoder: nn.Module, config: PreTrainedConfig, pooling: str = "auto") -> None:
        super().__init__()
        text_size(config)  # refuses what reads no words
        self.encoder: Any = encoder
        self.is_open_clip = config.model_type == OPEN_CLIP
        self.takes_scores = config.model_type in TAKES_SCORES
        self.pooling = pooling
        if pooling == "auto":
            self.pooling = "pooler" if self.is_open_clip or config.model_type in COMPARED else "mean"
        # Configurations of transformers translate other names of this width.
        self.feature_size = int(config.embed_dim if self.is_open_clip else config.hidden_size)
        pooler = dict(encoder.named_children()).get("pooler")
        if self.pooling != "pooler" and pooler is not None:
            # Its weights would never be trained, and processes that wait for their gradients would stop.
            encoder.pooler = None
        if self.pooling == "pooler" and pooler is None and not self.is_open_clip and config.model_type not in COMPARED:
            raise ValueError(f"{config.model_type!r} has no pooler; set text_pooling to 'mean' or 'first'")

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Vectors `(B, feature_size)` of ids `(B, tokens)`; the mask is 0 at padding."""
        if self.is_open_clip:
            return self.encoder(input_ids)
        mask = attention_mask
        if self.takes_scores and mask is not None:
            dtype = self.encoder.dtype
            mask = (1 - mask[:, None, None].to(dtype)) * torch.finfo(dtype).min
        output = self.encoder(input_ids=input_ids, attention_mask=mask)
        if self.pooling == "pooler":
            return output.pooler_output
        tokens = output.last_hidden_state
        if self.pooling == "first":
            return tokens[:, 0]
        if attention_mask is None:
            return tokens.mean(dim=1)
        weights = attention_mask[..., None].to(tokens.dtype)
        return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)

    def causal_mask(self) -> tuple[Tensor, Tensor] | None:
        """The buffer that open_clip computes instead of saving, and its values; None for other towers."""
        if not self.is_open_clip or self.encoder.attn_mask is None:
            return None
        mask = self.encoder.attn_mask
        return mask, torch.full(mask.shape, -torch.inf).triu(1)
