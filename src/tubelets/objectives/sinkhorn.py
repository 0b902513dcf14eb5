"""Sinkhorn-Knopp assignment of features to prototypes, balanced over the global batch (sigma.md, section 4)."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _all_reduce(tensor: Tensor, op: dist.ReduceOp.RedOpType) -> Tensor:
    if _is_distributed():
        dist.all_reduce(tensor, op=op)
    return tensor


@dataclass
class SinkhornSolution:
    """An assignment in factored form: `Q[n, k]` is `kernel[n, k] * prototype_scale[k]` with rows rescaled to sum to 1.

    Keeping the two factors apart makes an iteration two matrix-vector products instead of four passes over the whole
    matrix, and the hard labels never need the matrix `Q` at all.

    Attributes:
        kernel: float32 `(samples, prototypes)`, `exp(scores / epsilon)` up to one global factor.
        prototype_scale: float32 `(prototypes,)`, the scaling of each prototype that balances the batch.
    """

    kernel: Tensor
    prototype_scale: Tensor

    def assignments(self) -> Tensor:
        """Soft assignments, float32 `(samples, prototypes)` with rows that sum to 1."""
        weighted = self.kernel * self.prototype_scale
        return weighted / weighted.sum(dim=1, keepdim=True).clamp_min(torch.finfo(weighted.dtype).tiny)

    def labels(self) -> Tensor:
        """Hard assignments, int64 `(samples,)`: the prototype with the largest share."""
        return (self.kernel * self.prototype_scale).argmax(dim=1)


@torch.no_grad()
def solve_sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 10) -> SinkhornSolution:
    """Balance the assignment of samples to prototypes: equal mass for every prototype and for every sample.

    In a distributed run the prototypes are balanced over the samples of all processes, which equals one process solving
    for the concatenated samples. Computed in float32 whatever the input and also under autocast.

    Args:
        scores: similarities `(samples, prototypes)`, usually cosines in [-1, 1].
        epsilon: temperature of the kernel, > 0.
        iterations: rounds of the two normalisations, >= 0; with 0 the assignment is `softmax(scores / epsilon)`.

    Returns:
        The factored solution.

    Raises:
        ValueError: if `scores` is not a matrix, or `epsilon` or `iterations` is out of range.

    Example:
        >>> solution = solve_sinkhorn(torch.eye(4), epsilon=0.05)
        >>> solution.labels()
        tensor([0, 1, 2, 3])
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must be a matrix (samples, prototypes), got shape {tuple(scores.shape)}")
    if epsilon <= 0 or iterations < 0:
        raise ValueError(f"epsilon must be > 0 and iterations >= 0, got epsilon={epsilon}, iterations={iterations}")
    with torch.autocast(device_type=scores.device.type, enabled=False):
        scores = scores.float()
        # The largest score of the global batch maps to 1, so that the exponential cannot overflow; one common factor
        # cancels in the first normalisation.
        highest = _all_reduce(scores.max(), dist.ReduceOp.MAX)
        kernel = torch.exp((scores - highest) / epsilon)
        tiny = torch.finfo(kernel.dtype).tiny
        prototype_scale = torch.ones_like(kernel[0])
        sample_scale = torch.ones_like(kernel[:, 0])
        for _ in range(iterations):
            mass = _all_reduce(sample_scale @ kernel, dist.ReduceOp.SUM)
            prototype_scale = 1 / mass.clamp_min(tiny)
            sample_scale = 1 / (kernel @ prototype_scale).clamp_min(tiny)
    return SinkhornSolution(kernel, prototype_scale)


def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 10) -> Tensor:
    """Soft Sinkhorn assignments; see `solve_sinkhorn` for the arguments.

    Args:
        scores: similarities `(samples, prototypes)`.
        epsilon: temperature of the kernel, > 0.
        iterations: rounds of the two normalisations, >= 0.

    Returns:
        float32 `(samples, prototypes)`; rows sum to 1, without gradient.

    Raises:
        ValueError: as `solve_sinkhorn`.

    Example:
        >>> sinkhorn(torch.zeros(6, 3)).sum(dim=1)
        tensor([1., 1., 1., 1., 1., 1.])
    """
    return solve_sinkhorn(scores, epsilon, iterations).assignments()
