"""Shards of sounds, and the sound of videos that are re-encoded for shards."""

import functools
import io
import json
from pathlib import Path

import av
import pytest
from datasets import Audio, ClassLabel, List, load_dataset
from torch import Tensor

from sounds import make_sounding_video, sweep, tone
from tubelets.cli.main import main
from tubelets.data.build import shards
from tubelets.data.build.shards import ShardPlan, build_shards
from tubelets.data.build.transcoding import TranscodeOptions, prepare_video
from tubelets.data.modalities.audio import audio_span, decode_audio, encode_audio
from tubelets.data.modalities.video import open_video
from tubelets.data.sources.annotations import read_records
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import VideoRecord, class_fraction, find_class_names
from videos import make_video

build = functools.partial(build_shards, progress=False)


@pytest.fixture
def folder(tmp_path):
    """Six good sounds of two classes in several formats, and a bad one."""
    for number, container in enumerate(["wav", "flac", "ogg", "mp3", "mp4", "wav"]):
        path = tmp_path / "in" / ("dog", "bell")[number % 2] / f"{number}.{'m4a' if container == 'mp4' else container}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_audio(tone(0.2 + number / 10, 48000, 300.0 + 50 * number), 48000, container))
    (tmp_path / "in/dog/broken.wav").write_bytes(encode_audio(tone(0.5, 8000, 300.0), 8000)[:-100])
    (tmp_path / "in/dog/notes.txt").write_text("not a sound")
    return tmp_path / "in"


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.iterdir())}


def test_shards_hold_the_untouched_sounds_with_types_and_facts(folder, tmp_path):
    found = read_records(folder)
    report = build(found, tmp_path / "out", class_names=find_class_names(found), clips_per_shard=3)
    assert (report.num_shards, report.num_clips) == (3, 6)
    ((clip_id, reason),) = [(bad.clip_id, bad.reason) for bad in report.bad_files]
    assert clip_id == "dog/broken.wav"
    assert "truncated" in reason
    dataset = load_dataset("parquet", data_files=str(tmp_path / "out/*.parquet"), split="train", streaming=True)
    assert isinstance(dataset.features["audio"], Audio)
    assert dataset.features["label"] == ClassLabel(names=["bell", "dog"])
    rows = list(dataset.cast_column("audio", Audio(decode=False)))
    for row in rows:
        path = folder / row["clip_id"]
        assert row["audio"] == {"bytes": path.read_bytes(), "path": path.name}
        assert row["sampling_rate"] == 48000
        assert row["duration"] == pytest.approx(0.2 + int(path.stem) / 10, abs=0.03)
        assert ["bell", "dog"][row["label"]] == row["clip_id"].split("/")[0]
    source = open_source(tmp_path / "out")
    assert (source.class_names, source.multi_label, source.num_samples) == (["bell", "dog"], False, 6)
    assert {sample.label for sample in source.iterate_shard(0)} <= {0, 1}


def test_several_labels_travel_with_their_names(folder, tmp_path):
    rows = ["dog/0.wav,dog;loud", "bell/1.flac, bell ;", "dog/2.ogg,", "bell/3.mp3,loud;bell;dog"]
    (tmp_path / "list.csv").write_text("path,labels\n" + "\n".join(rows) + "\n")
    records = read_records(tmp_path / "list.csv", root=folder)
    assert [record.label for record in records] == [("dog", "loud"), ("bell",), (), ("loud", "bell", "dog")]
    names = find_class_names(records)
    assert names == ["bell", "dog", "loud"]
    build(records, tmp_path / "out", class_names=names)
    source = open_source(tmp_path / "out")
    assert (source.class_names, source.multi_label) == (names, True)
    expected = {"dog/0.wav": [1, 2], "bell/1.flac": [0], "dog/2.ogg": [], "bell/3.mp3": [2, 0, 1]}
    assert {sample.clip_id: sample.label for sample in source.iterate_shard(0)} == expected
    features = load_dataset("parquet", data_files=str(tmp_path / "out/*.parquet"), split="train").features
    assert features["label"] == List(ClassLabel(names=names))
    # The same list without shards.
    direct = FolderSource(records)
    assert (direct.class_names, direct.multi_label) == (names, True)
    assert {sample.clip_id: sample.label for sample in direct.iterate_shard(0)} == expected


def test_labels_are_checked(folder, tmp_path):
    one = VideoRecord(folder / "dog/0.wav", "dog", None, "0")
    several = VideoRecord(folder / "bell/1.flac", ("dog", "loud"), None, "1")
    with pytest.raises(ValueError, match=r"types \['str', 'tuple'\]"):
        ShardPlan.make([one, several], class_names=["dog", "loud"])
    with pytest.raises(ValueError, match=r"labels \['loud'\] are not in class_names"):
        ShardPlan.make([several], class_names=["dog"])
    with pytest.raises(ValueError, match="a share of each class needs exactly one"):
        class_fraction([several], 0.5)
    (tmp_path / "both.csv").write_text("path,label,labels\na.wav,x,y\n")
    with pytest.raises(ValueError, match="both a `label` and a `labels` column"):
        read_records(tmp_path / "both.csv")


def test_one_kind_in_a_set_of_shards(folder, tmp_path):
    (folder / "dog/clip.mp4").write_bytes(make_video(3))
    with pytest.raises(ValueError, match="contains 1 videos and 7 audio files"):
        read_records(folder)
    records = [VideoRecord(folder / "dog/clip.mp4", None, None, "a"), VideoRecord(folder / "0.wav", None, None, "b")]
    with pytest.raises(ValueError, match="1 of 2 files are audio, for example 'b'"):
        build(records, tmp_path / "out")
    with pytest.raises(ValueError, match="audio files are stored unchanged"):
        build(records[1:], tmp_path / "out", transcode=TranscodeOptions(short_side=32))


def test_a_killed_run_is_continued_and_workers_give_the_same_bytes(folder, tmp_path, monkeypatch):
    found = read_records(folder)
    options = {"class_names": find_class_names(found), "clips_per_shard": 2}
    build(found, tmp_path / "whole", num_workers=2, **options)
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
    report = build(found, tmp_path / "out", **options)
    assert (len(report.skipped), len(report.written)) == (2, 2)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_the_verb_makes_shards_of_several_labels(folder, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("path,labels,split\ndog/0.wav,dog;loud,train\ndog/broken.wav,dog,train\n")
    arguments = ["shards", tmp_path / "list.csv", "--output_dir", tmp_path / "out", "--root", folder, "--no-progress"]
    assert main([*map(str, arguments)]) == 0
    printed = capsys.readouterr().out
    assert "train: 1 clips in 2 shards" in printed
    assert "bad file dog/broken.wav" in printed
    assert json.loads((tmp_path / "out/dataset_info.json").read_text())["class_names"] == ["dog", "loud"]


# --- the sound of re-encoded videos ------------------------------------------------------------------------------


def streams_of(data: bytes) -> list[tuple[str, str]]:
    with av.open(io.BytesIO(data)) as container:
        return [(stream.type, stream.codec_context.codec.canonical_name) for stream in container.streams]


def error_of(heard: Tensor) -> float:
    """Mean difference from a sweep of a second, up to a millisecond: Matroska's time stamps are no finer."""
    expected = sweep(1.0, 16000)[1600:14400]
    return min((heard[1600 + shift : 14400 + shift] - expected).abs().mean().item() for shift in range(-16, 17))


@pytest.mark.parametrize(
    ("container", "codec", "rate", "kept"),
    [
        ("mp4", "aac", 16000, "aac"),
        ("mp4", "libmp3lame", 44100, "mp3"),
        ("matroska", "libopus", 48000, "opus"),
        ("matroska", "flac", 16000, "flac"),
        ("mpegts", "aac", 48000, "aac"),
        ("avi", "pcm_s16le", 22050, "aac"),
        ("matroska", "pcm_s16le", 4000, "aac"),
    ],
)
def test_reencoded_videos_keep_their_sound(container, codec, rate, kept):
    original = make_sounding_video(1.0, codec, rate, container)
    for options in (TranscodeOptions(short_side=16), TranscodeOptions(fps=10)):
        copy = prepare_video(original, options)
        assert streams_of(copy.data) == [("video", "h264"), ("audio", kept)]
        with open_video(copy.data) as before, open_video(original) as after:
            # The sweep starts with the first frame; a sound in a transport stream starts earlier, with padding.
            sound_starts = before.edges[0] - audio_span(copy.data)[0]
            assert error_of(decode_audio(copy.data, 16000, sound_starts)) < 0.05
            assert before.num_frames == (10 if options.fps else after.num_frames)


def test_copied_packets_are_the_same():
    original = make_sounding_video(1.0)
    copy = prepare_video(original, TranscodeOptions(short_side=16)).data

    def packets(data: bytes) -> list[tuple[int | None, bytes]]:
        with av.open(io.BytesIO(data)) as container:
            return [(packet.pts, bytes(packet)) for packet in container.demux(audio=0)]

    assert packets(copy) == packets(original)


def test_tags_that_are_no_utf8_do_no_harm():
    original = make_sounding_video(0.4, "pcm_s16le", container="matroska")
    latin = original.replace(b"ENCODER", "ÈNCODER".encode("latin-1"))
    assert latin != original
    assert streams_of(prepare_video(latin, TranscodeOptions(short_side=16)).data)[1] == ("audio", "aac")


def test_sound_can_be_dropped_and_need_not_be_there():
    options = TranscodeOptions(short_side=16, keep_audio=False)
    assert streams_of(prepare_video(make_sounding_video(0.4), options).data) == [("video", "h264")]
    assert streams_of(prepare_video(make_video(5), TranscodeOptions(short_side=16)).data) == [("video", "h264")]


def test_dropping_the_sound_is_part_of_the_plan_only_when_reencoding():
    records = [VideoRecord(Path("a.mp4"), None, None, "a")]
    hashes = [
        ShardPlan.make(records, transcode=TranscodeOptions(side, keep_audio=keep)).hash
        for side in (None, 16)
        for keep in (True, False)
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[1:])) == 3
