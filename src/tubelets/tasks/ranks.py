"""Ranks of correct answers in retrieval, and the numbers that tables report of them.

A query has one or several correct items; its rank is that of the best of them (locomotion.md, section 8). Items of
equal score are ranked in their order, so that a model that scores all alike gains nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tubelets.tasks.metrics import check_no_nan

RECALL_AT = (1, 5, 10)
BLOCK_VALUES = 2**24
"""Scores that are compared at a time: 64 MiB in float32."""


def equal_ids(queries: Sequence[object], items: Sequence[object]) -> Tensor:
    """The correct pairs where queries and items with equal ids belong together.

    Args:
        queries: an id for each query, of any hashable type.
        items: an id for each item.

    Returns:
        int64 `(P, 2)`, query and item of each pair, sorted by query.

    Example:
        >>> equal_ids(["a", "b"], ["b", "a", "b"]).tolist()
        [[0, 1], [1, 0], [1, 2]]
    """
    places: dict[object, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item, []).append(place)
    pairs = [(number, place) for number, query in enumerate(queries) for place in places.get(query, ())]
    return torch.tensor(pairs, dtype=torch.long).view(-1, 2)


def check_pairs(pairs: Tensor, num_queries: int, num_items: int) -> Tensor:
    """Check that pairs name existing rows and columns and every query, and sort them by query.

    Args:
        pairs: int64 `(P, 2)`, query and item of each correct pair, in any order.
        num_queries: queries.
        num_items: items.

    Returns:
        The pairs, sorted by query.

    Raises:
        ValueError: if the shape or an index is wrong, or a query has no correct item.

    Example:
        >>> check_pairs(torch.tensor([[1, 0], [0, 2]]), num_queries=2, num_items=3).tolist()
        [[0, 2], [1, 0]]
    """
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.is_floating_point():
        raise ValueError(f"pairs must be int64 (P, 2), query and item, got {pairs.dtype} {tuple(pairs.shape)}")
    for name, column, limit in zip(("queries", "items"), pairs.T, (num_queries, num_items), strict=True):
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < limit:
            raise ValueError(
                f"{name} of pairs must lie in [0, {limit}), got {int(column.min())} to {int(column.max())}"
            )
    unanswered = torch.bincount(pairs[:, 0], minlength=num_queries) == 0
    if bool(unanswered.any()):
        raise ValueError(
            f"{int(unanswered.sum())} of {num_queries} queries have no correct item, the first is number "
            f"{int(unanswered.nonzero()[0])}; leave them out, or add their pairs"
        )
    return pairs[pairs[:, 0].argsort(stable=True)]


def block_ranks(scores: Tensor, rows: Tensor, items: Tensor) -> Tensor:
    """Rank of the best correct item of each query of a block, without sorting.

    Args:
        scores: float `(R, M)`, larger is better.
        rows: int64 `(P,)`, the query of each correct pair.
        items: int64 `(P,)`, its item.

    Returns:
        int64 `(R,)`, 0 for the best item.

    Raises:
        NaNScoresError: if a score is NaN.

    Example:
        >>> block_ranks(torch.tensor([[0.3, 0.9, 0.3]]), torch.tensor([0, 0]), torch.tensor([0, 2]))
        tensor([1])
    """
    if bool(scores.amax(dim=1).isnan().any()):  # a NaN is the largest value of its row
        check_no_nan("scores", scores)
    own = scores[rows, items]
    best = own.new_full((len(scores),), -torch.inf).scatter_reduce_(0, rows, own, "amax")
    ranks, equal = _counts(scores, best)
    # Of items with the score of the best answer, those before it count too; few queries have any.
    tied = (equal > 1).nonzero()[:, 0]
    if len(tied):
        last = scores.shape[1]
        leading = torch.where(own == best[rows], items, last)
        first = leading.new_full((len(scores),), last).scatter_reduce_(0, rows, leading, "amin")[tied]
        before = torch.arange(last, device=scores.device) < first[:, None]
        ranks[tied] += ((scores[tied] == best[tied, None]) & before).sum(dim=1)
    return ranks


def _counts(scores: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """How many scores of each row are larger than its best answer's, and how many equal it; int64 `(R,)` each."""
    # Sums of float32 take a fifth of the time of sums of truth values, but count to 2^24 only.
    exact = torch.float32 if scores.shape[1] < 2**24 else torch.float64
    holds = torch.empty_like(scores, dtype=exact)
    larger = torch.gt(scores, best[:, None], out=holds).sum(dim=1).long()
    return larger, torch.eq(scores, best[:, None], out=holds).sum(dim=1).long()


def answer_ranks(scores: Tensor, pairs: Tensor) -> Tensor:
    """Rank of the best correct item of each query.

    Args:
        scores: float `(Q, M)`, larger is better. Temporary values are as large as a block of `BLOCK_VALUES` scores.
        pairs: int64 `(P, 2)`, query and item of each correct pair; at least one for each query.

    Returns:
        int64 `(Q,)`, 0 for the best item.

    Raises:
        ValueError: if shapes or pairs do not fit, or a score is NaN.

    Example:
        >>> answer_ranks(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([[0, 0], [1, 1]]))
        tensor([0, 1])
    """
    if scores.ndim != 2 or not scores.numel():
        raise ValueError(f"scores must be (queries, items), not empty, got {tuple(scores.shape)}")
    pairs = check_pairs(pairs, *scores.shape)
    found, size = [], max(1, BLOCK_VALUES // scores.shape[1])
    for start in range(0, len(scores), size):
        block = scores[start : start + size]
        found.append(block_ranks(block, *pairs_of_block(pairs, start, len(block))))
    return torch.cat(found)


def pairs_of_block(pairs: Tensor, start: int, size: int) -> tuple[Tensor, Tensor]:
    """Rows, counted from `start`, and items of the pairs of some successive queries; `pairs` are sorted by query.

    Example:
        >>> pairs_of_block(torch.tensor([[0, 5], [1, 6], [2, 7]]), 1, 2)
        (tensor([0, 1]), tensor([6, 7]))
    """
    bounds = torch.tensor([start, start + size], device=pairs.device)
    low, high = torch.searchsorted(pairs[:, 0].contiguous(), bounds).tolist()
    return pairs[low:high, 0] - start, pairs[low:high, 1]


def rank_metrics(ranks: Tensor) -> dict[str, float]:
    """Recall at 1, 5 and 10, their mean, and median and mean rank.

    Args:
        ranks: int64 `(Q,)`, 0 for the best item, as `answer_ranks` gives them.

    Returns:
        `r1`, `r5`, `r10` and `mean_recall`, fractions; `median_rank` and `mean_rank`, counted from 1.

    Raises:
        ValueError: if there are no ranks.

    Example:
        >>> rank_metrics(torch.tensor([0, 2, 6, 30]))
        {'r1': 0.25, 'r5': 0.5, 'r10': 0.75, 'mean_recall': 0.5, 'median_rank': 5.0, 'mean_rank': 10.5}
    """
    if ranks.ndim != 1 or not len(ranks):
        raise ValueError(f"ranks must be (Q,) with Q at least 1, got {tuple(ranks.shape)}")
    ranks = ranks.double()
    recalls = {f"r{k}": (ranks < k).double().mean().item() for k in RECALL_AT}
    middle = ranks.sort().values[[(len(ranks) - 1) // 2, len(ranks) // 2]].mean().item()
    mean = sum(recalls.values()) / len(recalls)
    return {**recalls, "mean_recall": mean, "median_rank": middle + 1, "mean_rank": ranks.mean().item() + 1}
