"""Skeleton-Contrast (Thoker et al., ACM Multimedia 2021, arXiv 2108.03656): contrast across representations.

A skeleton clip is written as a sequence, a graph or an image. The query of one representation of one view must find the
key of another representation of another view among the keys in that representation's queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput, can_return_tuple

from tubelets.models.backbones.agcn.modeling_agcn import AgcnModel
from tubelets.models.backbones.bigru.modeling_bigru import BiGruModel
from tubelets.models.backbones.hcn.modeling_hcn import HcnModel
from tubelets.models.backbones.skeleton_networks.modeling_skeleton import (
    SkeletonForClassification,
    SkeletonModel,
    SkeletonPreTrainedModel,
    check_clips,
)
from tubelets.models.common.batch_checks import check_batch
from tubelets.models.common.momentum_keys import MomentumKeys
from tubelets.models.methods.skeleton_contrast.configuration_skeleton_contrast import SkeletonContrastConfig
from tubelets.objectives import KeyQueue, info_nce

ENCODER_MODELS: dict[str, Any] = {"sequence": BiGruModel, "graph": AgcnModel, "image": HcnModel}


@dataclass
class SkeletonContrastForPreTrainingOutput(ModelOutput):
    """Output of Skeleton-Contrast pretraining; B clips, K keys in a queue, R representations.

    Args:
        loss: scalar, the sum of the losses of all pairs.
        logits: `(pairs, B, 1 + K)`, similarities over the temperature, the positive key first; pairs as in
            `SkeletonContrastConfig.pairs`.
        query: `(R, B, projection_size)` of unit length.
        key: `(R, B, projection_size)` of unit length, without gradient.
        accuracy: scalar, share of queries whose nearest key is the positive one.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    query: Tensor | None = None
    key: Tensor | None = None
    accuracy: Tensor | None = None


class _SkeletonContrastPreTrainedModel(SkeletonPreTrainedModel):
    base_model_prefix = "encoder"
    _no_split_modules = ["TwoGrus", "AgcnBlock"]
    supports_gradient_checkpointing = True


class SkeletonContrastModel(SkeletonModel, _SkeletonContrastPreTrainedModel):
    """The encoders that are evaluated, one for each representation.

    Args:
        config: the representations and their encoders.
        representations: encoders to build; None is `config.evaluated`.

    Example:
        >>> config = SkeletonContrastConfig(sequence_options={"hidden_size": 8}, evaluated=["sequence"])
        >>> SkeletonContrastModel(config)(torch.zeros(1, 2, 64, 25, 3)).pooler_output.shape
        torch.Size([1, 16])
    """

    config: SkeletonContrastConfig
    config_class = SkeletonContrastConfig

    def __init__(self, config: SkeletonContrastConfig, representations: Sequence[str] | None = None) -> None:
        super().__init__(config)
        self.representations = tuple(config.evaluated_representations if representations is None else representations)
        configs = config.encoder_configs
        for name in self.representations:
            setattr(self, name, ENCODER_MODELS[name](configs[name]))
        self._keys_to_ignore_on_load_unexpected = _patterns(self, config) | {r"^classifier\."}
        self.post_init()

    @property
    def feature_size(self) -> int:
        """Width of the pooled feature: of all encoders."""
        return sum(self.encoder_of(name).feature_size for name in self.representations)

    def encoder_of(self, representation: str) -> Any:
        """The encoder of a representation."""
        return getattr(self, representation)

    def get_input_embeddings(self) -> nn.Module:
        """The first layer of the first encoder."""
        return self.encoder_of(self.representations[0]).get_input_embeddings()

    @can_return_tuple
    def forward(self, skeletons: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            skeletons: float `(B, bodies, frames, joints, coordinates)`.
            **kwargs: `return_dict`.

        Returns:
            `last_hidden_state` of the first encoder, see there, and `pooler_output` `(B, feature_size)`, the features
            of all encoders side by side.

        Raises:
            ValueError: if the skeletons do not fit the configuration.
        """
        outputs = [self.encoder_of(name)(skeletons, return_dict=True) for name in self.representations]
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs[0].last_hidden_state,
            pooler_output=torch.cat([output.pooler_output for output in outputs], dim=1),
        )

    def features(self, skeletons: Tensor) -> dict[str, Tensor]:
        """The pooled features of each encoder, `(B, width)` by representation; arguments as for `forward`."""
        return {name: self.encoder_of(name)(skeletons, return_dict=True).pooler_output for name in self.representations}


class SkeletonContrastForPreTraining(MomentumKeys, _SkeletonContrastPreTrainedModel):
    """Query encoders, momentum key encoders, their heads and queues (skeleton_contrast.md, section 4).

    Key encoders and queues are saved with the weights, so that a run resumes exactly.

    Args:
        config: the representations and the constants of the loss.

    Example:
        >>> small = {"sequence_options": {"hidden_size": 8}, "graph_options": {"hidden_sizes": [8, 16]}}
        >>> model = SkeletonContrastForPreTraining(SkeletonContrastConfig(**small, queue_size=8))
        >>> output = model(torch.rand(2, 2, 64, 25, 3), torch.rand(2, 2, 64, 25, 3))
        >>> output.logits.shape, model.queues["graph"].pointer.tolist()
        (torch.Size([2, 2, 9]), [2])
    """

    config: SkeletonContrastConfig
    config_class = SkeletonContrastConfig

    def __init__(self, config: SkeletonContrastConfig) -> None:
        super().__init__(config)
        names = tuple(config.representations)
        self.encoder = SkeletonContrastModel(config, names)
        self.projections = projection_heads(config)
        self.key_encoder = SkeletonContrastModel(config, names)
        self.key_projections = projection_heads(config)
        self.queues = nn.ModuleDict({name: KeyQueue(config.projection_size, config.queue_size) for name in names})
        self.post_init()
        self.copy_query_to_key()

    def key_modules(self) -> dict[str, str]:
        """The momentum encoders and their heads; see `MomentumKeys`."""
        return {"key_encoder": "encoder", "key_projections": "projections"}

    @can_return_tuple
    def forward(self, skeletons: Tensor, key_skeletons: Tensor, **kwargs: Any) -> SkeletonContrastForPreTrainingOutput:
        """Contrast two views of each clip; in training, add the new keys to the queues.

        The momentum encoders were updated before, see `update_weights`.

        Args:
            skeletons: float `(B, bodies, frames, joints, coordinates)`, the views of the queries.
            key_skeletons: the same of the keys.
            **kwargs: `return_dict`.

        Returns:
            The loss, logits against the queues as they were before this step, and the features.

        Raises:
            ValueError: if the views do not fit, or the queues are not a multiple of the global batch.
        """
        check_clips(skeletons, self.config)
        check_clips(key_skeletons, self.config)
        check_batch(skeletons=skeletons, key_skeletons=key_skeletons)
        queries = self.encode_queries(skeletons)
        keys = self.encode_keys(key_skeletons)
        losses, logits = [], []
        for own, other in self.config.pairs:
            # The backward pass needs the keys as they were before the update below.
            negatives = self.queues[other].keys.clone()
            loss, similarities = info_nce(queries[own], keys[other], negatives, self.config.temperature)
            losses.append(loss)
            logits.append(similarities)
        if self.training:
            for name, key in keys.items():
                self.queues[name].enqueue(key)
        stacked = torch.stack(logits)
        return SkeletonContrastForPreTrainingOutput(
            loss=torch.stack(losses).sum(),
            logits=stacked,
            query=torch.stack(list(queries.values())),
            key=torch.stack(list(keys.values())),
            accuracy=(stacked.detach().argmax(dim=-1) == 0).float().mean(),
        )

    def encode_queries(self, skeletons: Tensor) -> dict[str, Tensor]:
        """Features of the query encoders.

        Args:
            skeletons: float `(B, bodies, frames, joints, coordinates)`.

        Returns:
            `(B, projection_size)` of unit length, by representation.
        """
        return _projected(self.encoder.features(skeletons), self.projections)

    @torch.no_grad()
    def encode_keys(self, skeletons: Tensor) -> dict[str, Tensor]:
        """Features of the momentum encoders.

        Args:
            skeletons: float `(B, bodies, frames, joints, coordinates)`.

        Returns:
            `(B, projection_size)` of unit length, by representation.
        """
        return _projected(self.key_encoder.features(skeletons), self.key_projections)


class SkeletonContrastForSkeletonClassification(SkeletonForClassification, _SkeletonContrastPreTrainedModel):
    """Skeleton classifier on the evaluated encoders.

    Args:
        config: the representations, their encoders and the labels.

    Example:
        >>> config = SkeletonContrastConfig(sequence_options={"hidden_size": 8}, num_labels=5)
        >>> SkeletonContrastForSkeletonClassification(config)(torch.zeros(2, 2, 64, 25, 3)).logits.shape
        torch.Size([2, 5])
    """

    config: SkeletonContrastConfig
    config_class = SkeletonContrastConfig

    backbone_class = SkeletonContrastModel

    def __init__(self, config: SkeletonContrastConfig) -> None:
        super().__init__(config)
        self._keys_to_ignore_on_load_unexpected = _patterns(self.encoder, config)


def _patterns(model: SkeletonContrastModel, config: SkeletonContrastConfig) -> set[str]:
    """Weights of a pretraining checkpoint that a model of some of its encoders does not have."""
    others = [name for name in config.representations if name not in model.representations]
    return {r"^projections\.", r"^key_", r"^queues\.", *(rf"^(encoder\.)?{name}\." for name in others)}


def projection_heads(config: SkeletonContrastConfig) -> nn.ModuleDict:
    """The two-layer heads on the pooled features, by representation (skeleton_contrast.md, section 3.5)."""
    heads = {}
    for name, encoder in config.encoder_configs.items():
        width = encoder.feature_size
        heads[name] = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.projection_size))
    return nn.ModuleDict(heads)


def _projected(features: dict[str, Tensor], heads: nn.ModuleDict) -> dict[str, Tensor]:
    return {name: F.normalize(heads[name](feature).float(), dim=1) for name, feature in features.items()}
