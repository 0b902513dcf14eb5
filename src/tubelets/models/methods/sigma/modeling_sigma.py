"""SIGMA: Sinkhorn-guided masked video modelling (Salehi et al., ECCV 2024, arXiv 2407.15447).

A video ViT predicts features of masked tubes. Predicted and projected features are assigned to shared prototypes by an
optimal transport that is balanced over the batch, and each branch predicts the other's assignment. As in the official
code, labels are the argmax of the assignments; the paper's formula has soft labels (`hard_labels=False`).
"""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import can_return_tuple

from tubelets.models.backbones.video_vit.modeling_video_vit import (
    TubeletsVideoMAEForVideoClassification,
    TubeletsVideoMAEModel,
)
from tubelets.models.backbones.video_vit.pixels import pixel_targets
from tubelets.models.common.weight_updates import UpdatesWeights
from tubelets.models.methods.masked_video.feature_targets import first_frame_features, masked_features
from tubelets.models.methods.masked_video.modeling_masked_video import MaskedVideoAutoencoder, MaskedVideoOutput
from tubelets.models.methods.sigma.configuration_sigma import SigmaConfig
from tubelets.models.teachers import Student, TeacherSpec
from tubelets.objectives import (
    PrototypeAssignment,
    assign_prototypes,
    assignment_statistics,
    masked_regression_loss,
    prototype_cross_entropy,
)


@dataclass
class SigmaForPreTrainingOutput(MaskedVideoOutput):
    """Output of SIGMA pretraining; B clips, M masked tokens each, K prototypes, D the prediction size.

    The training loop logs every scalar field. Fields that need prototypes are None for the regression loss.

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
        projection_assignment: computes scores and soft assignments of the projections, `(B * M, K)`, on demand.
        prediction_assignment: the same for predictions.
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


class SigmaForPreTraining(UpdatesWeights, Student, MaskedVideoAutoencoder):
    """SIGMA pretraining: masked video model, projection network and prototypes (sigma.md, sections 2 to 5).

    A frozen image encoder, if the target needs one, is kept outside the weights, see `tubelets.models.teachers`.

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

    @property
    def teacher_spec(self) -> TeacherSpec | None:
        """The frozen image encoder of the feature targets."""
        config = self.config
        if not config.uses_teacher:
            return None
        return TeacherSpec(config.teacher, config.teacher_hidden_size, config.image_size)

    def teacher_features(self, pixel_values: Tensor) -> Tensor:
        """Features of the frozen encoder for the first frame of each tube: `(B, tokens, teacher_hidden_size)`."""
        teacher = self.attached_teacher(f"target_type={self.config.target_type!r}")
        return first_frame_features(teacher, pixel_values, self.config)

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
            num_masked: masked tokens per clip; passing it avoids a synchronisation on accelerators.
            target_features: `(B, tokens, teacher_hidden_size)` features of a frozen encoder computed elsewhere, before
                normalisation; None computes them with the attached teacher.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            The loss, its parts, the assignments and their statistics.

        Raises:
            ValueError: if the video or the mask does not fit the configuration, or features are needed and missing.
        """
        config = self.config
        # The encoder processes only visible tubes; the decoder predicts the masked ones (section 2).
        visible_ids, masked_ids = self.videomae.split_tokens(pixel_values, bool_masked_pos, num_masked)
        encoded = self.videomae(
            pixel_values, visible_ids=visible_ids, return_dict=True, **kwargs
        )  # (B, N_vis, hidden_size)
        predictions = self.decode(encoded.last_hidden_state, visible_ids, masked_ids)  # (B, M, D)

        # Targets of the masked tubes: their pixels, or features of a frozen image encoder (section 3).
        if config.uses_teacher:
            features = self.teacher_features(pixel_values) if target_features is None else target_features
            targets = masked_features(features, masked_ids, len(pixel_values), config)
        else:
            targets = pixel_targets(pixel_values, masked_ids, config)
        output = SigmaForPreTrainingOutput(
            logits=predictions,
            targets=targets,
            encoder_last_hidden_state=encoded.last_hidden_state,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        if config.loss_type == "regression":
            output.loss = masked_regression_loss(predictions, targets)
            return output

        # Projected targets, predictions and prototypes on the unit sphere (section 4). float32 also for a model in half
        # precision: labels depend on small differences between scores.
        projections = targets
        if config.target_type == "mlp":
            projections = self.projection(targets.to(self.projection[0].weight.dtype))
        projected = F.normalize(projections.flatten(0, 1).float(), dim=1)  # (B * M, D)
        predicted = F.normalize(predictions.flatten(0, 1).float(), dim=1)
        prototypes = self.normalized_prototypes().float()  # (K, D)
        # Gradients reach the prototypes through the projection branch only (section 5).
        fixed_prototypes = prototypes.detach()

        # Scores of each branch, assigned to prototypes by Sinkhorn-Knopp, balanced over the batch (section 4).
        sinkhorn = {"epsilon": config.sinkhorn_epsilon, "iterations": config.sinkhorn_iterations}
        projection_assignment = assign_prototypes(projected.detach(), fixed_prototypes, **sinkhorn)
        prediction_assignment = assign_prototypes(predicted.detach(), fixed_prototypes, **sinkhorn)

        # Each branch predicts the assignment of the other (section 5).
        projection_loss = prototype_cross_entropy(
            projected, prototypes, prediction_assignment.targets(config.hard_labels), config.temperature
        )
        prediction_loss = prototype_cross_entropy(
            predicted, fixed_prototypes, projection_assignment.targets(config.hard_labels), config.temperature
        )
        output.loss = projection_loss + prediction_loss

        output.projections = projections
        output.projection_loss, output.prediction_loss = projection_loss.detach(), prediction_loss.detach()
        output.projection_assignment, output.prediction_assignment = projection_assignment, prediction_assignment
        output.projection_labels = projection_assignment.labels.view(masked_ids.shape)
        output.prediction_labels = prediction_assignment.labels.view(masked_ids.shape)
        output.projection_entropy, output.projection_used_prototypes = assignment_statistics(
            projection_assignment.labels, config.num_prototypes
        )
        output.prediction_entropy, output.prediction_used_prototypes = assignment_statistics(
            prediction_assignment.labels, config.num_prototypes
        )
        return output

    def normalized_prototypes(self) -> Tensor:
        """The prototypes at unit norm `(K, D)`; gradients are those of the unit-norm rows (sigma.md, section 4)."""
        fixed = self.prototypes.detach()
        return F.normalize(fixed, dim=1) + (self.prototypes - fixed)

    def update_weights(self) -> None:
        """Scale the stored prototypes to unit norm, from where a training step then moves them."""
        if self.config.loss_type == "prototypes":
            self.prototypes.copy_(F.normalize(self.prototypes, dim=1))


def projection_network(config: SigmaConfig) -> nn.Sequential:
    """The MLP of SIGMA-MLP: four linear layers with GELU between them, as in the official code."""
    sizes = [config.pixels_per_tube, *config.projection_hidden_sizes, config.projection_size]
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(sizes):
        layers += [nn.Linear(width_in, width_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])
