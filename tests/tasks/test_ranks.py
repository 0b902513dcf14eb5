"""Ranks against sorting, several correct answers, and blocks against the whole matrix."""

import pytest
import torch
from torch import Tensor

from tubelets.objectives import dual_softmax
from tubelets.tasks.metrics import NaNScoresError
from tubelets.tasks.ranks import answer_ranks, equal_ids, rank_metrics
from tubelets.tasks.similarities import Reranking, Similarities, retrieval_metrics


def sorted_ranks(scores: Tensor, pairs: Tensor) -> Tensor:
    order = scores.argsort(dim=1, descending=True, stable=True)
    right = torch.zeros(scores.shape, dtype=torch.bool)
    right[pairs[:, 0], pairs[:, 1]] = True
    return right.gather(1, order).int().argmax(dim=1)


def drawn(queries: int = 40, items: int = 17, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores of few values, so that many are equal, and one to five correct items of each query, in random order."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(6, (queries, items), generator=generator).float()
    chosen = torch.rand(queries, items, generator=generator).argsort(dim=1)[:, :5]
    keep = torch.rand(queries, 5, generator=generator) < 0.4
    keep[:, 0] = True
    pairs = torch.stack([keep.nonzero()[:, 0], chosen[keep]], dim=1)
    return scores, pairs[torch.randperm(len(pairs), generator=generator)]


def test_ranks_are_those_of_a_stable_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, pairs = drawn()
    expected = sorted_ranks(scores, pairs)
    assert torch.equal(answer_ranks(scores, pairs), expected)
    monkeypatch.setattr("tubelets.tasks.ranks.BLOCK_VALUES", 3 * 17)
    assert torch.equal(answer_ranks(scores, pairs), expected)
    unlike = torch.randn(40, 17, generator=torch.Generator().manual_seed(1))
    assert torch.equal(answer_ranks(unlike.double(), pairs), sorted_ranks(unlike, pairs))


def test_a_model_that_scores_all_alike_gains_nothing() -> None:
    ranks = answer_ranks(torch.zeros(5, 5), torch.arange(5)[:, None].expand(-1, 2))
    assert ranks.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("temperature", [None, 0.1])
def test_blocks_score_as_the_whole_matrix(temperature: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, items = torch.randn(11, 4, generator=generator), torch.randn(7, 4, generator=generator)
    whole = queries @ items.T
    if temperature is not None:
        whole = dual_softmax(whole, temperature)
    for block_values in (1, 15, 1000):
        blocks = Similarities(queries, items, temperature, block_values=block_values).blocks()
        torch.testing.assert_close(torch.cat([block for _, block in blocks]), whole)


def test_reranking_replaces_the_scores_of_the_candidates_alone() -> None:
    queries, items = torch.eye(6), torch.eye(6) + 0.01 * torch.arange(6).flip(0)[:, None]
    calls = []

    def score(query: Tensor, item: Tensor) -> Tensor:
        calls.append(len(query))
        return -(item - query).abs().float()

    reranking = Reranking(score, top_k=3, pairs_per_call=4)
    scores = torch.cat([block for _, block in Similarities(queries, items, None, reranking, 12).blocks()])
    candidates = (queries @ items.T).topk(3, dim=1).indices
    mask = torch.zeros(6, 6, dtype=torch.bool).scatter_(1, candidates, True)
    assert (scores[~mask] == -100).all()
    numbers = torch.arange(6)
    assert torch.equal(scores[mask], -(numbers[None] - numbers[:, None]).abs().float()[mask])
    assert sum(calls) == 18
    assert max(calls) == 4
    with pytest.raises(ValueError, match=r"must give \(4,\)"):
        next(Similarities(queries, items, None, Reranking(lambda q, i: q[:1], 3, 4)).blocks())


def test_both_directions_count_several_correct_answers_and_rerank() -> None:
    video, text = torch.eye(3)[[0, 0, 1, 2]], torch.eye(3)
    pairs = equal_ids([0, 0, 1, 2], [0, 1, 2])
    found = retrieval_metrics(video, text, pairs)
    assert found["text_to_video_r1"] == found["video_to_text_r1"] == found["mean_recall"] == 1
    # A fusion encoder that is always wrong, given videos and texts in this order.
    worse = retrieval_metrics(video, text, pairs, score=lambda v, t: (video[v] * text[t]).sum(dim=1) * -1, top_k=2)
    assert worse["text_to_video_r1"] < 1
    assert worse["video_to_text_r1"] == 0
    assert worse["video_to_text_median_rank"] >= 2


def test_an_even_number_of_ranks_has_the_mean_of_the_middle_two() -> None:
    assert rank_metrics(torch.tensor([0, 3, 9, 1]))["median_rank"] == 3


def test_wrong_pairs_and_scores_are_named() -> None:
    scores = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="1 of 2 queries have no correct item, the first is number 1"):
        answer_ranks(scores, torch.tensor([[0, 0]]))
    with pytest.raises(ValueError, match=r"items of pairs must lie in \[0, 3\), got 0 to 3"):
        answer_ranks(scores, torch.tensor([[0, 0], [1, 3]]))
    with pytest.raises(ValueError, match=r"pairs must be int64 \(P, 2\)"):
        answer_ranks(scores, torch.tensor([0, 1]))
    with pytest.raises(NaNScoresError, match="1 of 2 rows of scores are NaN"):
        answer_ranks(torch.tensor([[0.0, torch.nan, 1.0], [0.0, 0.0, 0.0]]), torch.tensor([[0, 0], [1, 0]]))
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        Similarities(torch.eye(2), torch.eye(2), 0.0)
