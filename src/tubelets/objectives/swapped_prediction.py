"""SIGMA's swapped prediction: each branch predicts the other branch's prototype assignment (sigma.md, sections 4-5).

Scores of all masked tokens against all prototypes are large, several hundred megabytes per process at the paper's
sizes, and plain operations keep several such matrices for the backward pass. Here they are computed and dropped block
by block.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.objectives.contrastive import check_temperature
from tubelets.objectives.sinkhorn import LOG2_E, balance_prototypes, check_sinkhorn, rows_per_block


@dataclass
class PrototypeAssignment:
    """Assignments of M features to K prototypes; scores and soft assignments are computed on demand.

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
        return F.linear(self.features, self.prototypes).float()

    @torch.no_grad()
    def soft(self) -> Tensor:
        """Soft assignments, float32 `(M, K)` with rows that sum to 1."""
        return torch.softmax(self.scores() / self.epsilon + self.prototype_factor.log(), dim=1)

    def targets(self, hard: bool) -> Tensor:
        """Targets for the other branch: labels or soft assignments."""
        return self.labels if hard else self.soft()


def _check_widths(features: Tensor, prototypes: Tensor) -> None:
    fit = features.ndim == prototypes.ndim == 2 and features.shape[1] == prototypes.shape[1]
    if not fit or not features.numel() or not len(prototypes):
        raise ValueError(
            f"features {tuple(features.shape)} and prototypes {tuple(prototypes.shape)} must be matrices of equal "
            "width, not empty"
        )


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
    _check_widths(features, prototypes)
    check_sinkhorn(epsilon, iterations)
    kernel = torch.empty(len(features), len(prototypes), device=features.device)
    blocks = features.split(rows_per_block(len(prototypes), features.device))
    factor, labels = balance_prototypes((F.linear(block, prototypes) for block in blocks), kernel, epsilon, iterations)
    return PrototypeAssignment(features, prototypes, epsilon, factor, labels)


class _PrototypeCrossEntropy(torch.autograd.Function):
    """Mean cross entropy of `features @ prototypes.T` against labels, one block of rows at a time.

    A block's gradients are computed together with its softmax, so that no score outlives its block.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, prototypes: Tensor, labels: Tensor, train_prototypes: bool) -> Tensor:
        rows = rows_per_block(len(prototypes), features.device)
        count = len(features)
        total = torch.zeros((), device=features.device)
        feature_gradient = torch.empty_like(features)
        prototype_gradient = torch.zeros_like(prototypes) if train_prototypes else None
        for start in range(0, count, rows):
            block, label = features[start : start + rows], labels[start : start + rows, None]
            logits = F.linear(block, prototypes).float()
            highest = logits.amax(dim=1, keepdim=True)
            total += (highest - logits.gather(1, label)).sum()
            shares = torch.add(highest * -LOG2_E, logits, alpha=LOG2_E, out=logits).exp2_()
            mass = shares.sum(dim=1, keepdim=True)
            total += mass.log().sum()
            # Softmax minus one at the label, times the mass; dividing a feature's gradient by it is cheaper.
            by_logits = shares.scatter_add_(1, label, -mass)
            mass *= count
            feature_gradient[start : start + rows] = by_logits @ prototypes / mass
            if prototype_gradient is not None:
                prototype_gradient += by_logits.T @ (block / mass)
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

    Raises:
        ValueError: if shapes do not fit or the temperature is not positive.

    Example:
        >>> prototype_cross_entropy(torch.eye(3), torch.eye(3), torch.arange(3)) < 1e-3
        tensor(True)
    """
    _check_widths(features, prototypes)
    check_temperature(temperature)
    if targets.shape != ((len(features), len(prototypes)) if targets.is_floating_point() else features.shape[:1]):
        raise ValueError(
            f"targets must be int64 ({len(features)},) or float ({len(features)}, {len(prototypes)}), got "
            f"{targets.dtype} {tuple(targets.shape)}"
        )
    # The features are divided, not the many more logits.
    scaled = features / temperature
    if targets.is_floating_point():
        return F.cross_entropy(F.linear(scaled, prototypes).float(), targets)
    loss: Tensor = _PrototypeCrossEntropy.apply(  # type: ignore[no-untyped-call]
        scaled, prototypes, targets, prototypes.requires_grad
    )
    return loss


@torch.no_grad()
def assignment_statistics(labels: Tensor, num_prototypes: int) -> tuple[Tensor, Tensor]:
    """Measure how evenly hard labels use the prototypes.

    Args:
        labels: int64 `(M,)`, values in [0, num_prototypes).
        num_prototypes: K.

    Returns:
        Two float32 scalars: the entropy of the usage in nats (at most `log(min(M, K))`), and the number of prototypes
        used at least once.

    Raises:
        ValueError: if there is no label or no prototype.

    Example:
        >>> entropy, used = assignment_statistics(torch.tensor([0, 1, 2, 3]), num_prototypes=8)
        >>> round(entropy.item(), 4), used.item()
        (1.3863, 4.0)
    """
    if num_prototypes < 1 or not labels.numel():
        raise ValueError(
            f"num_prototypes must be at least 1 and labels not be empty, got {num_prototypes} and {tuple(labels.shape)}"
        )
    counts = torch.zeros(num_prototypes, device=labels.device)
    counts.scatter_add_(0, labels, torch.ones_like(labels, dtype=counts.dtype))
    usage = counts / counts.sum()
    return torch.special.entr(usage).sum(), (counts > 0).sum().float()
