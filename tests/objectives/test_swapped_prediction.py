"""Both terms of swapped prediction: values, labels, and where their gradients go."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.objectives import (
    SwappedPrediction,
    assignment_statistics,
    prototype_logits,
    sinkhorn,
    swapped_prediction_loss,
)

TOKENS, WIDTH, PROTOTYPES = 60, 8, 6


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Projections, predictions and prototypes, all leaves that ask for a gradient."""
    generator = torch.Generator().manual_seed(0)
    projections, predictions = (torch.randn(TOKENS, WIDTH, generator=generator) * scale for scale in (3.0, 0.2))
    prototypes = F.normalize(torch.randn(PROTOTYPES, WIDTH, generator=generator), dim=1)
    return projections.requires_grad_(), predictions.requires_grad_(), prototypes.requires_grad_()


def cosine(features: Tensor, prototypes: Tensor) -> Tensor:
    return F.normalize(features, dim=1) @ prototypes.T


@pytest.mark.parametrize("hard_labels", [True, False])
def test_terms_are_the_equations_of_the_paper(hard_labels: bool) -> None:
    projections, predictions, prototypes = inputs()
    with torch.no_grad():
        scores = [cosine(features, prototypes) for features in (projections, predictions)]
        shares = [sinkhorn(score, 0.05, 10) for score in scores]
        labels = [F.one_hot(share.argmax(dim=1), PROTOTYPES).float() if hard_labels else share for share in shares]
        projection_loss = -(labels[1] * (scores[0] / 0.1).log_softmax(dim=1)).sum(dim=1).mean()
        prediction_loss = -(labels[0] * (scores[1] / 0.1).log_softmax(dim=1)).sum(dim=1).mean()
    found = swapped_prediction_loss(projections, predictions, prototypes, hard_labels=hard_labels)
    torch.testing.assert_close(found.projection_loss, projection_loss)
    torch.testing.assert_close(found.prediction_loss, prediction_loss)
    torch.testing.assert_close(found.loss, projection_loss + prediction_loss)
    torch.testing.assert_close(found.projection_logits, scores[0] / 0.1)
    torch.testing.assert_close(found.prediction_logits, scores[1] / 0.1)
    assert torch.equal(found.projection_assignment.labels, shares[0].argmax(dim=1))
    torch.testing.assert_close(found.prediction_assignment.assignments(), shares[1], atol=1e-5, rtol=1e-4)


def test_hard_and_soft_labels_give_different_losses() -> None:
    hard, soft = (swapped_prediction_loss(*inputs(), epsilon=0.5, hard_labels=kind).loss for kind in (True, False))
    assert abs(hard.item() - soft.item()) > 1e-3


def gradients(term: str, hard_labels: bool) -> list[Tensor | None]:
    leaves = inputs()
    found: SwappedPrediction = swapped_prediction_loss(*leaves, hard_labels=hard_labels)
    return list(torch.autograd.grad(getattr(found, term), leaves, allow_unused=True))


@pytest.mark.parametrize("hard_labels", [True, False])
def test_each_term_trains_its_own_branch_only(hard_labels: bool) -> None:
    projections, predictions, prototypes = gradients("projection_loss", hard_labels)
    assert predictions is None
    assert projections is not None
    assert projections.abs().sum() > 0
    assert prototypes is not None
    assert prototypes.abs().sum() > 0
    projections, predictions, prototypes = gradients("prediction_loss", hard_labels)
    assert projections is None
    assert prototypes is None
    assert predictions is not None
    assert predictions.abs().sum() > 0


def test_gradients_are_those_of_the_plain_formula() -> None:
    leaves = inputs()
    found = swapped_prediction_loss(*leaves)
    actual = torch.autograd.grad(found.loss, leaves)
    projections, predictions, prototypes = leaves
    plain = F.cross_entropy(cosine(projections, prototypes) / 0.1, found.prediction_assignment.labels)
    plain += F.cross_entropy(cosine(predictions, prototypes.detach()) / 0.1, found.projection_assignment.labels)
    for ours, expected in zip(actual, torch.autograd.grad(plain, leaves), strict=True):
        torch.testing.assert_close(ours, expected)


def test_the_temperature_does_not_change_the_assignment() -> None:
    leaves = inputs()
    first, second = (swapped_prediction_loss(*leaves, temperature=temperature) for temperature in (0.1, 0.5))
    torch.testing.assert_close(
        first.projection_assignment.assignments(), second.projection_assignment.assignments(), atol=1e-5, rtol=1e-4
    )
    assert first.loss.item() != pytest.approx(second.loss.item())


def test_the_loss_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = swapped_prediction_loss(*inputs())
    assert found.loss.dtype == torch.float32
    assert found.prediction_assignment.assignments().dtype == torch.float32
    assert found.loss.item() == pytest.approx(swapped_prediction_loss(*inputs()).loss.item(), rel=0.1)


def test_logits_are_bounded_cosines_whatever_the_norm_of_the_features() -> None:
    features, _, prototypes = inputs()
    logits = prototype_logits(features, prototypes, temperature=0.1)
    assert logits.abs().max() <= 10 + 1e-5
    torch.testing.assert_close(logits, prototype_logits(100 * features, prototypes, temperature=0.1))


def test_statistics_count_labels() -> None:
    entropy, used = assignment_statistics(torch.tensor([0, 0, 0, 2]), num_prototypes=5)
    assert entropy.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert used.item() == 2
    entropy, used = assignment_statistics(torch.full((9,), 3), num_prototypes=5)
    assert (entropy.item(), used.item()) == (0, 1)
    entropy, used = assignment_statistics(torch.arange(20) % 5, num_prototypes=5)
    assert entropy.item() == pytest.approx(math.log(5))
    assert used.item() == 5


def test_different_shapes_are_refused_with_both() -> None:
    projections, predictions, prototypes = inputs()
    with pytest.raises(ValueError, match=r"\(60, 8\).*\(59, 8\)"):
        swapped_prediction_loss(projections, predictions[1:], prototypes)
    with pytest.raises(ValueError, match="width 8, prototypes 7"):
        swapped_prediction_loss(projections, predictions, prototypes[:, 1:])
