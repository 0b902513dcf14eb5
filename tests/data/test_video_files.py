from pathlib import Path

import pytest

from tubelets.data.sources.annotations import read_records
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.records import VideoRecord
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from videos import make_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for number in range(6):
        path = root / ("run", "jump", "walk")[number % 3] / f"{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(make_video(8, 16, 24, seed=number))
    return root


def stream(source: FolderSource, **options: object) -> ClipStream:
    return ClipStream(source, ClipSpec(2, 1), split="samples", **options)  # type: ignore[arg-type]


def test_every_video_once_with_its_class(folder: Path) -> None:
    source = FolderSource(read_records(folder))
    assert source.num_samples == 6
    assert source.class_names == ["jump", "run", "walk"]
    items = list(stream(source))
    assert sorted(item["clip_id"] for item in items) == sorted(sample.clip_id for sample in source.iterate_shard(0))
    assert all(item["clip_id"].startswith(source.class_names[item["label"]]) for item in items)


def test_workers_change_nothing(folder: Path) -> None:
    source = FolderSource(read_records(folder))
    orders = [[batch["clip_id"] for batch in ClipLoader(stream(source, batch_size=2), workers)] for workers in (0, 2)]
    assert orders[0] == orders[1]


def test_given_names_fix_the_numbers(folder: Path) -> None:
    source = FolderSource(read_records(folder), ["walk", "sit", "run", "jump"])
    assert {sample.label for sample in source.iterate_shard(0)} == {0, 2, 3}


def test_another_list_is_another_source(folder: Path) -> None:
    records = read_records(folder)
    assert FolderSource(records).shard_names == FolderSource(records).shard_names
    assert FolderSource(records).shard_names != FolderSource(records[1:]).shard_names


def test_several_classes(tmp_path: Path) -> None:
    records = [VideoRecord(tmp_path / "a.mp4", "run; jump", None, "a"), VideoRecord(tmp_path / "b.mp4", ";", None, "b")]
    source = FolderSource(records, multi_label=True)
    assert source.class_names == ["jump", "run"]
    assert [sample.label for sample in source.iterate_shard(0)] == [[1, 0], []]


def test_a_missing_file_is_a_bad_sample(folder: Path) -> None:
    records = [*read_records(folder), VideoRecord(folder / "gone.mp4", "run", None, "gone")]
    loader = ClipLoader(stream(FolderSource(records)))
    assert len(list(loader)) == 6
    assert [sample["clip_id"] for sample in loader.bad_samples] == ["gone"]


def test_bad_lists_are_refused(tmp_path: Path) -> None:
    record = VideoRecord(tmp_path / "a.mp4", "run", None, "a")
    with pytest.raises(ValueError, match="the list is empty"):
        FolderSource([])
    with pytest.raises(ValueError, match="label 'run' of clip 'a' is not among the 1 class names"):
        FolderSource([record], ["jump"])
    with pytest.raises(ValueError, match="clip 'b' has no label"):
        FolderSource([record, VideoRecord(tmp_path / "b.mp4", None, None, "b")])
    with pytest.raises(IndexError, match="shard 1"):
        list(FolderSource([record]).iterate_shard(1))
