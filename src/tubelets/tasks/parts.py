"""The parts of a run's data: training, validation and test, and where they are."""

from dataclasses import dataclass
from typing import Literal

from tubelets.data.sources.opening import list_splits
from tubelets.data.sources.splits import find_split
from tubelets.ranges import Count, Natural, check_ranges, described
from tubelets.tasks.task import Part


@dataclass
class DataArguments:
    """Where the data of a run is and how it is read; each task adds its own fields."""

    dataset_name: str | None = described(
        None, "Shards, a folder of class folders, a csv or list of files, or a Hub data set id."
    )
    dataset_config_name: str | None = described(None, "Configuration of a Hub data set.")
    train_split: str = described("train", "Split of the data set to train on.")
    validation_split: str = described("validation", "Split that is scored during training.")
    test_split: str | None = described(
        None, "Split of the final test; by default `test`, or the validation split without one."
    )
    train_dir: str | None = described(
        None, "Instead of a data set: folder of class folders, or a csv or list of files, of this part."
    )
    validation_dir: str | None = described(None, "As train_dir, scored during training.")
    test_dir: str | None = described(
        None,
        "As train_dir, for the final test; by default the split `test` of the other folders, or the validation files.",
    )
    shuffle_window: Natural = described(256, "Encoded clips of shards that are shuffled together.")
    split_by: Literal["auto", "shards", "samples"] = described(
        "samples", "How workers share shards; batches are independent of the number of workers with samples only."
    )
    on_bad_sample: Literal["skip", "raise"] = described(
        "skip", "What to do with an unreadable clip; skipped ones are counted in the log."
    )
    backend: Literal["auto", "pyav", "torchcodec"] = described("auto", "Decoder of frames.")
    samples_per_epoch: Count | None = described(None, "Clips per epoch, if the data set does not state its length.")

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.dataset_name is None) == (self.train_dir is None and self.validation_dir is None):
            raise ValueError(
                "give either dataset_name (shards or a Hub data set) or train_dir and validation_dir (files), "
                f"got dataset_name={self.dataset_name!r}, train_dir={self.train_dir!r}, "
                f"validation_dir={self.validation_dir!r}"
            )


def address_of(data: DataArguments, part: Part, token: str | None = None) -> tuple[str, str | None]:
    """Where a part of the data is.

    If no test part is named, it is the split "test" if there is one, and otherwise the validation part.

    Args:
        data: where the data is.
        part: which part.
        token: access token of a private data set on the Hub.

    Returns:
        Address and split, for `open_source`; the split is None if the address is one part.

    Raises:
        FileNotFoundError: if the data is not found.
        ValueError: if the part is not given.
    """
    if data.dataset_name is not None:
        split = {"train": data.train_split, "validation": data.validation_split}.get(part, data.test_split)
        return data.dataset_name, split or _test_split(data, token) or data.validation_split
    given = {"train": data.train_dir, "validation": data.validation_dir, "test": data.test_dir}
    if folder := given[part]:
        splits = list_splits(folder)
        # Whoever names a folder for each part may call it as they like, unless it holds several.
        return folder, part if len(splits) > 1 else None
    for folder in (data.validation_dir, data.train_dir):
        if folder and len(splits := list_splits(folder)) > 1 and find_split(splits, part):
            return folder, part
    if part == "test" and data.validation_dir:
        return address_of(data, "validation", token)
    raise ValueError(f"no {part} videos; set {part}_dir, or omit the step that needs them")


def _test_split(data: DataArguments, token: str | None) -> str | None:
    """The split "test" of a data set under its own name, None if it has none."""
    splits = list_splits(str(data.dataset_name), data.dataset_config_name, token=token)
    return next(iter(find_split(splits, "test")), None)
