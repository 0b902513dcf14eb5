import hashlib
import json
import warnings
from itertools import islice, pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from clip_shards import CLASS_NAMES, NUM_FRAMES, clip_rows, video_bytes, write_parquet, write_tar
from datasets import Dataset, Features, Value, Video, load_dataset
from torch.utils.data import DataLoader

from tubelets.data.modalities.video import BadVideoError
from tubelets.data.seeds import stable_seed
from tubelets.data.sources import opening as sources
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.shard_files import ShardWriter
from tubelets.data.sources.source import Source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from videos import bad_videos

SPEC = ClipSpec(num_frames=2, stride=2)
SIZES = [7, 1, 9, 5, 6, 4, 8, 3]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_parquet(tmp_path_factory.mktemp("shards"), clip_rows(sum(SIZES)), SIZES)


@pytest.fixture(scope="module")
def source(shards):
    return open_source(shards)


def shift_colours(clip, generator):
    """Stands for an augmentation: its result depends on the generator."""
    return clip + torch.randint(100, (1,), generator=generator).to(torch.uint8)


def ids(items):
    return [item["clip_id"] for item in items]


# --- sources -----------------------------------------------------------------------------------------------------


def test_parquet_of_plain_datasets(source):
    assert (source.num_shards, source.num_samples, source.class_names) == (8, sum(SIZES), CLASS_NAMES)
    assert source.shard_names[1] == "train-00001-of-00008.parquet"
    rows = list(source.iterate_shard(2, skip=3))
    assert [row.clip_id for row in rows] == [f"clip-{number:03d}" for number in range(11, 17)]
    assert (rows[0].medium.data, rows[0].label, rows[0].caption) == (video_bytes(11 % 5), 11 % 3, None)
    with pytest.raises(IndexError, match="shard 8 does not exist"):
        next(source.iterate_shard(8))


def test_source_selects_files(shards, tmp_path):
    pattern = open_source(str(shards / "train-0000[0-2]*.parquet"))
    assert (pattern.num_shards, pattern.num_samples) == (3, 17)
    assert open_source(shards / "train-00001-of-00008.parquet").num_samples == 1
    odd = tmp_path / "with [1] and *"
    write_parquet(odd, clip_rows(2), [1, 1])
    assert open_source(odd).num_shards == 2


def test_relative_file_names_are_read_beside_their_shard(tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").write_bytes(video_bytes(0))
    features = Features({"video": Video(), "caption": Value("string")})
    rows = [{"video": {"bytes": None, "path": name}, "caption": name} for name in ("clips/a.mp4", "clips/b.mp4")]
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), tmp_path / "data.parquet")
    source = open_source(tmp_path)
    first, second = source.iterate_shard(0)
    assert (first.clip_id, first.caption, source.class_names) == ("data.parquet:0", "clips/a.mp4", None)
    assert source.read_bytes(first) == video_bytes(0)
    with pytest.raises(FileNotFoundError):
        source.read_bytes(second)
    with pytest.warns(UserWarning, match=r"clip data\.parquet:1: .*b\.mp4"):
        items = list(ClipStream(source, SPEC, shuffle_window=0))
    assert [(item["clip_id"], item["caption"], "label" in item) for item in items] == [
        ("data.parquet:0", "clips/a.mp4", False)
    ]


def test_webdataset_tars(tmp_path):
    for shard in range(2):
        members = []
        for number in range(3):
            key = f"{shard}{number}"
            members += [(f"{key}.cls", str(number).encode()), (f"{key}.mp4", video_bytes(number))]
            members += [(f"{key}.txt", f"clip {key}".encode())]
        write_tar(tmp_path / f"clips-{shard}.tar", members)
    source = open_source(tmp_path)
    assert (source.num_shards, source.num_samples, source.class_names) == (2, None, None)
    loader = DataLoader(ClipStream(source, SPEC), batch_size=None, num_workers=2)
    found = sorted((item["clip_id"], item["label"], item["caption"], item["pixel_values"].shape[1:]) for item in loader)
    assert found == [(f"{s}{n}", n, f"clip {s}{n}", (3, 16, 24)) for s in range(2) for n in range(3)]


def test_untyped_column_needs_its_name(tmp_path):
    table = Dataset.from_dict({"data": [video_bytes(0)], "clip_id": ["x"]})
    table.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(
        ValueError, match=r"0 video or audio columns \[\] among \['data', 'clip_id'\]; name the right one"
    ):
        open_source(tmp_path)
    with pytest.raises(ValueError, match="no column 'video'"):
        open_source(tmp_path, columns={"video": "video"})
    assert next(open_source(tmp_path, columns={"video": "data"}).iterate_shard(0)).medium.data == video_bytes(0)


def test_hub_data_set(shards, monkeypatch):
    calls = []

    def local_load_dataset(repository, **options):
        calls.append((repository, options))
        files = [str(path) for path in sorted(shards.glob("*.parquet"))]
        return load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)

    monkeypatch.setattr(sources, "load_dataset", local_load_dataset)
    source = open_source("user/clips", split="train", name="small", revision="abc", token="secret")
    options = {"name": "small", "split": "train", "revision": "abc", "token": "secret", "streaming": True}
    assert calls == [("user/clips", options)]
    assert (source.num_shards, source.shard_names[7], source.class_names) == (8, "user/clips[7]", CLASS_NAMES)
    assert sorted(ids(ClipStream(source, SPEC))) == [f"clip-{n:03d}" for n in range(sum(SIZES))]


def test_missing_labels_are_none_not_missing(tmp_path):
    rows = clip_rows(3)
    rows[1]["label"] = None
    source = open_source(write_parquet(tmp_path, rows, [3]))
    assert [item["label"] for item in ClipStream(source, SPEC, shuffle_window=0)] == [0, None, 2]


def test_source_errors(shards, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_source(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"contains no \.parquet or \.tar shards"):
        open_source(tmp_path)
    with pytest.raises(FileNotFoundError, match="contains no"):
        open_source(str(shards / "*.tar"))
    with pytest.raises(ValueError, match=r"no split 'test'; its splits are \['train'\]"):
        open_source(shards, split="test")
    mixed = write_parquet(tmp_path / "mixed", clip_rows(1), [1])
    write_tar(mixed / "train-00000-of-00001.tar", [("a.mp4", b"")])
    with pytest.raises(ValueError, match="mixes"):
        open_source(mixed)


# --- order -------------------------------------------------------------------------------------------------------


def test_stable_seed_is_fixed_for_ever():
    assert stable_seed(0, 3, "clip") == 6705797506273761631
    seeds = {stable_seed(*parts) for parts in [(0, 1), (1, 0), (0, "1"), ("01",), (0, 1, 0)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_item_contents(source):
    item = next(iter(ClipStream(source, SPEC, seed=3, shuffle_window=0, epoch=2)))
    assert (item["clip_id"], item["label"], item["clip_index"], item["epoch"]) == ("clip-000", 0, 0, 2)
    assert item["pixel_values"].shape == (2, 3, 16, 24)
    assert item["pixel_values"].dtype == torch.uint8
    assert item["seed"] == stable_seed(3, 2, "clip-000", 0)
    assert item["bad_samples"] == []
    assert json.loads(json.dumps(item["stream_state"])) == item["stream_state"]


def test_no_window_keeps_the_stored_order(source):
    assert ids(ClipStream(source, SPEC, shuffle_window=1)) == [f"clip-{n:03d}" for n in range(sum(SIZES))]


def test_epochs_are_reshuffled_and_repeatable(source):
    def epoch(number, seed=0):
        return ids(ClipStream(source, SPEC, seed=seed, shuffle_window=16, epoch=number))

    first = epoch(0)
    assert epoch(0) == first
    assert sorted(epoch(1)) == sorted(first) == sorted(ids(ClipStream(source, SPEC, shuffle_window=0)))
    assert epoch(1) != first
    assert epoch(0, seed=1) != first
    # The window mixes shards: neighbours in the file are not neighbours in the epoch.
    assert sum(abs(int(a[5:]) - int(b[5:])) == 1 for a, b in pairwise(first)) < len(first) // 3


def test_repeat_runs_epochs_one_after_the_other(source):
    total = sum(SIZES)
    items = list(islice(ClipStream(source, SPEC, shuffle_window=16, repeat=True), 2 * total + 3))
    assert [item["epoch"] for item in items] == [0] * total + [1] * total + [2] * 3
    assert ids(items[total : 2 * total]) == ids(ClipStream(source, SPEC, shuffle_window=16, epoch=1))


def test_too_few_shards(source):
    with pytest.raises(ValueError, match=r"each of 9 consumers \(9 ranks x 1 workers\) but there are 8"):
        next(iter(ClipStream(source, SPEC, world_size=9, split="shards")))
    with pytest.warns(UserWarning, match="8 shards are too few for 9 consumers"):
        next(iter(ClipStream(source, SPEC, world_size=9)))
    with pytest.raises(ValueError, match="multiple of clips_per_video=2"):
        next(iter(ClipStream(source, ClipSpec(2, 2, clips_per_video=2), split="samples", batch_size=3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 2, "world_size": 2}, "rank=2"),
        ({"split": "rows"}, "split='rows'"),
        ({"on_bad_sample": "ignore"}, "on_bad_sample='ignore'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"shuffle_window": -1}, "shuffle_window=-1"),
        ({"max_consecutive_bad": 0}, "max_consecutive_bad=0"),
    ],
)
def test_arguments_are_checked(source, options, message):
    with pytest.raises(ValueError, match=message):
        ClipStream(source, SPEC, **options)


# --- clips -------------------------------------------------------------------------------------------------------


def test_samplings():
    generator = torch.Generator().manual_seed(0)
    for sampling in ("dense", "finetune", "segment", "dense_test", "segment_test", "uniform"):
        frames = ClipSpec(4, 2, sampling=sampling).indices(40, 0, generator)
        assert len(frames) == 4
        assert frames == sorted(frames)
        assert 0 <= frames[0] <= frames[-1] < 40
    test = ClipSpec(4, 2, clips_per_video=3, sampling="dense_test")
    assert [test.indices(40, clip, generator)[0] for clip in range(3)] == [0, 16, 32]
    with pytest.raises(ValueError, match="stride=0"):
        ClipSpec(4, 0)
    with pytest.raises(ValueError, match="sampling='middle'"):
        ClipSpec(sampling="middle")
    with pytest.raises(ValueError, match="gives one clip"):
        ClipSpec(sampling="uniform", clips_per_video=2)


def test_clips_of_a_video_follow_each_other_and_differ(source):
    spec = ClipSpec(num_frames=2, stride=1, clips_per_video=3)
    items = list(islice(ClipStream(source, spec, shift_colours), 30))
    assert [item["clip_index"] for item in items] == [0, 1, 2] * 10
    assert [len(set(ids(items[i : i + 3]))) for i in range(0, 30, 3)] == [1] * 10
    assert len({item["seed"] for item in items}) == 30
    assert any(not torch.equal(items[i]["pixel_values"], items[i + 1]["pixel_values"]) for i in range(0, 30, 3))


def test_pixels_depend_on_seed_epoch_and_clip_only(source):
    def pixels(**options):
        return {item["clip_id"]: item["pixel_values"] for item in ClipStream(source, SPEC, shift_colours, **options)}

    whole, part = pixels(), pixels(rank=1, world_size=3, split="samples", shuffle_window=4)
    assert 0 < len(part) < len(whole)
    assert all(torch.equal(clip, whole[name]) for name, clip in part.items())
    other_epoch = pixels(epoch=1)
    assert any(not torch.equal(clip, whole[name]) for name, clip in other_epoch.items())


def test_iteration_leaves_the_global_generator_alone(source):
    before = torch.get_rng_state()
    list(islice(ClipStream(source, SPEC, shift_colours), 5))
    assert torch.equal(torch.get_rng_state(), before)


# --- bad videos --------------------------------------------------------------------------------------------------


def test_all_kinds_of_bad_videos_are_skipped_and_named(tmp_path):
    bad = bad_videos()
    replaced = {3 * place: data for place, data in enumerate(bad.values())}
    count = 3 * len(bad) + 1
    source = open_source(write_parquet(tmp_path, clip_rows(count, replaced), [count]))
    items = list(ClipStream(source, SPEC, shuffle_window=0))
    assert ids(items) == [f"clip-{n:03d}" for n in range(count) if n not in replaced]
    skipped = [entry for item in items for entry in item["bad_samples"]]
    assert [entry["clip_id"] for entry in skipped] == [f"clip-{n:03d}" for n in replaced]
    assert all(entry["shard"] == "train-00000-of-00001.parquet" and entry["reason"] for entry in skipped)


def test_raise_names_shard_and_clip(tmp_path):
    source = open_source(write_parquet(tmp_path, clip_rows(3, {1: b"no video"}), [3]))
    stream = iter(ClipStream(source, SPEC, shuffle_window=0, on_bad_sample="raise"))
    assert next(stream)["clip_id"] == "clip-000"
    with pytest.raises(BadVideoError, match=r"shard train-00000-of-00001\.parquet, clip clip-001: "):
        next(stream)


def test_checksums(tmp_path):
    rows = clip_rows(3)
    rows[1]["sha256"] = hashlib.sha256(b"something else").hexdigest()
    source = open_source(write_parquet(tmp_path, rows, [3]))
    items = list(ClipStream(source, SPEC, shuffle_window=0))
    assert ids(items) == ["clip-000", "clip-002"]
    assert "sha256" in items[1]["bad_samples"][0]["reason"]
    assert len(list(ClipStream(source, SPEC, verify_checksum=False))) == 3


def test_bad_videos_at_the_end_are_not_lost(tmp_path):
    source = open_source(write_parquet(tmp_path, clip_rows(3, {2: b""}), [3]))
    with pytest.warns(UserWarning, match=r"1 bad videos were skipped at the end of the pass.*clip-002"):
        assert len(list(ClipStream(source, SPEC, shuffle_window=0))) == 2


def test_too_many_bad_videos_in_a_row(tmp_path):
    source = open_source(write_parquet(tmp_path, clip_rows(8, dict.fromkeys(range(2, 7), b"x")), [8]))
    assert len(list(ClipStream(source, SPEC, shuffle_window=0, max_consecutive_bad=6))) == 3
    with pytest.raises(RuntimeError, match=r"5 bad videos in a row .*clip clip-006"):
        list(ClipStream(source, SPEC, shuffle_window=0, max_consecutive_bad=5))


@pytest.mark.parametrize("repeat", [False, True])
def test_epoch_without_a_good_video_is_an_error(tmp_path, repeat):
    source = open_source(write_parquet(tmp_path, clip_rows(3, dict.fromkeys(range(3), b"x")), [3]))
    with pytest.raises(RuntimeError, match="all 3 videos of epoch 0 were bad; the last reason"):
        list(islice(ClipStream(source, SPEC, repeat=repeat), 1))


def test_endless_stream_of_empty_shards_ends_with_an_error(tmp_path):
    with ShardWriter(tmp_path / "empty.parquet", Features({"video": Video()})) as writer:
        writer.finish({})
    source = open_source(tmp_path)
    assert source.num_samples == 0
    with pytest.raises(RuntimeError, match="consecutive epochs had no videos"):
        next(iter(ClipStream(source, SPEC, repeat=True)))


# --- resume ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    rows = clip_rows(sum(SIZES), {2: b"", 3: b"text", 20: video_bytes(0)[:300], 40: b"x"})
    return open_source(write_parquet(tmp_path_factory.mktemp("damaged"), rows, SIZES))


def comparable(items):
    return [{**item, "pixel_values": item["pixel_values"].sum().item()} for item in items]


@pytest.mark.parametrize("clips_per_video", [1, 3])
@pytest.mark.parametrize("window", [0, 5, 256])
@pytest.mark.parametrize("split", ["shards", "samples"])
@pytest.mark.parametrize("repeat", [False, True])
def test_resume_behind_any_item(damaged, clips_per_video, window, split, repeat):
    spec = ClipSpec(num_frames=2, stride=2, clips_per_video=clips_per_video)

    def stream():
        return ClipStream(
            damaged, spec, shift_colours, shuffle_window=window, split=split, repeat=repeat, rank=1, world_size=2,
            batch_size=3,
        )  # fmt: skip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = comparable(islice(stream(), 70))
        for stop in range(0, len(whole), 11):
            resumed = stream()
            resumed.load_state_dict(json.loads(json.dumps(whole[stop]["stream_state"])))
            assert comparable(islice(resumed, len(whole) - stop - 1)) == whole[stop + 1 :]


def test_resume_reads_one_window_not_the_epoch(source):
    stream = ClipStream(source, SPEC, shuffle_window=4)
    state = next(islice(stream, 30, None))["stream_state"]
    read = []

    class Counting(Source):
        description, num_samples = source.description, None

        def read_bytes(self, sample, medium=None):
            return source.read_bytes(sample, medium)

        def iterate_shard(self, index, skip=0):
            for sample in source.iterate_shard(index, skip):
                read.append(sample.clip_id)
                yield sample

    resumed = ClipStream(Counting(), SPEC, shuffle_window=4)
    resumed.load_state_dict(state)
    next(iter(resumed))
    assert len(read) <= 8


def test_frames_fit_the_test_videos():
    assert SPEC.num_frames * SPEC.stride < NUM_FRAMES
