"""Building shards: what is in them, resuming, sharing the work, bad files, re-encoding."""

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pyarrow.parquet as parquet
import pytest
from datasets import ClassLabel, Video, load_dataset

from tubelets.data.annotations import VideoRecord, find_class_names, read_records
from tubelets.data.decoding import open_video
from tubelets.data.shards import ShardReport, build_shards
from tubelets.data.transcoding import TranscodeOptions
from videos import make_video

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for index in range(9):
        path = folder / ("jump", "run", "walk")[index % 3] / f"{index}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_video(12, 48, 64, seed=index))
    return folder


def build(videos: Path, output: Path, **options: Any) -> ShardReport:
    records = read_records(videos)
    given = {"class_names": find_class_names(records), "clips_per_shard": 2, "progress": False}
    return build_shards(records, output, **{**given, **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]


def test_datasets_reads_every_type_back(videos: Path, tmp_path: Path) -> None:
    report = build(videos, tmp_path / "shards")
    assert (report.num_shards, report.num_clips, report.bad_files, report.missing) == (5, 9, [], [])
    files = sorted(map(str, (tmp_path / "shards").glob("*.parquet")))
    assert Path(files[0]).name == "train-00000-of-00005.parquet"
    stream = load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)
    assert isinstance(stream.features["video"], Video)
    assert stream.features["label"] == ClassLabel(names=["jump", "run", "walk"])
    found = list(stream.cast_column("video", Video(decode=False)))
    assert len({row["clip_id"] for row in found}) == 9
    for row in found:
        data = row["video"]["bytes"]
        name = stream.features["label"].int2str(row["label"])
        assert data in {path.read_bytes() for path in (videos / name).iterdir()}
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["num_frames"], row["height"], row["width"]) == (12, 48, 64)
    assert [row["label"] for row in found] != sorted(row["label"] for row in found), "classes are mixed"
    info = json.loads((tmp_path / "shards" / "dataset_info.json").read_text())
    assert "jump" in json.dumps(info)


def test_only_missing_shards_are_written_again(videos: Path, tmp_path: Path) -> None:
    build(videos, tmp_path / "shards")
    before = contents(tmp_path / "shards")
    lost = "train-00003-of-00005.parquet"
    (tmp_path / "shards" / lost).unlink()
    (tmp_path / "shards" / "dataset_info.json").unlink()
    report = build(videos, tmp_path / "shards")
    assert report.written == [lost]
    assert contents(tmp_path / "shards") == before
    assert (tmp_path / "shards" / "dataset_info.json").is_file()


def test_another_plan_in_the_same_folder_is_refused(videos: Path, tmp_path: Path) -> None:
    build(videos, tmp_path / "shards")
    before = contents(tmp_path / "shards")
    with pytest.raises(ValueError, match=r"another plan.*short_side"):
        build(videos, tmp_path / "shards", transcode=TranscodeOptions(short_side=32))
    assert contents(tmp_path / "shards") == before


def test_workers_and_jobs_write_the_same_shards(videos: Path, tmp_path: Path) -> None:
    build(videos, tmp_path / "alone")
    build(videos, tmp_path / "workers", num_workers=2)
    first = build(videos, tmp_path / "jobs", num_jobs=2, job_index=0)
    assert len(first.missing) == 2
    assert not (tmp_path / "jobs" / "dataset_info.json").exists()
    assert not build(videos, tmp_path / "jobs", num_jobs=2, job_index=1).missing
    assert contents(tmp_path / "alone") == contents(tmp_path / "workers") == contents(tmp_path / "jobs")
    assert (tmp_path / "jobs" / "dataset_info.json").is_file()


def test_one_bad_file_is_left_out_and_reported(videos: Path, tmp_path: Path) -> None:
    (videos / "run" / "broken.mp4").write_text("no video")
    report = build(videos, tmp_path / "shards")
    assert report.num_clips == 9
    assert [bad.file for bad in report.bad_files] == ["broken.mp4"]
    assert report.bad_files[0].reason
    assert "broken.mp4" in (tmp_path / "shards" / "dataset_info.json").read_text()


def test_no_half_written_shard_keeps_its_name(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tubelets.data.shards._add_annotations", fail)
    with pytest.raises(KeyboardInterrupt):
        build(videos, tmp_path / "shards")
    assert not list((tmp_path / "shards").glob("train-*.parquet"))
    monkeypatch.undo()
    assert build(videos, tmp_path / "shards").num_clips == 9


def test_re_encoding_honours_its_options(videos: Path, tmp_path: Path) -> None:
    options = TranscodeOptions(short_side=32, fps=12.5, keyframe_interval=3)
    build(videos, tmp_path / "shards", transcode=options)
    for row in rows(tmp_path / "shards"):
        data = row["video"]["bytes"]
        with open_video(data, backend="pyav") as video:
            assert (video.height, video.fps, video.num_frames) == (32, 12.5, row["num_frames"])
            assert row["num_frames"] in (6, 7)
        with av.open(io.BytesIO(data)) as container:
            keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
        assert [index for index, key in enumerate(keys) if key][:2] == [0, 3]


def test_captions_and_lists(videos: Path, tmp_path: Path) -> None:
    lines = [f"{path.relative_to(videos)},a person moves {path.stem}" for path in sorted(videos.rglob("*.mp4"))]
    (videos / "captions.csv").write_text("path,caption\n" + "\n".join(lines), encoding="utf-8")
    records = read_records(videos / "captions.csv")
    build_shards(records, tmp_path / "shards", progress=False)
    found = rows(tmp_path / "shards")
    assert {row["caption"] for row in found} == {f"a person moves {index}" for index in range(9)}
    assert "label" not in found[0]


def test_the_script_says_what_it_did(videos: Path, tmp_path: Path) -> None:
    (videos / "walk" / "broken.mp4").write_text("no video")
    command = [sys.executable, str(ROOT / "scripts/make_shards.py"), str(videos), str(tmp_path / "shards")]
    result = subprocess.run([*command, "--short-side", "32"], capture_output=True, text=True, check=True)
    assert "9 clips" in result.stdout
    assert "left out" in result.stdout
    assert "broken.mp4" in result.stdout


def test_a_folder_of_bad_files_fails(tmp_path: Path) -> None:
    (tmp_path / "in" / "class").mkdir(parents=True)
    (tmp_path / "in" / "class" / "a.mp4").write_text("no video")
    command = [sys.executable, str(ROOT / "scripts/make_shards.py"), str(tmp_path / "in"), str(tmp_path / "shards")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "a.mp4" in result.stdout


def test_missing_class_names_are_named(videos: Path, tmp_path: Path) -> None:
    records = [VideoRecord(videos / "run" / "1.mp4", "run", None, "a")]
    with pytest.raises(ValueError, match="run"):
        build_shards(records, tmp_path / "shards", class_names=["walk"], progress=False)
