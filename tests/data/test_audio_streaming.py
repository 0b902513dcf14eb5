"""Streams of sounds, and of frames with their sound."""

import functools
from itertools import islice
from pathlib import Path

import pytest
import torch

from sounds import make_sounding_video, sweep, tone
from tubelets.data.build.shards import build_shards
from tubelets.data.modalities.audio import AudioSpec, decode_audio, encode_audio
from tubelets.data.modalities.clips import ClipDecoder
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import VideoRecord, find_class_names
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from videos import make_video

# The one that says which videos were skipped behind the last item.
pytestmark = pytest.mark.filterwarnings("ignore:.* bad videos were skipped")

RATE = 8000
SPEC = AudioSpec(RATE, seconds=0.25)


@functools.cache
def sound(number: int) -> bytes:
    """Half a second, but number 0 is shorter than the stretch."""
    return encode_audio(tone(0.1 if number == 0 else 0.5, RATE, 300.0 + 40 * number), RATE, "flac")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Eleven labelled sounds in three shards."""
    folder = tmp_path_factory.mktemp("sounds")
    records = []
    for number in range(11):
        (folder / f"{number}.flac").write_bytes(sound(number))
        records.append(VideoRecord(folder / f"{number}.flac", "ab"[number % 2], None, str(number)))
    names = find_class_names(records)
    build_shards(records, folder / "shards", class_names=names, clips_per_shard=4, progress=False)
    return open_source(folder / "shards")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Four videos with sound, one without, in two shards."""
    folder = tmp_path_factory.mktemp("films")
    records = []
    for number in range(5):
        silent = number == 3
        data = make_video(25) if silent else make_sounding_video(2.0, sound=sweep(2.0, 16000, 200.0 + 50 * number))
        (folder / f"{number}.mp4").write_bytes(data)
        records.append(VideoRecord(folder / f"{number}.mp4", None, None, str(number)))
    build_shards(records, folder / "shards", clips_per_shard=3, progress=False)
    return open_source(folder / "shards")


def same(first: dict, second: dict) -> bool:
    return first["clip_id"] == second["clip_id"] and torch.equal(first["waveform"], second["waveform"])


def test_items_hold_a_stretch_of_the_sound(sounds):
    items = list(ClipStream(sounds, None, audio=SPEC, seed=1))
    assert sorted(int(item["clip_id"]) for item in items) == list(range(11))
    starts = set()
    for item in items:
        assert "pixel_values" not in item
        assert item["label"] == int(item["clip_id"]) % 2
        whole = decode_audio(sound(int(item["clip_id"])), RATE)
        if item["clip_id"] == "0":
            # What the file has: nothing is filled up.
            assert torch.equal(item["waveform"], whole)
            continue
        assert item["waveform"].shape == (SPEC.num_samples,)
        pieces = whole.unfold(0, SPEC.num_samples, 1)
        starts.add(int((pieces - item["waveform"]).abs().sum(1).argmin()))
        assert (pieces - item["waveform"]).abs().sum(1).min() == 0
    assert len(starts) > 3


def test_the_stretch_is_drawn_from_the_clip_and_the_epoch_alone(sounds):
    first = {item["clip_id"]: item for item in ClipStream(sounds, None, audio=SPEC, seed=1)}
    again = {item["clip_id"]: item for item in ClipStream(sounds, None, audio=SPEC, seed=1, shuffle_window=0)}
    assert all(same(first[name], again[name]) for name in first)
    later = {item["clip_id"]: item for item in ClipStream(sounds, None, audio=SPEC, seed=1, epoch=1)}
    assert sum(same(first[name], later[name]) for name in first) < 4
    centre = AudioSpec(RATE, 0.25, "centre")
    for item in ClipStream(sounds, None, audio=centre):
        whole = decode_audio(sound(int(item["clip_id"])), RATE)
        middle = whole if len(whole) < 2000 else whole[1000:3000]
        assert torch.equal(item["waveform"], middle)


def test_every_sound_once_for_any_ranks_and_workers(sounds):
    expected = sorted(str(number) for number in range(11))
    for split, world_size, workers in (("shards", 1, 0), ("shards", 3, 0), ("samples", 2, 2)):
        found = []
        for rank in range(world_size):
            stream = ClipStream(
                sounds, None, audio=SPEC, rank=rank, world_size=world_size, split=split, batch_size=2, shuffle_window=4
            )
            for batch in ClipLoader(stream, workers):
                assert isinstance(batch["waveform"], list)
                assert batch["label"].dtype == torch.int64
                found += batch["clip_id"]
        assert sorted(found) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_of_sounds_is_continued_exactly(sounds, workers):
    def loader() -> ClipLoader:
        options = {"split": "samples", "batch_size": 2, "shuffle_window": 4, "repeat": True, "seed": 5}
        return ClipLoader(ClipStream(sounds, None, audio=SPEC, **options), workers)

    whole = list(islice(loader(), 9))
    first = loader()
    list(islice(first, 4))
    second = loader()
    second.load_state_dict(first.state_dict())
    for batch, expected in zip(islice(second, 5), whole[4:], strict=True):
        assert batch["clip_id"] == expected["clip_id"]
        assert all(map(torch.equal, batch["waveform"], expected["waveform"]))


def test_frames_come_with_the_sound_around_them(films):
    stream = ClipStream(films, ClipSpec(1, 1), audio=AudioSpec(16000, 0.5), seed=2, shuffle_window=0)
    items = list(stream)
    assert sorted(item["clip_id"] for item in items) == ["0", "1", "2", "4"]
    for item in items:
        assert item["pixel_values"].shape == (1, 3, 32, 48)
        assert item["waveform"].shape == (8000,)
        # The frames brighten from 20 to 220 in two seconds: a frame tells its own time.
        seconds = (item["pixel_values"].float().mean().item() - 20) / 100 + 0.02
        start = min(max(seconds - 0.25, 0), 1.5)
        whole = sweep(2.0, 16000, 200.0 + 50 * int(item["clip_id"]))
        errors = [
            ((item["waveform"] - whole[begin : begin + 8000])[800:7200].abs().mean().item(), begin)
            for begin in range(0, 24001, 8)
        ]
        assert min(errors)[1] / 16000 == pytest.approx(start, abs=0.03)


def test_a_video_without_sound_is_bad_only_where_sound_is_wanted(films):
    loader = ClipLoader(ClipStream(films, ClipSpec(2, 1), audio=SPEC, batch_size=2), 0)
    assert sum(len(batch["clip_id"]) for batch in loader) == 4
    assert [(bad["clip_id"], bad["reason"]) for bad in loader.bad_samples] == [("3", "3: no audio")]
    assert len(list(ClipStream(films, ClipSpec(2, 1)))) == 5
    # The sound of videos alone: no frame is decoded.
    items = list(ClipStream(films, None, audio=SPEC, shuffle_window=0))
    assert len(items) == 4
    assert all("pixel_values" not in item for item in items)


def test_several_clips_of_a_video_have_their_own_sound(films):
    stream = ClipStream(films, ClipSpec(2, 2, clips_per_video=3), audio=SPEC, batch_size=3, seed=4)
    items = list(stream)
    assert len(items) == 12
    first = [item for item in items if item["clip_id"] == "0"]
    assert [item["clip_index"] for item in first] == [0, 1, 2]
    assert not torch.equal(first[0]["waveform"], first[1]["waveform"])
    # In the middle of a video the rest is made anew, alike.
    resumed = ClipStream(films, ClipSpec(2, 2, clips_per_video=3), audio=SPEC, batch_size=3, seed=4)
    resumed.load_state_dict(items[3]["stream_state"])
    rest = list(resumed)
    assert len(rest) == 8
    assert all(map(same, rest, items[4:]))


def test_something_must_be_asked_for(sounds):
    with pytest.raises(ValueError, match="clips and audio are both None"):
        ClipStream(sounds, None)
    with pytest.raises(ValueError, match="clips and audio are both None"):
        ClipDecoder(None)


def test_damaged_sounds_are_skipped_and_reported(tmp_path: Path):
    records = []
    for number in range(4):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(encode_audio(tone(0.5, RATE, 400.0), RATE))
        records.append(VideoRecord(path, None, None, str(number)))
    build_shards(records, tmp_path / "shards", progress=False)
    source = open_source(tmp_path / "shards")
    stream = ClipStream(source, None, audio=SPEC, verify_checksum=False)
    original = stream.source.read_bytes
    stream.source.read_bytes = lambda sample, medium: b"x" * 400 if sample.clip_id == "2" else original(sample, medium)
    loader = ClipLoader(stream, 0)
    assert sorted(clip for batch in loader for clip in batch["clip_id"]) == ["0", "1", "3"]
    assert [bad["clip_id"] for bad in loader.bad_samples] == ["2"]
