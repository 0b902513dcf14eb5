"""Tubelet-Contrast (Thoker et al., ICCV 2023, arXiv 2303.11003): contrast of clips that share only motion.

The same moving patches are pasted into clips of two videos. A query encoder encodes the clip that the patches were cut
from, a momentum encoder the other; the pair must be identified among the keys in a queue.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput, can_return_tuple

from tubelets.models.backbones.convolutional.modeling_convolutional import (
    ConvolutionalForVideoClassification,
    ConvolutionalModel,
    ConvolutionalPreTrainedModel,
)
from tubelets.models.backbones.i3d.modeling_i3d import I3DModel
from tubelets.models.backbones.resnet3d.modeling_resnet3d import ResNet3DModel
from tubelets.models.common.backbone import VideoBackbone
from tubelets.models.common.batch_checks import check_batch
from tubelets.models.common.momentum_keys import MomentumKeys
from tubelets.models.methods.tubelet_contrast.configuration_tubelet_contrast import TubeletContrastConfig
from tubelets.objectives import (
    KeyQueue,
    info_nce,
    shuffle_batches,
    symmetric_nce,
    unshuffle_batches,
)


@dataclass
class TubeletContrastForPreTrainingOutput(ModelOutput):
    """Output of Tubelet-Contrast pretraining; B pairs of clips, K keys in the queue.

    Args:
        loss: scalar.
        logits: `(B, 1 + K)`, similarities over the temperature, the positive key first; with a shared encoder `(P, P)`,
            P the pairs of all processes, positives on the diagonal.
        query: `(B, projection_size)` of unit length.
        key: `(B, projection_size)` of unit length; without gradient unless the encoder is shared.
        accuracy: scalar, share of queries whose nearest key is the positive one.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    query: Tensor | None = None
    key: Tensor | None = None
    accuracy: Tensor | None = None


class TubeletContrastModel(VideoBackbone, ConvolutionalPreTrainedModel):
    """The video encoder: the configured convolutional backbone.

    Args:
        config: the backbone and its sizes.

    Example:
        >>> small = {"hidden_sizes": [8, 16, 24, 32], "stem_size": 6}
        >>> model = TubeletContrastModel(TubeletContrastConfig(backbone_options=small))
        >>> model(torch.zeros(1, 8, 3, 32, 32)).pooler_output.shape
        torch.Size([1, 32])
    """

    config: TubeletContrastConfig
    config_class = TubeletContrastConfig
    base_model_prefix = "encoder"
    _keys_to_ignore_on_load_unexpected = [r"^projection\.", r"^key_", r"^queue\.", r"^classifier\."]

    def __init__(self, config: TubeletContrastConfig) -> None:
        super().__init__(config)
        self.backbone = build_backbone(config)
        self.post_init()

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.config.feature_size

    def get_input_embeddings(self) -> nn.Module:
        """The first stage of the backbone."""
        return self.backbone.get_input_embeddings()

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode clips; see `ConvolutionalModel.forward`.

        Args:
            pixel_values: `(B, frames, channels, height, width)`, normalised float or raw uint8.
            **kwargs: `output_hidden_states`, `return_dict`.

        Returns:
            `last_hidden_state` `(B, width, time, rows, columns)` and `pooler_output` `(B, width)`.
        """
        return self.backbone(pixel_values, **kwargs)

    def feature_map(self, pixel_values: Tensor) -> Tensor:
        """Features `(B, feature_size, T, H, W)` of clips; arguments as for `forward`."""
        return self.backbone.feature_map(pixel_values)


class TubeletContrastForPreTraining(MomentumKeys, ConvolutionalPreTrainedModel):
    """Query encoder, momentum key encoder, their heads, and the queue (tubelet_contrast.md, section 4).

    The key encoder and the queue are saved with the weights, so that a run resumes exactly.

    Args:
        config: the backbone and the constants of the loss.

    Example:
        >>> small = {"hidden_sizes": [8, 16, 24, 32], "stem_size": 6}
        >>> model = TubeletContrastForPreTraining(TubeletContrastConfig(backbone_options=small, queue_size=8))
        >>> output = model(torch.rand(2, 8, 3, 32, 32), torch.rand(2, 8, 3, 32, 32))
        >>> output.logits.shape, model.queue.pointer.tolist()
        (torch.Size([2, 9]), [2])
    """

    config: TubeletContrastConfig
    config_class = TubeletContrastConfig
    base_model_prefix = "encoder"

    def __init__(self, config: TubeletContrastConfig) -> None:
        super().__init__(config)
        self.encoder = TubeletContrastModel(config)
        self.projection = projection_head(config)
        self.has_key_encoder = config.key_encoder == "momentum"
        if self.has_key_encoder:
            self.key_encoder = TubeletContrastModel(config)
            self.key_projection = projection_head(config)
            self.queue = KeyQueue(config.projection_size, config.queue_size)
        self.post_init()
        self.copy_query_to_key()

    def key_modules(self) -> dict[str, str]:
        """The momentum encoder and its head, if there is one; see `MomentumKeys`."""
        return {"key_encoder": "encoder", "key_projection": "projection"} if self.has_key_encoder else {}

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, key_pixel_values: Tensor, **kwargs: Any
    ) -> TubeletContrastForPreTrainingOutput:
        """Contrast pairs of clips; in training, add the new keys to the queue.

        The momentum encoder was updated before, see `update_weights`.

        Args:
            pixel_values: `(B, frames, channels, height, width)`, normalised float or raw uint8: the clips that the
                patches were cut from.
            key_pixel_values: the same of their partners.
            **kwargs: `return_dict`.

        Returns:
            The loss, logits against the queue as it was before this step, and both features.

        Raises:
            ValueError: if clips do not fit, or the queue is not a multiple of the global batch.
        """
        query = self.encode_queries(pixel_values)
        if not self.has_key_encoder:
            key = self.encode_queries(key_pixel_values)
            check_batch(pixel_values=query, key_pixel_values=key)
            loss, logits = symmetric_nce(query, key, self.config.temperature)
            own = torch.arange(len(logits), device=logits.device)
            accuracy = (logits.detach().argmax(dim=1) == own).float().mean()
            return TubeletContrastForPreTrainingOutput(loss, logits, query, key, accuracy)
        key = self.encode_keys(key_pixel_values)
        check_batch(pixel_values=query, key_pixel_values=key)
        # The backward pass needs the keys as they were before the update below.
        loss, logits = info_nce(query, key, self.queue.keys.clone(), self.config.temperature)
        if self.training:
            self.queue.enqueue(key)
        accuracy = (logits.detach().argmax(dim=1) == 0).float().mean()
        return TubeletContrastForPreTrainingOutput(loss, logits, query, key, accuracy)

    def encode_queries(self, pixel_values: Tensor) -> Tensor:
        """Features of the query encoder.

        Args:
            pixel_values: `(B, frames, channels, height, width)`, normalised float or raw uint8.

        Returns:
            `(B, projection_size)` of unit length.
        """
        return F.normalize(self.projection(self.encoder(pixel_values).pooler_output).float(), dim=1)

    @torch.no_grad()
    def encode_keys(self, pixel_values: Tensor) -> Tensor:
        """Features of the momentum encoder.

        Args:
            pixel_values: `(B, frames, channels, height, width)`, normalised float or raw uint8.

        Returns:
            `(B, projection_size)` of unit length.
        """
        order = None
        if self.training and self.config.shuffle_batches:
            pixel_values, order = shuffle_batches(pixel_values)
        key = F.normalize(self.key_projection(self.key_encoder(pixel_values).pooler_output).float(), dim=1)
        return key if order is None else unshuffle_batches(key, order)


class TubeletContrastForVideoClassification(ConvolutionalForVideoClassification):
    """Video classifier on Tubelet-Contrast's encoder: mean over time and space, dropout, linear layer.

    Args:
        config: the backbone and the labels.

    Example:
        >>> small = {"hidden_sizes": [8, 16, 24, 32], "stem_size": 6}
        >>> model = TubeletContrastForVideoClassification(TubeletContrastConfig(backbone_options=small, num_labels=5))
        >>> model(torch.zeros(2, 8, 3, 32, 32)).logits.shape
        torch.Size([2, 5])
    """

    config: TubeletContrastConfig
    config_class = TubeletContrastConfig
    backbone_class = TubeletContrastModel
    base_model_prefix = "encoder"
    _keys_to_ignore_on_load_unexpected = [r"^projection\.", r"^key_", r"^queue\."]


def build_backbone(config: TubeletContrastConfig) -> ConvolutionalModel:
    """The backbone of a configuration, with random weights."""
    sizes = config.backbone_config
    return I3DModel(sizes) if config.backbone == "i3d" else ResNet3DModel(sizes)


def projection_head(config: TubeletContrastConfig) -> nn.Sequential:
    """The two-layer head on the pooled feature (tubelet_contrast.md, section 4.1)."""
    width = config.feature_size
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, config.projection_size))
