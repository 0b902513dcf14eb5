"""Shards of any videos with moving objects and captions: what is stored is what is seen, and runs can be resumed."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from tubelets.benchmarks.motion_captions import (
    MotionCaptioner,
    MotionCaptionSettings,
    build_motion_captions,
    visible_boxes,
)
from tubelets.cli.main import main
from tubelets.data.modalities.video import open_video
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.motion import MotionRecord, MotionSettings, object_masks, object_patches, sample_motion
from tubelets.motion.captions import phases
from tubelets.motion.parsing import parse
from videos import make_video

SMALL = MotionCaptionSettings(num_frames=8, stride=1, size=32, clips_per_video=2, objects="shapes", variations=2)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.mp4").write_bytes(make_video(12, 48, 64, seed=number))
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_rows_say_what_they_show(videos: Path, tmp_path: Path) -> None:
    report = build_motion_captions(videos, tmp_path / "shards", SMALL, videos_per_shard=2)
    rows = rows_of(tmp_path / "shards")
    assert (report.num_shards, report.num_clips, len(rows)) == (3, 10, 10)
    assert [row["clip_id"] for row in rows[:3]] == ["0.mp4-0", "0.mp4-1", "1.mp4-0"]
    for row in rows:
        record = MotionRecord.from_dict(json.loads(row["motion"]))
        ((noun, found),) = parse(row["captions"][0])
        assert [noun] == row["objects"]
        assert found == phases(record)
        assert row["caption"] in row["captions"]
        assert len(row["negatives"]) == 4
        assert not set(row["negatives"]) & set(row["captions"])
        assert len(row["boxes"]) == row["num_frames"] == open_video(row["video"]["bytes"]).num_frames == 8
        for (box,) in row["boxes"]:
            assert 0 <= box[0] <= box[2] <= 32
            assert 0 <= box[1] <= box[3] <= 32
    info = json.loads((tmp_path / "shards" / "dataset_info.json").read_text())
    assert info["splits"]["train"]["num_clips"] == 10


def test_shards_are_ordinary_ones(videos: Path, tmp_path: Path) -> None:
    build_motion_captions(videos, tmp_path / "shards", SMALL)
    source = open_source(tmp_path / "shards")
    assert {"caption", "captions", "boxes"} <= set(source.annotations)
    item = next(iter(ClipStream(source, ClipSpec(4, sampling="interval"), shuffle_window=0)))
    assert item["pixel_values"].shape == (4, 3, 32, 32)
    assert item["caption"] == rows_of(tmp_path / "shards")[0]["caption"]


def test_a_killed_run_goes_on_and_workers_do_not_matter(videos: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    build_motion_captions(videos, whole, SMALL, videos_per_shard=2)
    build_motion_captions(videos, parts, SMALL, videos_per_shard=2, num_workers=2)
    assert rows_of(parts) == rows_of(whole)
    for name in ("train-00001-of-00003.parquet", "train-00002-of-00003.parquet"):
        (parts / name).unlink()
    report = build_motion_captions(videos, parts, SMALL, videos_per_shard=2)
    assert (len(report.skipped), len(report.written)) == (1, 2)
    assert rows_of(parts) == rows_of(whole)
    assert build_motion_captions(videos, parts, SMALL, videos_per_shard=2).written == []
    other = MotionCaptionSettings(num_frames=8, stride=1, size=32, clips_per_video=2, objects="shapes", variations=3)
    with pytest.raises(ValueError, match=r"other settings or videos: variations=2 \(now 3\)"):
        build_motion_captions(videos, parts, other, videos_per_shard=2)


def test_unreadable_videos_are_left_out(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (videos / "2.mp4").write_bytes(b"nothing")
    words = ["caption-motion", str(videos), "--output-dir", str(tmp_path / "shards"), "--size", "32", "--stride", "1"]
    words += ["--num-frames", "4", "--objects", "shapes", "--videos-per-shard", "2"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "train: 4 clips in 3 shards" in printed
    assert "bad file 2.mp4: " in printed
    assert [row["clip_id"] for row in rows_of(tmp_path / "shards")] == ["0.mp4-0", "1.mp4-0", "3.mp4-0", "4.mp4-0"]


def test_boxes_are_those_of_the_visible_pixels() -> None:
    settings = MotionSettings.locomotion(num_objects=2, rotation_probability=1.0)
    motion = sample_motion(settings, 1, 6, (48, 64), torch.Generator().manual_seed(2))
    white = torch.full((4, 9, 5), 255, dtype=torch.uint8)
    masks = object_masks(motion, object_patches([[white, white]], motion))[0]
    boxes = visible_boxes(motion, masks)
    for frame in range(6):
        for place in range(2):
            rows, columns = (masks[place, frame] >= 128).nonzero().unbind(dim=1)
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert boxes[frame][place] == [int(side) for side in expected]


def test_motions_go_as_far_over_any_number_of_frames() -> None:
    far = []
    for frames in (8, 16, 31):
        settings = MotionCaptionSettings(num_frames=frames, motion={"rest_probability": 0.0}).motions
        motion = sample_motion(settings, 400, frames, (224, 224), torch.Generator().manual_seed(0))
        boxes = motion.boxes[:, 0].float()
        far.append((boxes[:, -1, :2] - boxes[:, 0, :2]).abs().mean().item())
    assert max(far) < 1.25 * min(far)


def test_two_objects_and_bad_settings() -> None:
    captioner = MotionCaptioner(MotionCaptionSettings(num_frames=4, size=32, objects="shapes", num_objects=2))
    clip = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    row = captioner.row({"pixel_values": clip, "clip_id": "a", "clip_index": 3, "seed": 5})
    assert row["clip_id"] == "a-3"
    assert [noun for noun, _ in parse(row["captions"][0])] == row["objects"]
    assert [len(frame) for frame in row["boxes"]] == [2] * 4
    with pytest.raises(ValueError, match="num_frames must be at least 2, got 1"):
        MotionCaptionSettings(num_frames=1)
    with pytest.raises(ValueError, match="size must be even and num_objects 1 or 2, got 33 and 1"):
        MotionCaptionSettings(size=33)
