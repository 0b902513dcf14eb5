"""Scores of retrieval: pairs of captions, re-ranking by a model that reads both sides, the report."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tubelets.tasks.retrieval.data import RetrievalData, _Video
from tubelets.tasks.retrieval.scores import RetrievalScores, paired


class Fusion(nn.Module):
    """A model whose embeddings are wrong and whose scores of pairs are right."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace()

    def get_video_features(self, pixel_values: Tensor) -> Tensor:
        return torch.eye(4)[: len(pixel_values)].flip(0)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return torch.eye(4)[input_ids[:, 0]]

    def get_match_inputs(self, pixel_values: Tensor) -> Tensor:
        return pixel_values.flatten(1)[:, None, :1]

    def score_pairs(self, match_inputs: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return -(match_inputs[:, 0, 0] - input_ids[:, 0]).abs()


def words(text: list[str], return_tensors: str) -> dict[str, Tensor]:
    ids = torch.tensor([[int(each)] for each in text])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def data_of(rerank: int | None) -> Any:
    """The task's data without its files."""
    data = object.__new__(RetrievalData)
    data.data, data.processor = SimpleNamespace(rerank=rerank), words  # type: ignore[assignment]
    data.args = SimpleNamespace(device=torch.device("cpu"))  # type: ignore[assignment]
    return data


def test_a_model_that_scores_pairs_reranks_the_candidates(tmp_path: Path) -> None:
    model, data = Fusion(), data_of(rerank=4)
    pixels = torch.arange(4.0)[:, None]
    videos = [
        _Video(str(number), [str(number)], embedding, match)
        for number, (embedding, match) in enumerate(
            zip(model.get_video_features(pixels), model.get_match_inputs(pixels), strict=True)
        )
    ]
    texts, pairs = paired([video.captions for video in videos])
    text = model.get_text_features(words(texts, "pt")["input_ids"])
    video = torch.stack([each.embedding for each in videos])
    matching = data._matching(model, videos, texts)
    scores = RetrievalScores(["a", "b", "c", "d"], texts, pairs, video, text, matching=matching, top_k=4)
    found = scores.metrics()
    assert found["text_to_video_r1"] == found["video_to_text_r1"] == found["mean_recall"] == 1
    assert found["emb_text_to_video_r1"] == 0
    assert data_of(rerank=None)._matching(model, videos, texts) is None
    scores.save_report(tmp_path, "run")
    assert json.loads((tmp_path / "retrieval.json").read_text())["emb_video_to_text_r1"] == 0
    assert (tmp_path / "recall.png").stat().st_size > 1000


def test_equal_captions_are_one_query_with_several_videos() -> None:
    texts, pairs = paired([["A bird", "a cat"], ["a  bird"], ["a dog"]])
    assert texts == ["A bird", "a cat", "a dog"]
    video, text = torch.eye(3), torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    scores = RetrievalScores(["x", "y", "z"], texts, pairs, video, text)
    # The bird's nearest video is the second of its two.
    assert scores.ranks["text_to_video"].tolist() == [0, 0, 0]
    assert scores.ranks["video_to_text"].tolist() == [0, 0, 0]
    assert scores.metrics()["num_texts"] == 3


def test_clips_of_a_video_are_averaged() -> None:
    video = _Video("a", ["x"], torch.tensor([1.0, 0.0]), None)
    video.add(torch.tensor([0.0, 1.0]))
    assert video.embedding.tolist() == [0.5, 0.5]
