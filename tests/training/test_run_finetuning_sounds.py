"""The fine-tuning script for sounds as a user runs it: all networks, one label or several, resumed, with bad input."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from finetuning import SCRIPT, final_metrics, log_of, losses, words
from huggingface_hub import ModelCard
from scipy.io import wavfile
from sound_runs import DEMO, PITCHES, RATE, make_sound_folders, make_video_folders, run, same_weights
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, AutoProcessor

from preloaded import run_script
from tubelets import StructuredNoiseAudioConfig, StructuredNoiseAudioForPreTraining
from tubelets.data.build.shards import build_shards
from tubelets.data.sources.annotations import read_records
from tubelets.training.checkpointing import CheckpointError

SIZES = {
    "num_mel_bins": 32, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 96,
}  # fmt: skip
DECODER = {
    "decoder_type": "plain", "decoder_hidden_size": 24, "decoder_num_attention_heads": 2,
    "decoder_num_hidden_layers": 1, "decoder_intermediate_size": 32, "mask_options": {"bank_size": 2},
}  # fmt: skip
SHORT = {"max_steps": 2, "save_strategy": "no", "eval_strategy": "no", "warmup_epochs": 0}


@pytest.fixture(scope="module")
def sounds_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    make_sound_folders(folder / "train", per_class=4)
    make_sound_folders(folder / "validation", per_class=2)
    return folder


@pytest.fixture(scope="module")
def unbroken(sounds_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration recipe, 8 steps of 3 an epoch, with a checkpoint in the middle of an epoch."""
    output = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        run(patch, output, sounds_folder, save_steps=4)
    return output


def test_the_demonstration_leaves_a_complete_folder(unbroken: Path) -> None:
    names = {path.name for path in unbroken.iterdir()}
    assert names >= {
        "model.safetensors", "config.json", "preprocessor_config.json", "README.md", "run.yaml", "test_results.json",
        "confusion_matrix.png", "per_class_accuracy.json", "trainer_state.json",
    }  # fmt: skip
    assert [line["step"] for line in log_of(unbroken) if "eval_top_1" in line] == [3, 6, 8]
    metrics = final_metrics(unbroken)
    assert (metrics["test_num_videos"], metrics["test_num_views"], metrics["test_top_5"]) == (6, 1, 1.0)
    assert json.loads((unbroken / "per_class_accuracy.json").read_text()).keys() == PITCHES.keys()
    card = ModelCard.load(unbroken / "README.md")
    assert card.data.pipeline_tag == "audio-classification"
    assert card.data.tags == ["audio", "structured_noise_audio", "tubelets"]
    result = card.data.eval_results[0]
    assert (result.task_type, result.metric_type) == ("audio-classification", "accuracy")
    assert result.metric_value == pytest.approx(metrics["test_top_1"], abs=1e-4)
    assert "one clip from the middle" in card.content


def test_the_snippet_of_the_card_runs(unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(unbroken, tmp_path / unbroken.name)
    samples = (10000 * np.sin(np.arange(RATE) / 5)).astype(np.int16)
    wavfile.write(tmp_path / "sound.wav", RATE, samples)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    snippet = (unbroken / "README.md").read_text().split("```python\n")[1].partition("```")[0]
    exec(compile(snippet, "card", "exec"), names)
    assert names["outputs"].logits.shape == (1, 3)
    assert list(names["model"].config.id2label.values()) == sorted(PITCHES)


def test_a_killed_run_resumes_in_the_middle_of_an_epoch(
    unbroken: Path, sounds_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(unbroken / "checkpoint-4", tmp_path / "checkpoint-4")
    run(monkeypatch, tmp_path, sounds_folder, save_steps=4, dataloader_num_workers=0)
    assert losses(tmp_path) == losses(unbroken)
    assert same_weights(*(AutoModelForAudioClassification.from_pretrained(folder) for folder in (unbroken, tmp_path)))


def test_another_run_is_not_resumed(
    unbroken: Path, sounds_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(unbroken / "checkpoint-4", tmp_path / "checkpoint-4")
    with pytest.raises(CheckpointError, match="belongs to another run"):
        run(monkeypatch, tmp_path, sounds_folder, class_balanced=True)


def test_several_labels_a_sound_in_shards(sounds_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that are lists make the problem a multi-label one, drawn in a class-balanced way and mixed."""
    classes = ["high", "long", "low", "middle"]
    for split in ("train", "validation"):
        lines = ["path,labels"]
        for index, record in enumerate(read_records(sounds_folder / split)):
            lines.append(f"{record.path},{record.label}{';long' if index % 2 else ''}")
        (tmp_path / f"{split}.csv").write_text("\n".join(lines))
        records = read_records(tmp_path / f"{split}.csv")
        folder = tmp_path / "shards"
        build_shards(records, folder, split=split, class_names=classes, clips_per_shard=8, progress=False)
    changes = {"dataset_name": tmp_path / "shards", "label_smoothing_factor": 0, "class_balanced": True}
    run(monkeypatch, tmp_path / "run", **{**SHORT, **changes, "max_steps": 4})
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "run")
    assert model.config.problem_type == "multi_label_classification"
    assert list(model.config.id2label.values()) == classes
    # Four independent classes start at the entropy of a coin.
    assert losses(tmp_path / "run")[0] == pytest.approx(0.693, abs=0.05)
    found = json.loads((tmp_path / "run" / "per_class_average_precision.json").read_text())
    assert found.keys() == set(classes)
    mean = final_metrics(tmp_path / "run")["test_mean_average_precision"]
    assert mean == pytest.approx(np.mean(list(found.values())))
    result = ModelCard.load(tmp_path / "run" / "README.md").data.eval_results[0]
    assert (result.metric_type, result.metric_value) == ("mean_average_precision", pytest.approx(mean, abs=1e-4))
    with pytest.raises(ValueError, match=r"label_smoothing_factor=0\.1 does not fit several labels"):
        run(monkeypatch, tmp_path / "smooth", **{**SHORT, **changes, "label_smoothing_factor": 0.1})


def test_it_learns_the_pitches(sounds_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    off = {"mixup": 0, "gain": 0, "label_smoothing_factor": 0, "layer_decay": 1, "base_learning_rate": 0.1}
    run(
        monkeypatch, tmp_path, sounds_folder, **{**SHORT, **off, "max_steps": 40, "warmup_epochs": 5},
        global_batch_size=12, per_device_train_batch_size=12,
    )  # fmt: skip
    assert losses(tmp_path)[-1] < 0.5 * losses(tmp_path)[0]
    assert final_metrics(tmp_path)["test_top_1"] > 0.8


def test_a_checkpoint_of_longer_spectrograms_and_the_average_of_epochs(
    sounds_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    pretrained = StructuredNoiseAudioForPreTraining(StructuredNoiseAudioConfig(max_length=128, **SIZES, **DECODER))
    pretrained.save_pretrained(tmp_path / "pretrained")
    recipe = tmp_path / "recipe.yaml"
    content = yaml.safe_load(DEMO.read_text())
    content |= {"model_type": None, "config_overrides": {"max_length": 64}, "save_total_limit": None}
    content |= {"max_steps": -1, "num_train_epochs": 3, "average_epochs": [2, 3], "save_strategy": "epoch"}
    recipe.write_text(yaml.safe_dump(content))
    output = tmp_path / "run"
    start = {"model_name_or_path": tmp_path / "pretrained", "head_factor": 10, "freeze_layers": 0}
    run(monkeypatch, output, sounds_folder, recipe=recipe, **start)
    models = [
        AutoModelForAudioClassification.from_pretrained(folder).state_dict()
        for folder in (output / "checkpoint-6", output / "checkpoint-9", output)
    ]
    for name, value in models[2].items():
        torch.testing.assert_close(value, (models[0][name] + models[1][name]) / 2)
    assert not torch.equal(models[2]["classifier.weight"], models[1]["classifier.weight"])
    # Frozen embeddings are the checkpoint's, with the positions of the first half.
    embedded = pretrained.state_dict()
    patches, positions = (f"audio.embeddings.{part}" for part in ("patch_embeddings.weight", "positions"))
    assert torch.equal(models[2][patches], embedded[patches])
    table = f"{positions}.position_embeddings"
    assert torch.equal(models[2][table], embedded[table][:, : 1 + 8 * 4])
    assert log_of(output)[1]["learning_rate"] == pytest.approx(10 * 0.5e-3, rel=0.01), "the head's rate is logged first"
    shutil.rmtree(output / "checkpoint-6")
    with pytest.raises(CheckpointError, match="needs checkpoint-6"):
        run(monkeypatch, output, sounds_folder, recipe=recipe, **start)


def test_the_audio_spectrogram_transformer(
    sounds_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {**SIZES, "max_length": 64, "time_stride": 8, "frequency_stride": 8}
    overrides = {"model_type": "audio-spectrogram-transformer", "config_overrides": json.dumps(sizes)}
    run(monkeypatch, tmp_path / "run", sounds_folder, **{**SHORT, **overrides})
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "run")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "run")
    assert type(model) is transformers.ASTForAudioClassification
    inputs = extractor(np.zeros(8000, np.float32), sampling_rate=RATE, return_tensors="pt")
    assert model(**inputs).logits.shape == (1, 3)
    assert "AutoModelForAudioClassification" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.parametrize("modality", ["both", "audio", "video"])
def test_sound_and_frames(modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "validation"):
        make_video_folders(tmp_path / split, per_class=2)
    sizes = {**SIZES, "max_length": 32, "image_size": 16, "modality": modality, "learned_positions": True}
    overrides = {"model_type": "structured_noise_audio_video", "config_overrides": json.dumps(sizes)}
    run(monkeypatch, tmp_path / "run", tmp_path, **{**SHORT, **overrides}, test_clips=3)
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "run")
    assert model.config.modality == modality
    metrics = final_metrics(tmp_path / "run")
    assert (metrics["test_num_videos"], metrics["test_num_views"]) == (6, 1 if modality == "audio" else 3)
    processor = AutoProcessor.from_pretrained(tmp_path / "run")
    assert processor.feature_extractor.max_length == 32
    card = ModelCard.load(tmp_path / "run" / "README.md")
    assert card.data.pipeline_tag == ("audio-classification" if modality == "audio" else "video-classification")
    assert card.data.tags[:-2] == {"both": ["audio", "video"], "audio": ["audio"], "video": ["video"]}[modality]
    assert ("read_clip" in card.content, "wavfile" in card.content) == (modality != "audio", modality != "video")


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a modality's blocks get no gradient; sounds are mixed within a process, so that mixing is off."""
    for split in ("train", "validation"):
        make_video_folders(tmp_path / split, per_class=2)
    sizes = {**SIZES, "max_length": 32, "image_size": 16, "modality": "audio"}
    overrides = {"model_type": "structured_noise_audio_video", "config_overrides": json.dumps(sizes), "mixup": 0}
    changes = {**SHORT, **overrides, "max_steps": 4, "global_batch_size": 2, "per_device_train_batch_size": 1}
    run(monkeypatch, tmp_path / "one", tmp_path, **changes)
    result = run_script(SCRIPT, *words(tmp_path / "two", tmp_path, DEMO, **changes), world_size=2)
    assert result.returncode == 0, result.stderr[-4000:]
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4, atol=1e-5)
    assert final_metrics(tmp_path / "two")["test_num_videos"] == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_device_train_batch_size": 1}, "mixing pairs the clips of a batch, and it has 1"),
        ({"global_batch_size": 16}, "an epoch has 12 videos, fewer than the 16 of a step"),
        ({"validation_dir": None}, "no validation videos; set validation_dir"),
        ({"model_type": "sigma", "config_overrides": "{}"}, "which AutoModelForAudioClassification does not load"),
        ({"model_type": "wav2vec2", "config_overrides": "{}"}, "does not accept spectrograms"),
        ({"do_train": False, "do_eval": False, "eval_strategy": "no"}, "nothing to do"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(
    changes: dict[str, Any], message: str, sounds_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if changes.get("model_type") == "wav2vec2":
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        changes = {**changes, "config_overrides": json.dumps(small)}
    with pytest.raises(ValueError, match=message):
        run(monkeypatch, tmp_path / "run", sounds_folder, **changes)


def test_an_unreadable_sound_is_skipped_and_counted(
    sounds_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(sounds_folder, tmp_path / "sounds")
    for split in ("train", "validation"):
        (tmp_path / "sounds" / split / "low" / "1.wav").write_bytes(b"no sound at all")
    run(monkeypatch, tmp_path / "run", tmp_path / "sounds", **{**SHORT, "max_steps": 4})
    assert [line["skipped_videos"] for line in log_of(tmp_path / "run") if "loss" in line][-1] >= 1
    metrics = final_metrics(tmp_path / "run")
    assert (metrics["test_num_videos"], metrics["test_skipped_videos"]) == (5, 1)
