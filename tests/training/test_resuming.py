"""Which checkpoints a run resumes from: moved data and other workers do not matter, other videos do."""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from clip_shards import clip_rows, write_parquet

from tubelets.data.modalities.clips import ClipSpec
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.training.checkpointing import CheckpointError
from tubelets.training.resuming import check_length, check_same_data, check_same_recipe

RECIPE = {
    "model": {"model_type": "sigma"},
    "data": {"path": "shards", "stride": 4, "num_workers": 0, "backend": "auto"},
    "optimization": {"epochs": 1, "max_steps": None},
    "run": {"seed": 0, "batch_size": 2, "precision": "bf16"},
}


def changed(section: str, **fields: Any) -> dict[str, Any]:
    return {**RECIPE, section: {**RECIPE[section], **fields}}


def checkpoint(folder: Path) -> Path:
    (folder / "training_state.json").write_text(json.dumps({"step": 4, "recipe": RECIPE}))
    return folder


def test_changed_fields_are_named(tmp_path: Path) -> None:
    now = {**changed("data", stride=2), "run": {**RECIPE["run"], "seed": 1}}
    with pytest.raises(CheckpointError, match=r"data\.stride: 4 -> 2; run\.seed: 0 -> 1"):
        check_same_recipe(checkpoint(tmp_path), now)


@pytest.mark.parametrize(
    "now",
    [
        changed("run", output_dir="elsewhere"),
        changed("data", path="/data/shards/", num_workers=1, backend="pyav"),
    ],
)
def test_fields_that_change_nothing_may_differ(now: dict[str, Any], tmp_path: Path) -> None:
    assert check_same_recipe(checkpoint(tmp_path), now)["step"] == 4


def test_a_longer_run_is_asked_for(tmp_path: Path) -> None:
    longer = changed("optimization", epochs=2)
    with pytest.raises(CheckpointError, match=r"epochs: 1 -> 2\).*, or --extend to train longer"):
        check_same_recipe(checkpoint(tmp_path), longer)
    check_same_recipe(tmp_path, {**longer, "run": {**RECIPE["run"], "extend": True}})
    with pytest.raises(CheckpointError, match="has 4 steps and this run 3; give more epochs or steps"):
        check_length(4, 3, extend=True)


def test_a_run_that_is_long_enough_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_length(4, 4, extend=True)
    assert "the run has its 4 steps already" in caplog.text


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_parquet(tmp_path / "shards", clip_rows(6), [3, 3])


def state_of(path: Path) -> dict[str, Any]:
    recipe = {"data": {"path": str(path)}}
    return {"recipe": recipe, "data": open_source(path).fingerprints()}


def test_moved_and_respelled_data_are_the_same(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_of(shards)
    assert len(state["data"]) == 2
    monkeypatch.chdir(tmp_path)
    os.symlink(shards, tmp_path / "link")
    for spelled in ("shards", "./shards/", "link"):
        check_same_data(state, open_source(spelled), spelled)
    shutil.move(shards, tmp_path / "moved")
    check_same_data(state, open_source(tmp_path / "moved"), str(tmp_path / "moved"))


def test_other_videos_under_the_same_names_are_named(shards: Path, tmp_path: Path) -> None:
    state = state_of(shards)
    other = write_parquet(tmp_path / "other", list(reversed(clip_rows(6))), [3, 3])
    name = sorted(state["data"])[0]
    with pytest.raises(CheckpointError, match=f"{name} is not the file that the checkpoint was trained on"):
        check_same_data(state, open_source(other), str(other))


def test_a_shard_that_cannot_be_read_does_not_end_the_run(shards: Path) -> None:
    state = state_of(shards)
    damaged = sorted(shards.glob("*.parquet"))[1]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    check_same_data(state, open_source(shards), str(shards))


def test_other_files_of_a_folder_are_named(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "videos" / "run").mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / "run" / f"{name}.mp4").write_bytes(clip_rows(1)[0]["video"]["bytes"])
    state = state_of(tmp_path / "videos")
    with (tmp_path / "videos" / "run" / "b.mp4").open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match=r"run/b\.mp4 is not the file"):
        check_same_data(state, open_source(tmp_path / "videos"), str(tmp_path / "videos"))


def test_data_that_cannot_be_compared_must_have_the_same_address() -> None:
    state = {"recipe": {"data": {"path": "blank://8"}}, "data": {}}
    check_same_data(state, open_source("blank://8"), "blank://8")
    with pytest.raises(CheckpointError, match=r"trained on blank://8 and this run reads blank://9"):
        check_same_data(state, open_source("blank://9"), "blank://9")


def loader(shards: Path, workers: int) -> ClipLoader:
    stream = ClipStream(
        open_source(shards), ClipSpec(2, 1), split="samples", batch_size=2, repeat=True, shuffle_window=4
    )
    return ClipLoader(stream, workers)


@pytest.mark.parametrize(("before", "after", "batches"), [(0, 2, 5), (3, 2, 4), (2, 0, 1), (2, 1, 0)])
def test_other_workers_continue_where_the_order_does_not_depend_on_them(
    before: int, after: int, batches: int, shards: Path
) -> None:
    whole = iter(loader(shards, 0))
    expected = [next(whole)["seed"] for _ in range(batches + 6)]
    first = loader(shards, before)
    stream = iter(first)
    assert [next(stream)["seed"] for _ in range(batches)] == expected[:batches]
    state = json.loads(json.dumps(first.state_dict()))
    second = loader(shards, after)
    second.load_state_dict(state)
    stream = iter(second)
    assert [next(stream)["seed"] for _ in range(3)] == expected[batches : batches + 3]
    state = second.state_dict()
    third = loader(shards, before)
    third.load_state_dict(state)
    stream = iter(third)
    assert [next(stream)["seed"] for _ in range(3)] == expected[batches + 3 :]
