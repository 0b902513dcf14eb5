"""SIGMA: Sinkhorn-guided masked video modelling (Salehi et al., ECCV 2024, arXiv 2407.15447).

A video ViT predicts features of masked tubes; predicted and projected features are assigned to shared prototypes by an
optimal transport that is balanced over the batch, and each branch predicts the other's assignment. Labels are the
argmax of the assignments as in the official code, where the paper's formula has them soft (`hard_labels=False`).
"""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import can_return_tuple

from tubelets.kernels.products import Linear
from tubelets.models.backbones.video_vit.modeling_video_vit import (
    TubeletsVideoMAEForVideoClassification,
    TubeletsVideoMAEModel,
)
from tubelets.models.methods.masked_video.feature_targets import FeatureTargetAutoencoder
from tubelets.models.methods.masked_video.modeling_masked_video import MaskedVideoOutput
from tubelets.models.methods.sigma.configuration_sigma import SigmaConfig
from tubelets.objectives import (
    PrototypeAssignment,
    assignment_statistics,
    masked_regression_loss,
    swapped_prediction_loss,
)


@dataclass
class SigmaForPreTrainingOutput(MaskedVideoOutput):
    """Output of SIGMA pretraining; B clips, M masked tokens each, K prototypes, D the prediction size.

    Every scalar field is a number worth logging. Fields that need prototypes are None for the regression loss.

    Args:
        projections: `(B, M, D)` features of the projection branch.
        projection_loss: scalar, the projection branch predicting the video model's assignment.
        prediction_loss: scalar, the video model predicting the projection branch's assignment.
        projection_labels: int64 `(B, M)` prototype of each projection.
        prediction_labels: int64 `(B, M)` prototype of each prediction.
        projection_entropy: scalar, entropy of the prototypes' usage by projections in nats.
        prediction_entropy: scalar, the same for predictions.
        projection_used_prototypes: scalar, prototypes used by at least one projection of this process's batch.
        prediction_used_prototypes: scalar, the same for predictions.
        projection_assignment: gives scores and soft assignments of the projections, `(B * M, K)`, when asked.
        prediction_assignment: gives the same of the predictions.
    """

    projections: Tensor | None = None
    projection_loss: Tensor | None = None
    prediction_loss: Tensor | None = None
    projection_labels: Tensor | None = None
    prediction_labels: Tensor | None = None
    projection_entropy: Tensor | None = None
    prediction_entropy: Tensor | None = None
    projection_used_prototypes: Tensor | None = None
    prediction_used_prototypes: Tensor | None = None
    projection_assignment: PrototypeAssignment | None = None
    prediction_assignment: PrototypeAssignment | None = None


class SigmaModel(TubeletsVideoMAEModel):
    """SIGMA's video encoder: token features of clips.

    Args:
        config: sizes and constants.
        initialize_blocks: marks how the blocks' weights are initialised.

    Example:
        >>> config = SigmaConfig(image_size=32, num_frames=4, num_hidden_layers=1)
        >>> SigmaModel(config)(torch.zeros(1, 4, 3, 32, 32)).pooler_output.shape
        torch.Size([1, 768])
    """

    config: SigmaConfig


class SigmaForVideoClassification(TubeletsVideoMAEForVideoClassification):
    """Video classifier on SIGMA's encoder: mean over tokens, LayerNorm, linear head (sigma.md, section 7.1).

    Args:
        config: sizes, labels and constants.

    Example:
        >>> config = SigmaConfig(image_size=32, num_frames=4, num_hidden_layers=1, num_labels=3)
        >>> SigmaForVideoClassification(config)(torch.zeros(2, 4, 3, 32, 32)).logits.shape
        torch.Size([2, 3])
    """

    config: SigmaConfig


class SigmaForPreTraining(FeatureTargetAutoencoder):
    """SIGMA pretraining: masked video model, projection network and prototypes (sigma.md, sections 2 to 5).

    A frozen image encoder, where the target needs one, is kept beside the weights, see `FeatureTargetAutoencoder`.

    Args:
        config: sizes and constants.

    Example:
        >>> config = SigmaConfig(image_size=32, num_frames=4, num_hidden_layers=1, mask_ratio=0.5, num_prototypes=4)
        >>> mask = config.build_mask_generator()(2)
        >>> SigmaForPreTraining(config)(torch.rand(2, 4, 3, 32, 32), mask).projection_labels.shape
        torch.Size([2, 4])
    """

    config: SigmaConfig

    def __init__(self, config: SigmaConfig) -> None:
        super().__init__(config)
        if config.target_type == "mlp":
            self.projection = projection_network(config)
        if config.loss_type == "prototypes":
            self.prototypes = nn.Parameter(torch.empty(config.num_prototypes, config.prediction_size))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self and self.config.loss_type == "prototypes":
            init.normal_(self.prototypes)

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        bool_masked_pos: Tensor,
        num_masked: int | None = None,
        target_features: Tensor | None = None,
        **kwargs: Any,
    ) -> SigmaForPreTrainingOutput:
        """Predict the prototype assignments of masked tubes.

        Args:
            pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8.
            bool_masked_pos: bool `(B, tokens)`, True = masked, the same number in every clip.
            num_masked: masked tokens per clip, an integer; saves a synchronisation on accelerators.
            target_features: `(B, tokens, teacher_hidden_size)` features of a frozen encoder computed elsewhere, before
                normalisation; None computes them with the attached teacher.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            The loss, its parts, assignments, and statistics of the assignments.

        Raises:
            ValueError: if the video or the mask does not fit the configuration, or features are needed and missing.
        """
        visible_ids, masked_ids = self.videomae.split_tokens(pixel_values, bool_masked_pos, num_masked)
        encoded, predictions = self.predict(pixel_values, visible_ids, masked_ids, **kwargs)
        targets = self.targets(pixel_values, masked_ids, target_features)
        output = SigmaForPreTrainingOutput(
            logits=predictions,
            targets=targets,
            encoder_last_hidden_state=encoded.last_hidden_state,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        if self.config.loss_type == "regression":
            output.loss = masked_regression_loss(predictions, targets)
            return output
        return self.assign(output)

    def assign(self, output: SigmaForPreTrainingOutput) -> SigmaForPreTrainingOutput:
        """Project the targets, score both branches against the prototypes and let each predict the other."""
        predictions, targets = output.logits, output.targets
        assert predictions is not None
        assert targets is not None
        projections = targets
        if self.config.target_type == "mlp":
            projections = self.projection(targets.to(self.projection[0].weight.dtype))
        swapped = swapped_prediction_loss(
            projections.flatten(0, 1),
            predictions.flatten(0, 1),
            self.normalized_prototypes(),
            epsilon=self.config.sinkhorn_epsilon,
            iterations=self.config.sinkhorn_iterations,
            temperature=self.config.temperature,
            hard_labels=self.config.hard_labels,
        )
        clips = predictions.shape[:2]
        output.loss = swapped.loss
        output.projections = projections
        output.projection_loss = swapped.projection_loss.detach()
        output.prediction_loss = swapped.prediction_loss.detach()
        output.projection_labels = swapped.projection_assignment.labels.unflatten(0, clips)
        output.prediction_labels = swapped.prediction_assignment.labels.unflatten(0, clips)
        output.projection_assignment = swapped.projection_assignment
        output.prediction_assignment = swapped.prediction_assignment
        output.projection_entropy, output.projection_used_prototypes = assignment_statistics(
            swapped.projection_assignment.labels, self.config.num_prototypes
        )
        output.prediction_entropy, output.prediction_used_prototypes = assignment_statistics(
            swapped.prediction_assignment.labels, self.config.num_prototypes
        )
        return output

    def normalized_prototypes(self) -> Tensor:
        """Overwrite the prototypes with their unit-norm rows, without gradient, and return them for use.

        The gradient is the one with respect to the unit-norm rows (sigma.md, section 4). The returned copy keeps a
        second forward before the backward from overwriting what autograd has saved.
        """
        with torch.no_grad():
            self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        return self.prototypes.clone()


def projection_network(config: SigmaConfig) -> nn.Sequential:
    """The MLP of SIGMA-MLP: four linear layers with GELU between them, as in the official code.

    Args:
        config: holds the widths.

    Returns:
        A network from `pixels_per_tube` to `projection_size`.
    """
    sizes = [config.pixels_per_tube, *config.projection_hidden_sizes, config.projection_size]
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(sizes):
        layers += [Linear(width_in, width_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])
