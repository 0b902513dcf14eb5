"""Video vision transformer of the masked-video methods: an encoder that embeds only the visible tubes.

Parameter names are those of `transformers.VideoMAEModel` and `VideoMAEForVideoClassification`; constants and
initialisation are the official code's (sigma.md, sections 2 and 7).
"""

import logging
import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.models.videomae.modeling_videomae import VideoMAELayer, VideoMAEPatchEmbeddings
from transformers.utils import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from tubelets.models.backbones.video_vit.attention import TubeletsVideoMAESelfAttention
from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig
from tubelets.models.backbones.video_vit.initialization import mark_initialization, mark_truncated_normal, mark_xavier
from tubelets.models.backbones.video_vit.pixels import normalize_pixels
from tubelets.models.backbones.video_vit.stock import save_as_videomae
from tubelets.models.backbones.video_vit.tubes import (
    check_video,
    count_masked,
    gather_tubes,
    position_table,
    split_tokens,
)
from tubelets.models.common.backbone import VideoBackbone
from tubelets.models.common.pretrained_model import SafePreTrainedModel
from tubelets.objectives.classification import classification_loss

logger = logging.getLogger("tubelets.models")

# Weights of a pretraining checkpoint that do not belong to the encoder.
PRETRAINING_KEYS = [r"^decoder\.", r"^encoder_to_decoder\.", r"^mask_token$", r"^prototypes$", r"^projection\."]


class TubeletsVideoMAEEmbeddings(nn.Module):
    """Patch embedding of the visible tubes, plus fixed positions."""

    def __init__(self, config: TubeletsVideoMAEConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embeddings = VideoMAEPatchEmbeddings(config)
        self.register_buffer("position_embeddings", position_table(config, config.hidden_size), persistent=False)

    def forward(self, pixel_values: Tensor, visible_ids: Tensor | None = None) -> Tensor:
        """Embed the visible tubes of float or uint8 clips: `(B, N_vis, hidden_size)`."""
        projection = self.patch_embeddings.projection
        tubes = normalize_pixels(gather_tubes(pixel_values, visible_ids, self.config), self.config, channel_dim=2)
        # The convolution of non-overlapping tubes as a linear layer.
        tokens = F.linear(tubes.flatten(2).to(projection.weight.dtype), projection.weight.flatten(1), projection.bias)
        positions = self.position_embeddings.to(tokens.dtype)
        return tokens + (positions if visible_ids is None else positions[0][visible_ids])


class TubeletsVideoMAELayer(VideoMAELayer):
    """Pre-norm transformer block with stochastic depth; a decoder's last block has fewer queries than keys."""

    def __init__(self, config: TubeletsVideoMAEConfig, drop_path: float = 0.0) -> None:
        super().__init__(config)
        self.attention.attention = TubeletsVideoMAESelfAttention(config)
        self.drop_path = StochasticDepth(drop_path, mode="row") if drop_path else nn.Identity()

    def forward(self, hidden_states: Tensor, num_queries: int | None = None) -> Tensor:  # type: ignore[override]
        """Transform `(B, N, width)`; with `num_queries`, only that many tokens at the end are returned."""
        residual = hidden_states if num_queries is None else hidden_states[:, -num_queries:]
        attended, _ = self.attention.attention(self.layernorm_before(hidden_states), num_queries)
        hidden_states = residual + self.drop_path(self.attention.output(attended, residual))
        expanded = self.intermediate(self.layernorm_after(hidden_states))
        return hidden_states + self.drop_path(self.output.dropout(self.output.dense(expanded)))


class TubeletsVideoMAEEncoder(nn.Module):
    """The encoder's stack of blocks; stochastic depth grows linearly with depth."""

    def __init__(self, config: TubeletsVideoMAEConfig) -> None:
        super().__init__()
        depth = config.num_hidden_layers
        rates = [config.drop_path_rate * index / max(depth - 1, 1) for index in range(depth)]
        self.layer = nn.ModuleList(TubeletsVideoMAELayer(config, rate) for rate in rates)
        self.gradient_checkpointing = False

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Transform `(B, N, hidden_size)`."""
        for layer in self.layer:
            hidden_states = layer(hidden_states)
        return hidden_states


class TubeletsVideoMAEPreTrainedModel(SafePreTrainedModel):
    """Loading, saving and initialisation shared by the masked-video models."""

    config: TubeletsVideoMAEConfig
    base_model_prefix = "videomae"
    main_input_name = "pixel_values"
    input_modalities = "video"
    stock_class: str | None = None  # class of transformers with the same outputs, see `stock`
    supports_gradient_checkpointing = True
    _no_split_modules = ["TubeletsVideoMAEEmbeddings", "TubeletsVideoMAELayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": TubeletsVideoMAELayer, "attentions": TubeletsVideoMAESelfAttention}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        scheme = getattr(module, "_tubelets_init", None)
        if isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and scheme is not None:
            scheme(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, (nn.Linear, nn.Conv3d)):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, TubeletsVideoMAEEmbeddings):
            init.copy_(module.position_embeddings, position_table(module.config, module.config.hidden_size))

    def adopt_positions(self, stored: Any) -> None:
        """Interpolate the positions that the weights were trained with to frames of another size."""
        config: Any = self.config
        if not isinstance(stored, TubeletsVideoMAEConfig) or config.position_grid is not None:
            return
        trained = stored.position_rows_columns
        if trained == config.grid[1:]:
            return
        logger.warning(
            "positions of %d x %d patches, with which the weights were trained, are interpolated to %d x %d",
            *trained,
            *config.grid[1:],
        )
        config.position_grid = trained
        for module in self.modules():
            table = module._buffers.get("position_embeddings")
            if table is not None:
                table.copy_(position_table(config, table.shape[2]))

    def save_pretrained(
        self,
        save_directory: Any,
        *args: Any,
        save_original_format: bool = False,
        as_videomae: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save as `transformers.PreTrainedModel.save_pretrained`, with the names the modules have in memory.

        Args:
            save_directory: folder to write.
            *args: passed on.
            save_original_format: True writes the names of old checkpoints, from which a Trainer cannot resume.
            as_videomae: write a stock VideoMAE checkpoint with its processors, which transformers loads without this
                package; for classifiers and encoders, see `tubelets.models.backbones.video_vit.stock`.
            **kwargs: passed on.

        Raises:
            tubelets.models.backbones.video_vit.stock.StockExportError: if stock VideoMAE cannot express the model.
        """
        if as_videomae:
            save_as_videomae(self, save_directory, *args, **kwargs)
            return
        super().save_pretrained(save_directory, *args, save_original_format=save_original_format, **kwargs)


class TubeletsVideoMAEModel(VideoBackbone, TubeletsVideoMAEPreTrainedModel):
    """Video ViT encoder that returns token features.

    Args:
        config: sizes and constants.
        initialize_blocks: marks how the blocks' weights are initialised; classifiers differ from pretraining.

    Example:
        >>> config = TubeletsVideoMAEConfig(image_size=32, num_frames=4, num_hidden_layers=1)
        >>> model = TubeletsVideoMAEModel(config)
        >>> model(torch.zeros(1, 4, 3, 32, 32)).last_hidden_state.shape
        torch.Size([1, 8, 768])
    """

    stock_class = "VideoMAEModel"
    _keys_to_ignore_on_load_unexpected = [*PRETRAINING_KEYS, r"^fc_norm\.", r"^classifier\."]

    def __init__(
        self, config: TubeletsVideoMAEConfig, initialize_blocks: Callable[[nn.ModuleList], None] | None = None
    ) -> None:
        super().__init__(config)
        self.embeddings = TubeletsVideoMAEEmbeddings(config)
        self.encoder = TubeletsVideoMAEEncoder(config)
        self.layernorm = None if config.use_mean_pooling else nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        (initialize_blocks or mark_xavier)(self.encoder.layer)
        self.post_init()

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.config.hidden_size

    def feature_map(self, pixel_values: Tensor) -> Tensor:
        """Features of clips on the token grid.

        Args:
            pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8.

        Returns:
            `(B, hidden_size, time, rows, columns)`.

        Raises:
            ValueError: if the video does not fit the configuration.

        Example:
            >>> config = TubeletsVideoMAEConfig(image_size=(32, 64), num_frames=4, num_hidden_layers=1)
            >>> TubeletsVideoMAEModel(config).feature_map(torch.zeros(1, 4, 3, 32, 64)).shape
            torch.Size([1, 768, 2, 2, 4])
        """
        tokens = self(pixel_values, return_dict=True).last_hidden_state
        return tokens.transpose(1, 2).unflatten(2, self.config.grid)

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of tubes."""
        # The whole module: its own forward never calls `patch_embeddings`, whose hooks (FSDP2's, PEFT's) would not run.
        return self.embeddings

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: Tensor,
        bool_masked_pos: Tensor | None = None,
        num_masked: int | None = None,
        visible_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Encode clips, or the visible tokens of masked clips.

        Args:
            pixel_values: `(B, num_frames, channels, height, width)`: float, normalised with the configured mean and
                standard deviation, or raw uint8, which the model normalises itself.
            bool_masked_pos: bool `(B, tokens)`, True = masked, the same number in every clip; None encodes all tokens.
            num_masked: masked tokens per clip; passing it avoids a synchronisation on accelerators.
            visible_ids: int64 `(B, N_vis)`, instead of `bool_masked_pos`.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `last_hidden_state` `(B, N_vis, hidden_size)`, after the final norm unless `use_mean_pooling`, and
            `pooler_output` `(B, hidden_size)`, its mean over tokens.

        Raises:
            ValueError: if the video or the mask does not fit the configuration.
        """
        check_video(pixel_values, self.config)
        if visible_ids is None and bool_masked_pos is not None:
            visible_ids, _ = self.split_tokens(pixel_values, bool_masked_pos, num_masked)
        tokens = self.encoder(self.embeddings(pixel_values, visible_ids))
        if self.layernorm is not None:
            tokens = self.layernorm(tokens)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=tokens.mean(dim=1))

    def split_tokens(
        self, pixel_values: Tensor, bool_masked_pos: Tensor, num_masked: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Indices `(B, N_vis)` of visible and `(B, M)` of masked tokens; see `tubes.count_masked` for the checks."""
        config = self.config
        check_video(pixel_values, config)
        count = count_masked(bool_masked_pos, num_masked, config.num_masked, len(pixel_values), config.num_tokens)
        return split_tokens(bool_masked_pos, count)


class TubeletsVideoMAEForVideoClassification(TubeletsVideoMAEPreTrainedModel):
    """Video classifier: mean over tokens, LayerNorm, linear head (sigma.md, section 7.1).

    As in the official fine-tuning, the encoder's final norm is dropped (`use_mean_pooling`) and `fc_norm` is new.

    Args:
        config: sizes, labels and constants.

    Example:
        >>> config = TubeletsVideoMAEConfig(image_size=32, num_frames=4, num_hidden_layers=1, num_labels=3)
        >>> model = TubeletsVideoMAEForVideoClassification(config)
        >>> model(torch.zeros(2, 4, 3, 32, 32), labels=torch.tensor([0, 2])).logits.shape
        torch.Size([2, 3])
    """

    stock_class = "VideoMAEForVideoClassification"
    _keys_to_ignore_on_load_unexpected = [*PRETRAINING_KEYS, r"^(videomae\.)?layernorm\."]

    def __init__(self, config: TubeletsVideoMAEConfig) -> None:
        config = with_mean_pooling(config, True)
        super().__init__(config)
        self.num_labels = config.num_labels
        self.videomae = TubeletsVideoMAEModel(config, mark_truncated_normal)
        self.fc_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.head_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        # `head_init_scale` times a truncated normal is a truncated normal with scaled deviation and bounds.
        scale = config.head_init_scale
        mark_initialization(self.classifier, init.trunc_normal_, std=0.02 * scale, a=-2.0 * scale, b=2.0 * scale)
        self.post_init()

    @can_return_tuple
    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs: Any) -> ImageClassifierOutput:
        """Score classes.

        Args:
            pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8.
            labels: int64 `(B,)` class indices, float `(B, num_labels)` class probabilities (mixup), or float
                `(B, num_labels)` in {0, 1} with `config.problem_type = "multi_label_classification"`.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `logits` `(B, num_labels)` and, with labels, the `loss`.

        Raises:
            ValueError: if the video does not fit the configuration, or labels are out of range (checked on CPU; an
                accelerator raises its own error) or of another shape.
        """
        encoded = self.videomae(pixel_values, return_dict=True, **kwargs)
        logits = self.classifier(self.dropout(self.fc_norm(encoded.pooler_output)))
        loss = None if labels is None else classification_loss(logits, labels, self.config.problem_type)
        return ImageClassifierOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )


def with_mean_pooling(config: TubeletsVideoMAEConfig, value: bool) -> TubeletsVideoMAEConfig:
    """The configuration with that `use_mean_pooling`, copied if it has to change."""
    if config.use_mean_pooling is value:
        return config
    config = deepcopy(config)
    config.use_mean_pooling = value
    return config
