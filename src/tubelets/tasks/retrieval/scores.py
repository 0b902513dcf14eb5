"""Scores of a test of retrieval: numbers, a table of all queries, a plot."""

import csv
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tubelets.models.heads.video_text.processing_video_text import caption_key
from tubelets.tasks.ranks import rank_metrics
from tubelets.tasks.similarities import PairScores, Reranking, Similarities
from tubelets.tasks.task import Metric, Scores

METRICS = {
    **{f"text_to_video_r{k}": Metric(f"text-to-video R@{k}", "recall") for k in (1, 5, 10)},
    **{f"video_to_text_r{k}": Metric(f"video-to-text R@{k}", "recall") for k in (1, 5, 10)},
    "mean_recall": Metric("mean of R@1, R@5 and R@10, both directions", "recall"),
}


@dataclass(frozen=True)
class RetrievalScores(Scores):
    """Embeddings of the videos and captions of a part.

    Attributes:
        clip_ids: names of the V videos.
        captions: the T different captions.
        pairs: int64 `(P, 2)`, video and caption of each correct pair.
        video: float32 `(V, D)`.
        text: float32 `(T, D)`.
        num_views: clips of a video.
        num_skipped: videos that could not be read, over all processes.
        temperature: of a dual softmax, None leaves it out.
        matching: scores of pairs of videos and captions, by index, that re-rank; None ranks by similarity alone.
        top_k: candidates of a query that are re-ranked.
    """

    clip_ids: Sequence[str]
    captions: Sequence[str]
    pairs: Tensor
    video: Tensor
    text: Tensor
    num_views: int = 1
    num_skipped: int = 0
    temperature: float | None = None
    matching: PairScores | None = None
    top_k: int = 128

    @functools.cached_property
    def ranks(self) -> dict[str, Tensor]:
        """Rank of the best correct answer of every query, from 0: `text_to_video` `(T,)` and `video_to_text` `(V,)`.

        Raises:
            NaNScoresError: if embeddings are NaN.
        """
        return self._ranks(self.matching)

    @functools.cached_property
    def similarity_ranks(self) -> dict[str, Tensor]:
        """The ranks by similarity alone."""
        return self.ranks if self.matching is None else self._ranks(None)

    def _ranks(self, score: PairScores | None) -> dict[str, Tensor]:
        back = None if score is None else Reranking(score, self.top_k)
        forth = None if score is None else Reranking(lambda texts, videos: score(videos, texts), self.top_k)
        return {
            "text_to_video": Similarities(self.text, self.video, self.temperature, forth).ranks(self.pairs.flip(1)),
            "video_to_text": Similarities(self.video, self.text, self.temperature, back).ranks(self.pairs),
        }

    def metrics(self) -> dict[str, float]:
        """Recalls as fractions, ranks from 1, counts; with re-ranking also those of similarity alone, `emb_...`."""
        counts = {"num_videos": len(self.video), "num_texts": len(self.text), "num_views": self.num_views}
        found = _named(self.ranks)
        if self.matching is not None:
            found |= {f"emb_{name}": value for name, value in _named(self.similarity_ranks).items()}
        counts["skipped_videos"] = self.num_skipped
        return {**found, **{name: float(each) for name, each in counts.items()}}

    def save_report(self, folder: Path, title: str) -> None:
        """Write the numbers as JSON, the rank of every query as csv, and plot recall over the number of results."""
        numbers = json.dumps(self.metrics(), indent=2) + "\n"
        (folder / "retrieval.json").write_text(numbers, encoding="utf-8")
        names = {"text_to_video": self.captions, "video_to_text": self.clip_ids}
        with (folder / "retrieval_ranks.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["direction", "query", "rank"])
            for direction, ranks in self.ranks.items():
                rows = zip(names[direction], ranks.tolist(), strict=True)
                table.writerows([direction, query, rank + 1] for query, rank in rows)
        # Only this plot needs matplotlib, which is an optional dependency.
        from tubelets.visualization.retrieval import save_recall_curves

        items = {"text_to_video": len(self.video), "video_to_text": len(self.text)}
        save_recall_curves(self.ranks, items, folder / "recall.png", title)


def _named(ranks: dict[str, Tensor]) -> dict[str, float]:
    """The numbers of both directions, and the mean recall of both."""
    found = {
        f"{direction}_{name}": value for direction, each in ranks.items() for name, value in rank_metrics(each).items()
    }
    return {**found, "mean_recall": sum(found[f"{direction}_mean_recall"] for direction in ranks) / len(ranks)}


def paired(captions: Sequence[Sequence[str]]) -> tuple[list[str], Tensor]:
    """The different captions of some videos, and which belong to which; captions equal up to case count as one.

    Args:
        captions: of each video.

    Returns:
        The T captions in the order of their first occurrence, and int64 `(P, 2)`, video and caption of each pair.

    Example:
        >>> paired([["a bird"], ["a cat", "A bird"]])
        (['a bird', 'a cat'], tensor([[0, 0],
                [1, 1],
                [1, 0]]))
    """
    numbers: dict[str, int] = {}
    texts: list[str] = []
    pairs: list[tuple[int, int]] = []
    for video, each in enumerate(captions):
        for caption in each:
            key = caption_key(caption)
            if key not in numbers:
                numbers[key] = len(texts)
                texts.append(caption)
            pairs.append((video, numbers[key]))
    return texts, torch.tensor(pairs, dtype=torch.long).view(-1, 2)
