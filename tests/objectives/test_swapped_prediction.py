"""Assignments and cross entropy of swapped prediction: values, labels, and where their gradients go."""

import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.objectives import (
    PrototypeAssignment,
    assign_prototypes,
    assignment_statistics,
    prototype_cross_entropy,
    sinkhorn,
)

TOKENS, WIDTH, PROTOTYPES = 60, 8, 6


def inputs(tokens: int = TOKENS, count: int = PROTOTYPES) -> tuple[Tensor, Tensor, Tensor]:
    """Projections, predictions and prototypes, all leaves that ask for a gradient."""
    generator = torch.Generator().manual_seed(0)
    projections, predictions = (torch.randn(tokens, WIDTH, generator=generator) * scale for scale in (3.0, 0.2))
    prototypes = F.normalize(torch.randn(count, WIDTH, generator=generator), dim=1)
    return projections.requires_grad_(), predictions.requires_grad_(), prototypes.requires_grad_()


class SwappedPrediction(NamedTuple):
    loss: Tensor
    projection_loss: Tensor
    prediction_loss: Tensor
    projection_assignment: PrototypeAssignment
    prediction_assignment: PrototypeAssignment


def swapped_prediction_loss(
    projections: Tensor,
    predictions: Tensor,
    prototypes: Tensor,
    epsilon: float = 0.05,
    temperature: float = 0.1,
    hard_labels: bool = True,
) -> SwappedPrediction:
    """The two functions put together as `SigmaForPreTraining.forward` does."""
    projected, predicted = F.normalize(projections, dim=1), F.normalize(predictions, dim=1)
    fixed = prototypes.detach()
    first = assign_prototypes(projected.detach(), fixed, epsilon)
    second = assign_prototypes(predicted.detach(), fixed, epsilon)
    losses = (
        prototype_cross_entropy(projected, prototypes, second.targets(hard_labels), temperature),
        prototype_cross_entropy(predicted, fixed, first.targets(hard_labels), temperature),
    )
    return SwappedPrediction(losses[0] + losses[1], *losses, first, second)


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
    torch.testing.assert_close(found.projection_assignment.scores(), scores[0])
    torch.testing.assert_close(found.prediction_assignment.scores(), scores[1])
    assert torch.equal(found.projection_assignment.labels, shares[0].argmax(dim=1))
    torch.testing.assert_close(found.prediction_assignment.soft(), shares[1], atol=1e-5, rtol=1e-4)


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


@pytest.mark.parametrize("hard_labels", [True, False])
@pytest.mark.parametrize(("tokens", "prototypes"), [(TOKENS, PROTOTYPES), (1000, 3000)])  # one block, several blocks
def test_gradients_are_those_of_the_plain_formula(tokens: int, prototypes: int, hard_labels: bool) -> None:
    leaves = inputs(tokens, prototypes)
    found = swapped_prediction_loss(*leaves, hard_labels=hard_labels)
    actual = torch.autograd.grad(3 * found.loss, leaves)
    first, second = (
        each.labels if hard_labels else each.soft()
        for each in (found.projection_assignment, found.prediction_assignment)
    )
    plain = F.cross_entropy(cosine(leaves[0], leaves[2]) / 0.1, second)
    plain = plain + F.cross_entropy(cosine(leaves[1], leaves[2].detach()) / 0.1, first)
    torch.testing.assert_close(found.loss, plain)
    for ours, expected in zip(actual, torch.autograd.grad(3 * plain, leaves), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)


def test_a_frozen_input_gets_no_gradient() -> None:
    projections, predictions, prototypes = inputs()
    swapped_prediction_loss(projections.detach(), predictions, prototypes).loss.backward()
    assert projections.grad is None
    assert prototypes.grad is not None
    projections, predictions, prototypes = inputs()
    swapped_prediction_loss(projections, predictions, prototypes.detach()).loss.backward()
    assert prototypes.grad is None
    assert projections.grad is not None


def test_the_temperature_does_not_change_the_assignment() -> None:
    leaves = inputs()
    first, second = (swapped_prediction_loss(*leaves, temperature=temperature) for temperature in (0.1, 0.5))
    torch.testing.assert_close(
        first.projection_assignment.soft(), second.projection_assignment.soft(), atol=1e-5, rtol=1e-4
    )
    assert first.loss.item() != pytest.approx(second.loss.item())


def test_low_precision_keeps_the_gradients_of_confident_predictions() -> None:
    # Softmax and label nearly cancel there: their difference is taken before anything is rounded.
    prototypes = F.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), dim=1).requires_grad_()
    features = (prototypes + 0.05).detach().requires_grad_()
    assert F.cross_entropy(features @ prototypes.T / 0.05, torch.arange(40)) < 0.01

    def gradients(enabled: bool) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = prototype_cross_entropy(features, prototypes, torch.arange(40), 0.05)
        return torch.autograd.grad(loss, (features, prototypes))

    for rounded, exact in zip(gradients(True), gradients(False), strict=True):
        assert (rounded - exact).norm() < 0.1 * exact.norm()


def test_the_loss_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = swapped_prediction_loss(*inputs())
    assert found.loss.dtype == torch.float32
    assert found.prediction_assignment.soft().dtype == torch.float32
    assert found.loss.item() == pytest.approx(swapped_prediction_loss(*inputs()).loss.item(), rel=0.1)


def test_the_norm_of_the_features_does_not_matter() -> None:
    projections, predictions, prototypes = inputs()
    expected = swapped_prediction_loss(projections, predictions, prototypes)
    found = swapped_prediction_loss(100 * projections, 0.01 * predictions, prototypes)
    torch.testing.assert_close(found.loss, expected.loss)
    assert found.projection_assignment.scores().abs().max() <= 1 + 1e-6


def test_cross_entropy_takes_labels_or_the_same_as_one_hot_rows() -> None:
    features, _, prototypes = inputs()
    unit, labels = F.normalize(features, dim=1), torch.arange(TOKENS) % PROTOTYPES
    hard = prototype_cross_entropy(unit, prototypes, labels, temperature=0.2)
    soft = prototype_cross_entropy(unit, prototypes, F.one_hot(labels, PROTOTYPES).float(), temperature=0.2)
    torch.testing.assert_close(hard, soft)
    torch.testing.assert_close(hard, F.cross_entropy(unit @ prototypes.T / 0.2, labels))


def test_statistics_count_labels() -> None:
    entropy, used = assignment_statistics(torch.tensor([0, 0, 0, 2]), num_prototypes=5)
    assert entropy.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert used.item() == 2
    entropy, used = assignment_statistics(torch.full((9,), 3), num_prototypes=5)
    assert (entropy.item(), used.item()) == (0, 1)
    entropy, used = assignment_statistics(torch.arange(20) % 5, num_prototypes=5)
    assert entropy.item() == pytest.approx(math.log(5))
    assert used.item() == 5


def test_prototypes_of_another_width_are_refused_with_both_shapes() -> None:
    projections, predictions, prototypes = inputs()
    with pytest.raises(ValueError, match=r"\(60, 8\).*\(6, 7\)"):
        swapped_prediction_loss(projections, predictions, prototypes[:, 1:])
