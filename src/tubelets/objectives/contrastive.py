"""InfoNCE against a queue of earlier keys (MoCo; tubelet_contrast.md, section 4), and within a batch (SimCLR)."""

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


def check_temperature(temperature: Tensor | float) -> None:
    """Reject a number that is not positive and finite; a tensor, which may be learnt, is not read.

    Example:
        >>> check_temperature(0)
        Traceback (most recent call last):
        ValueError: temperature must be positive, got 0
    """
    if not isinstance(temperature, Tensor) and not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive, got {temperature}")


def info_nce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float = 0.2) -> tuple[Tensor, Tensor]:
    """Identify each query's own key among the negatives.

    Args:
        queries: `(B, width)` of unit norm.
        keys: `(B, width)` of unit norm, the positives in the order of the queries; no gradient reaches them.
        negatives: `(width, K)`, columns of unit norm, as a `KeyQueue` holds them; no gradient reaches them.
        temperature: softmax temperature, > 0.

    Returns:
        The loss, a scalar and the mean over the local batch, and the logits `(B, 1 + K)`: similarities over the
        temperature, the positive's first. Both are float32.

    Raises:
        ValueError: if the shapes do not fit or the temperature is not positive.

    Example:
        >>> loss, logits = info_nce(torch.eye(2), torch.eye(2), torch.zeros(2, 3), temperature=1.0)
        >>> logits[0].tolist(), round(loss.item(), 4)
        ([1.0, 0.0, 0.0, 0.0], 0.7437)
    """
    fit = queries.shape == keys.shape and negatives.shape[:-1] == queries.shape[1:]
    if queries.ndim != 2 or not fit or not queries.numel():
        raise ValueError(
            f"queries {tuple(queries.shape)} and keys {tuple(keys.shape)} must be equal matrices (clips, width) of at "
            f"least one clip, and negatives {tuple(negatives.shape)} a matrix (width, any)"
        )
    check_temperature(temperature)
    queries, keys, negatives = queries.float(), keys.detach().float(), negatives.detach().float()
    with torch.autocast(device_type=queries.device.type, enabled=False):
        positive = (queries * keys).sum(dim=1, keepdim=True)
        logits = torch.cat([positive, queries @ negatives], dim=1) / temperature
    first = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
    return F.cross_entropy(logits, first), logits


def symmetric_nce(
    first: Tensor, second: Tensor, temperature: Tensor | float, index: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Match pairs within the batch of all processes, in both directions, with gradients to both sides.

    Args:
        first: float `(B, width)`, not normalised.
        second: float `(B, width)`, row i belongs to row i of `first`.
        temperature: divides the cosine similarities; a number, or a learnt tensor.
        index: int64 `(B,)`, pairs with equal numbers are all positives of each other; None treats each pair as its own
        class.

    Returns:
        The loss, a scalar in float32, the mean of both directions; and the similarities over the temperature `(P, P)`
        with own pairs on the diagonal, P = processes x B. Every process computes the loss of the whole batch.

    Raises:
        ValueError: if the shapes do not fit each other, or a temperature that is a number is not positive.

    Example:
        >>> loss, scores = symmetric_nce(torch.eye(2), torch.eye(2), 1.0)
        >>> scores.tolist(), round(loss.item(), 4)
        ([[1.0, 0.0], [0.0, 1.0]], 0.3133)
    """
    fit = first.shape == second.shape and (index is None or index.shape == first.shape[:1])
    if first.ndim != 2 or not fit or not first.numel():
        shape = None if index is None else tuple(index.shape)
        raise ValueError(
            f"both sides must be equal matrices (B, D) with B at least 1, and index (B,), got {tuple(first.shape)}, "
            f"{tuple(second.shape)} and {shape}"
        )
    check_temperature(temperature)
    with torch.autocast(device_type=first.device.type, enabled=False):
        first, second = (gather_trained(F.normalize(side.float(), dim=1)) for side in (first, second))
        scores = first @ second.t() / temperature
    return symmetric_cross_entropy(scores, None if index is None else gather_keys(index)), scores


def symmetric_cross_entropy(scores: Tensor, index: Tensor | None = None) -> Tensor:
    """Cross entropy of a matrix of scores in both directions.

    Args:
        scores: float `(P, P)`, own pairs on the diagonal.
        index: int64 `(P,)`, pairs with equal numbers are all positives of each other; None treats each pair as its own
        class.

    Returns:
        Scalar, the mean of both directions.

    Example:
        >>> symmetric_cross_entropy(torch.zeros(2, 2), torch.tensor([5, 5])).exp()
        tensor(2.)
    """
    if index is None:
        targets = torch.eye(len(scores), device=scores.device)
    else:
        same = (index[:, None] == index).float()
        targets = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(scores, targets) + F.cross_entropy(scores.t(), targets)) / 2


def gather_trained(values: Tensor) -> Tensor:
    """The batches of all processes, by rank, with gradient; without a process group the tensor itself.

    Args:
        values: `(B, ...)`, of the same shape in each process.

    Returns:
        `(processes x B, ...)`.

    Example:
        >>> gather_trained(torch.ones(2)).tolist()
        [1.0, 1.0]
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    return _Gather.apply(values)  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    """The batches of all processes, by rank; a batch's gradient is the sum of those that the processes compute for it.

    PyTorch's own, `torch.distributed.nn.functional.all_gather`, is deprecated.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.count = len(values)
        return gather_keys(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return _own_share(total, ctx.count)


class KeyQueue(nn.Module):
    """The keys of earlier batches, oldest overwritten first; saved and resumed with the model's weights.

    Args:
        width: size of a key.
        size: keys in the queue; a multiple of the number of keys of a step over all processes.
        generator: draws the initial keys; None uses the global one, as layers do for their weights.

    Raises:
        ValueError: if a number is not positive.

    Example:
        >>> queue = KeyQueue(width=2, size=4)
        >>> queue.enqueue(torch.eye(2))
        >>> queue.keys[:, :2].tolist(), queue.pointer.item()
        ([[1.0, 0.0], [0.0, 1.0]], 2)
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, width: int, size: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if width < 1 or size < 1:
            raise ValueError(f"width and size must be at least 1, got {width} and {size}")
        self.register_buffer("keys", random_keys(width, size, generator))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys with the keys of all processes.

        Args:
            keys: `(B, width)` of this process, the same number in each process.

        Raises:
            ValueError: if the queue's size is not a multiple of the number of keys over all processes, or their width
                differs.
        """
        if keys.ndim != 2 or keys.shape[1] != self.keys.shape[0] or not len(keys):
            raise ValueError(f"keys has shape {tuple(keys.shape)}, expected (any, {self.keys.shape[0]})")
        keys = gather_keys(keys).to(self.keys.dtype)
        size, count = self.keys.shape[1], len(keys)
        if size % count:
            raise ValueError(
                f"a queue of {size} keys must be a multiple of the {count} clips of a step over all processes; change "
                "queue_size or the batch size, and drop incomplete batches"
            )
        # Computed on the device: reading the pointer's value would wait for an accelerator.
        places = (self.pointer + torch.arange(count, device=keys.device)) % size
        self.keys.index_copy_(1, places, keys.T)
        self.pointer.copy_((self.pointer + count) % size)


def random_keys(width: int, size: int, generator: torch.Generator | None = None) -> Tensor:
    """Unit vectors in random directions, the columns of a matrix `(width, size)`.

    Example:
        >>> random_keys(3, 5).norm(dim=0).allclose(torch.ones(5))
        True
    """
    return F.normalize(torch.randn(width, size, generator=generator), dim=0)


@torch.no_grad()
def gather_keys(tensor: Tensor) -> Tensor:
    """The batches of all processes, by rank; without a process group the tensor itself. No gradient passes.

    Args:
        tensor: `(B, ...)`, of the same shape in each process.

    Returns:
        `(processes x B, ...)`.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return tensor.detach()
    found = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(found, tensor.detach().contiguous())
    return torch.cat(found)


@torch.no_grad()
def shuffle_batches(tensor: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Shuffle the clips of all processes, so that a key's batch statistics do not reveal which query it belongs to.

    Args:
        tensor: `(B, ...)`, of the same shape in each process.
        generator: on the CPU, in the same state in each process; None lets the first process draw from the global one
            of its device and broadcast.

    Returns:
        This process's share `(B, ...)`, and the order int64 `(processes x B)`, for `unshuffle_batches`.

    Example:
        >>> dealt, order = shuffle_batches(torch.arange(4.0), torch.Generator().manual_seed(0))
        >>> unshuffle_batches(dealt, order)
        tensor([0., 1., 2., 3.])
    """
    gathered = gather_keys(tensor)
    if generator is None:
        order = torch.randperm(len(gathered), device=tensor.device)
        if len(gathered) > len(tensor):
            dist.broadcast(order, src=0)
    else:
        order = torch.randperm(len(gathered), generator=generator).to(tensor.device)
    return gathered[_own_share(order, len(tensor))], order


@torch.no_grad()
def unshuffle_batches(tensor: Tensor, order: Tensor) -> Tensor:
    """Return the features of every process's own clips after `shuffle_batches`.

    Args:
        tensor: `(B, ...)`, features of this process's share.
        order: as returned by `shuffle_batches`.

    Returns:
        `(B, ...)`.
    """
    return gather_keys(tensor)[_own_share(order.argsort(), len(tensor))]


def _own_share(order: Tensor, count: int) -> Tensor:
    rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
    return order[rank * count : (rank + 1) * count]


@torch.no_grad()
def update_momentum(target: nn.Module, source: nn.Module, momentum: float = 0.999) -> None:
    """Update a momentum encoder: `target <- momentum * target + (1 - momentum) * source`, for every parameter.

    Buffers are not updated: a momentum encoder keeps the batch-norm statistics of its own passes.

    Args:
        target: changed in place.
        source: a module of the same structure.
        momentum: share of the old value, in [0, 1].

    Raises:
        ValueError: if the momentum is out of range or the modules differ in structure.

    Example:
        >>> slow, fast = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(slow.weight, 1.0), nn.init.constant_(fast.weight, 3.0)
        >>> update_momentum(slow, fast, momentum=0.75)
        >>> slow.weight.item()
        1.5
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
    targets: list[Tensor] = list(target.parameters())
    sources: list[Tensor] = list(source.parameters())
    if [each.shape for each in targets] != [each.shape for each in sources]:
        raise ValueError(
            f"the parameters of {type(target).__name__} and {type(source).__name__} differ in number or shape; a "
            "momentum encoder must be a copy of the trained one"
        )
    if targets:
        torch._foreach_lerp_(targets, sources, 1 - momentum)
