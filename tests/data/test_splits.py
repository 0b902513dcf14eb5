"""One door to all kinds of data, and its splits."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clip_shards import CLASS_NAMES, clip_rows, video_bytes, write_parquet, write_tar
from datasets import Dataset, Features, IterableDataset, Value, load_dataset

from tubelets.data.modalities.video import BadVideoError
from tubelets.data.sources import opening
from tubelets.data.sources.columns import Columns
from tubelets.data.sources.hub import HubRows
from tubelets.data.sources.opening import list_splits, open_source
from tubelets.data.sources.shards import ShardSource
from tubelets.data.sources.source import Source
from tubelets.data.sources.splits import split_of
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream


def rows(source: Source) -> list[tuple[str, Any]]:
    return [(each.clip_id, each.label) for n in range(source.num_shards) for each in source.iterate_shard(n)]


def ids(path: Path | str, split: str | None = "train") -> list[str]:
    return [name for name, _ in rows(open_source(path, split))]


def save(folder: Path, name: str, *numbers: int) -> None:
    """A shard with the clips of these numbers."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".tar"):
        write_tar(path, [(f"clip-{number:03d}.mp4", video_bytes(0)) for number in numbers])
        return
    table = clip_rows(max(numbers) + 1)
    columns = {
        "video": [table[n]["video"]["bytes"] for n in numbers],
        "clip_id": [table[n]["clip_id"] for n in numbers],
    }
    Dataset.from_dict(columns).to_parquet(path)


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("train-00000-of-00001-0123456789abcdef.parquet", "test-00000-of-00001-0123456789abcdef.parquet", "test"),
        ("clips.parquet", "test.parquet", "test"),
        ("train-000000.tar", "val-000000.tar", "validation"),
        ("training.parquet", "ucf101_dev.parquet", "val"),
        ("data/train-00000-of-00001.parquet", "data/eval-00000-of-00001.parquet", "test"),
        ("train/0.tar", "valid/0.tar", "dev"),
        ("a.parquet", "clean-00000-of-00001.parquet", "clean"),
    ],
)
def test_no_split_takes_the_files_of_another(tmp_path: Path, train: str, other: str, split: str) -> None:
    save(tmp_path, train, 1)
    save(tmp_path, other, 2)
    assert ids(tmp_path) == ["clip-001"]
    assert ids(tmp_path, split) == ["clip-002"]
    assert sorted(ids(tmp_path, None)) == ["clip-001", "clip-002"]
    assert split_of(other) in list_splits(tmp_path)
    with pytest.raises(ValueError, match=r"has no split 'holdout'; its splits are \["):
        open_source(tmp_path, "holdout")


def test_a_split_in_the_name_of_a_single_file_or_pattern(tmp_path: Path) -> None:
    save(tmp_path / "test run", "test.parquet", 1)
    save(tmp_path / "test run", "0.parquet", 2)
    with pytest.raises(ValueError, match=r"no split 'train'; its splits are \['test'\]"):
        open_source(tmp_path / "test run/test.parquet")
    # Only names below what the user gave count.
    assert ids(str(tmp_path / "test run/[0-9].parquet")) == ["clip-002"]
    save(tmp_path / "test run", "train.parquet", 3)
    with pytest.raises(ValueError, match=r"others that do not name their split, such as '0\.parquet'"):
        open_source(tmp_path / "test run")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same two splits, six clips and three classes, in every form."""
    folder = tmp_path_factory.mktemp("everything")
    lines = ["file_name,class,split"]
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        for number in numbers:
            path = folder / "folders" / split / CLASS_NAMES[number % 3] / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(video_bytes(number % 5))
            lines.append(f"folders/{split}/{CLASS_NAMES[number % 3]}/{number}.mp4,{CLASS_NAMES[number % 3]},{split}")
        members = []
        for number in numbers:
            content = json.dumps({"label": CLASS_NAMES[number % 3]}).encode()
            members += [
                (f"{number}.json", content),
                (f"{number}.mp4", video_bytes(number % 5)),
                (f"{number}.cbor", b"?"),
            ]
        (folder / "tars").mkdir(exist_ok=True)
        write_tar(folder / f"tars/{split}-000000.tar", members)
        table = {"clip": [video_bytes(n % 5) for n in numbers], "category": [CLASS_NAMES[n % 3] for n in numbers]}
        (folder / "strings").mkdir(exist_ok=True)
        Dataset.from_dict(table).to_parquet(folder / f"strings/{split}.parquet")
    (folder / "list.csv").write_text("\n".join(lines))
    write_parquet(folder / "shards", clip_rows(4), [2, 2])
    for shard in write_parquet(folder / "more", clip_rows(6)[4:], [2]).iterdir():
        shard.rename(folder / "shards" / shard.name.replace("train", "val"))
    return {name: folder / name for name in ("folders", "list.csv", "tars", "strings", "shards")}


@pytest.mark.parametrize("kind", ["folders", "list.csv", "tars", "strings", "shards"])
def test_every_form_of_data_goes_through_one_door(everything: dict[str, Path], kind: str) -> None:
    path = everything[kind]
    assert list_splits(path) == ["train", "val"]
    # The split `val` lacks the class "jump", and numbers the others as training does.
    for split, numbers in (("train", range(4)), ("validation", range(4, 6))):
        source = open_source(path, split)
        assert source.class_names == CLASS_NAMES
        assert sorted(label for _, label in rows(source)) == sorted(n % 3 for n in numbers)
        items = list(ClipStream(source, ClipSpec(num_frames=2), on_bad_sample="raise"))
        assert sorted(item["label"] for item in items) == sorted(n % 3 for n in numbers)
    with pytest.raises(ValueError, match=r"no split 'test'; its splits are \['train', 'val'\]"):
        open_source(path, "test")


def test_class_names_can_be_given(everything: dict[str, Path]) -> None:
    names = ["walk", "run", "jump", "sit"]
    for kind in ("folders", "tars", "strings"):
        source = open_source(everything[kind], class_names=names)
        assert source.class_names == names
        assert sorted(label for _, label in rows(source)) == [0, 1, 2, 2]


def test_an_unlabelled_folder_is_a_source(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(video_bytes(0))
    source = open_source(tmp_path)
    assert (source.annotations, source.class_names) == ([], None)
    assert [item["clip_id"] for item in ClipStream(source, ClipSpec(2), shuffle_window=0)] == ["a.mp4", "b.mp4"]


def test_annotations_of_shards_can_be_named(tmp_path: Path) -> None:
    table = {"film": [video_bytes(0)] * 2, "verb": ["open", "close"], "said": ["x", "y"], "key": ["k1", "k2"]}
    Dataset.from_dict(table).to_parquet(tmp_path / "a.parquet")
    columns = {"video": "film", "label": "verb", "caption": "said", "clip_id": "key"}
    source = open_source(tmp_path, columns=columns)
    assert source.class_names == ["close", "open"]
    assert [(s.clip_id, s.label, s.caption) for s in source.iterate_shard(0)] == [("k1", 1, "x"), ("k2", 0, "y")]
    with pytest.raises(ValueError, match="columns= names 'verbs', which is neither a medium"):
        open_source(tmp_path, columns={**columns, "verbs": "verb"})


def hub_rows() -> Iterator[dict[str, Any]]:
    for number in range(3):
        yield {"mp4": video_bytes(0), "category": ["b", "a", "b"][number], "clip_id": f"clip-{number}"}
    raise ConnectionError("the Hub does not answer")


def test_a_data_set_of_the_hub_that_breaks_off() -> None:
    features = Features({"mp4": Value("binary"), "category": Value("string"), "clip_id": Value("string")})
    reader = HubRows(IterableDataset.from_generator(hub_rows, features=features), "user/clips", "hf://x")
    source = ShardSource(reader, Columns.find(reader.features, None, "user/clips"))
    assert source.class_names == ["a", "b"]
    assert rows(source) == [("clip-0", 1), ("clip-1", 0), ("clip-2", 1), ("*", None)]
    with pytest.raises(BadVideoError, match=r"shard user/clips\[0\], clip \*: .*the Hub does not answer"):
        list(ClipStream(source, ClipSpec(2), on_bad_sample="raise"))


def test_other_names_of_a_split_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shard,) = write_parquet(tmp_path, clip_rows(2), [2]).iterdir()

    def local(repository: str, split: str, **options: Any) -> Any:
        if split != "val":
            raise ValueError(f"Unknown split \"{split}\". Should be one of ['train', 'val'].")
        return load_dataset("parquet", data_files={"val": str(shard)}, split=split, streaming=True)

    monkeypatch.setattr(opening, "load_dataset", local)
    monkeypatch.setattr(opening, "get_dataset_split_names", lambda *_, **__: ["train", "val"])
    assert ids("user/clips", "validation") == ["clip-000", "clip-001"]
    with pytest.raises(ValueError, match="Unknown split"):
        open_source("user/clips", "test")


def test_urls_are_files_too(tmp_path: Path) -> None:
    write_parquet(tmp_path / "shards", clip_rows(3), [2, 1])
    save(tmp_path / "tars", "a.tar", 0, 1)
    source = open_source(f"file://{tmp_path}/shards/*.parquet")
    assert [name for name, _ in rows(source)] == ["clip-000", "clip-001", "clip-002"]
    assert source.shard_names == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert ids(f"file://{tmp_path}/tars/a.tar") == ["clip-000", "clip-001"]
