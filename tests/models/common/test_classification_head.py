"""The head that classifiers share: its layers, their names, and its loss."""

import pytest
import torch
from torch import nn

from tubelets.models.common.classification_head import ClassificationHead


class Probe(ClassificationHead, nn.Module):
    def __init__(self, **options: float) -> None:
        super().__init__()
        self.add_classification_head(4, 3, **options)


@pytest.mark.parametrize("norm", [True, False])
def test_scores_are_those_of_the_layers_in_order(norm: bool) -> None:
    torch.manual_seed(0)
    probe = Probe(norm_eps=1e-2, dropout=0.5) if norm else Probe(dropout=0.5)
    assert {name.split(".")[0] for name in probe.state_dict()} == ({"fc_norm"} if norm else set()) | {"classifier"}
    pooled = torch.randn(5, 4)
    loss, logits = probe.eval().classify(pooled)
    assert loss is None
    expected = nn.functional.layer_norm(pooled, (4,), eps=1e-2) if norm else pooled
    torch.testing.assert_close(logits, expected @ probe.classifier.weight.T + probe.classifier.bias)
    torch.manual_seed(1)
    dropped = probe.train().classify(pooled)[1]
    torch.manual_seed(1)
    torch.testing.assert_close(dropped, probe.classifier(nn.functional.dropout(expected, 0.5)))


def test_the_problem_type_chooses_the_loss() -> None:
    torch.manual_seed(0)
    probe, pooled = Probe(), torch.randn(2, 4)
    logits = probe.classify(pooled)[1]
    single, _ = probe.classify(pooled, torch.tensor([2, 0]))
    torch.testing.assert_close(single, nn.functional.cross_entropy(logits, torch.tensor([2, 0])))
    several, _ = probe.classify(pooled, torch.eye(2, 3), "multi_label_classification")
    torch.testing.assert_close(several, nn.functional.binary_cross_entropy_with_logits(logits, torch.eye(2, 3)))
    with pytest.raises(ValueError, match="labels must lie in"):
        probe.classify(pooled, torch.tensor([3, 0]))
