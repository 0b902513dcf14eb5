"""The fine-tuning script as a user runs it: all kinds of models, interrupted and resumed, with bad input."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from finetuning import CLASSES, DEMO, SCRIPT, final_metrics, log_of, losses, make_class_folders, run, words
from huggingface_hub import ModelCard
from interrupting import interrupt
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, HfArgumentParser, TrainingArguments

from preloaded import run_script
from tubelets.data.build.shards import build_shards
from tubelets.data.sources.annotations import read_records
from tubelets.tasks.registry import task_named
from tubelets.training.checkpointing import CheckpointError, list_checkpoints
from tubelets.training.finetuning_arguments import FinetuningArguments, ModelArguments

# As transformers calls it since 5.23, and as it was called before.
NAMES = ("activation_checkpointing", "gradient_checkpointing")
CHECKPOINTING = next(name for name in NAMES if hasattr(TrainingArguments, name))

VIT = {
    "image_size": 32, "patch_size": 8, "num_frames": 8, "hidden_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
VJEPA2 = {
    "crop_size": 32, "patch_size": 8, "frames_per_clip": 8, "hidden_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_pooler_layers": 1, "pred_hidden_size": 24, "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1, "drop_path_rate": 0.1,
}  # fmt: skip
STOCK = {
    "videomae": {**VIT, "hidden_dropout_prob": 0.1},
    "timesformer": {**VIT, "hidden_dropout_prob": 0.1},
    "vjepa2": VJEPA2,
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_class_folders(folder / "train", per_class=4)
    make_class_folders(folder / "validation", per_class=2)
    return folder


@pytest.fixture(scope="module")
def unbroken(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration recipe, 8 steps of 3 an epoch, with a checkpoint in the middle of an epoch."""
    output = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        run(patch, words(output, videos, save_steps=4))
    return output


def break_off(unbroken: Path, output: Path, step: int = 4) -> None:
    """What is left of the run when it was killed some time after that step."""
    output.mkdir(exist_ok=True)
    shutil.copytree(unbroken / f"checkpoint-{step}", output / f"checkpoint-{step}")


def test_the_demonstration_leaves_a_complete_folder(unbroken: Path) -> None:
    names = {path.name for path in unbroken.iterdir()}
    assert names >= {
        "model.safetensors", "config.json", "video_preprocessor_config.json", "README.md", "run.yaml",
        "test_results.json", "confusion_matrix.png", "per_class_accuracy.json", "trainer_state.json",
    }  # fmt: skip
    assert not list(unbroken.rglob("training_args.bin"))
    assert [path.name for path in list_checkpoints(unbroken)] == ["checkpoint-4", "checkpoint-8"]
    assert len(losses(unbroken)) == 8
    evaluations = [line for line in log_of(unbroken) if "eval_top_1" in line]
    assert [line["step"] for line in evaluations] == [3, 6, 8]
    metrics = final_metrics(unbroken)
    assert metrics["test_num_videos"] == 6
    assert metrics["test_num_views"] == 6
    assert metrics["test_top_1"] == pytest.approx(metrics["test_mean_class_accuracy"])
    assert json.loads((unbroken / "per_class_accuracy.json").read_text()).keys() == set(CLASSES)
    card = ModelCard.load(unbroken / "README.md")
    assert "top-1 accuracy" in card.content
    assert card.data.eval_results[0].metric_value == pytest.approx(metrics["test_top_1"], abs=1e-4)


def test_the_model_reloads_with_its_processor_and_labels(unbroken: Path) -> None:
    model = AutoModelForVideoClassification.from_pretrained(unbroken)
    processor = AutoVideoProcessor.from_pretrained(unbroken)
    inputs = processor(torch.zeros(8, 3, 48, 64, dtype=torch.uint8), return_tensors="pt")
    assert model(**inputs).logits.shape == (1, 3)
    assert list(model.config.id2label.values()) == CLASSES


def test_fewer_classes_are_scored_as_the_checkpoint_numbers_them(
    unbroken: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(videos / "validation", tmp_path / "few")
    shutil.rmtree(tmp_path / "few" / "jump")
    only = {"model_name_or_path": unbroken, "validation_dir": tmp_path / "few", "do_eval": True, "use_cpu": True}
    only |= {"stride": 2, "test_clips": 2, "per_device_eval_batch_size": 12}
    run(monkeypatch, words(tmp_path / "run", recipe=None, **only))
    whole, part = (
        json.loads((output / "per_class_accuracy.json").read_text()) for output in (unbroken, tmp_path / "run")
    )
    assert part == {**whole, "jump": None}
    (tmp_path / "few" / "run").rename(tmp_path / "few" / "skip")
    with pytest.raises(ValueError, match="no class for 1 of the 2 names of the data: 'skip'"):
        run(monkeypatch, words(tmp_path / "other", recipe=None, **only))


def test_a_killed_run_resumes_in_the_middle_of_an_epoch(
    unbroken: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(unbroken, tmp_path)
    # A checkpoint that was being written when the run was killed is passed over.
    shutil.copytree(unbroken / "checkpoint-8", tmp_path / "checkpoint-7")
    (tmp_path / "checkpoint-7" / "loader_0.json").unlink()
    run(monkeypatch, words(tmp_path, videos, save_steps=4))
    assert losses(tmp_path) == losses(unbroken)
    epochs = [[line["epoch"] for line in log_of(output) if "loss" in line] for output in (tmp_path, unbroken)]
    assert epochs[0] == pytest.approx(epochs[1])
    expected, found = (AutoModelForVideoClassification.from_pretrained(output) for output in (unbroken, tmp_path))
    assert all(torch.equal(found.state_dict()[name], value) for name, value in expected.state_dict().items())
    same = [{**final_metrics(output), "test_runtime": 0, "epoch": 0} for output in (unbroken, tmp_path)]
    assert same[0] == same[1]


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors"])
def test_a_corrupt_file_of_a_checkpoint_is_named(
    name: str, unbroken: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(unbroken, tmp_path)
    (tmp_path / "checkpoint-4" / name).write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match=rf"checkpoint-4/{name} is corrupt"):
        run(monkeypatch, words(tmp_path, videos))


def test_the_number_of_workers_changes_nothing(
    unbroken: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, words(tmp_path, videos, dataloader_num_workers=2))
    assert losses(tmp_path) == losses(unbroken)


def test_a_finished_run_is_only_tested_again(
    unbroken: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    run(monkeypatch, words(tmp_path, videos, save_steps=4))
    assert losses(tmp_path) == losses(unbroken)
    assert final_metrics(tmp_path)["test_top_1"] == final_metrics(unbroken)["test_top_1"]


def test_a_finished_run_is_extended(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates at milestones do not depend on the length, so that it equals a run that was longer from the start."""
    changes = {"milestones": 1, "eval_strategy": "no", "save_strategy": "no", "do_eval": False, "max_steps": 6}
    run(monkeypatch, words(tmp_path / "whole", videos, **changes))
    changes["save_strategy"] = "steps"
    run(monkeypatch, words(tmp_path / "run", videos, **{**changes, "max_steps": 3}))
    written = (tmp_path / "run" / "run.yaml").read_text()
    with pytest.raises(CheckpointError, match=r"of 3 steps, and this one has 6.*--extend to train longer"):
        run(monkeypatch, words(tmp_path / "run", videos, **changes))
    assert (tmp_path / "run" / "run.yaml").read_text() == written
    run(monkeypatch, words(tmp_path / "run", videos, **changes, extend=True))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_damaged_stretch_and_other_videos_are_not_resumed(
    unbroken: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(unbroken, tmp_path / "run")
    shutil.copytree(videos, tmp_path / "videos")
    with (tmp_path / "videos" / "train" / "run" / "0.mp4").open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match=r"run/0\.mp4 is not the file that the checkpoint was trained on"):
        run(monkeypatch, words(tmp_path / "run", videos, train_dir=tmp_path / "videos" / "train", save_steps=4))
    weights = tmp_path / "run" / "checkpoint-4" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-8192:] = bytes(8192)
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint-4/model\.safetensors is damaged"):
        run(monkeypatch, words(tmp_path / "run", videos, save_steps=4))


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"per_device_train_batch_size": 4}, {"data": "fewer"}],
    ids=["seed", "batch size", "other videos"],
)
def test_another_run_is_not_resumed(
    unbroken: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    break_off(unbroken, tmp_path / "run")
    if changes.pop("data", None):
        shutil.copytree(videos, tmp_path / "videos")
        (tmp_path / "videos" / "train" / "run" / "0.mp4").unlink()
        changes["train_dir"] = tmp_path / "videos" / "train"
    with pytest.raises(CheckpointError, match="belongs to another run"):
        run(monkeypatch, words(tmp_path / "run", videos, **changes))


@pytest.mark.parametrize("model_type", STOCK)
def test_stock_models_train_and_resume(
    model_type: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "model_type": model_type,
        "config_overrides": json.dumps(STOCK[model_type]),
        "max_steps": 3,
        "save_steps": 2,
        "base_learning_rate": 0.6,
    }
    run(monkeypatch, words(tmp_path / "whole", videos, **changes))
    break_off(tmp_path / "whole", tmp_path / "broken", 2)
    run(monkeypatch, words(tmp_path / "broken", videos, **changes))
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    start, end = (
        AutoModelForVideoClassification.from_pretrained(folder).state_dict()
        for folder in (tmp_path / "whole" / "checkpoint-2", tmp_path / "whole")
    )
    assert any(not torch.equal(value, end[name]) for name, value in start.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"bf16": True, CHECKPOINTING: True},
        {"repeated_augmentation": 2, "per_device_train_batch_size": 1, "freeze_backbone": True},
        {"freeze_layers": 1, "mixup": 0, "cutmix": 0, "random_augment": "", "random_erasing": 0},
    ],
    ids=["bf16 and checkpointing", "linear probe, repeated augmentation", "frozen layers, no augmentation"],
)
def test_ways_of_training(
    changes: dict[str, Any], unbroken: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"model_name_or_path": unbroken, "max_steps": 2, "base_learning_rate": 6.0, **changes}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(DEMO.read_text().replace("model_type: sigma", "model_type: null"))
    run(monkeypatch, words(tmp_path / "run", videos, recipe, warmup_epochs=0, **changes))
    before, after = (
        AutoModelForVideoClassification.from_pretrained(folder).state_dict() for folder in (unbroken, tmp_path / "run")
    )
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {"classifier.weight", "fc_norm.weight"} <= changed
    if "freeze_backbone" in changes:
        assert changed == {"classifier.weight", "classifier.bias", "fc_norm.weight", "fc_norm.bias"}
    if "freeze_layers" in changes:
        assert not [name for name in changed if "embeddings" in name or "layer.0." in name]


def test_it_learns_the_classes(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training videos themselves are told apart after a few epochs without augmentation."""
    off = {"random_augment": "", "random_erasing": 0, "mixup": 0, "cutmix": 0, "crop_scale": [0.9, 1.0]}
    changes = {
        "max_steps": 60,
        "save_strategy": "no",
        "eval_strategy": "no",
        "base_learning_rate": 0.3,
        "layer_decay": 1,
    }
    run(
        monkeypatch,
        words(tmp_path, videos, validation_dir=videos / "train", global_batch_size=12, **off, **changes,
              per_device_train_batch_size=12, warmup_epochs=5),
    )  # fmt: skip
    assert losses(tmp_path)[-1] < 0.75 * losses(tmp_path)[0]
    assert final_metrics(tmp_path)["test_top_1"] > 0.8


def test_shards_and_an_early_stop(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "validation"):
        build_shards(
            read_records(videos / split),
            tmp_path / "shards",
            split=split,
            class_names=CLASSES,
            clips_per_shard=4,
            progress=False,
        )
    changes = {
        "dataset_name": tmp_path / "shards",
        "train_sampling": "segment",
        "test_sampling": "segment_test",
        "base_learning_rate": 1e-9,
        "max_steps": 30,
        "early_stopping_patience": 2,
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
    }
    run(monkeypatch, words(tmp_path / "run", **changes))
    # Nothing is learned at that rate: the first validation is the best, and two more end the run.
    assert len(losses(tmp_path / "run")) == 9
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert state["best_global_step"] == 3
    assert final_metrics(tmp_path / "run")["test_num_videos"] == 6


def test_several_labels_a_video(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "validation"):
        records = read_records(videos / split)
        lines = [
            f"{record.path} {record.label};{'fast' if index % 2 else 'slow'}" for index, record in enumerate(records)
        ]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    files = {"train_dir": tmp_path / "train.txt", "validation_dir": tmp_path / "validation.txt"}
    changes = {"multi_label": True, "label_smoothing_factor": 0, "metric_for_best_model": "eval_mean_average_precision"}
    run(monkeypatch, words(tmp_path / "run", **files, **changes, max_steps=3))
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "run")
    assert model.config.problem_type == "multi_label_classification"
    assert list(model.config.id2label.values()) == ["fast", "jump", "run", "slow", "walk"]
    # Five independent classes start at the entropy of a coin.
    assert losses(tmp_path / "run")[0] == pytest.approx(0.693, abs=0.01)
    metrics = final_metrics(tmp_path / "run")
    assert 0 < metrics["test_mean_average_precision"] <= 1
    assert not (tmp_path / "run" / "confusion_matrix.png").exists()
    precisions = json.loads((tmp_path / "run" / "per_class_average_precision.json").read_text())
    assert precisions.keys() == set(model.config.id2label.values())


def test_an_unreadable_video_is_skipped_and_counted(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(videos, tmp_path / "videos")
    for split in ("train", "validation"):
        (tmp_path / "videos" / split / "run" / "1.mp4").write_bytes(b"no video at all")
    run(monkeypatch, words(tmp_path / "run", tmp_path / "videos", max_steps=6))
    assert "skipped run/1.mp4" in caplog.text
    assert [line["skipped_videos"] for line in log_of(tmp_path / "run") if "loss" in line][-1] >= 1
    metrics = final_metrics(tmp_path / "run")
    assert (metrics["test_num_videos"], metrics["test_skipped_videos"]) == (5, 1)
    with pytest.raises(Exception, match=r"clip run/1\.mp4"):
        run(monkeypatch, words(tmp_path / "strict", tmp_path / "videos", on_bad_sample="raise"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": "{}/few.txt"}, "label 'walk' of clip .* is not among the 2 class names"),
        ({"class_names": "{}/none.txt"}, "no class names at"),
        ({"train_dir": "{}/empty"}, r"contains no \.parquet or \.tar shards and no class folders"),
        ({"train_dir": "{}/nowhere"}, "does not exist"),
        ({"validation_dir": "{}/other"}, "label 'sit' of clip 'sit/0.mp4' is not among the 3 class names"),
        ({"validation_dir": None}, "no validation videos; set validation_dir"),
        ({"global_batch_size": 16}, "an epoch has 12 videos, fewer than the 16 of a step"),
        ({"per_device_train_batch_size": 1}, "mixing pairs the clips of a batch, and it has 1"),
        ({"multi_label": True}, "label_smoothing_factor=0.1 does not fit several labels"),
        ({"do_train": False, "do_eval": False, "eval_strategy": "no"}, "nothing to do"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(
    changes: dict[str, Any], message: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "few.txt").write_text("jump\nrun\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "sit").mkdir(parents=True)
    shutil.copy(videos / "train" / "run" / "0.mp4", tmp_path / "other" / "sit")
    places = {name: value.format(tmp_path) if isinstance(value, str) else value for name, value in changes.items()}
    with pytest.raises((ValueError, OSError), match=message):
        run(monkeypatch, words(tmp_path / "run", videos, **places))


def test_bad_shards_are_refused(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as parquet
    from datasets import Dataset, Features, Value, Video

    def write(folder: str, split: str, names: list[str] | None = CLASSES) -> None:
        records = [record for record in read_records(videos / split) if names is None or record.label in names]
        build_shards(
            records, tmp_path / folder, split=split, class_names=names or CLASSES, clips_per_shard=50, progress=False
        )

    write("empty", "train")
    write("empty", "validation")
    (shard,) = (tmp_path / "empty").glob("validation-*.parquet")
    parquet.write_table(parquet.read_table(shard).slice(0, 0), shard)
    write("uneven", "train")
    write("uneven_validation", "validation", CLASSES[:2])
    shutil.copy(next((tmp_path / "uneven_validation").glob("*.parquet")), tmp_path / "uneven")
    write("one", "train")
    video = {"bytes": (videos / "train" / "run" / "0.mp4").read_bytes(), "path": None}
    features = Features({"video": Video(), "label": Value("int64")})
    (tmp_path / "nameless").mkdir()
    for split in ("train", "validation"):
        nameless = Dataset.from_list([{"video": video, "label": 0}] * 4, features=features)
        nameless.to_parquet(tmp_path / "nameless" / f"{split}-00000-of-00001.parquet")
    tables = [
        ("empty", "split 'validation' of .* is empty"),
        ("uneven", "the validation data has 2 classes and training has 3, which first differ in None and 'walk'"),
        ("one", "has no split 'validation'"),
        ("nameless", "the labels of the data have no names; give a file with one name per line as class_names"),
    ]
    for folder, message in tables:
        with pytest.raises(ValueError, match=message):
            run(monkeypatch, words(tmp_path / "run", dataset_name=tmp_path / folder))
    (tmp_path / "names.txt").write_text("run\nwalk")
    named = {"dataset_name": tmp_path / "nameless", "class_names": tmp_path / "names.txt"}
    run(monkeypatch, words(tmp_path / "run", **named, max_steps=1))
    assert final_metrics(tmp_path / "run")["test_top_1"] in (0.0, 1.0)
    (tmp_path / "names.txt").write_text("run")
    with pytest.raises(ValueError, match=r"two or more classes, got \['run'\]"):
        run(monkeypatch, words(tmp_path / "one", **named))


def test_help_lists_the_arguments(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, ["--help"])
    assert "sections:" in capsys.readouterr().out
    parser = HfArgumentParser((ModelArguments, task_named("video-classification").arguments, FinetuningArguments))
    run(monkeypatch, ["--help", "all"])
    shown = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  --")}
    assert shown == {f"--{action.dest}" for action in parser._actions if action.dest != "help"}
    run(monkeypatch, ["--task", "audio-classification", "--help", "data"])
    assert "--class_balanced" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "world_size"), [(signal.SIGUSR2, 1), (signal.SIGTERM, 2)], ids=["one process", "two processes"]
)
def test_a_signal_to_all_processes_and_workers_loses_nothing(
    number: signal.Signals, world_size: int, videos: Path, tmp_path: Path
) -> None:
    changes = {"max_steps": 12, "save_steps": 2, "save_total_limit": 10, "dataloader_num_workers": 2}
    changes |= {"do_eval": False, "eval_strategy": "no"}
    whole, broken = ([SCRIPT, *words(tmp_path / name, videos, **changes)] for name in ("whole", "broken"))
    (tmp_path / "broken").mkdir()
    begun = tmp_path / "broken" / "checkpoint-2" / f"loader_{world_size - 1}.json"
    errors = interrupt(broken, tmp_path / "broken", begun.exists, number, world_size)
    assert f"{number.name}: the current step is finished and saved" in errors
    assert "asked to stop: saved step" in errors
    for command in (broken, whole):
        result = run_script(*command, world_size=world_size)
        assert result.returncode == 0, result.stderr[-4000:]
        assert ("resumed from" in result.stderr) == (command is broken)
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")


def run_on_two(output: Path, videos: Path, **changes: Any) -> None:
    result = run_script(SCRIPT, *words(output, videos, **changes), world_size=2)
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Clips are mixed with those of their own process, so that mixing is off here, and so is stochastic depth.
    changes = {"mixup": 0, "cutmix": 0, "config_overrides": json.dumps({**VIT, "drop_path_rate": 0.0}), "save_steps": 4}
    run(monkeypatch, words(tmp_path / "one", videos, **changes))
    run_on_two(tmp_path / "two", videos, **changes)
    # What is left after an interruption behind step 4: each process goes on with its own videos.
    break_off(tmp_path / "two", tmp_path / "resumed")
    run_on_two(tmp_path / "resumed", videos, **changes)
    assert losses(tmp_path / "resumed") == losses(tmp_path / "two")
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4, atol=1e-5)
    first, second = final_metrics(tmp_path / "one"), final_metrics(tmp_path / "two")
    assert first["test_top_1"] == second["test_top_1"]
    assert second["test_num_videos"] == 6
