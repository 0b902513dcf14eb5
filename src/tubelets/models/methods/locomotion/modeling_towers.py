"""LocoMotion's video tower, and loading, saving and initialisation of its models (locomotion.md, section 3)."""

import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.models.bert.modeling_bert import BertEmbeddings

from tubelets.models.backbones.video_vit.pixels import normalize_pixels
from tubelets.models.common.batch_checks import check_batch
from tubelets.models.common.pretrained_model import SafePreTrainedModel
from tubelets.models.methods.locomotion.configuration_locomotion import LocoMotionConfig
from tubelets.models.methods.locomotion.configuration_towers import LocoMotionTextConfig, LocoMotionVideoConfig
from tubelets.models.methods.locomotion.frame_encoder import (
    DividedTemporalAttention,
    FrameEmbeddings,
    FrameEncoder,
    LocoMotionFrameLayer,
    PackedAttention,
    RelativePositionBias,
    UnusedLinear,
    positions_in_time,
    relative_positions,
)
from tubelets.models.methods.locomotion.text_encoder import LanguageHead, LocoMotionTextLayer

logger = logging.getLogger("tubelets.models")


class VideoTower(nn.Module):
    """Frames through BEiT, and over time as the configuration says.

    Args:
        config: sizes.
        pools: with the norm of pooled frames, which only contrast needs.

    Example:
        >>> tower = VideoTower(LocoMotionVideoConfig(image_size=32, num_hidden_layers=1, temporal_attention="stacked"))
        >>> tokens, frames = tower(torch.zeros(2, 4, 3, 32, 32))
        >>> tokens.shape, frames.shape
        (torch.Size([2, 4, 5, 768]), torch.Size([2, 4, 768]))
    """

    def __init__(self, config: LocoMotionVideoConfig, pools: bool = True) -> None:
        super().__init__()
        self.config = config
        width, eps = config.hidden_size, config.layer_norm_eps
        self.encoder = FrameEncoder(config)
        self.layernorm = nn.LayerNorm(width, eps=eps)
        self.pooler = nn.LayerNorm(width, eps=eps) if pools else None
        self.temporal_embeddings: nn.Parameter | None = None
        self.temporal_layers: nn.ModuleList | None = None
        if config.temporal_attention == "stacked":
            self.temporal_embeddings = nn.Parameter(torch.zeros(1, config.num_frames, 1, width))
            self.temporal_layers = nn.ModuleList(LocoMotionTextLayer(config) for _ in range(config.temporal_num_layers))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encode clips.

        Args:
            pixel_values: `(B, T, channels, height, width)`, normalised float or raw uint8.

        Returns:
            Tokens `(B, T, 1 + patches, width)`, the class token of each frame first, and the vector of each frame
            `(B, T, width)`, None if frames are not pooled.
        """
        tokens, pooled = self.encode_frames(pixel_values)
        tokens = self.over_time(tokens)
        return tokens, tokens[:, :, 0] if pooled is not None and self.config.pools_class_tokens else pooled

    def encode_frames(self, pixel_values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens of frames before stacked attention, and BEiT's pooled frames; shapes as of `forward`."""
        raw = self.encoder(normalize_pixels(pixel_values, self.config, channel_dim=2))
        # BEiT pools tokens that are not normalised.
        return self.layernorm(raw), None if self.pooler is None else self.pooler(raw[:, :, 1:].mean(dim=2))

    def over_time(self, tokens: Tensor) -> Tensor:
        """Stacked attention over the tokens of one place in all frames; nothing with another kind.

        Args:
            tokens: `(B, T, tokens, width)`.

        Returns:
            The same shape. A single frame only receives its position.
        """
        if self.temporal_embeddings is None or self.temporal_layers is None:
            return tokens
        batch, frames, places, _ = tokens.shape
        tokens = tokens + positions_in_time(self.temporal_embeddings, frames).to(tokens.dtype)
        if frames == 1:
            return tokens
        states = tokens.transpose(1, 2).flatten(0, 1)
        for layer in self.temporal_layers:
            states = layer(states)
        return states.unflatten(0, (batch, places)).transpose(1, 2)


class LocoMotionPreTrainedModel(SafePreTrainedModel):
    """Loading, saving and initialisation shared by LocoMotion's models."""

    config: LocoMotionConfig
    config_class = LocoMotionConfig
    base_model_prefix = "locomotion"
    main_input_name = "pixel_values"
    input_modalities = "video"
    supports_gradient_checkpointing = True
    _no_split_modules = ["LocoMotionFrameLayer", "LocoMotionTextLayer", "LocoMotionFusionLayer"]
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: LocoMotionConfig) -> None:
        super().__init__(config)
        # transformers chooses for towers that are models of their own; these are not.
        config._attn_implementation = config._attn_implementation

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding)):
            init.normal_(module.weight, std=std)
            if isinstance(module, nn.Embedding):
                if module.padding_idx is not None:
                    init.zeros_(module.weight[module.padding_idx])
            elif module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        else:
            self._init_parameters(module)

    def _init_parameters(self, module: nn.Module) -> None:
        """Parameters and buffers that modules of ours hold themselves."""
        if isinstance(module, PackedAttention):
            init.normal_(module.in_proj_weight, std=self.config.initializer_range)
            init.zeros_(module.in_proj_bias)
        elif isinstance(module, RelativePositionBias):
            init.zeros_(module.relative_position_bias_table)
            init.copy_(module.relative_position_index, relative_positions(module.rows))
        elif isinstance(module, LocoMotionFrameLayer):
            scale = float(self.config.video_config.layer_scale_init_value)
            init.constant_(module.lambda_1, scale)
            init.constant_(module.lambda_2, scale)
        elif isinstance(module, LocoMotionPreTrainedModel) and "temperature" in module._parameters:
            init.constant_(module.temperature, float(self.config.temperature))
        elif isinstance(module, BertEmbeddings):
            init.copy_(module.position_ids, torch.arange(module.position_ids.shape[-1]).expand((1, -1)))
            init.zeros_(module.token_type_ids)
        else:
            for name in ZEROS.get(type(module), ()):
                if (value := getattr(module, name)) is not None:
                    init.zeros_(value)

    def resize_frames(self, num_frames: int) -> None:
        """Change the number of frames that have positions in time.

        Rows are kept; further ones are zeros, as in the base frameworks (locomotion.md, section 3.2).

        Args:
            num_frames: frames of a clip, at least 1.

        Example:
            >>> from tubelets import LocoMotionModel
            >>> sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 32}
            >>> sizes["temporal_head_size"] = 16
            >>> config = LocoMotionConfig(video_config=sizes, text_config={"vocab_size": 9})
            >>> model = LocoMotionModel(config)
            >>> model.resize_frames(8)
            >>> model.config.num_frames, model.video_model.encoder.embeddings.temporal_position_embeddings.shape
            (8, torch.Size([1, 8, 1, 32]))
        """
        if num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {num_frames}")
        for module in self.modules():
            for name in ("temporal_position_embeddings", "temporal_embeddings"):
                table = module._parameters.get(name)
                if table is not None:
                    missing = max(0, num_frames - table.shape[1])
                    rows = F.pad(table.detach()[:, :num_frames], (0, 0, 0, 0, 0, missing))
                    setattr(module, name, nn.Parameter(rows, requires_grad=table.requires_grad))
        self.config.video_config.num_frames = num_frames

    def resize_images(self, image_size: int) -> None:
        """Change the size of frames: biases of relative positions are interpolated, bicubic.

        Args:
            image_size: height and width in pixels, a multiple of the patch size.

        Source: locomotion.md, section 5; the interpolation is our choice.
        """
        video = self.config.video_config
        if image_size < video.patch_size or image_size % video.patch_size:
            raise ValueError(f"image_size={image_size} must be a multiple of patch_size={video.patch_size}")
        video.image_size = image_size
        for module in self.modules():
            if isinstance(module, RelativePositionBias):
                side, new = 2 * module.rows - 1, 2 * video.rows - 1
                table = module.relative_position_bias_table
                grid = table.detach()[:-3].T.unflatten(1, (side, side))[None]
                moved = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)[0].flatten(1).T
                module.rows = video.rows
                module.relative_position_bias_table = nn.Parameter(torch.cat([moved, table.detach()[-3:]]))
                module.relative_position_index = relative_positions(video.rows).to(table.device)


ZEROS: dict[type, tuple[str, ...]] = {
    FrameEmbeddings: ("cls_token", "temporal_position_embeddings"),
    DividedTemporalAttention: ("scale",),
    UnusedLinear: ("weight", "bias"),
    VideoTower: ("temporal_embeddings",),
    LanguageHead: ("bias",),
}
"""What starts with zeros."""


def check_clips(pixel_values: Tensor, config: LocoMotionVideoConfig) -> None:
    """Reject clips whose frames are not of the configured size; any number of frames is accepted.

    Args:
        pixel_values: `(clips, frames, channels, height, width)`.
        config: sizes.

    Raises:
        ValueError: naming the shape found and the one expected.
    """
    frame = (config.num_channels, config.image_size, config.image_size)
    if pixel_values.ndim != 5 or pixel_values.shape[2:] != frame or pixel_values.shape[1] == 0:
        raise ValueError(
            f"pixel_values has shape {tuple(pixel_values.shape)}, expected (clips, frames, channels, height, width) = "
            f"(any, any, {', '.join(map(str, frame))}); resize the frames, or change the configuration"
        )
    check_batch(pixel_values=pixel_values)


def check_texts(config: LocoMotionTextConfig, clips: Tensor | None = None, **texts: Tensor | None) -> None:
    """Reject texts that are not int64 matrices of a length that the model has positions for.

    Args:
        config: sizes.
        clips: clips that the texts belong to, one each.
        **texts: `(texts, words)` by name; None for those that are not given.

    Raises:
        ValueError: naming the argument, what was found and what to do.

    Example:
        >>> check_texts(LocoMotionTextConfig(), input_ids=torch.zeros(2, 3))
        Traceback (most recent call last):
        ...
        ValueError: input_ids must be int64, got torch.float32; convert the texts with the model's processor
    """
    given: dict[str, Any] = {name: value for name, value in texts.items() if value is not None}
    first = next(iter(given.values()), None)
    for name, value in given.items():
        if value.dtype != torch.int64:
            raise ValueError(f"{name} must be int64, got {value.dtype}; convert the texts with the model's processor")
        if value.ndim != 2 or value.shape[1:] != first.shape[1:] or not 1 <= value.shape[1] <= most_words(config):
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, expected (texts, words) with the same 1 to "
                f"{most_words(config)} words in every argument"
            )
        if torch.compiler.is_compiling():
            continue
        if not len(value):
            raise ValueError(f"{name} has shape {tuple(value.shape)} and no clips; pass at least one")
        count = len(first if clips is None else clips)
        if len(value) != count:
            raise ValueError(
                f"the inputs have different numbers of clips, {count} and {len(value)} of {name}; pass those of the "
                "same clips"
            )


def most_words(config: LocoMotionTextConfig) -> int:
    """The longest text that has positions."""
    return config.max_position_embeddings
