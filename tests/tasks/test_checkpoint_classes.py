"""The classes of a checkpoint that keeps its head number the labels of the data, by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from clip_shards import video_bytes
from datasets import ClassLabel, Dataset, Features, List, Value, Video
from transformers import TrainingArguments

from tubelets.tasks.classification.arguments import VideoDataArguments
from tubelets.tasks.classification.labels import label_tensor
from tubelets.tasks.classification.video import VideoData

STORED = ["jump", "run", "sit", "walk"]
UNNAMED = ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"]
TEXT = Value("string")


def shards(folder: Path, feature: Any, cells: Sequence[Any]) -> Path:
    """A clip for each cell of a label column."""
    folder.mkdir()
    rows = [{"video": {"bytes": video_bytes(0), "path": None}, "label": cell} for cell in cells]
    table = Dataset.from_list(rows, features=Features({"video": Video(), "label": feature}))
    table.to_parquet(folder / "validation-00000-of-00001.parquet")
    return folder


def folders(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        (folder / "validation" / name).mkdir(parents=True)
        (folder / "validation" / name / "0.mp4").write_bytes(video_bytes(0))
    return folder


def opened(where: Path, stored: Sequence[str] = STORED, **options: Any) -> VideoData:
    """Data that are tested with a checkpoint of those classes."""
    args = TrainingArguments(str(where / "run"), do_eval=True, report_to=[])
    return VideoData(VideoDataArguments(dataset_name=str(where), **options), args, None, stored)


def labels(data: VideoData) -> list[Any]:
    """The label of each clip as the model is tested with it."""
    source = data.validation_source
    assert source is not None
    assert data.config_fields["id2label"] == dict(enumerate(data.class_names))
    known = len(data.class_names), data.multi_label, data.label_numbers(source)
    return [label_tensor({"clip_id": "", "label": each.label}, *known).tolist() for each in source.iterate_shard(0)]


@pytest.mark.parametrize(
    ("feature", "cells", "expected"),
    [
        (ClassLabel(names=["walk", "run", "jump"]), [0, 1, 2], [3, 1, 0]),
        (TEXT, ["walk", "jump"], [3, 0]),
        (Value("int64"), [3, 0], [3, 0]),
        (List(ClassLabel(names=["walk", "run"])), [[0], [0, 1]], [[0, 0, 0, 1], [0, 1, 0, 1]]),
        (List(TEXT), [["sit", "run"], []], [[0, 1, 1, 0], [0, 0, 0, 0]]),
    ],
    ids=["numbers with names", "text", "numbers", "several numbers", "several names"],
)
def test_shards_are_numbered_by_name(feature: Any, cells: list[Any], expected: list[Any], tmp_path: Path) -> None:
    data = opened(shards(tmp_path / "data", feature, cells))
    assert list(data.class_names) == STORED
    assert labels(data) == expected


def test_folders_without_a_class_keep_their_numbers(tmp_path: Path) -> None:
    assert labels(opened(folders(tmp_path, ["run", "walk"]))) == [1, 3]


def test_a_file_names_numbers_and_classes_without_names(tmp_path: Path) -> None:
    (names := tmp_path / "names.txt").write_text("walk\nrun\njump\nsit\n")
    named = {"class_names": str(names)}
    numbered = shards(tmp_path / "numbers", Value("int64"), [0, 2])
    assert labels(opened(numbered, **named)) == [3, 0]
    # The file has the order of a checkpoint that does not name its classes.
    unnamed = opened(folders(tmp_path / "folders", ["sit", "walk"]), UNNAMED, **named)
    assert labels(unnamed) == [3, 0]
    assert list(unnamed.class_names) == ["walk", "run", "jump", "sit"]
    assert labels(opened(numbered, UNNAMED)) == [0, 2]


def test_unknown_names_are_listed(tmp_path: Path) -> None:
    data = folders(tmp_path / "more", ["run", "skip", "hop"])
    with pytest.raises(
        ValueError, match=r"no class for 2 of the 3 names of the data: 'hop', 'skip' .*'jump'.*new_head"
    ):
        opened(data)
    with pytest.raises(ValueError, match=r"4 classes without names and the data has 3 \('hop', .*class_names"):
        opened(data, UNNAMED)
    with pytest.raises(ValueError, match=r"clip .* has label 4 and the model has 4 classes"):
        labels(opened(shards(tmp_path / "numbers", Value("int64"), [4])))
