"""Labelled parts of a data set and their class names."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubelets.data.sources.few_shot import FewShotSource
from tubelets.data.sources.opening import list_splits, open_source
from tubelets.data.sources.records import find_class_names
from tubelets.data.sources.source import Source
from tubelets.data.sources.splits import find_split
from tubelets.tasks.classification.arguments import LabelledDataArguments
from tubelets.tasks.task import Part


def open_part(
    data: LabelledDataArguments, part: Part, class_names: Sequence[str] | None = None, token: str | None = None
) -> Source:
    """Open one part of the data: shards, a Hub data set, a folder of class folders or a list of files.

    Args:
        data: where the data is.
        part: which part; see `address_of` for the one that is tested.
        class_names: class names in label order, for labels that are text; None uses `data.class_names`, or without it
            the labels that occur.
        token: access token of a private data set on the Hub.

    Returns:
        A source with labels and at least one sample.

    Raises:
        FileNotFoundError: if the data is not found.
        ValueError: if the part is not given, is empty, or has labels without a name or no labels at all.
    """
    where, split = address_of(data, part, token)
    if class_names is None and data.class_names is not None:
        class_names = read_class_names(data.class_names)
    source = open_source(
        where,
        split,
        data.dataset_config_name,
        token=token,
        class_names=class_names,
        multi_label=data.multi_label,
    )
    if "label" not in source.annotations:
        raise ValueError(
            f"{where} has no labels; put files into class folders or list them with labels, or give shards a column "
            "`label` or `cls`"
        )
    if source.num_samples == 0:
        raise ValueError(f"split {split or part!r} of {where} is empty; build its shards again or name another split")
    if part == "train" and data.shots_per_class is not None:
        return FewShotSource(source, data.shots_per_class, data.shots_seed)
    return source


def address_of(data: LabelledDataArguments, part: Part, token: str | None = None) -> tuple[str, str | None]:
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


def _test_split(data: LabelledDataArguments, token: str | None) -> str | None:
    """The split "test" of a data set under its own name, None if it has none."""
    splits = list_splits(str(data.dataset_name), data.dataset_config_name, token=token)
    return next(iter(find_split(splits, "test")), None)


def read_class_names(path: str | Path) -> list[str]:
    """Read a file with one class name per line.

    Raises:
        FileNotFoundError: if the file is not found.
        ValueError: if the file is empty, or names a class twice.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no class names at {path}; give a text file with one name per line")
    names = find_class_names([], path) or []
    if not names:
        raise ValueError(f"{path} contains no class names; write one name per line")
    return names


def resolve_class_names(data: LabelledDataArguments, source: Source) -> list[str]:
    """Return the class names in label order, from the given file or from the data.

    Raises:
        ValueError: if neither has names, or the file has another number of them than the data.
    """
    found = source.class_names
    if data.class_names is None:
        if found is None:
            raise ValueError(
                "the labels of the data have no names; give a file with one name per line as class_names (for shards: "
                "build them with class names)"
            )
        return found
    names = read_class_names(data.class_names)
    if found is not None and len(found) != len(names):
        raise ValueError(f"{data.class_names} names {len(names)} classes and the data has {len(found)}; correct it")
    return names


def check_same_classes(names: Sequence[str], source: Source, part: Part) -> None:
    """Reject a part of the data with a different label order.

    Args:
        names: the classes of the model.
        source: the part.
        part: its name, for the message.

    Raises:
        ValueError: if it has other classes.
    """
    found = source.class_names
    if found is None or list(found) == list(names):
        return
    different = next(pair for pair in itertools.zip_longest(names, found) if pair[0] != pair[1])
    raise ValueError(
        f"the {part} data has {len(found)} classes and training has {len(names)}, which first differ in "
        f"{different[1]!r} and {different[0]!r}; build both with the same class names"
    )


def label_fields(class_names: Sequence[str], multi_label: bool = False) -> dict[str, Any]:
    """The fields of a classifier's configuration that follow from its classes.

    Args:
        class_names: names in label order.
        multi_label: a clip can have any number of classes.

    Raises:
        ValueError: if there are too few classes.

    Example:
        >>> label_fields(["jump", "run"])["label2id"]
        {'jump': 0, 'run': 1}
    """
    if len(class_names) < (1 if multi_label else 2):
        raise ValueError(f"a classifier needs two or more classes, got {list(class_names)}; check the class names")
    return {
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: number for number, name in enumerate(class_names)},
        "problem_type": "multi_label_classification" if multi_label else "single_label_classification",
    }


def label_tensor(item: Mapping[str, Any], num_labels: int, multi_label: bool = False) -> Tensor:
    """Convert the label of a clip to a tensor for the loss.

    Args:
        item: mapping with `label` and `clip_id`.
        num_labels: classes of the model.
        multi_label: the label is a list of the classes that are present; otherwise one class number.

    Returns:
        An int64 scalar, or float32 `(num_labels,)` in {0, 1} with `multi_label`.

    Raises:
        ValueError: if the label does not fit; the message names the clip.

    Example:
        >>> label_tensor({"clip_id": "a", "label": [0, 2]}, 3, multi_label=True)
        tensor([1., 0., 1.])
    """
    label = item["label"]
    numbers = label if multi_label else [label]
    if not isinstance(numbers, (list, tuple)) or not all(type(number) is int for number in numbers):
        expected = "a list of class numbers (multi_label)" if multi_label else "a class number"
        raise ValueError(f"clip {item['clip_id']} has the label {label!r}; expected {expected}")
    for number in numbers:
        if not 0 <= number < num_labels:
            raise ValueError(
                f"clip {item['clip_id']} has label {number} and the model has {num_labels} classes (0 to "
                f"{num_labels - 1}); give the class names of this data set"
            )
    if not multi_label:
        return torch.tensor(label)
    present = torch.zeros(num_labels)
    present[list(numbers)] = 1.0
    return present
