"""The parts of labelled data in fine-tuning: which one is trained on, chosen on, and tested."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from clip_shards import CLASS_NAMES, clip_rows, video_bytes, write_parquet
from transformers import TrainingArguments

from tubelets.data.sources.source import Source
from tubelets.tasks.classification.arguments import VideoDataArguments
from tubelets.tasks.classification.labels import address_of, open_part
from tubelets.tasks.classification.video import VideoData


def arguments(**values: Any) -> VideoDataArguments:
    return VideoDataArguments(**values)


def labels(source: Source) -> list[int]:
    return sorted(sample.label for index in range(source.num_shards) for sample in source.iterate_shard(index))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Shards and class folders with three splits, and with two."""
    folder = tmp_path_factory.mktemp("data")
    for name, splits in (("three", ("train", "val", "test")), ("two", ("train", "val"))):
        for split in splits:
            (shard,) = write_parquet(folder / name / "new", clip_rows(3), [3]).iterdir()
            shard.rename(folder / name / shard.name.replace("train", split))
            for number, label in enumerate(CLASS_NAMES):
                path = folder / f"{name} folders" / split / label / f"{number}.mp4"
                path.parent.mkdir(parents=True)
                path.write_bytes(video_bytes(number))
        (folder / name / "new").rmdir()
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["", " folders"])
def test_the_test_split_is_tested_if_there_is_one(data: dict[str, Path], kind: str) -> None:
    three, two = str(data[f"three{kind}"]), str(data[f"two{kind}"])
    assert address_of(arguments(dataset_name=three), "test") == (three, "test")
    assert address_of(arguments(dataset_name=two), "test") == (two, "validation")
    assert address_of(arguments(dataset_name=three, test_split="val"), "test") == (three, "val")
    assert labels(open_part(arguments(dataset_name=three), "validation")) == [0, 1, 2]


def test_folders_of_parts(data: dict[str, Path]) -> None:
    three, two = str(data["three folders"]), str(data["two folders"])
    # One folder that holds all parts, or a folder for each.
    assert address_of(arguments(train_dir=three), "test") == (three, "test")
    assert address_of(arguments(train_dir=three), "validation") == (three, "validation")
    named = arguments(train_dir=f"{two}/train", validation_dir=f"{two}/val")
    assert address_of(named, "test") == address_of(named, "validation") == (f"{two}/val", None)
    assert labels(open_part(named, "train")) == [0, 1, 2]
    odd = arguments(train_dir=f"{two}/val", validation_dir=f"{two}/train", test_dir=f"{three}/test")
    assert (address_of(odd, "train"), address_of(odd, "test")) == ((f"{two}/val", None), (f"{three}/test", None))
    with pytest.raises(ValueError, match="no validation videos; set validation_dir"):
        address_of(arguments(train_dir=f"{two}/train"), "validation")
    with pytest.raises(ValueError, match=r"no split 'dev set'; its splits are \['train', 'val'\]"):
        open_part(arguments(dataset_name=two, validation_split="dev set"), "validation")


def run(folder: Path, **options: Any) -> TrainingArguments:
    return TrainingArguments(
        str(folder), do_train=True, do_eval=True, eval_strategy="epoch", save_strategy="epoch", report_to=[], **options
    )


def test_a_choice_on_the_test_is_mentioned(data: dict[str, Path], tmp_path: Path) -> None:
    choosing = run(tmp_path, load_best_model_at_end=True)
    with pytest.warns(UserWarning, match="the checkpoint is chosen by its score on validation"):
        two = VideoData(arguments(dataset_name=str(data["two"])), choosing)
    assert two.data.test_split == "validation"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        three = VideoData(arguments(dataset_name=str(data["three"])), choosing)
        VideoData(arguments(dataset_name=str(data["two"])), run(tmp_path))
    assert three.data.test_split == "test"


def test_a_missing_test_split_is_noticed_before_training(data: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no split 'holdout'; its splits are \['test', 'train', 'val'\]"):
        VideoData(arguments(dataset_name=str(data["three"]), test_split="holdout"), run(tmp_path))


def test_held_back_clips_follow_the_training_draw(tmp_path: Path) -> None:
    def ids(source: Source) -> set[str]:
        return {sample.clip_id for sample in source.iterate_shard(0)}

    write_parquet(tmp_path, clip_rows(18), [18])
    given = {"dataset_name": str(tmp_path), "shots_seed": 3}
    trained = open_part(arguments(**given, shots_per_class=2, held_back_shots=1), "train")
    held_back = {
        part: open_part(arguments(**given, shots_per_class=2, held_back_shots=1), part)
        for part in ("validation", "test")
    }
    assert labels(held_back["test"]) == [0, 1, 2]
    assert ids(held_back["validation"]) == ids(held_back["test"])
    assert not ids(trained) & ids(held_back["test"])
    assert ids(trained) | ids(held_back["test"]) == ids(open_part(arguments(**given, shots_per_class=3), "train"))
    assert ids(held_back["test"].with_media(("video",))) == ids(held_back["test"])
    with pytest.raises(ValueError, match="held_back_shots=1 needs shots_per_class"):
        arguments(**given, held_back_shots=1)
