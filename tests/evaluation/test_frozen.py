from dataclasses import replace

import pytest
import torch

from tubelets.evaluation.features import FeatureSet
from tubelets.evaluation.frozen import effective_rank, evaluate_frozen, headline


def tokens(count: int, seed: int) -> FeatureSet:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    features = torch.randn(count, 4, 8, generator=generator)
    features[..., 0] += 6.0 * labels[:, None]
    names = [str(i) for i in range(count)]
    return FeatureSet(features.mean(dim=1), labels, names, ["a", "b"], features.half())


def test_everything_is_measured_and_separable_classes_are_found():
    result = evaluate_frozen(
        tokens(64, 0), tokens(32, 1), k=5, shots=(8, 1000), draws=2, attentive={"steps": 60, "learning_rate": 1e-2}
    )
    assert all(value > 0.8 for value in headline(result).values())
    assert list(headline(result)) == ["kNN", "linear probe", "attentive probe", "8-shot linear"]
    assert (result["chance"], result["num_train"], result["num_test"]) == (0.5, 64, 32)
    assert result["retrieval"]["recall_at_1"] > 0.8


def test_pooled_features_have_no_attentive_probe():
    train, test = (replace(tokens(count, seed), tokens=None) for seed, count in enumerate((32, 16)))
    result = evaluate_frozen(train, test, shots=(), draws=1)
    assert "attentive_probe" not in result


def test_splits_with_other_classes_are_refused():
    test = tokens(16, 1)
    more = FeatureSet(test.features, test.labels, test.clip_ids, ["a", "b", "c"])
    with pytest.raises(ValueError, match="3 classes"):
        evaluate_frozen(tokens(16, 0), more)


def test_effective_rank_counts_directions_whatever_their_mean_and_scale():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(50, 3, generator=generator)).Q
    basis = torch.linalg.qr(basis - basis.mean(0)).Q
    directions = torch.linalg.qr(torch.randn(20, 3, generator=generator)).Q
    features = 1e-3 * (basis @ directions.T).double() + 7.0
    assert effective_rank(features) == pytest.approx(3.0, rel=1e-4)
    assert effective_rank(torch.ones(4, 5)) == 1.0
    with pytest.raises(ValueError, match="at least 2"):
        effective_rank(torch.ones(1, 5))
