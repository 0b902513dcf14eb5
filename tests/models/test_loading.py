"""The one way into saved models: policies for missing weights, foreign models, and what no caller can turn off."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForVideoClassification,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEModel,
)

import tubelets
from tubelets.models.common.errors import CheckpointLayoutError, UnsafeCheckpointError
from tubelets.models.common.safe_loading import load_config, load_model, load_processor, read_torch_file
from videos import make_video

SIZES: dict[str, Any] = {"image_size": 32, "patch_size": 16, "num_frames": 2, "hidden_size": 32, "num_hidden_layers": 1}
SIZES |= {"num_attention_heads": 2, "intermediate_size": 48, "num_labels": 3}
CLASSIFIERS = {
    "ours": (tubelets.SigmaForVideoClassification, tubelets.SigmaConfig),
    "stock": (VideoMAEForVideoClassification, VideoMAEConfig),
}
every_library = pytest.mark.parametrize("library", CLASSIFIERS)


@pytest.fixture
def model(library: str) -> Any:
    model_class, config_class = CLASSIFIERS[library]
    return model_class(config_class(**SIZES))


@pytest.fixture
def folder(model: Any, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path)
    return tmp_path


def keep(folder: Path, wanted: Any) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if wanted(name)}, folder / "model.safetensors")


@every_library
def test_a_whole_checkpoint_loads_under_every_policy(library: str, model: Any, folder: Path) -> None:
    for fresh in ("nothing", "head", "absent head"):
        loaded = load_model(AutoModelForVideoClassification, folder, fresh=fresh)
        assert not loaded.training
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


@every_library
@pytest.mark.parametrize(
    ("lost", "accepted"),
    [
        ("classifier.", {"head", "absent head"}),
        ("videomae.encoder.layer.0.output.", set()),
        ("videomae.", set()),
    ],
)
def test_missing_weights_are_judged_by_the_policy(library: str, folder: Path, lost: str, accepted: set[str]) -> None:
    keep(folder, lambda name: not name.startswith(lost))
    for fresh in ("nothing", "head", "absent head"):
        if fresh in accepted:
            model = load_model(AutoModelForVideoClassification, folder, fresh=fresh)
            assert all(value.isfinite().all() for value in model.state_dict().values())
            continue
        with pytest.raises(CheckpointLayoutError, match=lost.rstrip(".")):
            load_model(AutoModelForVideoClassification, folder, fresh=fresh)


@every_library
def test_another_number_of_labels_is_for_fine_tuning(library: str, folder: Path) -> None:
    config = load_config(folder)
    config.num_labels = 7
    assert load_model(AutoModelForVideoClassification, folder, fresh="head", config=config).classifier.out_features == 7
    for fresh in ("nothing", "absent head"):
        with pytest.raises(CheckpointLayoutError, match=r"3 labels and the configuration 7"):
            load_model(AutoModelForVideoClassification, folder, fresh=fresh, config=config)


@every_library
def test_another_size_is_refused_under_every_policy(library: str, folder: Path) -> None:
    config = load_config(folder)
    config.intermediate_size = 64
    for fresh in ("nothing", "head", "absent head"):
        with pytest.raises(CheckpointLayoutError, match=r"\(48,.*another method or size"):
            load_model(AutoModelForVideoClassification, folder, fresh=fresh, config=config)


@every_library
def test_a_configuration_cannot_name_the_file_of_its_weights(library: str, folder: Path) -> None:
    """An index named there would be followed out of the folder."""
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"metadata": {}, "weight_map": {"classifier.bias": "../outside.safetensors"}}
    (folder / "x.safetensors.index.json").write_text(json.dumps(index))
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"transformers_weights": "x.safetensors.index.json"}))
    with pytest.raises(UnsafeCheckpointError, match="transformers_weights"):
        load_config(folder)
    for auto_class in (AutoModel, AutoModelForVideoClassification, CLASSIFIERS[library][0]):
        with pytest.raises(UnsafeCheckpointError, match="transformers_weights"):
            load_model(auto_class, folder)
    if library == "ours":
        with pytest.raises(UnsafeCheckpointError, match="transformers_weights"):
            AutoModel.from_pretrained(folder)
    with pytest.raises(UnsafeCheckpointError, match="transformers_weights"):
        load_model(AutoModel, folder, transformers_weights="x.safetensors.index.json")


def test_pickled_tensors_are_for_other_libraries(tmp_path: Path) -> None:
    for library, (model_class, config_class) in CLASSIFIERS.items():
        folder = tmp_path / library
        model = model_class(config_class(**SIZES))
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert type(load_model(AutoModel, tmp_path / "stock")) is VideoMAEModel
    with pytest.raises(UnsafeCheckpointError, match=r"pytorch_model\.bin"):
        load_model(AutoModel, tmp_path / "ours")


def test_an_encoder_without_any_weight_is_refused(tmp_path: Path) -> None:
    tubelets.SigmaForVideoClassification(tubelets.SigmaConfig(**SIZES)).save_pretrained(tmp_path)
    keep(tmp_path, lambda name: name.startswith("classifier."))
    with pytest.raises(CheckpointLayoutError, match="no weight of a TubeletsVideoMAEModel"):
        load_model(AutoModelForVideoClassification, tmp_path)


def test_processors_of_every_kind_load_in_a_new_process(tmp_path: Path) -> None:
    from tubelets.models.common.auto import inference_processor

    audio = {"max_length": 64, "num_mel_bins": 64}
    kinds = {
        "VideoMAEVideoProcessor": tubelets.SigmaConfig(**SIZES),
        "FilterbankFeatureExtractor": tubelets.StructuredNoiseAudioConfig(**audio, decoder_type="plain"),
        "StructuredNoiseAudioVideoProcessor": tubelets.StructuredNoiseAudioVideoConfig(**audio, image_size=32),
    }
    for name, config in kinds.items():
        config.save_pretrained(tmp_path / name)
        inference_processor(config).save_pretrained(tmp_path / name)
    code = "from tubelets.models.common.safe_loading import load_processor; import sys; "
    code += "print(*(type(load_processor(folder)).__name__ for folder in sys.argv[1:]))"
    # Last first, so that no folder profits from what another one has registered.
    for name in reversed(kinds):
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == [name]
    with pytest.raises(OSError, match="nothing"):
        load_processor(tmp_path / "nothing")


def test_features_of_a_repository_that_needs_code_are_refused(tmp_path: Path) -> None:
    """The command answers no question about the repository's code: it never runs it."""
    trace = tmp_path / "executed"
    (tmp_path / "evil.py").write_text(f"open({str(trace)!r}, 'w')\n")
    code = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": code}))
    (tmp_path / "clip.mp4").write_bytes(make_video(4, 16, 16))
    command = [sys.executable, "-m", "tubelets", "embed", str(tmp_path), str(tmp_path / "clip.mp4"), "features.parquet"]
    run = subprocess.run(command, capture_output=True, text=True, input="y\n", check=False)
    assert run.returncode == 2
    assert run.stderr.startswith("tubelets embed: ")
    assert "never run" in run.stderr
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + bytes(100)])
def test_a_corrupt_torch_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.pkl").write_bytes(content)
    with pytest.raises(UnsafeCheckpointError, match=r"state\.pkl was not loaded"):
        read_torch_file(tmp_path / "state.pkl")
    with pytest.raises(FileNotFoundError, match=r"absent\.pkl"):
        read_torch_file(tmp_path / "absent.pkl")
