"""Folders of stock VideoMAE through every door, and checkpoints of another size: right, or refused."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForPreTraining, VideoMAEConfig

import tubelets
from tiny import SIZES
from tubelets.models.backbones.video_vit.stock import from_stock
from tubelets.models.backbones.video_vit.tubes import position_table, sinusoid_table
from tubelets.models.common.auto import MODELS
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.safe_loading import load_model
from tubelets.tasks.classification.labels import label_fields
from tubelets.tasks.classification.video import VIDEO_CLASSIFICATION
from tubelets.training.finetuning_arguments import ModelArguments
from tubelets.training.models import WrongCheckpointError, build_model

NAMES = ["jump", "run", "walk"]
FIELDS = {name: value for name, value in SIZES.items() if name != "mask_ratio"}
FAMILY = [
    name for name, entry in MODELS.items() if issubclass(entry.load(entry.config), tubelets.TubeletsVideoMAEConfig)
]


def stock_model(kind: str, **changes: Any) -> Any:
    """A stock model whose parameters all differ from their initial values."""
    torch.manual_seed(0)
    model = getattr(transformers, kind)(VideoMAEConfig(**{**FIELDS, **label_fields(NAMES), **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


def clip(size: int = 32) -> Tensor:
    return torch.randn(2, 4, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Stock folders with the names of weights that are published (`q_bias`)."""
    found = {}
    for kind in ("VideoMAEModel", "VideoMAEForVideoClassification", "VideoMAEForPreTraining"):
        folder = tmp_path_factory.mktemp(kind)
        model = stock_model(kind, use_mean_pooling=kind == "VideoMAEForVideoClassification")
        model.save_pretrained(folder, save_original_format=True)
        assert any(name.endswith("q_bias") for name in load_file(folder / "model.safetensors"))
        found[kind] = folder, model
    return found


@pytest.mark.parametrize("model_type", FAMILY)
def test_every_family_reads_stock_folders(model_type: str, folders: dict[str, tuple[Path, Any]]) -> None:
    entry = MODELS[model_type]
    classes = {name: entry.load(reference) for name, reference in entry.models.items()}
    folder, stock = folders["VideoMAEModel"]
    encoder = classes["AutoModel"].from_pretrained(folder)
    assert encoder.config.model_type == model_type
    with torch.no_grad():
        torch.testing.assert_close(encoder(clip()).last_hidden_state, stock(clip()).last_hidden_state)
        folder, stock = folders["VideoMAEForVideoClassification"]
        classifier = classes["AutoModelForVideoClassification"].from_pretrained(folder)
        torch.testing.assert_close(classifier(clip()).logits, stock(clip()).logits, rtol=1e-3, atol=1e-4)
    assert list(classifier.config.id2label.values()) == NAMES


def test_every_door_reads_stock_folders(folders: dict[str, tuple[Path, Any]]) -> None:
    folder, stock = folders["VideoMAEForPreTraining"]
    expected = stock.videomae.state_dict()
    # As `init_from` of a recipe loads it.
    config = tubelets.SigmaConfig(**FIELDS, target_type="pixel", layer_norm_eps=stock.config.layer_norm_eps)
    doors = {
        "init_from": AutoModelForPreTraining.from_pretrained(folder, config=config).videomae,
        "load_model": load_model(AutoModel, folder),
        "from_stock": from_stock(stock, tubelets.TubeletsVideoMAEForPreTraining).videomae,
    }
    for name, encoder in doors.items():
        state = encoder.state_dict()
        assert state.keys() == expected.keys(), name
        assert all(torch.equal(state[key], value) for key, value in expected.items()), name
    arguments = ModelArguments(model_name_or_path=str(folder), config_overrides={"use_mean_pooling": True})
    tuned = build_model(arguments, VIDEO_CLASSIFICATION, label_fields(NAMES)).videomae.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in tuned.items())
    with pytest.raises(CheckpointLayoutError, match="does not have the weights of a VideoMAEForPreTraining"):
        from_stock(stock, tubelets.SigmaModel)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("videomae.encoder.layer.1.output.dense.weight"), r"lacks 1 .*layer\.1\.output"),
        (lambda weights: weights.update({"videomae.encoder.layer.2.x": torch.ones(1)}), r"has 1 weights .*layer\.2\.x"),
        (lambda weights: weights.pop("classifier.bias"), r"lacks 1 .*classifier\.bias"),
    ],
    ids=["missing", "left over", "own head"],
)
def test_incomplete_and_other_weights_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    model = tubelets.SigmaForVideoClassification(tubelets.SigmaConfig(**FIELDS, num_labels=3))
    model.save_pretrained(tmp_path)
    change(weights := load_file(tmp_path / "model.safetensors"))
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointLayoutError, match=message):
        tubelets.SigmaForVideoClassification.from_pretrained(tmp_path)
    with pytest.raises(WrongCheckpointError, match=message):
        build_model(ModelArguments(model_name_or_path=str(tmp_path)), VIDEO_CLASSIFICATION, label_fields(NAMES))
    if "classifier" not in message:
        for load in (AutoModel.from_pretrained, partial(load_model, AutoModel)):
            with pytest.raises(CheckpointLayoutError, match=message):
                load(tmp_path)


def test_other_heads_of_the_same_width_are_refused(folders: dict[str, tuple[Path, Any]]) -> None:
    folder, _ = folders["VideoMAEModel"]
    with pytest.raises(CheckpointLayoutError, match="saved with num_attention_heads=2 and is loaded with 4"):
        tubelets.SigmaModel.from_pretrained(folder, num_attention_heads=4)
    with pytest.raises(CheckpointLayoutError, match="saved with hidden_act='gelu' and is loaded with 'relu'"):
        load_model(AutoModel, folder, hidden_act="relu")


def test_positions_are_interpolated_and_stay_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    tubelets.SigmaModel(tubelets.SigmaConfig(**FIELDS)).save_pretrained(tmp_path / "trained")
    with caplog.at_level(logging.WARNING):
        larger = tubelets.SigmaModel.from_pretrained(tmp_path / "trained", image_size=48)
    assert "positions of 4 x 4 patches, with which the weights were trained, are interpolated to 6 x 6" in caplog.text
    table = larger.embeddings.position_embeddings
    own = sinusoid_table(2 * 36, 32)
    # The corners of the frame keep their positions, which the table of a larger grid gives to other patches.
    trained = sinusoid_table(2 * 16, 32)
    assert torch.allclose(table[0, 0], trained[0, 0], atol=0.2)
    assert torch.allclose(table[0, 35], trained[0, 15], atol=0.2)
    assert not torch.allclose(own[0, 35], trained[0, 15], atol=0.5)
    larger.save_pretrained(tmp_path / "larger")
    again = tubelets.SigmaModel.from_pretrained(tmp_path / "larger")
    assert torch.equal(again.embeddings.position_embeddings, table)
    with torch.no_grad():
        assert torch.equal(again.eval()(clip(48)).last_hidden_state, larger(clip(48)).last_hidden_state)
    # Back at the size of training, the table is the trained one; pretraining interpolates the decoder's as well.
    back = tubelets.SigmaModel.from_pretrained(tmp_path / "larger", image_size=32)
    assert torch.equal(back.embeddings.position_embeddings, trained)
    config = tubelets.SigmaConfig(**{**FIELDS, "image_size": 48}, target_type="pixel")
    model = AutoModelForPreTraining.from_pretrained(tmp_path / "trained", config=config)
    assert config.position_grid is None
    assert torch.equal(model.decoder.position_embeddings, position_table(larger.config, 32))
    # Slots of time keep their positions.
    longer = tubelets.SigmaModel.from_pretrained(tmp_path / "trained", num_frames=8)
    assert torch.equal(longer.embeddings.position_embeddings[:, :32], trained)


def test_stock_models_of_another_size_are_refused(folders: dict[str, tuple[Path, Any]]) -> None:
    folder, _ = folders["VideoMAEForVideoClassification"]
    arguments = ModelArguments(model_name_or_path=str(folder), config_overrides={"image_size": 48})
    with pytest.raises(WrongCheckpointError, match=r"saved for 4 x 4 patches and is loaded for 6 x 6: .*interpolate"):
        build_model(arguments, VIDEO_CLASSIFICATION, label_fields(NAMES))
    ours = tubelets.TubeletsVideoMAEForVideoClassification.from_pretrained(folder, image_size=48)
    assert ours(clip(48)).logits.shape == (2, 3)
