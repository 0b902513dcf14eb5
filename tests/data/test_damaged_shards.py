"""A damaged shard costs what the damage hides: the rest is delivered, the lost is counted and named."""

import io
import json
import random
import tarfile
import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from clip_shards import clip_rows, video_bytes, write_parquet, write_tar
from torch.utils.data import DataLoader

from tubelets.data.build.shards import build_shards
from tubelets.data.modalities.video import BadVideoError
from tubelets.data.sources.annotations import read_records
from tubelets.data.sources.balanced import BalancedSource
from tubelets.data.sources.few_shot import FewShotSource
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import VideoRecord
from tubelets.data.sources.source import ALL_CLIPS, Media, Sample, Source, SourceDescription
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader

SPEC = ClipSpec(num_frames=2, stride=2)
SIZES = [9, 6, 5]
ALL = [f"clip-{number:03d}" for number in range(sum(SIZES))]
HTML = b"<!DOCTYPE html><html><body>Please sign in to continue</body></html>" * 20
pytestmark = pytest.mark.filterwarnings("ignore:.*were skipped at the end of the pass", "ignore:.*lacks . shards")


def ids(items: Iterable[Any]) -> list[str]:
    return [item["clip_id"] for item in items]


def members(number: int) -> list[tuple[str, bytes]]:
    key = f"clip-{number:03d}"
    return [(f"{key}.cls", str(number % 3).encode()), (f"{key}.mp4", video_bytes(number % 5)), (f"{key}.npy", b"?")]


def write_tars(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for index, size in enumerate(SIZES):
        content = [each for number in range(start, start + size) for each in members(number)]
        write_tar(folder / f"clips-{index}.tar", content)
        start += size
    return folder


def write_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(sum(SIZES)):
        (folder / f"clip-{number:03d}.mp4").write_bytes(video_bytes(number % 5))
    return folder


def delivered(source: Source, **options: Any) -> tuple[list[str], list[dict[str, str]], int]:
    """Ids of the clips that a loader delivers, its reports, and the number of rows it skipped."""
    loader = ClipLoader(ClipStream(source, SPEC, batch_size=2, shuffle_window=8, **options))
    return [name for batch in loader for name in batch["clip_id"]], loader.bad_samples, loader.num_skipped


# --- a few dozen random damages ----------------------------------------------------------------------------------


def cut(data: bytes, numbers: random.Random) -> bytes:
    return data[: numbers.randrange(len(data))]


def overwrite(data: bytes, numbers: random.Random) -> bytes:
    size = numbers.choice((1, 4, 64, 700))
    place = numbers.randrange(max(1, len(data) - size))
    return data[:place] + numbers.randbytes(size) + data[place + size :]


def replace_tail(data: bytes, numbers: random.Random) -> bytes:
    size = numbers.randrange(1, 200)
    return data[:-size] + numbers.randbytes(size)


def web_page(data: bytes, numbers: random.Random) -> bytes:
    return HTML


DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [cut, overwrite, overwrite, replace_tail, web_page]


def untouched(kind: str, before: bytes, after: bytes, first: int, size: int) -> set[str]:
    """Ids of a shard's clips whose bytes are as they were, as far as they can be found again without a directory."""
    names = {f"clip-{number:03d}" for number in range(first, first + size)}
    if kind == "parquet":
        return set()
    found = set()
    for number in range(first, first + size):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, data in members(number)[:2]:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        whole = file.getvalue()[: sum(512 - (-len(data) // 512) * 512 for _, data in members(number)[:2])]
        if whole in after:
            found.add(f"clip-{number:03d}")
    return found & names


@pytest.mark.parametrize("kind", ["parquet", "tar"])
@pytest.mark.parametrize("seed", range(14))
def test_any_damage_costs_only_what_it_hits(tmp_path: Path, kind: str, seed: int) -> None:
    numbers = random.Random(f"{kind} {seed}")
    folder = write_parquet(tmp_path, clip_rows(sum(SIZES)), SIZES) if kind == "parquet" else write_tars(tmp_path)
    hit = numbers.randrange(len(SIZES))
    shard = sorted(folder.iterdir())[hit]
    before = shard.read_bytes()
    after = DAMAGES[seed % len(DAMAGES)](before, numbers)
    shard.write_bytes(after)
    found, bad, num_skipped = delivered(open_source(folder))
    assert len(found) == len(set(found))
    first = sum(SIZES[:hit])
    others = {*ALL[:first], *ALL[first + SIZES[hit] :]}
    lost = set(ALL) - set(found)
    assert others | untouched(kind, before, after, first, SIZES[hit]) <= set(found)
    assert all(entry["shard"] == shard.name and entry["reason"] for entry in bad)
    assert len({(entry["clip_id"], entry["reason"]) for entry in bad}) == len(bad)
    # What is lost is named, or its shard is if the damage hides the names.
    if lost - {entry["clip_id"] for entry in bad}:
        assert any(entry["clip_id"] == ALL_CLIPS or entry["clip_id"] not in ALL for entry in bad)
    assert bool(lost) <= bool(num_skipped)
    if bad:
        with pytest.raises(BadVideoError, match=rf"shard {shard.name}, clip .*: "):
            delivered(open_source(folder), on_bad_sample="raise")


# --- whole shards ------------------------------------------------------------------------------------------------

RUINS: dict[str, Callable[[Path], None]] = {
    "vanished": lambda shard: shard.unlink(),
    "empty": lambda shard: shard.write_bytes(b""),
    "page": lambda shard: shard.write_bytes(HTML),
    "half": lambda shard: shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2]),
}


@pytest.mark.parametrize("ruin", RUINS)
@pytest.mark.parametrize("index", [0, 2])
def test_an_unreadable_parquet_shard_is_one_entry(tmp_path: Path, ruin: str, index: int) -> None:
    folder = write_parquet(tmp_path, clip_rows(sum(SIZES)), SIZES)
    shard = sorted(folder.glob("*.parquet"))[index]
    RUINS[ruin](shard)
    source = open_source(folder)
    first = sum(SIZES[:index])
    found, bad, num_skipped = delivered(source)
    assert sorted(found) == [*ALL[:first], *ALL[first + SIZES[index] :]]
    assert [(entry["shard"], entry["clip_id"]) for entry in bad] == [(shard.name, ALL_CLIPS)]
    assert num_skipped == 1
    assert source.num_samples == sum(SIZES) - SIZES[index]
    with pytest.raises(BadVideoError, match=rf"shard {shard.name}, clip \*: the shard cannot be read"):
        delivered(source, on_bad_sample="raise")


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Shards of the builder, whose `dataset_info.json` states how many clips each has."""
    records = read_records(write_folder(tmp_path / "videos"))
    build_shards(records, tmp_path / "shards", clips_per_shard=7, progress=False)
    return tmp_path / "shards"


def positions(batches: Iterable[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(name, int(seed)) for batch in batches for name, seed in zip(batch["clip_id"], batch["seed"], strict=True)]


@pytest.mark.parametrize("split", ["shards", "samples"])
@pytest.mark.parametrize("ruin", ["vanished", "half"])
def test_a_lost_shard_moves_no_other_clip(built: Path, split: str, ruin: str) -> None:
    """Its number of clips is known, so the order of the others, and where a run resumes, stay as they were."""

    def loader() -> ClipLoader:
        stream = ClipStream(open_source(built), SPEC, shuffle_window=4, batch_size=1, split=split, repeat=True)
        return ClipLoader(stream)

    whole = loader()
    before, states = [], []
    for batch in islice(whole, 30):
        before.append(batch)
        states.append(whole.state_dict())
    shard = sorted(built.glob("*.parquet"))[1]
    lost = {sample.clip_id for sample in open_source(built).iterate_shard(1)}
    RUINS[ruin](shard)
    damaged = loader()
    after = list(islice(damaged, 2 * (sum(SIZES) - len(lost))))
    expected = [place for place in positions(before) if place[0] not in lost]
    assert positions(after)[: len(expected)] == expected
    assert damaged.num_skipped >= len(lost)
    assert [(entry["shard"], entry["clip_id"]) for entry in damaged.bad_samples] == [(shard.name, ALL_CLIPS)]
    assert open_source(built).num_samples == sum(SIZES)
    for stop in (3, 11, 20):
        resumed = loader()
        resumed.load_state_dict(json.loads(json.dumps(states[stop])))
        rest = [place for place in positions(before[stop + 1 :]) if place[0] not in lost]
        assert positions(islice(resumed, len(rest))) == rest


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("split", ["shards", "samples"])
def test_resume_beside_damage_is_exact(tmp_path: Path, split: str, repeat: bool) -> None:
    folder = write_parquet(tmp_path, clip_rows(sum(SIZES)), SIZES)
    first, second, _ = sorted(folder.glob("*.parquet"))
    RUINS["page"](first)
    damaged = bytearray(second.read_bytes())
    damaged[200:260] = bytes(60)
    second.write_bytes(damaged)

    def loader() -> ClipLoader:
        return ClipLoader(
            ClipStream(open_source(folder), SPEC, shuffle_window=3, batch_size=1, split=split, repeat=repeat)
        )

    whole, batches, states = loader(), [], []
    for batch in islice(whole, 20):
        batches.append(batch)
        states.append(json.dumps(whole.state_dict()))
    for stop, state in enumerate(states[:-1]):
        resumed = loader()
        resumed.load_state_dict(json.loads(state))
        assert positions(islice(resumed, len(batches) - stop - 1)) == positions(batches[stop + 1 :]), stop


@pytest.mark.parametrize("repeat", [False, True])
def test_a_consumer_with_nothing_but_damage_does_not_end_the_run(tmp_path: Path, repeat: bool) -> None:
    folder = write_parquet(tmp_path, clip_rows(sum(SIZES)), SIZES)
    for shard in sorted(folder.glob("*.parquet"))[:2]:
        RUINS["page"](shard)
    loader = ClipLoader(ClipStream(open_source(folder), SPEC, batch_size=1, split="shards", repeat=repeat), 2)
    found = [name for batch in islice(loader, 25) for name in batch["clip_id"]]
    assert set(found) == set(ALL[-SIZES[2] :])
    assert len(found) == (25 if repeat else SIZES[2])
    assert {entry["clip_id"] for entry in loader.bad_samples} == {ALL_CLIPS}


def test_nothing_but_damage_is_an_error(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path, clip_rows(2), [1, 1])
    source = open_source(folder)
    for shard in folder.glob("*.parquet"):
        RUINS["page"](shard)
    with pytest.raises(RuntimeError, match=r"all 2 videos of epoch 0 were bad.*cannot be read"):
        list(ClipStream(source, SPEC))
    with pytest.raises(ValueError, match=r"none of the 2 shards of .* can be read; train-00000-of-00002\.parquet: "):
        open_source(folder)


# --- tars --------------------------------------------------------------------------------------------------------


def test_a_bad_header_in_a_tar_costs_its_own_clip(tmp_path: Path) -> None:
    write_tars(tmp_path)
    shard = tmp_path / "clips-0.tar"
    with tarfile.open(shard) as tar:
        places = {info.name: info.offset for info in tar}
    damaged = bytearray(shard.read_bytes())
    damaged[places["clip-002.cls"] + 3] ^= 255
    damaged[places["clip-005.mp4"] + 130] ^= 255
    damaged[places["clip-007.npy"] + 1] ^= 255
    shard.write_bytes(damaged)
    found, bad, _ = delivered(open_source(tmp_path))
    # An array that nobody needs may be lost.
    assert sorted(found) == [name for name in ALL if name not in ("clip-002", "clip-005")]
    assert {entry["clip_id"]: entry["reason"] for entry in bad} == {
        "clip-002": f"member cls is missing: there is no valid header at byte {places['clip-002.cls']}",
        "clip-005": f"member mp4 is missing: there is no valid header at byte {places['clip-005.mp4']}",
    }
    # Rows stay where they are, whichever members are read.
    source = open_source(tmp_path)
    light = [sample.clip_id for sample in source.with_media(()).iterate_shard(0)]
    assert light == [sample.clip_id for sample in source.iterate_shard(0)] == ALL[:9]


def test_a_clip_of_which_nothing_is_left_is_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "clips.tar", [(f"{name}.mp4", video_bytes(0)) for name in "abc"])
    damaged = bytearray((tmp_path / "clips.tar").read_bytes())
    place = damaged.index(b"b.mp4")
    damaged[place : place + 512] = b"x" * 512
    (tmp_path / "clips.tar").write_bytes(damaged)
    found, bad, _ = delivered(open_source(tmp_path))
    assert sorted(found) == ["a", "c"]
    reason = f"clips are lost: there is no valid header at byte {place}"
    assert bad == [{"shard": "clips.tar", "clip_id": ALL_CLIPS, "reason": reason}]


def test_columns_come_from_tars_that_have_them(tmp_path: Path) -> None:
    write_tars(tmp_path)
    shard = tmp_path / "clips-0.tar"
    shard.write_bytes(shard.read_bytes()[:1100])  # one annotation, and nothing of its clip
    found, bad, _ = delivered(open_source(tmp_path))
    assert sorted(found) == ALL[SIZES[0] :]
    assert {entry["shard"] for entry in bad} == {"clips-0.tar"}


def test_unusual_tars_are_read(tmp_path: Path) -> None:
    """Long names, folders and links, concatenated and compressed tars."""
    for form, mode in ((tarfile.GNU_FORMAT, "w"), (tarfile.PAX_FORMAT, "w:gz"), (tarfile.USTAR_FORMAT, "w:xz")):
        folder = tmp_path / mode.replace(":", "") / str(form)
        folder.mkdir(parents=True)
        long = "folder/" + ("ü" if form == tarfile.PAX_FORMAT else "u") * (60 if form == tarfile.USTAR_FORMAT else 150)
        with tarfile.open(folder / "clips.tar", mode, format=form) as tar:
            entry = tarfile.TarInfo("folder")
            entry.type = tarfile.DIRTYPE
            tar.addfile(entry)
            for name in (f"{long}.mp4", "._hidden.mp4", "last.mp4"):
                info = tarfile.TarInfo(name)
                info.size = len(video_bytes(1))
                tar.addfile(info, io.BytesIO(video_bytes(1)))
        assert sorted(delivered(open_source(folder))[0]) == sorted([long, "last"])
    write_tars(tmp_path / "plain")
    first, second = (tmp_path / f"plain/clips-{index}.tar" for index in (0, 1))
    (tmp_path / "both").mkdir()
    (tmp_path / "both/clips.tar").write_bytes(first.read_bytes() + second.read_bytes())
    assert sorted(delivered(open_source(tmp_path / "both"))[0]) == ALL[:15]


# --- values ------------------------------------------------------------------------------------------------------


def test_a_label_that_is_no_class_is_named(tmp_path: Path) -> None:
    labels = (b'{"label": "run"}', b"\xff\xfe", b'{"label": "fly"}')
    members = [
        (f"{n}.{kind}", (labels[n], video_bytes(0))[kind == "mp4"]) for n in range(3) for kind in ("json", "mp4")
    ]
    write_tar(tmp_path / "clips.tar", members)
    found, bad, _ = delivered(open_source(tmp_path, class_names=["jump", "run"]))
    reasons = {entry["clip_id"]: entry["reason"] for entry in bad}
    assert found == ["0"]
    assert "member label cannot be read: UnicodeDecodeError" in reasons["1"]
    assert reasons["2"] == "label 'fly' is not one of the 2 classes"


def test_a_damaged_class_number_is_named(tmp_path: Path) -> None:
    (shard,) = write_parquet(tmp_path, clip_rows(3), [3]).iterdir()
    table = pq.read_table(shard)
    labels = pa.array([0, 77, 2], pa.int64())
    pq.write_table(table.set_column(table.column_names.index("label"), table.schema.field("label"), labels), shard)
    found, bad, _ = delivered(open_source(tmp_path))
    assert sorted(found) == ["clip-000", "clip-002"]
    assert [entry["reason"] for entry in bad] == ["label 77 is not a number of one of the 3 classes"]


def test_checksums_of_files_and_tars(tmp_path: Path) -> None:
    """Other frames than those that were listed: they decode, and only the checksum differs."""
    import hashlib

    good, other = (hashlib.sha256(video_bytes(kind)).hexdigest() for kind in (0, 1))
    folder = tmp_path / "videos/run"
    folder.mkdir(parents=True)
    for name in "ab":
        (folder / f"{name}.mp4").write_bytes(video_bytes(0))
    (tmp_path / "videos/SHA256SUMS").write_text(f"{good}  run/a.mp4\n{other} *./run/b.mp4\n")
    (tmp_path / "list.csv").write_text(
        f"path,label,sha256\nvideos/run/a.mp4,run,{good}\nvideos/run/b.mp4,run,{other}\n"
    )
    (tmp_path / "tar").mkdir()
    json_of_b = json.dumps({"sha256": other, "label": 1}).encode()
    json_of_a = json.dumps({"sha256": good, "label": 0}).encode()
    members = [("a.json", json_of_a), ("a.mp4", video_bytes(0)), ("b.json", json_of_b), ("b.mp4", video_bytes(0))]
    write_tar(tmp_path / "tar/clips.tar", members)
    for path in ("videos", "list.csv", "tar"):
        found, bad, _ = delivered(open_source(tmp_path / path))
        assert [Path(name).stem for name in found] == ["a"], path
        assert "video: sha256 of the bytes is" in bad[0]["reason"]
    report = build_shards(read_records(tmp_path / "list.csv"), tmp_path / "out", class_names=["run"], progress=False)
    assert [(bad.clip_id, report.num_clips) for bad in report.bad_files] == [("videos/run/b.mp4", 1)]


# --- who reads ---------------------------------------------------------------------------------------------------


def test_a_source_from_outside_that_raises_is_skipped() -> None:
    class Failing(Source):
        description, num_samples = SourceDescription(("first", "second"), {"video": "video"}), None

        def iterate_shard(self, index: int, skip: int = 0) -> Iterable[Sample]:  # type: ignore[override]
            if index == 0:
                raise OSError("the server does not answer")
            yield from [Sample("second", "good", {"video": Media("video", video_bytes(0))})][skip:]

        def read_bytes(self, sample: Sample, medium: str | None = None) -> bytes:
            return sample.get(medium).data or b""

    assert delivered(Failing())[:2] == (
        ["good"],
        [{"shard": "first", "clip_id": ALL_CLIPS, "reason": "the server does not answer"}],
    )


def test_few_shots_and_balanced_draws_of_damaged_shards(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path, clip_rows(sum(SIZES)), SIZES)
    RUINS["page"](folder / "train-00001-of-00003.parquet")
    source = open_source(folder)
    assert len(delivered(FewShotSource(source, 2))[0]) == 6
    drawn, bad, _ = delivered(BalancedSource(source, 30))
    assert len(drawn) == 30
    assert bad == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_plain_data_loader_survives_a_skipped_video(tmp_path: Path, num_workers: int) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").write_bytes(video_bytes(0))
    records = [VideoRecord(tmp_path / f"{name}.mp4", "x", None, name) for name in ("a", "bad", "b", "c")]
    stream = ClipStream(FolderSource(records), SPEC, shuffle_window=0)
    batches = list(DataLoader(stream, batch_size=3, num_workers=num_workers))
    assert [batch["clip_id"] for batch in batches] == [["a", "b", "c"]]
    assert batches[0]["pixel_values"].dtype == torch.uint8
    assert [entry["clip_id"] for entry in batches[0]["bad_samples"]] == ["bad"]


def test_an_unwritable_cache_does_not_stop_local_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("the cache of `datasets` cannot be written")

    monkeypatch.setattr("tubelets.data.sources.opening.load_dataset", refused)
    monkeypatch.setattr("datasets.load.load_dataset_builder", refused)
    folder = write_parquet(tmp_path / "parquet", clip_rows(sum(SIZES)), SIZES)
    for path in (folder, write_tars(tmp_path / "tar"), write_folder(tmp_path / "videos")):
        assert len(delivered(open_source(path))[0]) == sum(SIZES)


def test_too_few_shards_are_mentioned_once_and_only_where_bytes_are_read(tmp_path: Path) -> None:
    source = open_source(write_parquet(tmp_path / "shards", clip_rows(4), [4]))
    with pytest.warns(UserWarning, match="1 shards are too few for 2 consumers") as told:
        list(ClipLoader(ClipStream(source, SPEC), 2))
    assert len([each for each in told if "too few" in str(each.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClipLoader(ClipStream(open_source(write_folder(tmp_path / "videos")), SPEC), 2)
