"""Nearest neighbours in feature space: a weighted classifier and retrieval."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.tasks.metrics import check_no_nan

_QUERIES_PER_BLOCK = 1024


def _check(queries: Tensor, bank: Tensor, bank_labels: Tensor, ks: Sequence[int]) -> None:
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1] or not (len(bank) and len(queries)):
        raise ValueError(
            f"queries and bank must be (Q, D) and (M, D) with Q and M at least 1, got {tuple(queries.shape)} and "
            f"{tuple(bank.shape)}"
        )
    if bank_labels.shape != (len(bank),):
        raise ValueError(f"bank_labels must be ({len(bank)},), got {tuple(bank_labels.shape)}")
    if not ks or not all(isinstance(k, int) and k >= 1 for k in ks):
        raise ValueError(f"k must be at least 1, an integer, got {', '.join(map(str, ks)) or 'none'}")
    check_no_nan("queries", queries)
    check_no_nan("bank", bank)


def weighted_knn(
    queries: Tensor, bank: Tensor, bank_labels: Tensor, num_classes: int, k: int = 200, temperature: float = 0.07
) -> Tensor:
    """Class scores by weighted nearest neighbours in cosine similarity.

    Args:
        queries: floating point `(Q, D)`; normalised here.
        bank: floating point `(M, D)`, the training features; normalised here.
        bank_labels: int `(M,)`, in [0, num_classes).
        num_classes: number of classes.
        k: neighbours; more than M counts as M.
        temperature: a neighbour of similarity s has weight exp(s / temperature).

    Returns:
        float32 `(Q, num_classes)`: sums of weights.

    Raises:
        ValueError: if shapes, labels, `k` or the temperature do not fit, or features are NaN.

    Example:
        >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> weighted_knn(torch.tensor([[2.0, 0.1]]), bank, torch.tensor([1, 0]), 2, k=1).argmax(dim=1)
        tensor([1])

    Source: sigma.md, section 7.4.
    """
    _check(queries, bank, bank_labels, [k])
    low, high = int(bank_labels.min()), int(bank_labels.max())
    if not 0 <= low <= high < num_classes:
        raise ValueError(f"bank_labels must lie in [0, {num_classes}), got {low} to {high}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive, got {temperature}")
    bank = F.normalize(bank.float(), dim=1)
    labels = bank_labels.long()
    blocks = []
    for block in queries.float().split(_QUERIES_PER_BLOCK):
        similarity, nearest = (F.normalize(block, dim=1) @ bank.T).topk(min(k, len(bank)), dim=1)
        scores = similarity.new_zeros(len(block), num_classes)
        blocks.append(scores.scatter_add_(1, labels[nearest], (similarity / temperature).exp()))
    return torch.cat(blocks)


def retrieval_recall(
    queries: Tensor, query_labels: Tensor, bank: Tensor, bank_labels: Tensor, ks: Sequence[int] = (1, 5, 10, 20)
) -> dict[str, float]:
    """Share of queries with a clip of their class among the k nearest of the bank, in cosine similarity.

    Args:
        queries: floating point `(Q, D)`, e.g. features of the test split.
        query_labels: int `(Q,)`.
        bank: floating point `(M, D)`, e.g. features of the training split.
        bank_labels: int `(M,)`.
        ks: numbers of neighbours, each at least 1; more than M counts as M.

    Returns:
        `recall_at_<k>`, fractions.

    Raises:
        ValueError: if shapes or numbers do not fit, or features are NaN.

    Example:
        >>> bank = torch.eye(3)
        >>> retrieval_recall(bank[:1], torch.tensor([1]), bank, torch.tensor([0, 1, 1]), ks=(1, 3))
        {'recall_at_1': 0.0, 'recall_at_3': 1.0}
    """
    _check(queries, bank, bank_labels, list(ks))
    if query_labels.shape != (len(queries),):
        raise ValueError(f"query_labels must be ({len(queries)},), got {tuple(query_labels.shape)}")
    bank = F.normalize(bank.float(), dim=1)
    found = []
    for block, labels in zip(
        queries.float().split(_QUERIES_PER_BLOCK), query_labels.split(_QUERIES_PER_BLOCK), strict=True
    ):
        nearest = (F.normalize(block, dim=1) @ bank.T).topk(min(max(ks), len(bank)), dim=1).indices
        found.append(bank_labels[nearest] == labels[:, None])
    hits = torch.cat(found).int().cumsum(dim=1) > 0
    return {f"recall_at_{k}": float(hits[:, min(k, len(bank)) - 1].double().mean()) for k in ks}
