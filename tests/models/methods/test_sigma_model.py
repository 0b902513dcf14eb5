"""SIGMA's loss and gradients against the equations of the paper, written out."""

import pytest
import torch
import torch.nn.functional as F

from tiny import SIZES, masked_clips
from tubelets import SigmaConfig, SigmaForPreTraining
from tubelets.objectives import sinkhorn

SIGMA = {"num_prototypes": 6, "projection_hidden_sizes": (20,), "projection_size": 12}


@pytest.mark.parametrize("hard_labels", [True, False])
def test_loss_and_gradients_are_the_equations_of_the_paper(hard_labels: bool) -> None:
    torch.manual_seed(0)
    model = SigmaForPreTraining(SigmaConfig(**SIZES, **SIGMA, hard_labels=hard_labels, sinkhorn_epsilon=0.3))
    for parameter in model.parameters():  # away from an initialisation's symmetries
        torch.nn.init.normal_(parameter, std=0.2)
    output = model(*masked_clips())
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(output.loss, parameters.values(), retain_graph=True)

    # The same graph up to predictions and projections; from there on plain operations.
    prototypes = F.normalize(model.prototypes.detach(), dim=1).requires_grad_()
    projected = F.normalize(output.projections.flatten(0, 1), dim=1)
    predicted = F.normalize(output.logits.flatten(0, 1), dim=1)
    scores = projected @ prototypes.T, predicted @ prototypes.detach().T
    shares = [sinkhorn(each.detach(), 0.3, 10) for each in scores]
    if hard_labels:
        shares = [F.one_hot(each.argmax(dim=1), 6).float() for each in shares]
    projection_loss = -(shares[1] * (scores[0] / 0.1).log_softmax(dim=1)).sum(dim=1).mean()
    prediction_loss = -(shares[0] * (scores[1] / 0.1).log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(output.projection_loss, projection_loss)
    torch.testing.assert_close(output.prediction_loss, prediction_loss)
    torch.testing.assert_close(output.loss, projection_loss + prediction_loss)

    leaves = [prototypes if name == "prototypes" else value for name, value in parameters.items()]
    expected = torch.autograd.grad(projection_loss + prediction_loss, leaves)
    for name, ours, wanted in zip(parameters, found, expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_labels_and_statistics_are_those_of_the_assignments() -> None:
    torch.manual_seed(0)
    output = SigmaForPreTraining(SigmaConfig(**SIZES, **SIGMA))(*masked_clips())
    for branch in ("projection", "prediction"):
        labels, assignment = output[f"{branch}_labels"], output[f"{branch}_assignment"]
        assert labels.shape == (2, 16)
        assert torch.equal(labels.flatten(), assignment.soft().argmax(dim=1))
        assert output[f"{branch}_used_prototypes"] == len(labels.unique())
