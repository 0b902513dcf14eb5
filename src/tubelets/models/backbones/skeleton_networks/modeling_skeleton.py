"""Loading, input checks and the classifier of the networks of skeletons."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import can_return_tuple

from tubelets.models.backbones.skeleton_networks.configuration_skeleton import SkeletonConfig
from tubelets.models.common.backbone import Backbone
from tubelets.models.common.batch_checks import check_batch
from tubelets.models.common.classification_head import ClassificationHead
from tubelets.models.common.pretrained_model import SafePreTrainedModel


class SkeletonPreTrainedModel(SafePreTrainedModel):
    """Base class of the models of skeletons: loading, saving and initialisation."""

    config: Any
    base_model_prefix = "backbone"
    main_input_name = "skeletons"
    input_modalities = "skeleton"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)


class SkeletonModel(Backbone, SkeletonPreTrainedModel, abstract=True):
    """Base class of encoders of skeletons.

    Args:
        config: the configuration.
    """

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature."""
        return self.config.feature_size


class SkeletonForClassification(ClassificationHead, SkeletonPreTrainedModel):
    """Classifier on an encoder of skeletons: pooled feature, dropout, linear layer.

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

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module is self.classifier:
            # The linear evaluation of the paper starts here (skeleton_contrast.md, section 7.1).
            init.normal_(module.weight, std=0.01)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(self, skeletons: Tensor, labels: Tensor | None = None, **kwargs: Any) -> ImageClassifierOutput:
        """Score classes.

        Args:
            skeletons: float `(B, bodies, frames, joints, coordinates)`.
            labels: see `tubelets.objectives.classification.classification_loss`.
            **kwargs: `return_dict`.

        Returns:
            `logits` `(B, num_labels)` and, with labels, the `loss`.

        Raises:
            ValueError: if the skeletons or the labels do not fit.
        """
        encoded = self.base_model(skeletons, **{**kwargs, "return_dict": True})
        loss, logits = self.classify(encoded.pooler_output, labels, self.config.problem_type)
        return ImageClassifierOutput(loss=loss, logits=logits)


def check_clips(skeletons: Tensor, config: SkeletonConfig, num_frames: int | None = None) -> None:
    """Reject skeletons of another shape than a network reads.

    Args:
        skeletons: should be float `(B, bodies, frames, joints, coordinates)`.
        config: bodies, joints and coordinates.
        num_frames: frames that the network needs; None accepts any number.

    Raises:
        ValueError: naming the shape found and the one expected.

    Example:
        >>> check_clips(torch.zeros(1, 2, 64, 17, 3), SkeletonConfig())
        Traceback (most recent call last):
        ...
        ValueError: skeletons has shape (1, 2, 64, 17, 3), expected (clips, 2, frames, 25, 3); ...
    """
    check_batch(skeletons=skeletons)
    shape = tuple(skeletons.shape)
    expected = (config.num_bodies, num_frames or "frames", config.num_joints, config.num_coordinates)
    fits = skeletons.ndim == 5 and shape[2] > 0 and num_frames in (None, shape[2])
    if not fits or (shape[1], *shape[3:]) != (expected[0], *expected[2:]):
        raise ValueError(
            f"skeletons has shape {shape}, expected (clips, {', '.join(map(str, expected))}); prepare clips of the "
            f"layout {config.layout!r} with the model's processor"
        )
