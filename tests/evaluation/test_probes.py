import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from tubelets.evaluation import probes
from tubelets.evaluation.features import FeatureSet
from tubelets.evaluation.probes import attentive_probe, draw_shots, few_shot, linear_probe
from tubelets.tasks.metrics import top_k_accuracy


def pooled(count: int, seed: int, spread: float = 0.3) -> FeatureSet:
    """Three clouds of points."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    features = 2 * torch.eye(3, 6)[labels] + spread * torch.randn(count, 6, generator=generator)
    return FeatureSet(features, labels, [str(i) for i in range(count)])


def marked_tokens(count: int, seed: int) -> FeatureSet:
    """Ten tokens of noise; the class is written into one of them, at a random place, next to a mark."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    tokens = torch.randn(count, 10, 8, generator=generator)
    place = torch.randint(10, (count,), generator=generator)
    signal = torch.zeros(count, 8)
    signal[torch.arange(count), labels] = 4.0
    signal[:, 7] = 6.0
    tokens[torch.arange(count), place] = signal
    return FeatureSet(tokens.mean(dim=1), labels, [str(i) for i in range(count)], tokens=tokens.half())


def test_linear_probe_separates_clouds_and_gives_log_probabilities():
    scores = linear_probe(pooled(60, 0), pooled(30, 1))
    assert top_k_accuracy(scores, torch.arange(30) % 3) == 1.0
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(30))


def test_linear_probe_is_at_chance_where_labels_mean_nothing():
    train = pooled(300, 0)
    generator = torch.Generator().manual_seed(5)
    shuffled = FeatureSet(train.features, train.labels[torch.randperm(300, generator=generator)], train.clip_ids)
    assert top_k_accuracy(linear_probe(shuffled, pooled(300, 1)), torch.arange(300) % 3) < 0.5


@pytest.mark.parametrize("features", ["few", "many"])
def test_the_solver_has_one_thread_unless_features_are_many(monkeypatch, features):
    def blas_threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    seen, fit = [], LogisticRegression.fit

    def recorded(self, *arguments):
        seen.append(blas_threads())
        return fit(self, *arguments)

    monkeypatch.setattr(LogisticRegression, "fit", recorded)
    monkeypatch.setattr(probes, "MIN_PARALLEL_OPERATIONS", 60 * 6 * 3 + (features == "few"))
    with threadpool_limits(2, "blas"):
        linear_probe(pooled(60, 0), pooled(30, 1), penalty=0.1)
        assert seen == [{1} if features == "few" else {2}]
        assert blas_threads() == {2}


def test_classes_that_were_not_seen_get_no_probability():
    train = pooled(30, 0)
    two = train.subset(torch.nonzero(train.labels != 1)[:, 0])
    scores = linear_probe(two, pooled(6, 1))
    assert scores.shape == (6, 3)
    assert bool((scores[:, 1] == -math.inf).all())
    with pytest.raises(ValueError, match="two classes"):
        linear_probe(train.subset(torch.tensor([0, 3])), train)


def test_attentive_probe_finds_the_token_that_matters_and_the_mean_does_not():
    train, test = marked_tokens(600, 0), marked_tokens(300, 1)
    attentive = top_k_accuracy(attentive_probe(train, test, steps=250, num_heads=2, learning_rate=3e-3), test.labels)
    assert attentive > 0.9
    assert attentive > top_k_accuracy(linear_probe(train, test, penalty=0.1), test.labels)


def test_attentive_probe_depends_on_its_seed_only():
    train, test = marked_tokens(30, 0), marked_tokens(9, 1)
    first = attentive_probe(train, test, steps=3, seed=1)
    torch.manual_seed(123)
    torch.testing.assert_close(attentive_probe(train, test, steps=3, seed=1), first, rtol=0, atol=0)
    assert not torch.equal(attentive_probe(train, test, steps=3, seed=2), first)
    with pytest.raises(ValueError, match="tokens"):
        attentive_probe(pooled(6, 0), pooled(6, 0))


def test_shots_are_balanced_random_and_reproducible():
    labels = torch.tensor([2, 0, 2, 0, 0, 2, 2, 0])
    draws = [draw_shots(labels, 2, torch.Generator().manual_seed(seed)) for seed in range(40)]
    assert all(torch.bincount(labels[draw]).tolist() == [2, 0, 2] for draw in draws)
    assert all(draw.unique().numel() == 4 for draw in draws)
    assert {index for draw in draws for index in draw.tolist()} == set(range(8))
    assert torch.equal(draws[3], draw_shots(labels, 2, torch.Generator().manual_seed(3)))
    with pytest.raises(ValueError, match="class 0 has 4 videos, fewer than the 5 requested"):
        draw_shots(labels, 5, torch.Generator())


def test_more_shots_help_and_deviation_is_over_draws():
    train, test = pooled(300, 0, spread=2.0), pooled(300, 1, spread=2.0)
    result = few_shot(train, test, shots=(1, 50), draws=4)
    assert result["1"]["mean"] + 0.05 < result["50"]["mean"]
    assert result["1"]["std"] > 0
    assert few_shot(train, test, shots=(1,), draws=1)["1"]["std"] == 0.0
    with pytest.raises(ValueError, match="draws"):
        few_shot(train, test, draws=0)
