import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, top_k_accuracy_score

from tubelets.tasks.metrics import (
    average_precision,
    confusion_matrix,
    mean_average_precision,
    mean_class_accuracy,
    per_class_accuracy,
    top_k_accuracy,
)

RANDOM = torch.Generator().manual_seed(0)
SCORES = torch.randn(50, 7, generator=RANDOM)
LABELS = torch.randint(7, (50,), generator=RANDOM)
PRESENT = torch.randint(2, (50, 7), generator=RANDOM)


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_top_k_is_that_of_scikit_learn(k: int) -> None:
    expected = top_k_accuracy_score(LABELS.numpy(), SCORES.numpy(), k=k) if k < 7 else 1.0
    assert top_k_accuracy(SCORES, LABELS, k) == pytest.approx(expected)


def test_more_answers_than_classes_are_all_classes() -> None:
    assert top_k_accuracy(SCORES, LABELS, 100) == 1.0


def test_mean_class_accuracy_is_the_balanced_one() -> None:
    expected = balanced_accuracy_score(LABELS.numpy(), SCORES.argmax(dim=1).numpy())
    assert mean_class_accuracy(SCORES, LABELS) == pytest.approx(expected)


def test_each_class_counts_its_own_videos_only() -> None:
    """The official code adds up lists over classes; a class without an error must have accuracy 1."""
    scores = torch.eye(3)[[0, 0, 0, 1, 2, 1]]
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    assert per_class_accuracy(scores, labels).tolist() == [1.0, 1.0, 0.5]
    assert mean_class_accuracy(scores, labels) == pytest.approx(2.5 / 3)
    assert top_k_accuracy(scores, labels) == pytest.approx(5 / 6)


def test_average_precision_by_class() -> None:
    found = average_precision(SCORES, PRESENT)
    expected = [average_precision_score(PRESENT[:, index].numpy(), SCORES[:, index].numpy()) for index in range(7)]
    assert found.tolist() == pytest.approx(expected)
    assert mean_average_precision(SCORES, PRESENT) == pytest.approx(np.mean(expected))


def test_classes_that_are_nowhere_are_left_out() -> None:
    present = PRESENT.clone()
    present[:, 0] = 0
    assert mean_average_precision(SCORES, present) == pytest.approx(
        float(average_precision(SCORES, PRESENT)[1:].mean())
    )
    with pytest.raises(ValueError, match="none of the 7 classes occurs"):
        mean_average_precision(SCORES, torch.zeros_like(PRESENT))


def test_confusion_matrix_counts() -> None:
    matrix = confusion_matrix(SCORES, LABELS)
    assert matrix.shape == (7, 7)
    assert matrix.sum(dim=1).tolist() == torch.bincount(LABELS, minlength=7).tolist()
    assert float(matrix.diagonal().sum() / 50) == pytest.approx(top_k_accuracy(SCORES, LABELS))


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), "N at least 1"),
        (torch.zeros(2, 3), torch.tensor([0]), "labels must have shape"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), r"lie in \[0, 3\), got 0 to 3"),
    ],
)
def test_bad_input_is_refused(scores: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    for metric in (top_k_accuracy, per_class_accuracy, mean_class_accuracy, confusion_matrix):
        with pytest.raises(ValueError, match=message):
            metric(scores, labels)


def test_bad_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        top_k_accuracy(SCORES, LABELS, 0)
    with pytest.raises(ValueError, match="absent must be"):
        mean_class_accuracy(SCORES, LABELS, absent="one")
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        average_precision(SCORES, PRESENT * 2)


def test_average_precision_of_a_single_class_and_of_classes_that_do_not_occur() -> None:
    labels = PRESENT.clone()
    labels[:, 2:] = 0
    found = average_precision(SCORES, labels)
    assert found.isnan().tolist() == [False, False, True, True, True, True, True]
    for column in range(2):
        expected = average_precision_score(labels[:, column].numpy(), SCORES[:, column].numpy())
        assert float(found[column]) == pytest.approx(expected)
    assert float(average_precision(SCORES[:, :1], labels[:, :1])[0]) == pytest.approx(float(found[0]))
    assert bool(average_precision(SCORES, torch.zeros_like(labels)).isnan().all())
