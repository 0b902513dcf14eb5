"""The loss of classifiers: every kind of label, and labels that do not fit."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tubelets.objectives.classification import classification_loss

LOGITS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
SEVERAL = "multi_label_classification"


def test_numbers_are_regressed() -> None:
    numbers = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    logits = LOGITS.clone().requires_grad_()
    loss = classification_loss(logits, numbers, "regression")
    torch.testing.assert_close(loss, (LOGITS - numbers).square().mean())
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.abs().min() > 0
    # One number for each clip, in the shape of either; not the table of all differences.
    expected = (LOGITS[:, 0] - numbers[:, 0]).square().mean()
    torch.testing.assert_close(classification_loss(LOGITS[:, :1], numbers[:, 0], "regression"), expected)
    torch.testing.assert_close(classification_loss(LOGITS[:, :1], numbers[:, :1], "regression"), expected)
    assert classification_loss(LOGITS[:, :1], torch.tensor([1, 2, 3, 4]), "regression").isfinite()


def test_left_out_and_integer_labels() -> None:
    labels = torch.tensor([2, -100, 0, 1])
    torch.testing.assert_close(classification_loss(LOGITS, labels), F.cross_entropy(LOGITS, labels))
    several = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 1, 1], [1, 0, 0]])
    expected = F.binary_cross_entropy_with_logits(LOGITS, several.float())
    torch.testing.assert_close(classification_loss(LOGITS, several, SEVERAL), expected)


@pytest.mark.parametrize(
    ("labels", "problem_type", "message"),
    [
        (torch.tensor([0, 1]), None, r"a row for each of the 4 clips, got \(2,\)"),
        (torch.tensor(1), None, r"a row for each of the 4 clips, got \(\)"),
        (torch.tensor([0, 1, 2, 3]), None, r"labels must lie in \[0, 3\), got values from 0 to 3"),
        (torch.tensor([0, 1, 2, -1]), None, r"labels must lie in \[0, 3\), got values from -1 to 2"),
        (torch.tensor([0, 1, 2, 0], dtype=torch.int32), None, r"must be int64 class numbers .*got torch\.int32"),
        (torch.zeros(4, 3, dtype=torch.int64), None, r"must be int64 class numbers \(4,\) .*got torch\.int64 \(4, 3\)"),
        (torch.zeros(4), None, r"float labels must have shape \(4, 3\), one value for each class, got \(4,\)"),
        (torch.full((4, 3), 2.0), None, r"must lie in \[0, 1\], got values from 2 to 2"),
        (torch.full((4, 3), torch.nan), SEVERAL, r"must lie in \[0, 1\], got values from nan"),
        (torch.tensor([0, 1, 2, 0]), SEVERAL, r"several classes must have shape \(4, 3\)"),
        (torch.zeros(4, 2), "regression", r"numbers must have shape \(4, 3\), got \(4, 2\)"),
        (torch.tensor([0, 1, 2, 0]), "ranking", "problem_type must be one of single_label_classification"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, problem_type: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification_loss(LOGITS, labels, problem_type)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="the batch has no clips"):
        classification_loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
