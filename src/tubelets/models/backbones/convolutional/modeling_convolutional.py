"""What the convolutional backbones share: loading, initialisation, pooling and the classifier."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.utils import can_return_tuple

from tubelets.models.backbones.convolutional.configuration_convolutional import ConvolutionalConfig
from tubelets.models.backbones.video_vit.pixels import normalize_pixels
from tubelets.models.common.safe_loading import load_pretrained
from tubelets.objectives.classification import classification_loss


class ConvolutionalPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation of the convolutional models."""

    config: Any
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = "video"
    supports_gradient_checkpointing = False

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

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """Load as `transformers.PreTrainedModel.from_pretrained`, from safetensors only and never with random weights.

        Args:
            pretrained_model_name_or_path: a folder or a Hub id.
            *model_args: passed on.
            **kwargs: passed on.

        Returns:
            The model, and a report with `output_loading_info=True`.

        Raises:
            tubelets.models.common.errors.UnsafeCheckpointError: if the weights are pickled or files lead elsewhere.
            tubelets.models.common.errors.CheckpointLayoutError: if files are damaged, shapes do not fit, or the
                checkpoint is another method's.
            OSError: if there is no checkpoint.
        """
        return load_pretrained(super().from_pretrained, cls, pretrained_model_name_or_path, *model_args, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Do nothing: our code is an installed package, no file of it is copied next to a checkpoint."""


class ConvolutionalModel(ConvolutionalPreTrainedModel):
    """A backbone of named stages, run one after the other.

    Args:
        config: the configuration.
    """

    stage_names: tuple[str, ...] = ()

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
            `last_hidden_state` `(B, width, time, rows, columns)`, `pooler_output` `(B, width)`, its mean over time and
            place, and, if asked for, `hidden_states`: the maps of the stages in order.

        Raises:
            ValueError: if the video is not five-dimensional, or has other channels.
        """
        hidden = to_channels_first(pixel_values, self.config)
        stages = []
        for name in self.stage_names:
            hidden = getattr(self, name)(hidden)
            stages.append(hidden)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden,
            pooler_output=self.pool(hidden),
            hidden_states=tuple(stages) if output_hidden_states else None,
        )

    def pool(self, hidden: Tensor) -> Tensor:
        """One vector for each clip `(B, width)` of a feature map."""
        return hidden.mean(dim=(2, 3, 4))


class ConvolutionalForVideoClassification(ConvolutionalPreTrainedModel):
    """A backbone, its pooled feature and a linear layer.

    Args:
        config: the configuration.
    """

    backbone_class: type[ConvolutionalModel]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        setattr(self, self.base_model_prefix, self.backbone_class(config))
        self.dropout = nn.Dropout(config.head_dropout)
        self.classifier = nn.Linear(config.feature_size, config.num_labels)
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
        encoded = getattr(self, self.base_model_prefix)(pixel_values, **{**kwargs, "return_dict": True})
        logits = self.classifier(self.dropout(encoded.pooler_output))
        loss = None if labels is None else classification_loss(logits, labels, self.config.problem_type)
        return ImageClassifierOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


def to_channels_first(pixel_values: Tensor, config: ConvolutionalConfig) -> Tensor:
    """Bring clips into the order of 3-D convolutions; raw pixels are normalised.

    Args:
        pixel_values: `(B, frames, channels, height, width)`, normalised float or raw uint8.
        config: holds the number of channels, `image_mean` and `image_std`.

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
    if pixel_values.dtype != torch.uint8 and not pixel_values.is_floating_point():
        raise ValueError(f"pixel_values must be raw uint8 or normalised float, got {pixel_values.dtype}")
    return normalize_pixels(pixel_values, config, channel_dim=2).transpose(1, 2)
