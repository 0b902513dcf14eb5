"""Loading, initialisation, pooling and the classifier of the convolutional backbones."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.utils import can_return_tuple

from tubelets.models.backbones.convolutional.configuration_convolutional import ConvolutionalConfig
from tubelets.models.backbones.video_vit.pixels import normalize_pixels
from tubelets.models.common.backbone import VideoBackbone
from tubelets.models.common.batch_checks import check_batch
from tubelets.models.common.classification_head import ClassificationHead
from tubelets.models.common.pretrained_model import SafePreTrainedModel


class ConvolutionalPreTrainedModel(SafePreTrainedModel):
    """Base class of the convolutional models: loading, saving and initialisation."""

    config: Any
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = "video"
    supports_gradient_checkpointing = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # PyTorch's own, which the official pretraining keeps (tubelet_contrast.md, section 3.4).
        if isinstance(module, (nn.Conv3d, nn.Linear)):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.BatchNorm3d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)


class ConvolutionalModel(VideoBackbone, ConvolutionalPreTrainedModel):
    """A backbone of named stages that run one after the other.

    Args:
        config: the configuration.

    Attributes:
        memory_format: of the clips in memory, see `use_channels_last`.
    """

    stage_names: tuple[str, ...] = ()
    memory_format: torch.memory_format | None = None

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.config.feature_size

    def get_input_embeddings(self) -> nn.Module:
        """The first stage."""
        return self.get_submodule(self.stage_names[0])

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            pixel_values: `(B, frames, channels, height, width)`, normalised float or raw uint8.
            output_hidden_states: also return the feature map of every stage.
            **kwargs: `return_dict`.

        Returns:
            `last_hidden_state` `(B, feature_size, T, H, W)`, `pooler_output` `(B, feature_size)`, see `pool`, and, if
            requested, `hidden_states`: the maps of the stages in order.

        Raises:
            ValueError: if the video is not five-dimensional, or has another number of channels.
        """
        hidden = to_channels_first(pixel_values, self.config, self.memory_format)
        stages = []
        for name in self.stage_names:
            hidden = getattr(self, name)(hidden)
            stages.append(hidden)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden,
            pooler_output=self.pool(hidden),
            hidden_states=tuple(stages) if output_hidden_states else None,
        )

    def feature_map(self, pixel_values: Tensor) -> Tensor:
        """Features `(B, feature_size, T, H, W)` of clips; arguments as for `forward`."""
        return self(pixel_values, return_dict=True).last_hidden_state

    def pool(self, hidden: Tensor) -> Tensor:
        """Pool a feature map into one vector `(B, feature_size)` per clip; by default its mean over time and space."""
        return hidden.mean(dim=(2, 3, 4))


class ConvolutionalForVideoClassification(ClassificationHead, ConvolutionalPreTrainedModel):
    """Video classifier on a convolutional backbone: pooled feature, dropout, linear layer.

    Args:
        config: the configuration.
    """

    backbone_class: type[SafePreTrainedModel]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        setattr(self, self.base_model_prefix, self.backbone_class(config))
        self.add_classification_head(config.feature_size, config.num_labels, dropout=config.head_dropout)
        self.post_init()

    @can_return_tuple
    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs: Any) -> ImageClassifierOutput:
        """Score classes.

        Args:
            pixel_values: `(B, frames, channels, height, width)`, normalised float or raw uint8.
            labels: see `tubelets.objectives.classification.classification_loss`.
            **kwargs: `output_hidden_states`, `return_dict`.

        Returns:
            `logits` `(B, num_labels)` and, with labels, the `loss`.

        Raises:
            ValueError: if the video or the labels do not fit.
        """
        encoded = self.base_model(pixel_values, **{**kwargs, "return_dict": True})
        loss, logits = self.classify(encoded.pooler_output, labels, self.config.problem_type)
        return ImageClassifierOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


def use_channels_last(model: nn.Module) -> None:
    """Keep the channels of a convolutional model's weights and activations last in memory; results are the same.

    Meant for GPUs, whose matrix units read channels last; whether a network gains depends on GPU, precision and widths.
    Saved weights do not change.

    Args:
        model: changed in place.

    Raises:
        ValueError: if the model is not convolutional.

    Example:
        >>> from tubelets import ResNet3DConfig, ResNet3DModel
        >>> model = ResNet3DModel(ResNet3DConfig(hidden_sizes=(8, 16), depths=(1, 1), stem_size=6))
        >>> use_channels_last(model)
        >>> hidden = model(torch.zeros(1, 4, 3, 32, 32, dtype=torch.uint8)).last_hidden_state
        >>> hidden.is_contiguous(memory_format=torch.channels_last_3d)
        True
    """
    if not isinstance(model, ConvolutionalPreTrainedModel):
        raise ValueError(f"channels last are for convolutional models, got {type(model).__name__}; switch them off")
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-arg]
    for module in model.modules():
        if isinstance(module, ConvolutionalModel):
            module.memory_format = torch.channels_last_3d


def to_channels_first(
    pixel_values: Tensor, config: ConvolutionalConfig, memory_format: torch.memory_format | None = None
) -> Tensor:
    """Move the channels of clips before the frames, as 3-D convolutions expect, and normalise raw pixels.

    Args:
        pixel_values: `(B, frames, channels, height, width)`, normalised float or raw uint8.
        config: holds the number of channels, `image_mean` and `image_std`.
        memory_format: of the result; None leaves the layout to the first convolution.

    Returns:
        Float `(B, channels, frames, height, width)`.

    Raises:
        ValueError: if the video has another number of dimensions or channels.
    """
    if pixel_values.ndim != 5 or pixel_values.shape[2] != config.num_channels:
        raise ValueError(
            f"pixel_values has shape {tuple(pixel_values.shape)}, expected (clips, frames, {config.num_channels}, "
            "height, width)"
        )
    check_batch(pixel_values=pixel_values)
    if memory_format is None:
        return normalize_pixels(pixel_values, config, channel_dim=2).transpose(1, 2)
    # Bytes are rearranged, not the floats they become; the convolution then copies nothing.
    return normalize_pixels(pixel_values.transpose(1, 2).contiguous(memory_format=memory_format), config, channel_dim=1)
