"""Retrieval between two sets of embeddings, in memory that does not grow with their product."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tubelets.objectives.contrastive import check_temperature
from tubelets.tasks.ranks import BLOCK_VALUES, block_ranks, check_pairs, pairs_of_block, rank_metrics

PairScores = Callable[[Tensor, Tensor], Tensor]
"""Scores `(P,)` of pairs, from the indices of their queries and items, int64 `(P,)` each."""


@dataclass(frozen=True)
class Reranking:
    """A slower and better score for the most similar items of each query (locomotion.md, section 8).

    Attributes:
        score: scores pairs, such as a fusion encoder that reads both sides together.
        top_k: items of each query that it scores.
        pairs_per_call: pairs that it gets at a time.
        others: score of the items that it does not score.

    Raises:
        ValueError: if a number is below 1.

    Example:
        >>> prefer_later = Reranking(lambda queries, items: items.float(), top_k=2)
        >>> prefer_later(torch.tensor([[0.9, 0.1, 0.5]]), start=0).tolist()
        [[0.0, -100.0, 2.0]]
    """

    score: PairScores
    top_k: int = 128
    pairs_per_call: int = 256
    others: float = -100.0

    def __post_init__(self) -> None:
        if self.top_k < 1 or self.pairs_per_call < 1:
            raise ValueError(f"top_k and pairs_per_call must be at least 1, got {self.top_k} and {self.pairs_per_call}")

    def __call__(self, similarities: Tensor, start: int) -> Tensor:
        """New scores of a block.

        Args:
            similarities: float `(R, M)`.
            start: number of the first of its R queries.

        Returns:
            Same shape, float32.

        Raises:
            ValueError: if `score` does not give a number for each pair.
        """
        kept = min(self.top_k, similarities.shape[1])
        items = similarities.topk(kept, dim=1).indices
        rows = torch.arange(len(items), device=items.device)[:, None].expand_as(items)
        found = []
        for chunk in torch.stack([rows.flatten(), items.flatten()]).split(self.pairs_per_call, dim=1):
            scores = self.score(chunk[0] + start, chunk[1])
            if scores.shape != chunk.shape[1:]:
                raise ValueError(f"score must give ({chunk.shape[1]},) for as many pairs, got {tuple(scores.shape)}")
            found.append(scores.to(similarities.device, torch.float32))
        result = similarities.new_full(similarities.shape, self.others, dtype=torch.float32)
        return result.scatter_(1, items, torch.cat(found).view_as(items))


@dataclass(frozen=True)
class Similarities:
    """Dot products of queries and items, computed for a block of queries at a time.

    Beside the embeddings, memory holds one block and temporary values of its size: about 12 bytes for each of
    `block_values` scores in float32, 200 MB by default, for any number of queries and items. A block has at least one
    query.

    Attributes:
        queries: float `(Q, D)`, of unit norm for cosine similarities.
        items: float `(M, D)`.
        temperature: of a dual softmax over the queries, see `tubelets.objectives.dual_softmax`; None leaves it out. It
            computes the products twice.
        reranking: a second score of the most similar items; None leaves it out.
        block_values: scores in a block.

    Raises:
        ValueError: if shapes or numbers do not fit.

    Example:
        >>> similarities = Similarities(torch.eye(3), torch.eye(3))
        >>> similarities.ranks(torch.tensor([[0, 0], [1, 1], [2, 2]]))
        tensor([0, 0, 0])
    """

    queries: Tensor
    items: Tensor
    temperature: float | None = None
    reranking: Reranking | None = None
    block_values: int = BLOCK_VALUES

    def __post_init__(self) -> None:
        fit = self.queries.ndim == self.items.ndim == 2 and self.queries.shape[1] == self.items.shape[1]
        if not fit or not self.queries.numel() or not self.items.numel():
            raise ValueError(
                "queries and items must be (Q, D) and (M, D), not empty, got "
                f"{tuple(self.queries.shape)} and {tuple(self.items.shape)}"
            )
        if self.block_values < 1:
            raise ValueError(f"block_values must be at least 1, got {self.block_values}")
        if self.temperature is not None:
            check_temperature(self.temperature)

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Number of the first query and scores `(R, M)` of each block."""
        temperature = self.temperature
        sums = None if temperature is None else self._log_sums(temperature)
        for start, block in self._products():
            if temperature is not None and sums is not None:
                block = block * (block / temperature - sums).exp()
            yield start, block if self.reranking is None else self.reranking(block, start)

    def ranks(self, pairs: Tensor) -> Tensor:
        """Rank of the best correct item of each query.

        Args:
            pairs: int64 `(P, 2)`, query and item of each correct pair; at least one for each query.

        Returns:
            int64 `(Q,)`, 0 for the best item.

        Raises:
            ValueError: if the pairs do not fit, or a score is NaN.
        """
        pairs = check_pairs(pairs.to(self.queries.device), len(self.queries), len(self.items))
        found = [block_ranks(block, *pairs_of_block(pairs, start, len(block))) for start, block in self.blocks()]
        return torch.cat(found)

    def _products(self) -> Iterator[tuple[int, Tensor]]:
        size = max(1, self.block_values // len(self.items))
        for start in range(0, len(self.queries), size):
            yield start, (self.queries[start : start + size] @ self.items.T).float()

    def _log_sums(self, temperature: float) -> Tensor:
        """Logarithm of the sum over all queries of the exponentials, for each item."""
        total = self.items.new_full((len(self.items),), -torch.inf, dtype=torch.float32)
        for _, block in self._products():
            total = torch.logaddexp(total, (block / temperature).logsumexp(dim=0))
        return total


def retrieval_metrics(
    video: Tensor,
    text: Tensor,
    pairs: Tensor,
    *,
    temperature: float | None = None,
    score: PairScores | None = None,
    top_k: int = 128,
    pairs_per_call: int = 256,
    block_values: int = BLOCK_VALUES,
) -> dict[str, float]:
    """Retrieval of videos by text and of texts by video.

    Args:
        video: float `(V, D)`, embeddings whose dot product with those of texts is their similarity.
        text: float `(T, D)`.
        pairs: int64 `(P, 2)`, video and text of each correct pair; every video and every text has at least one, see
            `tubelets.tasks.ranks.equal_ids`.
        temperature: of a dual softmax in each direction; None leaves it out.
        score: scores of pairs, from indices of videos and of texts, for the `top_k` candidates of each query, such as
            the match logits of a fusion encoder; None ranks by similarity alone.
        top_k: candidates of each query that `score` scores; all others rank behind.
        pairs_per_call: pairs that `score` gets at a time.
        block_values: bounds the memory, see `Similarities`: 200 MB beside the embeddings by default.

    Returns:
        For `text_to_video` and `video_to_text` the numbers of `tubelets.tasks.ranks.rank_metrics`, such as
        `text_to_video_r1`, and `mean_recall` of both.

    Raises:
        ValueError: if shapes, pairs or numbers do not fit, or a score is NaN.

    Example:
        >>> video, pairs = torch.eye(3), torch.tensor([[0, 0], [1, 1], [1, 2], [2, 0]])
        >>> found = retrieval_metrics(video, video[[0, 1, 1]], pairs)
        >>> found["text_to_video_r1"], found["video_to_text_median_rank"]
        (1.0, 1.0)

    Source: locomotion.md, section 8; smile.md, section 12.
    """
    back = None if score is None else Reranking(score, top_k, pairs_per_call)
    forth = None if score is None else Reranking(lambda texts, videos: score(videos, texts), top_k, pairs_per_call)
    directions = {
        "text_to_video": (Similarities(text, video, temperature, forth, block_values), pairs.flip(1)),
        "video_to_text": (Similarities(video, text, temperature, back, block_values), pairs),
    }
    result: dict[str, float] = {}
    for name, (similarities, correct) in directions.items():
        result |= {f"{name}_{key}": value for key, value in rank_metrics(similarities.ranks(correct)).items()}
    return result | {"mean_recall": sum(result[f"{name}_mean_recall"] for name in directions) / 2}
