"""Sinkhorn-Knopp assignment of features to prototypes, balanced over the global batch (sigma.md, section 4)."""

import math
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

# Powers of two are cheaper than those of e: `exp(x) = exp2(x * LOG2_E)`.
LOG2_E = math.log2(math.e)

# Entries of a score matrix per block. On CPU a block stays in the cache; on accelerators it bounds the memory, and one
# block holds the batch of one process at the paper's sizes.
CPU_BLOCK = 2**20
ACCELERATOR_BLOCK = 2**28


def rows_per_block(num_columns: int, device: torch.device) -> int:
    """Rows of a score matrix per block, at least 1."""
    return max(1, (CPU_BLOCK if device.type == "cpu" else ACCELERATOR_BLOCK) // num_columns)


def _all_reduce(tensor: Tensor, op: dist.ReduceOp.RedOpType) -> Tensor:
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor, op=op)
    return tensor


@torch.no_grad()
def balance_prototypes(
    scores: Iterable[Tensor], kernel: Tensor, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Find the factor of each prototype that gives every prototype and every sample equal mass.

    The assignment is `exp(scores / epsilon) * factor` with rows rescaled to sum to 1. Alternating both scalings needs
    two matrix-vector products per iteration with a constant matrix, instead of four passes that rescale the matrix. The
    last scaling of the samples is not computed: it changes neither the factors nor the labels.

    In a distributed run the prototypes are balanced over the samples of all processes, which equals one process solving
    for the concatenated samples.

    Args:
        scores: blocks of rows, one after another; none is kept.
        kernel: float32 `(samples, prototypes)`, memory for all of them; overwritten.
        epsilon: temperature, > 0.
        iterations: rounds of the two scalings, >= 0.

    Returns:
        Two vectors: float32 factors `(prototypes,)`, up to a common one, and int64 labels `(samples,)`, the prototype
        with the largest share of each sample.
    """
    row_maxima = _fill_kernel(kernel, scores, epsilon)
    tiny = torch.finfo(torch.float32).tiny
    # Scores are computed in the caller's precision, the balance in float32.
    with torch.autocast(device_type=kernel.device.type, enabled=False):
        highest = _all_reduce(row_maxima.max(), dist.ReduceOp.MAX)
        # Kernel rows are relative to their own maximum, which the initial row weights compensate.
        weights = ((row_maxima - highest) / epsilon).exp()
        factor = torch.ones_like(kernel[0])
        for iteration in range(iterations):
            if iteration:
                weights = 1 / (kernel @ factor).clamp_min(tiny)
            mass = weights @ kernel
            factor = 1 / _all_reduce(mass, dist.ReduceOp.SUM).clamp_min(tiny)
            factor = factor / factor.max()  # only ratios count; without this they drift out of range
    blocks = kernel.split(rows_per_block(kernel.shape[1], kernel.device))
    return factor, torch.cat([block.mul_(factor).argmax(dim=1) for block in blocks])


def _fill_kernel(kernel: Tensor, scores: Iterable[Tensor], epsilon: float) -> Tensor:
    """Write `exp((scores - row's maximum) / epsilon)`, in which no row vanishes, and return the maxima in float32."""
    scale = LOG2_E / epsilon
    maxima = kernel.new_empty(len(kernel))
    start = 0
    for block in scores:
        rows = slice(start, start + len(block))
        maxima[rows] = block.amax(dim=1)
        torch.add(maxima[rows, None] * -scale, block.float(), alpha=scale, out=kernel[rows]).exp2_()
        start += len(block)
    return maxima


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 10) -> Tensor:
    """Soft assignments of samples to prototypes, balanced over the batch of all processes.

    Computed in float32 for inputs of any precision, also under autocast.

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
    if scores.ndim != 2 or not scores.numel():
        raise ValueError(f"scores must be a matrix (samples, prototypes), not empty, got shape {tuple(scores.shape)}")
    check_sinkhorn(epsilon, iterations)
    blocks = scores.split(rows_per_block(scores.shape[1], scores.device))
    factor, _ = balance_prototypes(blocks, torch.empty_like(scores, dtype=torch.float32), epsilon, iterations)
    return torch.softmax(scores.float() / epsilon + factor.log(), dim=1)


def check_sinkhorn(epsilon: float, iterations: int) -> None:
    """Reject parameters outside their range."""
    if not 0 < epsilon < math.inf or not isinstance(iterations, int) or iterations < 0:
        raise ValueError(
            f"epsilon must be > 0 and finite, and iterations an integer >= 0, got epsilon={epsilon}, "
            f"iterations={iterations}"
        )
