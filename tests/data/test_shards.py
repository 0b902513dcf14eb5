import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Video, load_dataset

from preloaded import run_script
from tubelets.cli.main import main
from tubelets.data.build import shards
from tubelets.data.build.plan import parse_size
from tubelets.data.build.shards import ShardPlan, build_shards
from tubelets.data.build.splitting import draw_splits, find_groups
from tubelets.data.build.transcoding import TranscodeOptions
from tubelets.data.modalities.video import open_video
from tubelets.data.sources.annotations import read_records
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import VideoRecord, find_class_names
from tubelets.data.sources.shard_files import ROWS_PER_GROUP, finalize_shards, missing_shards
from videos import make_video

build = functools.partial(build_shards, progress=False)


@functools.cache
def video(kind: int) -> bytes:
    return make_video(6, 16, 24, seed=kind)


@pytest.fixture
def folder(tmp_path):
    """Ten good videos of two classes and one bad file."""
    for number in range(10):
        path = tmp_path / "in" / ("run", "jump")[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video(number % 3))
    (tmp_path / "in/run/broken.mp4").write_bytes(b"no video")
    return tmp_path / "in"


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.iterdir())}


def rows_of(output: Path, split: str = "train") -> list[dict]:
    source = open_source(output, split)
    return [sample for index in range(source.num_shards) for sample in source.iterate_shard(index)]


# --- plan --------------------------------------------------------------------------------------------------------


def records(count: int) -> list[VideoRecord]:
    return [VideoRecord(Path(f"{n}.mp4"), f"class-{n // 10}", None, f"{n:03d}") for n in range(count)]


def test_plan_is_balanced_shuffled_and_independent_of_the_input_order():
    names = find_class_names(records(100))
    plan = ShardPlan.make(records(100), class_names=names, clips_per_shard=15)
    assert [len(shard) for shard in plan.shards] == [14, 14, 14, 15, 14, 14, 15]
    assert sorted(r.clip_id for shard in plan.shards for r in shard) == [f"{n:03d}" for n in range(100)]
    assert min(len({record.label for record in shard}) for shard in plan.shards) > 4
    assert ShardPlan.make(records(100)[::-1], class_names=names, clips_per_shard=15) == plan
    assert ShardPlan.make(records(100), class_names=names, clips_per_shard=15, seed=1).hash != plan.hash
    assert plan.file_name(3) == "train-00003-of-00007.parquet"


def test_plan_by_input_size(folder):
    size = sum(path.stat().st_size for path in folder.rglob("*.mp4"))
    found = read_records(folder)
    names = find_class_names(found)
    assert len(ShardPlan.make(found, class_names=names, max_shard_size=size // 3).shards) == 4
    assert len(ShardPlan.make(found, class_names=names).shards) == 1


def test_plan_refuses_bad_input():
    with pytest.raises(ValueError, match="the list of records is empty"):
        ShardPlan.make([])
    with pytest.raises(ValueError, match=r"labels \['class-0'\] are not in class_names"):
        ShardPlan.make(records(3))
    with pytest.raises(ValueError, match="clips_per_shard=0"):
        ShardPlan.make(records(3), class_names=["class-0"], clips_per_shard=0)
    with pytest.raises(ValueError, match="split='a/b'"):
        ShardPlan.make(records(3), class_names=["class-0"], split="a/b")
    with pytest.raises(ValueError, match="occurs twice"):
        ShardPlan.make(records(3) * 2, class_names=["class-0"])


@pytest.mark.parametrize("size", ["", "MB", "0", "-3MB", "5 parsecs"])
def test_bad_sizes(size):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(size)


# --- shards ------------------------------------------------------------------------------------------------------


def test_shards_hold_the_untouched_files_with_types_and_facts(folder, tmp_path):
    found = read_records(folder)
    report = build(found, tmp_path / "out", class_names=find_class_names(found), clips_per_shard=4)
    assert (report.num_shards, report.num_clips, len(report.written), report.missing) == (3, 10, 3, [])
    dataset = load_dataset("parquet", data_files=str(tmp_path / "out/*.parquet"), split="train", streaming=True)
    assert isinstance(dataset.features["video"], Video)
    assert dataset.features["label"] == ClassLabel(names=["jump", "run"])
    rows = list(dataset.cast_column("video", Video(decode=False)))
    assert len(rows) == 10
    for row in rows:
        data = (folder / row["clip_id"]).read_bytes()
        assert row["video"] == {"bytes": data, "path": Path(row["clip_id"]).name}
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["num_frames"], row["fps"], row["height"], row["width"]) == (6, 25.0, 16, 24)
        assert ["jump", "run"][row["label"]] == row["clip_id"].split("/")[0]


def test_bad_files_are_reported_with_reason_and_listed(folder, tmp_path):
    found = [*read_records(folder), VideoRecord(folder / "run/gone.mp4", "run", None, "run/gone.mp4")]
    report = build(found, tmp_path / "out", class_names=["jump", "run"], clips_per_shard=4)
    bad = {entry.clip_id: entry.reason for entry in report.bad_files}
    assert set(bad) == {"run/broken.mp4", "run/gone.mp4"}
    assert "No such file" in bad["run/gone.mp4"]
    info = json.loads((tmp_path / "out/dataset_info.json").read_text())
    assert info["class_names"] == ["jump", "run"]
    split = info["splits"]["train"]
    assert {entry["clip_id"] for entry in split["bad_files"]} == set(bad)
    assert split["num_clips"] == sum(shard["num_clips"] for shard in split["shards"]) == 10
    assert split["options"]["short_side"] is None
    assert split["versions"]["av"] == av.__version__
    assert str(tmp_path) not in json.dumps(info)


def test_captions_without_labels(tmp_path):
    (tmp_path / "a.mp4").write_bytes(video(0))
    (tmp_path / "list.csv").write_text("path,caption\na.mp4,A moving pattern\n")
    build(read_records(tmp_path / "list.csv"), tmp_path / "out", split="val")
    (sample,) = rows_of(tmp_path / "out", "val")
    assert (sample.caption, sample.label, sample.clip_id) == ("A moving pattern", None, "a.mp4")


def test_row_groups_are_small(tmp_path):
    (tmp_path / "a.mp4").write_bytes(video(0))
    many = [VideoRecord(tmp_path / "a.mp4", None, None, str(number)) for number in range(ROWS_PER_GROUP * 2 + 1)]
    build(many, tmp_path / "out")
    footer = pq.read_metadata(tmp_path / "out/train-00000-of-00001.parquet")
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [ROWS_PER_GROUP, ROWS_PER_GROUP, 1]


def test_workers_and_jobs_give_the_same_bytes(folder, tmp_path):
    found = read_records(folder)
    options = {"class_names": find_class_names(found), "clips_per_shard": 3}
    build(found, tmp_path / "one", **options)
    build(found, tmp_path / "pool", num_workers=2, **options)
    jobs = [build(found[::-1], tmp_path / "jobs", num_jobs=3, job_index=job, **options) for job in (2, 0, 1)]
    assert [len(report.written) for report in jobs] == [1, 2, 1]
    assert [len(report.missing) for report in jobs] == [3, 1, 0]
    assert contents(tmp_path / "one") == contents(tmp_path / "pool") == contents(tmp_path / "jobs")
    assert len(contents(tmp_path / "one")) == 5


def test_shards_can_be_reencoded(folder, tmp_path):
    found = read_records(folder)
    build(found, tmp_path / "out", class_names=["jump", "run"], transcode=TranscodeOptions(short_side=8, fps=12.5))
    samples = rows_of(tmp_path / "out")
    assert sorted(sample.medium.path for sample in samples) == [f"{number}.mp4" for number in range(10)]
    for sample in samples:
        assert sample.medium.sha256 == hashlib.sha256(sample.medium.data).hexdigest()
        with open_video(sample.medium.data) as reader:
            assert (reader.num_frames, reader.height, reader.width) == (3, 8, 12)


def test_only_missing_shards_are_built_again(folder, tmp_path):
    found = read_records(folder)
    options = {"class_names": find_class_names(found), "clips_per_shard": 3}
    build(found, tmp_path / "out", **options)
    before = contents(tmp_path / "out")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out/train-00001-of-00004.parquet").unlink()
    report = build(found, tmp_path / "out", **options)
    assert report.written == ["train-00001-of-00004.parquet"]
    assert len(report.skipped) == 3
    assert (report.num_clips, len(report.bad_files)) == (10, 1)
    assert contents(tmp_path / "out") == before
    for name in report.skipped:
        assert (tmp_path / "out" / name).stat().st_mtime_ns == times[name]


def test_killed_run_leaves_no_half_shard_and_is_continued(folder, tmp_path, monkeypatch):
    found = read_records(folder)
    options = {"class_names": find_class_names(found), "clips_per_shard": 3}
    build(found, tmp_path / "whole", **options)
    original, calls = shards._prepare_row, []

    def interrupted(record, transcode, media):
        calls.append(record)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(record, transcode, media)

    monkeypatch.setattr(shards, "_prepare_row", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(found, tmp_path / "out", **options)
    monkeypatch.undo()
    assert list(contents(tmp_path / "out")) == ["train-00000-of-00004.parquet"]
    # What SIGKILL leaves behind, in addition: a temporary file that is not a shard.
    (tmp_path / "out/.train-00001-of-00004.parquet.123.tmp").write_bytes(b"half")
    with pytest.raises(ValueError, match="lacks 3 shards"):
        open_source(tmp_path / "out")
    assert len(build(found, tmp_path / "out", **options).written) == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_other_plan_in_the_same_folder_is_refused(folder, tmp_path):
    found = read_records(folder)
    options = {"class_names": find_class_names(found), "clips_per_shard": 4}
    build(found, tmp_path / "out", **options)
    with pytest.raises(ValueError, match=r"another plan: short_side=None \(now 8\), .*; choose an empty folder"):
        build(found, tmp_path / "out", transcode=TranscodeOptions(short_side=8), **options)
    with pytest.raises(ValueError, match=r"num_shards=3 \(now 11\)"):
        build(found, tmp_path / "out", **{**options, "clips_per_shard": 1})
    renamed = [dataclasses.replace(found[0], clip_id="other"), *found[1:]]
    with pytest.raises(ValueError, match="other videos, labels or captions"):
        build(renamed, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="other class names"):
        build(found[:2], tmp_path / "out", split="val", class_names=["run", "jump"])
    (tmp_path / "out/train-00000-of-00003.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="not a complete Parquet file"):
        build(found, tmp_path / "out", **options)


def test_splits_share_a_folder(folder, tmp_path):
    found = read_records(folder)
    build(found[:6], tmp_path / "out", class_names=["jump", "run"], clips_per_shard=3)
    build(found[6:], tmp_path / "out", class_names=["jump", "run"], split="val")
    info = json.loads((tmp_path / "out/dataset_info.json").read_text())
    assert {name: split["num_clips"] for name, split in info["splits"].items()} == {"train": 6, "val": 4}
    assert len(rows_of(tmp_path / "out", "val")) == 4
    # Finalizing again is harmless, and a split that is not complete is left out.
    before = (tmp_path / "out/dataset_info.json").read_bytes()
    assert finalize_shards(tmp_path / "out") == []
    assert (tmp_path / "out/dataset_info.json").read_bytes() == before
    (tmp_path / "out/train-00000-of-00002.parquet").unlink()
    assert finalize_shards(tmp_path / "out") == ["train-00000-of-00002.parquet"]
    assert list(json.loads((tmp_path / "out/dataset_info.json").read_text())["splits"]) == ["val"]


def test_shards_of_two_sets_are_noticed():
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        missing_shards(["train-00000-of-00002.parquet", "train-00000-of-00003.parquet"])


@pytest.mark.parametrize("jobs", [{"num_workers": 0}, {"num_jobs": 2, "job_index": 2}])
def test_numbers_of_jobs_are_checked(folder, tmp_path, jobs):
    with pytest.raises(ValueError, match="must be at least 1"):
        build(read_records(folder), tmp_path / "out", class_names=["jump", "run"], **jobs)


def test_shard_of_bad_files_only_can_be_read(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"x")
    (tmp_path / "good.mp4").write_bytes(video(0))
    report = build(read_records(tmp_path), tmp_path / "out", clips_per_shard=1)
    assert (report.num_shards, report.num_clips) == (2, 1)
    assert [sample.clip_id for sample in rows_of(tmp_path / "out")] == ["good.mp4"]


# --- the verb ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shards_verb(capsys):
    """Calls `tubelets shards`; gives exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["shards", *map(str, arguments), "--no-progress"])
        return (code, *capsys.readouterr())

    return run


def test_the_verb_runs_as_a_program(folder, tmp_path):
    words = [folder, "--output_dir", tmp_path / "out", "--short-side", "8", "--clips_per_shard", "6"]
    result = run_script("tubelets", "shards", *words, "--num-workers", "2", "--split", "train")
    assert result.returncode == 0, result.stderr
    assert "10 clips in 2 shards" in result.stdout
    assert "run/broken.mp4" in result.stdout
    assert open_source(tmp_path / "out").num_samples == 10


def test_the_verb_selects_rows_by_split_and_finalizes(shards_verb, folder, tmp_path):
    (tmp_path / "all.csv").write_text('"path","label","split"\nrun/0.mp4,run,val\njump/1.mp4,jump,train\n')
    (tmp_path / "classes.txt").write_text("run\njump\n")
    options = ("--root", folder, "--class-names", tmp_path / "classes.txt", "--split", "val")
    code, _, errors = shards_verb(tmp_path / "all.csv", "--output_dir", tmp_path / "out", *options)
    assert code == 0, errors
    source = open_source(tmp_path / "out", "val")
    assert [(sample.clip_id, sample.label) for sample in source.iterate_shard(0)] == [("run/0.mp4", 0)]
    (tmp_path / "out/dataset_info.json").unlink()
    assert shards_verb("--finalize", "--output_dir", tmp_path / "out")[0] == 0
    assert json.loads((tmp_path / "out/dataset_info.json").read_text())["class_names"] == ["run", "jump"]


def test_the_verb_builds_all_splits_of_a_csv_in_one_run(shards_verb, folder, tmp_path):
    rows = ["run/0.mp4,run,train", "jump/1.mp4,jump,train", "run/2.mp4,run,val", "run/4.mp4,run,test"]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,split", *rows]))
    code, printed, errors = shards_verb(tmp_path / "all.csv", "--output_dir", tmp_path / "out", "--root", folder)
    assert code == 0, errors
    assert "train: 2 clips in 2 shards" in printed
    # A class that a split does not have keeps its place.
    for split, ids in (("train", ["jump/1.mp4", "run/0.mp4"]), ("validation", ["run/2.mp4"]), ("test", ["run/4.mp4"])):
        assert sorted(sample.clip_id for sample in rows_of(tmp_path / "out", split)) == ids
        assert open_source(tmp_path / "out", split).class_names == ["jump", "run"]


def test_the_verb_draws_splits_by_itself(shards_verb, folder, tmp_path):
    for _ in range(2):  # the second run finds everything complete
        code, printed, errors = shards_verb(
            folder, "--output_dir", tmp_path / "out", "--splits", "train=0.6", "test=0.4", "--readers", "3"
        )
        assert code == 0, errors
    assert "3 complete before" in printed
    train, test = (open_source(tmp_path / "out", split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ["jump", "run"]
    assert train.num_shards == test.num_shards == 3
    assert (train.num_samples or 0) + (test.num_samples or 0) == 10
    code, _, errors = shards_verb(folder, "--output_dir", tmp_path / "bad", "--splits", "train=0.6", "test=0.5")
    assert code == 2
    assert "must be positive and sum to 1" in errors


@pytest.mark.parametrize("per_group", [1, 3])
def test_drawn_splits_are_stratified_and_keep_groups_together(per_group):
    found = [
        VideoRecord(Path(f"{label}{n}.mp4"), label, None, f"{label}/v{n // per_group}_{n}")
        for label, size in (("a", 60), ("b", 30), ("rare", 1))
        for n in range(size)
    ]
    groups = find_groups(found, r"^.*/v\d+")
    parts = draw_splits(found, seed=3, groups=groups)
    assert sorted(r.clip_id for part in parts.values() for r in part) == sorted(r.clip_id for r in found)
    assert {split: [r.label for r in part].count("a") for split, part in parts.items()} == {
        "train": 48, "validation": 6, "test": 6
    }  # fmt: skip
    assert [r.label for r in parts["train"]].count("rare") == 1
    homes = {}
    for split, part in parts.items():
        for record in part:
            assert homes.setdefault(groups[record.clip_id], split) == split
    assert draw_splits(found[::-1], seed=3, groups=groups).keys() == parts.keys()
    again = draw_splits(found[::-1], seed=3, groups=groups)
    assert all(sorted(r.clip_id for r in again[s]) == sorted(r.clip_id for r in parts[s]) for s in parts)
    assert draw_splits(found, seed=4, groups=groups) != parts


def test_groups_from_a_column_or_an_expression(tmp_path):
    (tmp_path / "x.csv").write_text("path,label,film\na.mp4,x,one\nb.mp4,x,two\n")
    found = read_records(tmp_path / "x.csv")
    assert find_groups(found, "film", tmp_path / "x.csv") == {"a.mp4": "one", "b.mp4": "two"}
    with pytest.raises(ValueError, match=r"does not match the clip id 'a\.mp4'"):
        find_groups(found, "films", tmp_path / "x.csv")
    with pytest.raises(ValueError, match="neither a column nor a regular expression"):
        find_groups(found, "(", tmp_path / "x.csv")
    with pytest.raises(ValueError, match="no group"):
        draw_splits(found, groups={"a.mp4": "one"})


def test_there_is_a_shard_for_every_reader(folder):
    found = read_records(folder)
    names = find_class_names(found)
    assert len(ShardPlan.make(found, class_names=names, num_readers=4).shards) == 4
    assert len(ShardPlan.make(found, class_names=names, num_readers=40).shards) == 11
    with pytest.raises(ValueError, match="num_readers=0"):
        ShardPlan.make(found, class_names=names, num_readers=0)


def test_the_verb_fails_when_everything_fails(shards_verb, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.mp4").write_bytes(b"x")
    code, _, errors = shards_verb(tmp_path / "in", "--output_dir", tmp_path / "out")
    assert code == 1
    assert "none of 1 files" in errors
    code, _, errors = shards_verb(tmp_path / "nothing", "--output_dir", tmp_path / "out")
    assert code == 2
    assert "does not exist" in errors
