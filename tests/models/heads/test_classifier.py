"""A classifier on any backbone: a toy's, this package's and transformers'."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import TimesformerConfig, TimesformerModel, Trainer, TrainingArguments
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tubelets import ResNet3DConfig, ResNet3DModel, StructuredNoiseAudioConfig, StructuredNoiseAudioModel
from tubelets.models.common.backbone import Backbone
from tubelets.models.heads.classifier import BackboneClassifier


class ToySkeletons(Backbone):
    """Joints (B, bodies, frames, joints, coordinates) to a feature: a modality that no model here has."""

    feature_size = 6

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 6)

    def forward(self, skeletons: Tensor) -> BaseModelOutputWithPooling:
        tokens = self.embed(skeletons).flatten(1, 3)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=tokens.amax(dim=1))


def timesformer() -> TimesformerModel:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    return TimesformerModel(TimesformerConfig(image_size=16, patch_size=8, num_frames=2, **sizes))


def resnet() -> ResNet3DModel:
    return ResNet3DModel(ResNet3DConfig(hidden_sizes=(8, 16), depths=(1, 1), stem_size=6))


def audio() -> StructuredNoiseAudioModel:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    return StructuredNoiseAudioModel(StructuredNoiseAudioConfig(max_length=32, num_mel_bins=16, patch_size=8, **sizes))


BACKBONES = {
    "toy": (ToySkeletons, "skeletons", (4, 1, 5, 7, 3)),
    "timesformer": (timesformer, "pixel_values", (4, 2, 3, 16, 16)),
    "resnet3d": (resnet, "pixel_values", (4, 4, 3, 16, 16)),
    "audio": (audio, "input_values", (4, 32, 16)),
}


def build(name: str, **options: Any) -> tuple[BackboneClassifier, dict[str, Tensor]]:
    make, argument, shape = BACKBONES[name]
    torch.manual_seed(0)
    return BackboneClassifier(make(), 3, **options), {argument: torch.randn(shape)}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_classified_and_trained(name: str) -> None:
    model, inputs = build(name)
    labels = torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(15):
        output = model(**inputs, labels=labels)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert output.logits.shape == (4, 3)
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in model.classifier.parameters())
    torch.testing.assert_close(model.eval()(*inputs.values()).logits, model(**inputs).logits)


def test_a_frozen_backbone_keeps_its_weights_and_statistics() -> None:
    model, inputs = build("resnet3d", freeze_backbone=True)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model.train()(**inputs, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert model.classifier.weight.grad is not None
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    assert model.training
    assert not model.backbone.training


def test_weights_come_back_around_the_same_backbone() -> None:
    model, inputs = build("timesformer", norm=False)
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "classifier"}
    other = BackboneClassifier(timesformer(), 3, norm=False)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(**inputs).logits, model.eval()(**inputs).logits)


def test_the_trainer_of_transformers_trains_it(tmp_path: Path) -> None:
    model, inputs = build("toy")
    rows = [{"skeletons": row, "labels": i % 3} for i, row in enumerate(inputs["skeletons"])]
    options = TrainingArguments(
        str(tmp_path), max_steps=2, report_to=[], save_strategy="no", use_cpu=True, remove_unused_columns=False,
        label_names=["labels"],
    )  # fmt: skip
    before = model.classifier.weight.detach().clone()
    trainer = Trainer(model, options, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    assert not torch.equal(model.classifier.weight, before)
    assert trainer.predict(rows).predictions.shape == (4, 3)


def test_several_labels_and_wrong_arguments() -> None:
    model, inputs = build("toy", problem_type="multi_label_classification")
    loss = model(**inputs, labels=torch.eye(4, 3)).loss
    logits = model(**inputs).logits
    torch.testing.assert_close(loss, nn.functional.binary_cross_entropy_with_logits(logits, torch.eye(4, 3)))
    with pytest.raises(ValueError, match="problem_type must be one of"):
        build("toy", problem_type="ranking")
    with pytest.raises(TypeError, match="Linear is not a backbone"):
        BackboneClassifier(nn.Linear(2, 2), 3)
