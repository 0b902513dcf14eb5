"""Weights of every model: initialisation, other checkpoints, stock transformers, and training details.

The variants and their inputs are those of `test_masked_video_models`.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_masked_video_models import (
    CLASSIFIERS,
    CLIPS,
    PRETRAINING,
    SIZES,
    TOKENS,
    VARIANTS,
    assert_same,
    build,
    gradients,
    inputs,
    loss_of,
    nan_in_fresh_memory,
    save_without,
    scattered,
)
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForVideoClassification,
    Trainer,
    TrainingArguments,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
)

PROTOTYPES = ["sigma-mlp", "sigma-dino"]
WIDER = {"hidden_size": 64, "decoder_hidden_size": 48, "num_prototypes": 500}


def load_strictly(model_class: Any, folder: Path) -> tuple[Any, set[str]]:
    """A model and its missing keys; anything else that is reported fails."""
    with nan_in_fresh_memory():
        model, report = model_class.from_pretrained(folder, output_loading_info=True)
    missing = set(report.pop("missing_keys"))
    assert not any(report.values()), report
    return model.eval(), missing


@pytest.mark.parametrize("name", PRETRAINING)
def test_a_pretraining_checkpoint_loads_as_encoder_and_as_classifier(name: str, tmp_path: Path) -> None:
    model = scattered(name)
    model.save_pretrained(tmp_path)
    expected, video = model.videomae.state_dict(), inputs(model)["pixel_values"]
    encoder, missing = load_strictly(AutoModel, tmp_path)
    assert not missing
    assert_same(encoder(video), model.videomae(video))
    classifier, missing = load_strictly(AutoModelForVideoClassification, tmp_path)
    assert missing == {"fc_norm.weight", "fc_norm.bias", "classifier.weight", "classifier.bias"}
    assert classifier.videomae.layernorm is None
    assert all(torch.equal(value, expected[key]) for key, value in classifier.videomae.state_dict().items())
    assert classifier(video).logits.isfinite().all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_checkpoint_loads_as_encoder(name: str, tmp_path: Path) -> None:
    model = scattered(name)
    model.save_pretrained(tmp_path)
    encoder, missing = load_strictly(AutoModel, tmp_path)
    assert not missing
    video = inputs(model)["pixel_values"]
    assert_same(encoder(video), model.videomae(video))


@pytest.mark.parametrize("name", VARIANTS)
def test_old_names_of_the_attention_biases_load(name: str, tmp_path: Path) -> None:
    model = scattered(name)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    old = {key.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): each for key, each in weights.items()}
    assert old.keys() != weights.keys()
    save_file(old, tmp_path / "model.safetensors", {"format": "pt"})
    loaded, missing = load_strictly(type(model), tmp_path)
    assert not missing
    assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())


def test_models_made_of_one_configuration_do_not_change_each_other(tmp_path: Path) -> None:
    model = scattered("videomae-pretraining")
    VideoClassifier = type(build("videomae-classifier"))
    VideoClassifier(model.config)
    model.save_pretrained(tmp_path)
    encoder, missing = load_strictly(AutoModel, tmp_path)
    assert not missing
    assert encoder.layernorm is not None


def assert_uniform(weight: Tensor, bound: float) -> None:
    assert 0.9 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("origin", ["constructed", "loaded from a file that lacks the weights"])
@pytest.mark.parametrize("name", VARIANTS)
def test_initialisation_is_the_papers(name: str, origin: str, tmp_path: Path) -> None:
    wider = {key: value for key, value in WIDER.items() if key != "num_prototypes" or name.startswith("sigma")}
    model = build(name, **wider)
    if origin != "constructed":
        save_without(model, tmp_path, lambda key: key.endswith("patch_embeddings.projection.bias"))
        with nan_in_fresh_memory():
            # With a report, the caller judges what is missing.
            model, _ = type(model).from_pretrained(tmp_path, output_loading_info=True)
    classifier = hasattr(model, "classifier")
    for key, weight in model.state_dict().items():
        if "norm" in key:
            assert (weight == (1 if key.endswith("weight") else 0)).all(), key
        elif "patch_embeddings" in key or key.startswith(("encoder_to_decoder", "projection")):
            if key.endswith("weight"):
                assert_uniform(weight, 1 / math.sqrt(weight[0].numel()))
        elif key == "mask_token":
            assert 0 < weight.abs().max() <= 0.02
        elif key == "prototypes":
            assert abs(weight.mean()) < 0.05
            assert weight.std().item() == pytest.approx(1, rel=0.05)
        elif key.endswith("bias"):
            assert (weight == 0).all(), key
        elif key == "classifier.weight":
            assert weight.std().item() == pytest.approx(0.02 * 0.001, rel=0.15)
        elif classifier:
            assert weight.std().item() == pytest.approx(0.02, rel=0.1), key
        else:
            gain = math.sqrt(0.5) if any(part in key for part in ("query", "key", "value")) else 1
            assert_uniform(weight, gain * math.sqrt(6 / sum(weight.shape)))


@pytest.mark.parametrize("name", PROTOTYPES)
def test_prototypes_have_unit_rows_after_a_forward(name: str) -> None:
    model = scattered(name)
    direction = torch.nn.functional.normalize(model.prototypes.detach().clone(), dim=1)
    for mode in (True, False):
        with torch.no_grad():
            model.prototypes.mul_(3)
        model.train(mode)(**inputs(model))
        torch.testing.assert_close(model.prototypes.detach(), direction)


@pytest.mark.parametrize("name", PRETRAINING)
def test_two_forwards_before_one_backward(name: str) -> None:
    model = scattered(name)
    model(**inputs(model))  # normalises the prototypes once
    single = {key: gradient.clone() for key, gradient in gradients(model).items()}
    model.zero_grad()
    (model(**inputs(model)).loss + model(**inputs(model)).loss).backward()
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * single[key], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_drop_path_acts_in_training_only(name: str) -> None:
    plain, dropping = scattered(name), scattered(name, drop_path_rate=0.5)
    rates = [getattr(layer.drop_path, "p", 0.0) for layer in getattr(dropping, "videomae", dropping).encoder.layer]
    assert rates == [0.0, 0.5]
    assert_same(dropping(**inputs(plain)), plain(**inputs(plain)), 1e-5)
    assert_same(plain.train()(**inputs(plain)), plain.eval()(**inputs(plain)), 1e-5)
    torch.manual_seed(0)
    draws = [loss_of(dropping.train()(**inputs(plain))).item() for _ in range(8)]
    assert len(set(draws)) > 1


@pytest.mark.parametrize("name", ["sigma-dino", "sigma-dino-regression"])
def test_target_features_of_another_shape_are_refused_by_value(name: str) -> None:
    model = build(name)
    for shape in ((CLIPS, TOKENS + 1, 20), (CLIPS, TOKENS - 1, 20), (CLIPS, TOKENS, 21), (CLIPS + 1, TOKENS, 20)):
        with pytest.raises(ValueError, match=rf"{shape[1]}, {shape[2]}\)"):
            model(**inputs(model) | {"target_features": torch.zeros(shape)})
    with pytest.raises(ValueError, match=r"dino_v1.*load_teacher"):
        model(**inputs(model) | {"target_features": None})


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_labels_of_every_kind(name: str) -> None:
    model = scattered(name)
    video = inputs(model)["pixel_values"]
    logits, labels = model(video).logits, torch.tensor([0, 4, 2])
    one_hot = torch.nn.functional.one_hot(labels, 5).float()
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(model(video, labels).loss, expected)
    torch.testing.assert_close(model(video, one_hot).loss, expected)
    assert model.config.problem_type is None
    with pytest.raises(ValueError, match=r"\(3, 5\).*\(3, 4\)"):
        model(video, one_hot[:, 1:])
    with pytest.raises(ValueError, match="5"):
        model(video, torch.tensor([0, 5, 2]))
    model.config.problem_type = "multi_label_classification"
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, one_hot)
    torch.testing.assert_close(model(video, one_hot).loss, expected)


def train(folder: Path, resume_from: Path | None = None) -> dict[str, Tensor]:
    model = build("sigma-classifier")
    generator = torch.Generator().manual_seed(3)
    clips = [{"pixel_values": torch.randn(4, 3, 32, 32, generator=generator), "labels": i % 5} for i in range(8)]
    schedule = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-2}
    plain = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "logging_strategy": "no"}
    trainer = Trainer(model, TrainingArguments(str(folder), **schedule, **plain), train_dataset=clips)
    trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    assert trainer.state.global_step == 4
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_trainer_resumed_after_two_steps_equals_four_steps(tmp_path: Path) -> None:
    expected = train(tmp_path / "whole")
    resumed = train(tmp_path / "resumed", tmp_path / "whole" / "checkpoint-2")
    start = build("sigma-classifier").state_dict()
    for key, value in expected.items():
        assert torch.equal(resumed[key], value), key
        assert not torch.equal(start[key], value), key


def stock_config() -> VideoMAEConfig:
    fields = {key: value for key, value in SIZES.items() if key != "mask_ratio"}
    return VideoMAEConfig(**fields, layer_norm_eps=1e-6, use_mean_pooling=False)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_pretraining_equals_stock_transformers(norm_pix_loss: bool) -> None:
    model = scattered("videomae-pretraining", norm_pix_loss=norm_pix_loss)
    config = stock_config()
    config.norm_pix_loss = norm_pix_loss
    stock = VideoMAEForPreTraining(config).eval()
    stock.load_state_dict(model.state_dict())
    stock.decoder.norm.eps = model.decoder.norm.eps
    ours, theirs = model(**inputs(model)), stock(**inputs(model))
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=1e-5, rtol=1e-5)


def test_classifier_equals_stock_transformers() -> None:
    model = scattered("videomae-classifier")
    config = stock_config()
    config.use_mean_pooling = True
    stock = VideoMAEForVideoClassification(config).eval()
    stock.load_state_dict(model.state_dict())
    stock.fc_norm.eps = model.fc_norm.eps
    ours, theirs = model(**inputs(model)), stock(**inputs(model))
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.loss, theirs.loss, atol=1e-5, rtol=1e-5)
