import logging

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForVideoClassification, PreTrainedModel

from tubelets import StructuredNoiseAudioVideoConfig
from tubelets.models.methods.sigma.configuration_sigma import SigmaConfig
from tubelets.training.optimization import freeze_backbone, freeze_layers, is_head, layer_decay_groups, layer_numbers

SMALL = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 3}
VIT = {**SMALL, "intermediate_size": 32, "image_size": 16, "patch_size": 8, "num_frames": 2}
PREDICTOR = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 2}
CONFIGS = {
    "sigma": SigmaConfig(**VIT),
    "videomae": transformers.VideoMAEConfig(**VIT),
    "timesformer": transformers.TimesformerConfig(**VIT),
    "vjepa2": transformers.VJEPA2Config(**SMALL, **PREDICTOR, crop_size=16, patch_size=8, frames_per_clip=2),
}


@pytest.fixture(params=CONFIGS, scope="module")
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForVideoClassification.from_config(CONFIGS[request.param])


def test_every_parameter_has_the_rate_of_its_layer(model: PreTrainedModel) -> None:
    """scale = decay^(L+1-i): embeddings i=0, block b i=b+1, head i=L+1 (L = 3)."""
    rates = {
        id(parameter): group["lr"]
        for group in layer_decay_groups(model, 0.05, learning_rate=2.0, layer_decay=0.75)
        for parameter in group["params"]
    }
    assert len(rates) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        if "embeddings" in name and "pooler" not in name and "predictor" not in name:
            power = 4
        elif ".encoder.layer." in name:
            power = 3 - int(name.split(".encoder.layer.")[1].split(".")[0])
        else:
            power = 0
        assert rates[id(parameter)] == pytest.approx(2.0 * 0.75**power), name


def test_blocks_of_two_modalities_lie_side_by_side() -> None:
    """Blocks of sound and of frames i=b+1, shared ones behind them, then norms and head (L = 2 + 1)."""
    sizes = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    config = StructuredNoiseAudioVideoConfig(**sizes, max_length=32, num_mel_bins=32, image_size=32)
    model = AutoModelForVideoClassification.from_config(config)
    numbers = layer_numbers(model)
    assert numbers is not None
    for name, number in numbers.items():
        if "embeddings" in name:
            assert number == 0, name
        elif "_layers." in name:
            stack, index = name.partition("_layers.")[0], int(name.partition("_layers.")[2].split(".")[0])
            assert number == (3 if stack.endswith("shared") else 1 + index), name
        else:
            assert number == 4, name
    freeze_layers(model, 2)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, number in numbers.items() if number > 2}


def test_a_raised_rate_of_the_head(model: PreTrainedModel) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    plain = layer_decay_groups(model, 0.05, 2.0, 0.75)
    rates = {names[id(each)]: group["lr"] for group in plain for each in group["params"]}
    raised = layer_decay_groups(model, 0.05, 2.0, 0.75, head_factor=100)
    assert len(raised) > 2
    assert raised[0]["lr"] == 200.0, "trainers log the rate of the first group"
    for group in raised:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["lr"] == pytest.approx(rates[name] * (100 if is_head(name) else 1)), name
    with pytest.raises(ValueError, match="head_factor must be positive, got 0"):
        layer_decay_groups(model, 0.05, 1.0, head_factor=0)


def test_vectors_and_positions_are_not_decayed(model: PreTrainedModel) -> None:
    groups = layer_decay_groups(model, 0.05, 1.0, 0.75)
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim == 1 or "position" in name or "token" in name or "time_embeddings" in name
        assert decay[id(parameter)] == (0.0 if exempt else 0.05), name


def test_the_first_group_is_the_head(model: PreTrainedModel) -> None:
    """Trainers log the rate of the first group."""
    assert layer_decay_groups(model, 0.05, 1.0, 0.5)[0]["lr_scale"] == 1.0


def test_a_linear_probe_trains_the_head_only(model: PreTrainedModel) -> None:
    states = [parameter.requires_grad for parameter in model.parameters()]
    freeze_backbone(model)
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained <= {"classifier", "fc_norm", "pooler"}
    assert "classifier" in trained
    groups = layer_decay_groups(model, 0.05, 1.0, 0.75)
    assert {group["lr_scale"] for group in groups} == {1.0}
    for parameter, state in zip(model.parameters(), states, strict=True):
        parameter.requires_grad_(state)


def test_freezing_the_first_blocks(model: PreTrainedModel) -> None:
    freeze_layers(model, 2)
    numbers = layer_numbers(model)
    assert numbers is not None
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (numbers[name] > 2)
        parameter.requires_grad_(True)
    with pytest.raises(ValueError, match="it has 3"):
        freeze_layers(model, 4)


def test_a_network_without_blocks_learns_at_one_rate(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(nn.Conv3d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    with caplog.at_level(logging.WARNING):
        groups = layer_decay_groups(network, 0.05, 1.0, layer_decay=0.75)
    assert "Sequential has no list of blocks: layer_decay=0.75 is not used" in caplog.text
    assert {group["lr"] for group in groups} == {1.0}
    with pytest.raises(ValueError, match="it has 0"):
        freeze_layers(network, 1)


def test_bad_choices_are_refused() -> None:
    network = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="layer_decay must lie"):
        layer_decay_groups(network, 0.0, 1.0, layer_decay=0.0)
    with pytest.raises(ValueError, match="no parameter's name contains"):
        freeze_backbone(network, ["pooler"])
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model is trained"):
        layer_decay_groups(network, 0.0, 1.0)
