"""The pretraining script as a user runs it: interrupted, resumed, on one process and on two."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clip_shards import clip_rows, write_parquet
from interrupting import interrupt
from pretraining import ROOT, command, losses, make_clip_shards, train
from transformers import AutoModel, AutoModelForPreTraining, AutoVideoProcessor

from preloaded import run_script
from tubelets.training.checkpointing import list_checkpoints
from tubelets.training.run_log import read_log

TWO_WORKERS = {"data__num_workers": 2}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip_shards(tmp_path_factory.mktemp("footage"))


@pytest.fixture(scope="module")
def unbroken(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken")
    train(*command(shards, output, **TWO_WORKERS))
    return output


def weights(output: Path) -> dict[str, torch.Tensor]:
    return AutoModelForPreTraining.from_pretrained(output / "final").state_dict()


def assert_same_run(first: Path, second: Path) -> None:
    assert losses(first) == losses(second)
    expected, found = weights(first), weights(second)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_final_folder_reloads_with_the_auto_classes(unbroken: Path) -> None:
    folder = unbroken / "final"
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    processor = AutoVideoProcessor.from_pretrained(folder)
    inputs = processor(torch.zeros(8, 3, 48, 64, dtype=torch.uint8), return_tensors="pt")
    assert model(**inputs).last_hidden_state.shape == (1, model.config.num_tokens, 48)
    summary = json.loads((folder / "training_summary.json").read_text())
    assert summary["steps"] == 6
    assert summary["versions"].keys() >= {"torch", "transformers", "tubelets"}
    assert {"recipe.yaml", "README.md", "model.safetensors"} <= {path.name for path in folder.iterdir()}
    assert [path.name for path in list_checkpoints(unbroken)] == ["checkpoint-4", "checkpoint-6"]


def test_measuring_features_meanwhile_changes_no_loss(shards: Path, unbroken: Path, tmp_path: Path) -> None:
    labelled = write_parquet(tmp_path / "labelled", clip_rows(6), [6])
    evaluation = {
        "evaluation__path": labelled,
        "evaluation__test_split": "train",
        "evaluation__every_steps": 4,
        "evaluation__stride": 1,
    }
    train(*command(shards, tmp_path / "run", **evaluation, **TWO_WORKERS))
    assert_same_run(unbroken, tmp_path / "run")
    lines = {line["step"]: line for line in read_log(tmp_path / "run" / "training_log.jsonl")}
    measured = {step for step, line in lines.items() if "knn_top_1" in line}
    assert measured == {4, 6}
    assert 0.0 <= lines[6]["probe_top_1"] <= 1.0
    assert lines[6]["effective_rank"] > 1.0


def has_logged(output: Path, lines: int) -> Callable[[], bool]:
    log = output / "training_log.jsonl"
    return lambda: log.exists() and len(log.read_text().splitlines()) >= lines


def assert_stopped_early(errors: str, output: Path) -> None:
    assert "asked to stop" in errors or len((output / "training_log.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_an_interrupted_run_resumes_to_the_same_losses(
    number: signal.Signals, shards: Path, unbroken: Path, tmp_path: Path
) -> None:
    """The signal reaches the two loader workers as well."""
    words = command(shards, tmp_path, **TWO_WORKERS)
    logged = has_logged(tmp_path, 3)
    errors = interrupt(words, tmp_path, lambda: bool(list_checkpoints(tmp_path)) and logged(), number)
    if number is not signal.SIGKILL:
        assert f"{number.name}: the current step is finished and saved" in errors
        assert_stopped_early(errors, tmp_path)
    assert "resumed from" in train(*words)
    assert_same_run(unbroken, tmp_path)


def test_two_processes_stop_together_and_resume(shards: Path, tmp_path: Path) -> None:
    changes = {"run__batch_size": 2, "run__save_steps": 100, **TWO_WORKERS}
    whole, broken = (command(shards, tmp_path / name, **changes) for name in ("whole", "broken"))
    train(*whole, world_size=2)
    (tmp_path / "broken").mkdir()
    errors = interrupt(broken, tmp_path / "broken", has_logged(tmp_path / "broken", 1), signal.SIGINT, world_size=2)
    assert_stopped_early(errors, tmp_path / "broken")
    assert list_checkpoints(tmp_path / "broken")
    assert "resumed from" in train(*broken, world_size=2)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_two_processes_learn_what_one_learns(shards: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train(*command(shards, one, data__split_by="samples"))
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "29742"]
    words = command(shards, two, data__split_by="samples", run__batch_size=2)
    subprocess.run([sys.executable, "-m", *launcher, *words], capture_output=True, check=True, timeout=300)
    torch.testing.assert_close(losses(two), losses(one), rtol=1e-4, atol=1e-4)


def test_accumulated_batches_equal_one_batch_for_the_pixel_target(shards: Path, tmp_path: Path) -> None:
    changes = {"model__config__target_type": "pixel", "data__split_by": "samples", "data__num_workers": 0}
    whole, accumulated = tmp_path / "whole", tmp_path / "accumulated"
    train(*command(shards, whole, **changes))
    train(*command(shards, accumulated, **changes, run__batch_size=2))
    torch.testing.assert_close(losses(accumulated), losses(whole), rtol=1e-4, atol=1e-5)


def test_bad_videos_are_reported_in_the_log(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    shards = make_clip_shards(tmp_path / "footage", num_videos=8)
    shard = sorted(shards.glob("*.parquet"))[0]
    table = parquet.read_table(shard)
    videos = table.column("video").to_pylist()
    videos[0]["bytes"] = b"not a video"
    column = table.schema.get_field_index("video")
    field = table.schema.field("video")
    parquet.write_table(table.set_column(column, field, [videos]), shard)
    errors = train(*command(shards, tmp_path / "run"))
    assert "skipped clip-" in errors
    assert shard.name in errors
    last = json.loads((tmp_path / "run" / "training_log.jsonl").read_text().splitlines()[-1])
    assert last["skipped_videos"] >= 1


def test_a_changed_recipe_is_not_resumed(unbroken: Path, shards: Path) -> None:
    written = (unbroken / "recipe.yaml").read_text()
    words = command(shards, unbroken, model__config__mask_ratio=0.5, **TWO_WORKERS)
    result = run_script(*words)
    assert result.returncode != 0
    assert "model.config" in result.stderr
    assert "another run" in result.stderr
    assert (unbroken / "recipe.yaml").read_text() == written


def test_a_finished_run_is_extended_with_moved_data_and_other_workers(shards: Path, tmp_path: Path) -> None:
    """Within a schedule that is long enough, it equals a run that was longer from the start."""
    changes = {"optimization__schedule_epochs": 2, "run__save_steps": 100}
    train(*command(shards, tmp_path / "whole", **changes))
    shorter = {**changes, "optimization__max_steps": 3, "data__num_workers": 0}
    train(*command(shards, tmp_path / "run", **shorter))
    (tmp_path / "link").symlink_to(shards)
    longer = command(tmp_path / "link", tmp_path / "run", **changes, data__backend="pyav")
    refused = run_script(*longer)
    assert refused.returncode != 0
    assert "optimization.max_steps: 3 -> 6" in refused.stderr
    assert "--extend to train longer" in refused.stderr
    assert "resumed from" in train(*longer, "--extend")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_help_names_the_recipe() -> None:
    result = run_script(ROOT / "training/run_pretraining.py", "--help")
    assert result.returncode == 0
    assert "recipe" in result.stdout
