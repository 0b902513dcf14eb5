"""SIGMA's swapped prediction: each branch predicts the other branch's prototype assignment (sigma.md, sections 4-5).

Scores of all masked tokens against all prototypes are large: at the paper's sizes several hundred megabytes for each
process, and plain operations keep several of them for the backward pass. Here they are made block by block and dropped.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.kernels.products import LOG2_E, cast_once, linear
from tubelets.objectives.sinkhorn import balance_prototypes, check_sinkhorn, rows_per_block


@dataclass
class PrototypeAssignment:
    """Assignments of M features to K prototypes; scores and soft assignments are worked out when they are asked for.

    Attributes:
        features: `(M, width)` of unit norm.
        prototypes: `(K, width)` of unit norm.
        epsilon: temperature of the assignment.
        prototype_factor: float32 `(K,)`, the factor of each prototype that balances the batch.
        labels: int64 `(M,)`, hard assignments: the prototype with the largest share.
    """

    features: Tensor
    prototypes: Tensor
    epsilon: float
    prototype_factor: Tensor
    labels: Tensor

    @torch.no_grad()
    def scores(self) -> Tensor:
        """Cosine similarities, float32 `(M, K)`, values in [-1, 1]."""
        return linear(self.features, self.prototypes).float()

    @torch.no_grad()
    def soft(self) -> Tensor:
        """Soft assignments, float32 `(M, K)` with rows that sum to 1."""
        return torch.softmax(self.scores() / self.epsilon + self.prototype_factor.log(), dim=1)


@torch.no_grad()
def assign_prototypes(
    features: Tensor, prototypes: Tensor, epsilon: float = 0.05, iterations: int = 10
) -> PrototypeAssignment:
    """Assign features to prototypes, balanced over the features of all processes.

    Args:
        features: `(M, width)` of unit norm.
        prototypes: `(K, width)` of unit norm.
        epsilon: Sinkhorn temperature, > 0.
        iterations: Sinkhorn iterations, >= 0.

    Returns:
        Hard labels, and soft assignments on demand.

    Raises:
        ValueError: if the widths differ or a number is out of range.

    Example:
        >>> assign_prototypes(torch.eye(4), torch.eye(4)).labels
        tensor([0, 1, 2, 3])
    """
    if features.ndim != 2 or features.shape[1:] != prototypes.shape[1:]:
        raise ValueError(
            f"features {tuple(features.shape)} and prototypes {tuple(prototypes.shape)} must be matrices of equal width"
        )
    check_sinkhorn(epsilon, iterations)
    kernel = torch.empty(len(features), len(prototypes), device=features.device)
    blocks = cast_once(features).split(rows_per_block(len(prototypes), features.device))
    rows = cast_once(prototypes)
    with torch.autocast(device_type=features.device.type, enabled=False):
        factor, labels = balance_prototypes((linear(block, rows) for block in blocks), kernel, epsilon, iterations)
    return PrototypeAssignment(features, prototypes, epsilon, factor, labels)


class _PrototypeCrossEntropy(torch.autograd.Function):
    """Mean cross entropy of `features @ prototypes.T` against labels, one block of rows at a time.

    A block's gradients are formed as soon as its softmax is there, so that no score outlives its block.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, prototypes: Tensor, labels: Tensor, train_prototypes: bool) -> Tensor:
        rows = rows_per_block(len(prototypes), features.device)
        count = len(features)
        total = torch.zeros((), device=features.device)
        feature_gradient = torch.empty_like(features)
        prototype_gradient = torch.zeros_like(prototypes) if train_prototypes else None
        prototypes = cast_once(prototypes)
        for start in range(0, count, rows):
            block, label = features[start : start + rows], labels[start : start + rows, None]
            logits = linear(block, prototypes).float()
            highest = logits.amax(dim=1, keepdim=True)
            total += (highest - logits.gather(1, label)).sum()
            shares = torch.add(highest * -LOG2_E, logits, alpha=LOG2_E, out=logits).exp2_()
            mass = shares.sum(dim=1, keepdim=True)
            total += mass.log().sum()
            # Softmax minus one at the label, times the mass, by which the few numbers of a feature are divided.
            by_logits = cast_once(shares.scatter_add_(1, label, -mass))
            mass *= count
            feature_gradient[start : start + rows] = linear(by_logits, prototypes.T) / mass
            if prototype_gradient is not None:
                prototype_gradient += linear(by_logits.T, (block / mass).T)
        ctx.save_for_backward(feature_gradient, prototype_gradient)
        return total / count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        feature_gradient, prototype_gradient = ctx.saved_tensors
        prototypes = None if prototype_gradient is None else prototype_gradient * gradient
        return feature_gradient * gradient, prototypes, None, None


def prototype_cross_entropy(features: Tensor, prototypes: Tensor, targets: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross entropy of similarities to prototypes, divided by a temperature, against assignments.

    Args:
        features: `(M, width)` of unit norm.
        prototypes: `(K, width)` of unit norm; gradients reach them if they require it.
        targets: int64 `(M,)` labels, or float `(M, K)` soft assignments.
        temperature: softmax temperature, > 0.

    Returns:
        A float32 scalar, the mean over the M features.

    Example:
        >>> prototype_cross_entropy(torch.eye(3), torch.eye(3), torch.arange(3)) < 1e-3
        tensor(True)
    """
    # The features are divided, not the many more logits.
    scaled = features / temperature
    if targets.is_floating_point():
        return F.cross_entropy(linear(scaled, prototypes).float(), targets)
    loss: Tensor = _PrototypeCrossEntropy.apply(  # type: ignore[no-untyped-call]
        scaled, prototypes, targets, prototypes.requires_grad
    )
    return loss


@dataclass
class SwappedPrediction:
    """Loss of swapped prediction with its parts.

    Attributes:
        loss: scalar, the sum of the two terms (no factor 1/2).
        projection_loss: scalar, the projection branch predicting the video model's assignment.
        prediction_loss: scalar, the video model predicting the projection branch's assignment.
        projection_assignment: assignments of the projection branch.
        prediction_assignment: assignments of the video model.
    """

    loss: Tensor
    projection_loss: Tensor
    prediction_loss: Tensor
    projection_assignment: PrototypeAssignment
    prediction_assignment: PrototypeAssignment


def swapped_prediction_loss(
    projections: Tensor,
    predictions: Tensor,
    prototypes: Tensor,
    *,
    epsilon: float = 0.05,
    iterations: int = 10,
    temperature: float = 0.1,
    hard_labels: bool = True,
) -> SwappedPrediction:
    """Score both branches against the prototypes, balance each, and let each predict the other's assignment.

    Gradients reach the prototypes through the projection branch only. Assignments carry no gradient.

    Args:
        projections: targets' features `(M, width)`, from the projection network; any norm.
        predictions: video model's features `(M, width)` of the same masked tokens; any norm.
        prototypes: `(K, width)`, rows of unit norm.
        epsilon: Sinkhorn temperature.
        iterations: Sinkhorn iterations.
        temperature: softmax temperature of the cross entropy.
        hard_labels: labels are the argmax of the assignments, as in the official code; False uses the soft
            assignments of the paper's formula.

    Returns:
        The loss and its parts.

    Raises:
        ValueError: if the widths or the numbers of tokens differ.

    Example:
        >>> features, prototypes = torch.randn(32, 8), F.normalize(torch.randn(4, 8), dim=1)
        >>> swapped_prediction_loss(features, features, prototypes).loss.shape
        torch.Size([])
    """
    if projections.shape != predictions.shape:
        raise ValueError(
            f"projections {tuple(projections.shape)} and predictions {tuple(predictions.shape)} must have one shape"
        )
    # float32 also for a model in half precision: labels hang on small differences between scores.
    projections = F.normalize(projections.float(), dim=-1)
    predictions = F.normalize(predictions.float(), dim=-1)
    prototypes = prototypes.float()
    fixed = prototypes.detach()
    projection = assign_prototypes(projections.detach(), fixed, epsilon, iterations)
    prediction = assign_prototypes(predictions.detach(), fixed, epsilon, iterations)
    projection_loss = prototype_cross_entropy(
        projections, prototypes, prediction.labels if hard_labels else prediction.soft(), temperature
    )
    prediction_loss = prototype_cross_entropy(
        predictions, fixed, projection.labels if hard_labels else projection.soft(), temperature
    )
    return SwappedPrediction(
        projection_loss + prediction_loss, projection_loss, prediction_loss, projection, prediction
    )


@torch.no_grad()
def assignment_statistics(labels: Tensor, num_prototypes: int) -> tuple[Tensor, Tensor]:
    """How evenly hard labels use the prototypes.

    Args:
        labels: int64 `(M,)`, values in [0, num_prototypes).
        num_prototypes: K.

    Returns:
        Two float32 scalars: the entropy of the usage in nats (at most `log(min(M, K))`), and the number of prototypes
        used at least once.

    Example:
        >>> entropy, used = assignment_statistics(torch.tensor([0, 1, 2, 3]), num_prototypes=8)
        >>> round(entropy.item(), 4), used.item()
        (1.3863, 4.0)
    """
    counts = torch.zeros(num_prototypes, device=labels.device)
    counts.scatter_add_(0, labels, torch.ones_like(labels, dtype=counts.dtype))
    usage = counts / counts.sum()
    return torch.special.entr(usage).sum(), (counts > 0).sum().float()
