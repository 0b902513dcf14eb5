import pytest
import torch

from tubelets.evaluation.neighbours import retrieval_recall, weighted_knn


def test_scores_are_the_sums_of_exponential_weights_of_the_k_nearest():
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(5, 7, generator=generator), torch.randn(20, 7, generator=generator)
    labels = torch.randint(3, (20,), generator=generator)
    scores = weighted_knn(queries, bank, labels, 3, k=4, temperature=0.5)
    for query, row in zip(queries, scores, strict=True):
        similarity = torch.cosine_similarity(query[None], bank)
        expected = torch.zeros(3)
        for index in similarity.argsort(descending=True)[:4]:
            expected[labels[index]] += torch.exp(similarity[index] / 0.5)
        torch.testing.assert_close(row, expected)


def test_k_beyond_the_bank_uses_the_whole_bank():
    bank, labels = torch.eye(3), torch.tensor([0, 1, 1])
    torch.testing.assert_close(weighted_knn(bank, bank, labels, 2, k=200), weighted_knn(bank, bank, labels, 2, k=3))


def test_blocks_of_queries_do_not_change_scores(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(10, 4, generator=generator), torch.randn(8, 4, generator=generator)
    labels = torch.arange(8) % 2
    whole = weighted_knn(queries, bank, labels, 2), retrieval_recall(queries, torch.arange(10) % 2, bank, labels)
    monkeypatch.setattr("tubelets.evaluation.neighbours._QUERIES_PER_BLOCK", 3)
    torch.testing.assert_close(weighted_knn(queries, bank, labels, 2), whole[0])
    assert retrieval_recall(queries, torch.arange(10) % 2, bank, labels) == whole[1]


def test_recall_counts_a_hit_anywhere_among_the_nearest():
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    found = retrieval_recall(
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([5, 5]), bank, torch.tensor([4, 5, 4]), (1, 2, 9)
    )
    assert found == {"recall_at_1": 0.0, "recall_at_2": 1.0, "recall_at_9": 1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2, 3), torch.ones(2, 4), torch.zeros(2)), r"\(2, 4\)"),
        ((torch.ones(2, 3), torch.ones(0, 3), torch.zeros(0)), "at least 1"),
        ((torch.ones(2, 3), torch.ones(2, 3), torch.zeros(5)), "bank_labels"),
    ],
)
def test_wrong_shapes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        weighted_knn(*arguments, num_classes=2)


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="k must be"):
        weighted_knn(torch.ones(1, 2), torch.ones(1, 2), torch.zeros(1), 1, k=0)
    with pytest.raises(ValueError, match="query_labels"):
        retrieval_recall(torch.ones(1, 2), torch.zeros(3), torch.ones(1, 2), torch.zeros(1))
