"""Samples with several media, from files to batches."""

import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from clip_shards import write_tar
from media_shards import (
    FPS,
    RATE,
    SPECS,
    clock_skeleton,
    clock_sound,
    clock_video,
    pattern_video,
    write_samples,
)

from tubelets.data.build.shards import build_shards
from tubelets.data.modalities.modality import BadMediumError
from tubelets.data.modalities.specs import TextSpec, VideoSpec
from tubelets.data.modalities.video import BadVideoError
from tubelets.data.sources.annotations import read_records
from tubelets.data.sources.few_shot import FewShotSource
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import VideoRecord, find_class_names
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.augmentations import ColorJitter, RandAugment
from tubelets.data.transforms.spatial import Compose, HorizontalFlip, MultiScaleCrop

CLIPS = ClipSpec(4, 3)
CROP = MultiScaleCrop(16)


def build(folder: Path, count: int = 5, video: bytes | None = None) -> Path:
    records = read_records(write_samples(folder / "files", count, video))
    names = find_class_names(records)
    report = build_shards(records, folder / "shards", class_names=names, clips_per_shard=2, progress=False)
    assert not report.bad_files
    return folder / "shards"


@pytest.fixture(scope="module")
def clocks(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("clocks"))


@pytest.fixture(scope="module")
def patterns(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("patterns"), 3, pattern_video())


def frame_numbers(clip: torch.Tensor) -> list[int]:
    return ((clip[:, 0].float().mean(dim=(1, 2)) - 20) / 5).round().int().tolist()


def check_same_time(item: dict) -> None:
    frames = frame_numbers(item["pixel_values"])
    assert frames == [frames[0] + 3 * step for step in range(4)]
    assert frame_numbers(item["flow_values"]) == frame_numbers(item["depth_values"]) == frames
    assert item["skeletons"][0, :, 0, 0].tolist() == frames
    assert item["skeletons"].shape == (2, 4, 3, 3)
    assert not item["skeletons"][1].any()
    middle = min(max((frames[0] + frames[-1] + 1) / 2 / FPS, 0.125), 2 - 0.125)
    assert item["waveform"].mean().item() * 4 == pytest.approx(middle, abs=0.01)


# --- from shards -------------------------------------------------------------------------------------------------


def test_all_media_show_the_same_stretch_of_time(clocks: Path) -> None:
    source = open_source(clocks)
    assert dict(source.media) == {
        "video": "video", "audio": "audio", "flow": "video", "depth": "video", "skeleton": "skeleton",
    }  # fmt: skip
    items = list(ClipStream(source, CLIPS, CROP, specs=SPECS, seed=3))
    assert sorted(item["clip_id"] for item in items) == [f"clip-{number}" for number in range(5)]
    for item in items:
        check_same_time(item)
        assert item["caption"] == f"sample {item['clip_id'][5:]}"
    assert len({frame_numbers(item["pixel_values"])[0] for item in items}) > 1


def test_only_the_columns_that_are_asked_for_are_read(clocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    original = pq.ParquetFile.iter_batches

    def recorded(*arguments: Any, columns: list[str], **options: Any) -> Any:
        read.append(columns)
        return original(*arguments, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", recorded)
    stream = ClipStream(open_source(clocks), CLIPS, specs={"skeletons": SPECS["skeletons"]}, shuffle_window=0)
    assert stream.media == ("skeleton",)
    sample = next(stream.source.iterate_shard(0))
    assert list(sample.media) == ["skeleton"]
    assert read == [["skeleton", "skeleton_sha256", "label", "caption", "clip_id"]]
    with pytest.raises(BadMediumError, match="no 'video'"):
        stream.source.read_bytes(sample, "video")
    item = next(iter(stream))
    # Without frames of a video the clip is drawn from the skeletons'.
    start = item["skeletons"][0, 0, 0, 0].item()
    assert item["skeletons"][0, :, 2, 1].tolist() == [start + 3 * step for step in range(4)]


def test_another_medium_changes_nothing_about_the_frames(clocks: Path) -> None:
    augment = Compose((CROP, HorizontalFlip(0.5), ColorJitter()))
    alone = ClipStream(open_source(clocks), CLIPS, augment, seed=7)
    beside = ClipStream(open_source(clocks), CLIPS, augment, specs=SPECS, seed=7)
    for one, other in zip(alone, beside, strict=True):
        assert torch.equal(one["pixel_values"], other["pixel_values"])
        assert (one["clip_id"], one["seed"], one["stream_state"]) == (
            other["clip_id"],
            other["seed"],
            other["stream_state"],
        )


def test_several_clips_of_a_sample(clocks: Path) -> None:
    clips = ClipSpec(4, 3, clips_per_video=2, sampling="dense_test")
    items = list(ClipStream(open_source(clocks), clips, CROP, specs=SPECS, batch_size=2, shuffle_window=0))
    assert len(items) == 10
    for item in items:
        check_same_time(item)
    assert [frame_numbers(item["pixel_values"])[0] for item in items[:2]] != [0, 0]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_all_media_are_resumed_exactly(clocks: Path, workers: int) -> None:
    def loader() -> ClipLoader:
        options = {"split": "samples", "batch_size": 2, "shuffle_window": 3, "repeat": True, "seed": 1}
        return ClipLoader(ClipStream(open_source(clocks), CLIPS, CROP, specs=SPECS, **options), workers)

    whole = list(islice(loader(), 6))
    first = loader()
    list(islice(first, 2))
    second = loader()
    second.load_state_dict(first.state_dict())
    for batch, expected in zip(islice(second, 4), whole[2:], strict=True):
        assert batch["clip_id"] == expected["clip_id"]
        assert batch["skeletons"].shape == (2, 2, 4, 3, 3)
        for name in SPECS:
            assert all(map(torch.equal, batch[name], expected[name])), name


# --- transforms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_one_geometric_draw_for_frames_flow_and_depth(patterns: Path, flip: float) -> None:
    augment = Compose((CROP, Compose((HorizontalFlip(flip),))))
    for item in ClipStream(open_source(patterns), CLIPS, augment, specs=SPECS):
        frames, flow, depth = item["pixel_values"], item["flow_values"], item["depth_values"]
        assert frames.shape == (4, 3, 16, 16)
        assert torch.equal(depth, frames[:, :1])
        assert torch.equal(flow[:, 1], frames[:, 1])
        # The horizontal component of a mirrored flow points to the other side.
        assert torch.equal(flow[:, 0], 255 - frames[:, 0] if flip else frames[:, 0])


def test_colours_change_in_frames_alone(patterns: Path) -> None:
    plain = list(ClipStream(open_source(patterns), CLIPS, CROP, specs=SPECS))
    jittered = list(ClipStream(open_source(patterns), CLIPS, Compose((CROP, ColorJitter())), specs=SPECS))
    for before, after in zip(plain, jittered, strict=True):
        assert not torch.equal(before["pixel_values"], after["pixel_values"])
        assert torch.equal(before["flow_values"], after["flow_values"])
        assert torch.equal(before["depth_values"], after["depth_values"])


def test_transforms_that_cannot_be_shared_are_refused(patterns: Path) -> None:
    with pytest.raises(TypeError, match=r"RandAugment.* cannot be shared by \['pixel_values', 'flow_values'"):
        next(iter(ClipStream(open_source(patterns), CLIPS, Compose((RandAugment(), CROP)), specs=SPECS)))


def test_media_of_another_size_share_the_draw_and_get_their_own_size(tmp_path: Path) -> None:
    write_samples(tmp_path, 1, pattern_video(64, 96))
    (tmp_path / "0_depth.mp4").write_bytes(pattern_video(32, 48))
    records = read_records(tmp_path / "samples.csv")
    specs = {"pixel_values": SPECS["pixel_values"], "depth": VideoSpec(4, (8, 8), media="depth")}
    augment = Compose((MultiScaleCrop(16, (0.5,)), HorizontalFlip(1.0)))
    (item,) = ClipStream(FolderSource(records), CLIPS, augment, specs=specs)
    assert item["depth"].shape == (4, 3, 8, 8)
    # Squares of 8 pixels in the small video are squares of 8 in the large one: patterns differ, places do not.
    assert item["pixel_values"].shape == (4, 3, 16, 16)


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("medium", ["video", "audio", "flow", "depth", "skeleton"])
def test_a_wrong_checksum_names_its_medium(clocks: Path, tmp_path: Path, medium: str) -> None:
    table = pq.read_table(clocks / "train-00001-of-00003.parquet")
    rows = table.to_pylist()
    rows[1]["sha256" if medium == "video" else f"{medium}_sha256"] = "0" * 64
    pq.write_table(table.from_pylist(rows, schema=table.schema), tmp_path / "damaged.parquet")
    options = {"specs": SPECS, "shuffle_window": 0}
    items = ClipStream(open_source(tmp_path), CLIPS, CROP, **options)
    with pytest.warns(UserWarning, match=rf"{medium}: sha256 of the bytes"):
        assert len(list(items)) == 1
    with pytest.raises(BadVideoError, match=rf"shard damaged.parquet, clip .*: {medium}: sha256"):
        list(ClipStream(open_source(tmp_path), CLIPS, CROP, on_bad_sample="raise", **options))
    # A medium that is not read is not checked.
    others = {name: spec for name, spec in SPECS.items() if name == ("skeletons" if medium == "video" else "none")}
    others = others or {"pixel_values": SPECS["pixel_values"]}
    assert len(list(ClipStream(open_source(tmp_path), CLIPS, CROP, specs=others))) == 2


def test_a_damaged_or_missing_medium_skips_the_sample(tmp_path: Path) -> None:
    listed = write_samples(tmp_path / "files", 4)
    (tmp_path / "files/1_skeleton.npy").write_bytes(b"no array")
    (tmp_path / "files/2_flow.mp4").unlink()
    records = read_records(listed)
    stream = ClipStream(FolderSource(records), CLIPS, CROP, specs=SPECS, shuffle_window=0)
    loader = ClipLoader(stream, 0)
    assert [clip for batch in loader for clip in batch["clip_id"]] == ["clip-0", "clip-3"]
    reasons = {bad["clip_id"]: bad["reason"] for bad in loader.bad_samples}
    assert "skeleton" in reasons["clip-1"]
    assert "2_flow.mp4" in reasons["clip-2"]
    report = build_shards(records, tmp_path / "shards", class_names=["a", "b"], progress=False)
    bad = {(bad.clip_id, bad.file) for bad in report.bad_files}
    assert bad == {("clip-1", "1_skeleton.npy"), ("clip-2", "2_flow.mp4")}
    assert report.num_clips == 2


def test_what_the_data_lacks_is_refused_at_once(clocks: Path, tmp_path: Path) -> None:
    specs = {"pixel_values": SPECS["pixel_values"], "input_ids": TextSpec(8, 100)}
    item = next(iter(ClipStream(open_source(clocks), CLIPS, specs=specs)))
    assert item["caption"].startswith("sample ")
    records = [VideoRecord(tmp_path / "a.mp4", "a", None, "a")]
    with pytest.raises(ValueError, match=r"input_ids is read from 'caption', and the data has \['label'\]"):
        ClipStream(FolderSource(records), CLIPS, specs=specs)
    with pytest.raises(ValueError, match=r"skeletons is read from 'skeleton', and the data has \['video'\]"):
        ClipStream(FolderSource(records), CLIPS, specs={"skeletons": SPECS["skeletons"]})
    with pytest.raises(ValueError, match="num_frames=8, and pixel_values expects 4"):
        ClipStream(open_source(clocks), ClipSpec(8, 1), specs=specs)
    with pytest.raises(ValueError, match="clips_per_video=2 must be 1 for audio"):
        ClipStream(open_source(clocks), ClipSpec(clips_per_video=2), specs={"waveform": SPECS["waveform"]})


# --- other kinds of sources --------------------------------------------------------------------------------------


def test_tars_with_several_suffixes_for_a_key(tmp_path: Path) -> None:
    members = []
    for number in range(3):
        contents = {"mp4": clock_video(), "wav": clock_sound(), "flow.mp4": clock_video(), "depth.mp4": clock_video()}
        contents |= {"npy": clock_skeleton(), "txt": b"a clock", "cls": str(number).encode()}
        members += [(f"{number}.{suffix}", content) for suffix, content in contents.items()]
    write_tar(tmp_path / "clips.tar", members)
    source = open_source(tmp_path)
    assert list(source.media) == ["video", "audio", "flow", "depth", "skeleton"]
    sample = next(source.with_media(["skeleton"]).iterate_shard(0))
    # Not an array that `datasets` loaded: the bytes of the member, which a checksum belongs to.
    assert sample.medium.data == clock_skeleton()
    items = list(ClipStream(source, CLIPS, CROP, specs=SPECS))
    assert sorted((item["label"], item["caption"]) for item in items) == [(number, "a clock") for number in range(3)]
    for item in items:
        check_same_time(item)


def test_columns_can_be_named(tmp_path: Path, clocks: Path) -> None:
    table = pq.read_table(clocks / "train-00001-of-00003.parquet")
    renamed = [{"video": "left", "flow": "right"}.get(name, name) for name in table.column_names]
    table = table.rename_columns(renamed).replace_schema_metadata(None)
    pq.write_table(table, tmp_path / "data.parquet")
    source = open_source(tmp_path, columns={"video": "left", "flow": "right"})
    assert {*source.media} == {"video", "audio", "flow", "depth", "skeleton"}
    assert len(list(ClipStream(source, CLIPS, CROP, specs=SPECS))) == 2


def test_few_shots_of_samples_with_several_media(clocks: Path) -> None:
    source = FewShotSource(open_source(clocks), 2)
    items = list(ClipStream(source, CLIPS, CROP, specs=SPECS))
    assert sorted(item["label"] for item in items) == [0, 0, 1, 1]
    for item in items:
        check_same_time(item)


def test_streams_of_all_media_can_be_pickled(clocks: Path) -> None:
    stream = pickle.loads(pickle.dumps(ClipStream(open_source(clocks), CLIPS, CROP, specs=SPECS)))
    check_same_time(next(iter(stream)))


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors"])
def test_formats_of_skeletons(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(clock_skeleton(suffix))
    source = FolderSource([VideoRecord(path, "walk", None, "a")])
    (item,) = ClipStream(source, ClipSpec(4, 2, sampling="uniform"), specs={"skeletons": SPECS["skeletons"]})
    assert item["skeletons"][0, :, 0, 0].tolist() == [5, 15, 25, 35]


def test_sound_of_the_video_where_there_is_no_sound_file(tmp_path: Path) -> None:
    from sounds import make_sounding_video, tone

    (tmp_path / "a.mp4").write_bytes(make_sounding_video(1.0, sound=tone(1.0, 16000, 440.0)))
    source = FolderSource([VideoRecord(tmp_path / "a.mp4", "a", None, "a")])
    stream = ClipStream(
        source, ClipSpec(4, 1), CROP, specs={name: SPECS[name] for name in ("pixel_values", "waveform")}
    )
    (item,) = stream
    assert stream.media == ("video",)
    assert item["waveform"].shape == (RATE // 4,)
    assert item["waveform"].abs().max() > 0.1


def test_records_need_the_same_media(tmp_path: Path) -> None:
    records = read_records(write_samples(tmp_path, 2))
    mixed = [records[0], VideoRecord(records[1].path, "b", "text", "other")]
    with pytest.raises(ValueError, match="give every clip the same media"):
        build_shards(mixed, tmp_path / "shards", class_names=["a", "b"], progress=False)
    with pytest.raises(ValueError, match="two files of one medium"):
        VideoRecord(tmp_path / "a.mp4", None, None, "a", others=(("video", tmp_path / "b.mp4"),))
    (tmp_path / "gap.csv").write_text("video,flow,label\n0_video.mp4,,a\n")
    with pytest.raises(ValueError, match="line 2: `flow` is empty"):
        read_records(tmp_path / "gap.csv")


def test_arrays_of_strangers(tmp_path: Path) -> None:
    from tubelets.data.modalities.arrays import read_array

    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadMediumError, match="pickled Python objects"):
        read_array((tmp_path / "objects.npy").read_bytes(), "joints")
    huge = clock_skeleton().replace(b"(1, 40, 3, 3)", b"(9, 40, 3, 3)")
    with pytest.raises(BadMediumError, match="the header states 12960 bytes"):
        read_array(huge, "joints")
    for damaged in (b"", b"PK\x03\x04", clock_skeleton("safetensors")[:30], clock_skeleton()[:20]):
        with pytest.raises(BadMediumError, match="joints"):
            read_array(damaged, "joints")
