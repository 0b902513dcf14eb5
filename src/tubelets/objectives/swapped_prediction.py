"""SIGMA's swapped prediction: each branch predicts the other branch's prototype assignment (sigma.md, sections 4-5)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.objectives.sinkhorn import SinkhornSolution, solve_sinkhorn


def prototype_scores(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine similarity of features to unit-norm prototypes.

    Args:
        features: `(..., width)`, any norm.
        prototypes: `(prototypes, width)`, rows of unit norm.

    Returns:
        `(..., prototypes)`, values in [-1, 1].

    Raises:
        ValueError: if the widths differ.

    Example:
        >>> prototype_scores(torch.tensor([[3.0, 0.0]]), torch.eye(2))
        tensor([[1., 0.]])
    """
    if features.shape[-1] != prototypes.shape[-1]:
        raise ValueError(
            f"features have width {features.shape[-1]}, prototypes {prototypes.shape[-1]}; they must agree"
        )
    return F.linear(F.normalize(features, dim=-1), prototypes)


@dataclass
class SwappedPrediction:
    """Loss of swapped prediction with its parts; M is the number of masked tokens in the batch, K of prototypes.

    Attributes:
        loss: scalar, the sum of the two terms (no factor 1/2).
        projection_loss: scalar, the projection branch predicting the video model's assignment.
        prediction_loss: scalar, the video model predicting the projection branch's assignment.
        projection_scores: `(M, K)` scores of the projection branch.
        prediction_scores: `(M, K)` scores of the video model.
        projection_labels: int64 `(M,)` hard assignments of the projection branch.
        prediction_labels: int64 `(M,)` hard assignments of the video model.
        projection_assignment: factored soft assignment of the projection branch.
        prediction_assignment: factored soft assignment of the video model.
    """

    loss: Tensor
    projection_loss: Tensor
    prediction_loss: Tensor
    projection_scores: Tensor
    prediction_scores: Tensor
    projection_labels: Tensor
    prediction_labels: Tensor
    projection_assignment: SinkhornSolution
    prediction_assignment: SinkhornSolution


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
        projections: targets' features `(M, width)`, from the projection network.
        predictions: video model's features `(M, width)` of the same masked tokens.
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
    projection_scores = prototype_scores(projections, prototypes)
    prediction_scores = prototype_scores(predictions, prototypes.detach())
    projection_assignment = solve_sinkhorn(projection_scores.detach(), epsilon, iterations)
    prediction_assignment = solve_sinkhorn(prediction_scores.detach(), epsilon, iterations)
    projection_labels, prediction_labels = projection_assignment.labels(), prediction_assignment.labels()
    projection_target = projection_labels if hard_labels else projection_assignment.assignments()
    prediction_target = prediction_labels if hard_labels else prediction_assignment.assignments()
    projection_loss = F.cross_entropy(projection_scores.float() / temperature, prediction_target)
    prediction_loss = F.cross_entropy(prediction_scores.float() / temperature, projection_target)
    return SwappedPrediction(
        loss=projection_loss + prediction_loss,
        projection_loss=projection_loss,
        prediction_loss=prediction_loss,
        projection_scores=projection_scores,
        prediction_scores=prediction_scores,
        projection_labels=projection_labels,
        prediction_labels=prediction_labels,
        projection_assignment=projection_assignment,
        prediction_assignment=prediction_assignment,
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
