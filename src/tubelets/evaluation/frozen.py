"""All metrics of frozen features, from one call."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tubelets.evaluation.features import FeatureSet
from tubelets.evaluation.neighbours import retrieval_recall, weighted_knn
from tubelets.evaluation.probes import attentive_probe, few_shot, linear_probe
from tubelets.tasks.metrics import mean_class_accuracy, top_k_accuracy


def effective_rank(features: Tensor) -> float:
    """Effective rank of features: the exponential of the entropy of their normalised singular values.

    Args:
        features: floating point `(N, D)`, N at least 2.

    Returns:
        A number from 1 (all on a line, or constant) to min(N - 1, D) (all directions equal).

    Raises:
        ValueError: if the shape does not fit, or features are not finite.

    Example:
        >>> round(effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 3)
        2.0

    Source: Roy and Vetterli, The effective rank, EUSIPCO 2007; of centred features.
    """
    if features.ndim != 2 or len(features) < 2 or not features.shape[1]:
        raise ValueError(f"features must be (N, D) with N at least 2, got {tuple(features.shape)}")
    if not bool(features.isfinite().all()):
        raise ValueError("features must be finite, got NaN or infinity; compute them in float32 or bfloat16")
    values = torch.linalg.svdvals((features - features.mean(dim=0)).double())
    total = values.sum()
    if total == 0:
        return 1.0
    share = values / total
    return float(torch.special.entr(share).sum().exp())


def _accuracies(scores: Tensor, test: FeatureSet) -> dict[str, float]:
    return {
        "top_1": top_k_accuracy(scores, test.labels),
        "top_5": top_k_accuracy(scores, test.labels, 5),
        "mean_class_accuracy": mean_class_accuracy(scores, test.labels),
    }


def evaluate_frozen(
    train: FeatureSet,
    test: FeatureSet,
    *,
    k: int = 200,
    temperature: float = 0.07,
    shots: Sequence[int] = (1, 4, 16),
    draws: int = 5,
    seed: int = 0,
    attentive: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Weighted kNN, linear probe, few-shot probes, retrieval and effective rank; with tokens also an attentive probe.

    Args:
        train: features of the training split, the bank of neighbours.
        test: features of the test split.
        k: neighbours of the kNN classifier.
        temperature: temperature of its weights.
        shots: labelled clips per class of the few-shot probes; numbers larger than the smallest class are skipped.
        draws: random draws of these clips.
        seed: seed of draws and of the attentive probe.
        attentive: arguments of `attentive_probe`, which runs if both sets have tokens.

    Returns:
        Plain numbers, fractions unless stated otherwise: `knn`, `linear_probe` and `attentive_probe` (each `top_1`,
        `top_5`, `mean_class_accuracy`), `few_shot` (linear, by shots: `mean`, `std`), `retrieval`,
        `effective_rank` (directions), `chance`, `num_train`, `num_test`.

    Raises:
        ValueError: if features and labels do not fit together, or a number is out of range.
    """
    if train.num_classes < test.num_classes:
        raise ValueError(f"the test split has {test.num_classes} classes, the training split {train.num_classes}")
    if draws < 1 or not all(isinstance(count, int) and count >= 1 for count in shots):
        raise ValueError(f"shots and draws must be integers of at least 1, got {list(shots)} and {draws}")
    counts = torch.bincount(train.labels)
    shots = [count for count in shots if count <= int(counts[counts > 0].min())]
    scores = weighted_knn(test.features, train.features, train.labels, train.num_classes, k, temperature)
    result: dict[str, Any] = {
        "knn": _accuracies(scores, test),
        "linear_probe": _accuracies(linear_probe(train, test), test),
        "few_shot": few_shot(train, test, shots, draws, seed),
        "retrieval": retrieval_recall(test.features, test.labels, train.features, train.labels),
        "effective_rank": effective_rank(test.features),
        "chance": 1 / train.num_classes,
        "num_train": len(train.labels),
        "num_test": len(test.labels),
    }
    if train.tokens is not None and test.tokens is not None:
        options = {"seed": seed, **(attentive or {})}
        result["attentive_probe"] = _accuracies(attentive_probe(train, test, **options), test)
    return result


def headline(result: Mapping[str, Any]) -> dict[str, float]:
    """The top-1 numbers of `evaluate_frozen` under the names that tables and figures show.

    Args:
        result: as `evaluate_frozen` returns it.

    Returns:
        Fractions by name; kNN, probes and few-shot means in this order.

    Example:
        >>> headline({"knn": {"top_1": 0.5}, "few_shot": {"4": {"mean": 0.25, "std": 0.1}}})
        {'kNN': 0.5, '4-shot linear': 0.25}
    """
    names = {"knn": "kNN", "linear_probe": "linear probe", "attentive_probe": "attentive probe"}
    found = {title: result[name]["top_1"] for name, title in names.items() if name in result}
    return found | {f"{shots}-shot linear": value["mean"] for shots, value in result.get("few_shot", {}).items()}
