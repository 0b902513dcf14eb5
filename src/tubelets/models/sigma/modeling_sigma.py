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

from tubelets.models.image_encoders import FrozenImageEncoder, load_image_encoder
from tubelets.models.sigma.configuration_sigma import SigmaConfig
from tubelets.models.videomae.modeling_videomae import (
    MaskedVideoAutoencoder,
    MaskedVideoOutput,
    TubeletsVideoMAEForVideoClassification,
    TubeletsVideoMAEModel,
)
from tubelets.models.videomae.pixels import normalize_pixels, pixel_targets
from tubelets.objectives import (
    PrototypeAssignment,
    assignment_statistics,
    masked_regression_loss,
    standardize_features,
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


class SigmaForPreTraining(MaskedVideoAutoencoder):
    """SIGMA pretraining: masked video model, projection network and prototypes (sigma.md, sections 2 to 5).

    A frozen image encoder, where the target needs one, is kept outside the weights: it is neither saved nor trained,
    and `load_teacher` fetches it.

    Args:
        config: sizes and constants.

    Example:
        >>> from tubelets.masking import build_mask_generator
        >>> config = SigmaConfig(image_size=32, num_frames=4, num_hidden_layers=1, mask_ratio=0.5, num_prototypes=4)
        >>> mask = build_mask_generator("tube", config.grid, config.mask_ratio)(2)
        >>> SigmaForPreTraining(config)(torch.rand(2, 4, 3, 32, 32), mask).projection_labels.shape
        torch.Size([2, 4])
    """

    config: SigmaConfig

    def __init__(self, config: SigmaConfig) -> None:
        super().__init__(config)
        object.__setattr__(self, "teacher", None)
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

    def prepare_for_pretraining(self) -> None:
        """Load the frozen image encoder, if the target needs one."""
        if self.teacher is None:
            self.load_teacher()

    def load_teacher(self, teacher: FrozenImageEncoder | None = None) -> "SigmaForPreTraining":
        """Attach the frozen image encoder that makes the targets; it follows the model's device and dtype.

        Args:
            teacher: an encoder at hand; None loads `config.teacher`, from the Hub or a folder.

        Returns:
            The model itself. Nothing happens if the target needs no teacher.

        Raises:
            ValueError: if no encoder is known, or the encoder's width is not `config.teacher_hidden_size`.
        """
        if not self.config.uses_teacher:
            return self
        if teacher is None:
            if self.config.teacher is None:
                raise ValueError(
                    f"no teacher is known for target_type={self.config.target_type!r} and teacher_hidden_size="
                    f"{self.config.teacher_hidden_size}; set teacher='library:name'"
                )
            teacher = load_image_encoder(self.config.teacher, self.config.image_size)
        if teacher.hidden_size != self.config.teacher_hidden_size:
            raise ValueError(
                f"the teacher's features have width {teacher.hidden_size}, but teacher_hidden_size="
                f"{self.config.teacher_hidden_size}; set it to the teacher's width"
            )
        # Past nn.Module's registry, so that it enters neither the state dict nor the optimiser.
        object.__setattr__(self, "teacher", teacher.to(self.device))
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> "SigmaForPreTraining":
        super()._apply(fn, recurse)
        if self.teacher is not None:
            self.teacher._apply(fn, recurse)
        return self

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

    @torch.no_grad()
    def targets(self, pixel_values: Tensor, masked_ids: Tensor, target_features: Tensor | None = None) -> Tensor:
        """What the masked tokens are compared with, before the projection network.

        Args:
            pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8.
            masked_ids: int64 `(B, M)`.
            target_features: `(B, tokens, teacher_hidden_size)`, or None to compute them.

        Returns:
            `(B, M, width)`: standardised pixels of the tubes, or standardised features of the teacher.

        Raises:
            ValueError: if features are needed and neither given nor computable.
        """
        if not self.config.uses_teacher:
            return pixel_targets(pixel_values, masked_ids, self.config)
        if target_features is None:
            target_features = self.teacher_features(pixel_values)
        expected = (len(pixel_values), self.config.num_tokens, self.config.teacher_hidden_size)
        if tuple(target_features.shape) != expected:
            raise ValueError(f"target_features must have shape {expected}, got {tuple(target_features.shape)}")
        if self.config.normalize_target:
            target_features = standardize_features(target_features)
        return target_features.gather(1, masked_ids[..., None].expand(-1, -1, target_features.shape[-1]))

    def teacher_features(self, pixel_values: Tensor) -> Tensor:
        """Features of the frozen encoder for the first frame of each tube: `(B, tokens, teacher_hidden_size)`."""
        if self.teacher is None:
            raise ValueError(
                f"target_type={self.config.target_type!r} needs the frozen encoder {self.config.teacher!r}: call "
                "load_teacher() once, or pass target_features"
            )
        frames = normalize_pixels(pixel_values[:, :: self.config.tubelet_size], self.config, channel_dim=2)
        _, rows, columns = self.config.grid
        features = self.teacher(frames.flatten(0, 1), (rows, columns))
        return features.unflatten(0, (len(pixel_values), -1)).flatten(1, 2)

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
        layers += [nn.Linear(width_in, width_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])
