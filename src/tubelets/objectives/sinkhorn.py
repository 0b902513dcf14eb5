"""Sinkhorn-Knopp assignment of features to prototypes, balanced over the global batch (sigma.md, section 4)."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

# Entries of a score matrix that are worked on at once. On CPU a block stays in the cache; on accelerators it bounds the
# memory, and one block holds the batch of one process at the paper's sizes.
CPU_BLOCK = 2**20
ACCELERATOR_BLOCK = 2**28


def rows_per_block(num_columns: int, device: torch.device) -> int:
    """Rows of a score matrix to work on at once.

    Args:
        num_columns: columns of the matrix.
        device: where it lies.

    Returns:
        At least 1.
    """
    return max(1, (CPU_BLOCK if device.type == "cpu" else ACCELERATOR_BLOCK) // num_columns)


def _all_reduce(tensor: Tensor, op: dist.ReduceOp.RedOpType) -> Tensor:
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor, op=op)
    return tensor


@torch.no_grad()
def balance_prototypes(kernels: Sequence[Tensor], iterations: int) -> Tensor:
    """Find the factor of each prototype that gives every prototype and every sample equal mass.

    The assignment is `kernel[n, k] * factor[k]` with rows rescaled to sum to 1. Alternating the two scalings needs two
    matrix-vector products with a matrix that never changes, instead of four passes that rescale it; block by block, the
    second product finds the block in the cache.

    In a distributed run the prototypes are balanced over the samples of all processes, which equals one process solving
    for the concatenated samples.

    Args:
        kernels: float32 blocks `(samples, prototypes)` of `exp(scores / epsilon)`, up to one common factor.
        iterations: rounds of the two scalings, >= 0.

    Returns:
        float32 `(prototypes,)`.
    """
    tiny = torch.finfo(kernels[0].dtype).tiny
    factor = torch.ones_like(kernels[0][0])
    if iterations == 0:
        return factor
    mass = torch.stack([kernel.sum(dim=0) for kernel in kernels]).sum(dim=0)
    for iteration in range(iterations):
        factor = 1 / _all_reduce(mass, dist.ReduceOp.SUM).clamp_min(tiny)
        if iteration < iterations - 1:
            mass = torch.zeros_like(factor)
            for kernel in kernels:
                mass += (1 / (kernel @ factor).clamp_min(tiny)) @ kernel
    return factor


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 10) -> Tensor:
    """Soft assignments of samples to prototypes, balanced over the batch of all processes.

    Computed in float32 whatever the input and also under autocast.

    Args:
        scores: similarities `(samples, prototypes)`, usually cosines in [-1, 1].
        epsilon: temperature of the kernel `exp(scores / epsilon)`, > 0.
        iterations: rounds of the two normalisations, >= 0; with 0 the assignment is `softmax(scores / epsilon)`.

    Returns:
        float32 `(samples, prototypes)`; rows sum to 1, without gradient.

    Raises:
        ValueError: if `scores` is not a matrix, or `epsilon` or `iterations` is out of range.

    Example:
        >>> sinkhorn(torch.eye(4)).argmax(dim=1)
        tensor([0, 1, 2, 3])
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must be a matrix (samples, prototypes), got shape {tuple(scores.shape)}")
    check_sinkhorn(epsilon, iterations)
    with torch.autocast(device_type=scores.device.type, enabled=False):
        # The largest score of the global batch maps to 1, so that the exponential cannot overflow; one common factor
        # cancels in the first normalisation.
        highest = _all_reduce(scores.max().float(), dist.ReduceOp.MAX)
        scaled = (scores.float() - highest) / epsilon
        kernels = scaled.exp().split(rows_per_block(scores.shape[1], scores.device))
        return torch.softmax(scaled + balance_prototypes(kernels, iterations).log(), dim=1)


def check_sinkhorn(epsilon: float, iterations: int) -> None:
    """Refuse parameters outside their range.

    Args:
        epsilon: must be > 0.
        iterations: must be >= 0.

    Raises:
        ValueError: naming both.
    """
    if epsilon <= 0 or iterations < 0:
        raise ValueError(f"epsilon must be > 0 and iterations >= 0, got epsilon={epsilon}, iterations={iterations}")
