"""Recipes of fine-tuning on sounds against the numbers of the spec, and the arguments of that task."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from finetuning import RECIPES, final_metrics, losses, words
from sound_runs import DEMO, make_video_folders, run
from transformers import AutoConfig

from tubelets import StructuredNoiseAudioConfig, StructuredNoiseAudioVideoConfig
from tubelets.training.finetuning_arguments import parse_finetuning_arguments

PATHS = sorted(RECIPES.glob("structured_noise_*_finetune_*.yaml"))
AUDIO = [path for path in PATHS if "_audio_vit_b_" in path.stem]
CAV = [path for path in PATHS if "_cav_mae_" in path.stem]

# structured_noise_masking.md, section 8.
SCHEDULES = {  # epochs, warm-up, rate for 256 sounds, several labels
    "audioset_2m": (100, 10, 2e-4, True),
    "audioset_20k": (60, 4, 1e-3, True),
    "esc50": (50, 5, 1e-3, False),
    "speech_commands": (50, 5, 1e-3, False),
}
SPECTROGRAMS = {  # frames, mean, deviation
    "audioset_2m": (1024, -4.2677393, 4.5689974),
    "audioset_20k": (1024, -4.2677393, 4.5689974),
    "esc50": (512, -6.6268077, 5.358466),
    "speech_commands": (128, -6.845978, 5.5654526),
}
TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PUBLISHED = {"audioset_2m": "47.3", "audioset_20k": "37.0", "esc50": "94.1", "speech_commands": "No number"}


def load(path: Path, tmp_path: Path, **changes: Any) -> Any:
    given = {"model_name_or_path": "x", "dataset_name": "y", "use_cpu": True}
    if path == DEMO:
        given = {"train_dir": tmp_path, "validation_dir": tmp_path}
    task, *groups = parse_finetuning_arguments(words(tmp_path / "run", None, path, **{**given, **changes}))
    assert task.name == "audio-classification"
    return groups


def task(path: Path) -> str:
    return path.stem.partition("_finetune_")[2]


def test_every_recipe_is_expected() -> None:
    assert {task(path) for path in AUDIO} == set(SCHEDULES)
    assert {task(path) for path in CAV} == {"audioset_20k", "vggsound"}
    assert set(PATHS) == {*AUDIO, *CAV, DEMO}


def test_the_recipe_of_studies_loads(tmp_path: Path) -> None:
    _, data, args = load(RECIPES / "study_finetune_few_labels_sounds.yaml", tmp_path)
    assert (args.max_steps, args.layer_decay, args.learning_rate) == (200, 0.75, pytest.approx(1e-3))
    assert (data.roll, data.gain, data.mixup, data.multi_label) == ("waveform", 10, 0.0, False)


@pytest.mark.parametrize("path", AUDIO, ids=task)
def test_audio_recipes_follow_the_spec(path: Path, tmp_path: Path) -> None:
    model, data, args = load(path, tmp_path)
    epochs, warmup, rate, multi_label = SCHEDULES[task(path)]
    assert (args.num_train_epochs, args.warmup_epochs, data.multi_label) == (epochs, warmup, multi_label)
    assert args.learning_rate == pytest.approx(rate * args.global_batch_size / 256)
    assert args.layer_decay == 0.75
    assert data.class_balanced == (task(path) == "audioset_2m")
    assert (data.roll, data.gain, data.noise, data.time_mask, data.frequency_mask) == ("waveform", 10, 0, 0, 0)
    config = StructuredNoiseAudioConfig(**model.config_overrides)
    assert (config.max_length, config.spectrogram_mean, config.spectrogram_std) == SPECTROGRAMS[task(path)]
    assert (config.time_mask_ratio, config.frequency_mask_ratio) == (0.2, 0.2)
    assert args.metric_for_best_model == ("eval_mean_average_precision" if multi_label else "eval_top_1")
    assert args.label_smoothing_factor == (0 if multi_label else 0.1)
    assert PUBLISHED[task(path)] in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CAV, ids=task)
def test_audio_visual_recipes_follow_the_spec(path: Path, tmp_path: Path) -> None:
    model, data, args = load(path, tmp_path)
    audioset = task(path) == "audioset_20k"
    assert args.num_train_epochs == (15 if audioset else 10)
    assert args.learning_rate == pytest.approx(5e-5 if audioset else 1e-4)
    assert args.head_factor == (100 if audioset else 10)
    assert args.average_epochs == [3, 15 if audioset else 10]
    assert data.multi_label == audioset
    assert (data.frequency_mask, data.time_mask, data.mix_probability) == (48, 192, 0.5)
    assert (data.roll, data.gain, data.noise) == ("spectrogram", 0, 0.1)
    config = StructuredNoiseAudioVideoConfig(**model.config_overrides)
    assert (config.modality, config.learned_positions, config.max_length) == ("both", True, 1024)


@pytest.mark.parametrize("path", [*AUDIO, *CAV], ids=lambda path: path.stem)
def test_mixed_batches_are_even_and_shared_by_eight_processes(path: Path, tmp_path: Path) -> None:
    _, data, args = load(path, tmp_path)
    assert args.global_batch_size % (args.per_device_train_batch_size * (8 if "cav" not in path.stem else 4)) == 0
    assert not data.mixup or args.per_device_train_batch_size % 2 == 0


def test_the_demonstration_has_fields_that_exist(tmp_path: Path) -> None:
    model, _, args = load(DEMO, tmp_path)
    assert AutoConfig.for_model(model.model_type, **model.config_overrides).num_tokens == 32
    assert args.learning_rate == pytest.approx(1e-3)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short videos with sound, which audio models read and nothing else."""
    return make_video_folders(tmp_path_factory.mktemp("clips") / "clips", per_class=2)


@pytest.mark.parametrize("path", [*AUDIO, *CAV], ids=lambda path: path.stem)
def test_every_recipe_runs_in_small(path: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is written, but for the sizes of network, data, epochs and batches."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    seeing = {"image_size": 32} if path in CAV else {}
    content["config_overrides"] |= {**TINY, **seeing}
    content |= {"model_type": "structured_noise_audio" + ("_video" if path in CAV else "")}
    content |= {
        "num_train_epochs": 2,
        "warmup_epochs": 1,
        "global_batch_size": 6,
        "per_device_train_batch_size": 6,
        "logging_steps": 1,
    }
    if "average_epochs" in content:
        content["average_epochs"] = [1, 2]
    content |= {"dataloader_num_workers": 0, "eval_strategy": "no", "use_cpu": True}
    if "samples_per_epoch" in content:
        content["samples_per_epoch"] = 6
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content))
    run(monkeypatch, tmp_path / "run", recipe=recipe, train_dir=clips, validation_dir=clips)
    assert len(losses(tmp_path / "run")) == 2
    kind = "mean_average_precision" if content.get("multi_label") else "top_1"
    assert 0 <= final_metrics(tmp_path / "run")[f"test_{kind}"] <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gain": -1}, "gain must be at least 0"),
        ({"noise": -0.5}, "noise must be at least 0"),
        ({"class_balanced": True, "shots_per_class": 2}, "omit class_balanced"),
        ({"head_factor": 0}, "head_factor must be positive"),
        ({"average_epochs": [1, 2]}, "without max_steps"),
        ({"average_epochs": [2, 1], "max_steps": -1}, r"a first and a last epoch, .* got \[2, 1\]"),
        ({"average_epochs": [1, 2], "max_steps": -1}, "needs the checkpoint of every epoch"),
        ({"dataset_name": "x"}, "give either dataset_name"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load(DEMO, tmp_path, **changes)


@pytest.mark.parametrize("name", ["random_erasing", "cutmix", "test_crops"])
def test_arguments_of_frames_are_unknown(name: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump({name: 1}))
    with pytest.raises(ValueError, match=re.escape(name)):
        parse_finetuning_arguments([str(file), "--task", "audio-classification"])
