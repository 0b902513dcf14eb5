"""Labelled parts of a data set and their class names."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubelets.data.sources.few_shot import FewShotSource
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.records import find_class_names
from tubelets.data.sources.source import Source
from tubelets.data.sources.subsets import FractionSource, ListedSource
from tubelets.tasks import parts
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
    if data.train_ids is not None and part == "train":
        return ListedSource(source, _read_ids(data.train_ids))
    if data.train_fraction is not None and part == "train":
        return FractionSource(source, data.train_fraction, data.shots_seed, grouped=False)
    if data.shots_per_class is None:
        return source
    if part == "train":
        return FewShotSource(source, data.shots_per_class, data.shots_seed)
    if data.held_back_shots is not None:
        return FewShotSource(source, data.held_back_shots, data.shots_seed, skip=data.shots_per_class)
    return source


def address_of(data: LabelledDataArguments, part: Part, token: str | None = None) -> tuple[str, str | None]:
    """Where a part of the data is, see `parts.address_of`; with `held_back_shots`, all are clips of the training part.

    Args:
        data: where the data is.
        part: which part.
        token: access token of a private data set on the Hub.

    Returns:
        Address and split, for `open_source`.

    Raises:
        FileNotFoundError: if the data is not found.
        ValueError: if the part is not given.
    """
    return parts.address_of(data, "train" if data.held_back_shots is not None else part, token)


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


def _read_ids(path: str | Path) -> list[str]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no ids at {path}; give train_ids a text file with one id per line")
    ids = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    if not ids:
        raise ValueError(f"{path} contains no ids; write one per line")
    return ids


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


def checkpoint_class_names(data: LabelledDataArguments, source: Source, stored: Sequence[str]) -> list[str]:
    """Return the class names of a model that keeps the head of its checkpoint.

    Args:
        data: may name a file of class names, which then names the classes of the data.
        source: a part of the data.
        stored: names of the checkpoint's classes, in label order; transformers writes `LABEL_0`, `LABEL_1`, ... for
            classes without names.

    Returns:
        The stored names, or those of the file if the checkpoint has none.

    Raises:
        ValueError: if the data has names that the checkpoint lacks, or the checkpoint has none to compare with.
    """
    if data.class_names is None and source.class_names is None:
        return list(stored)
    names = resolve_class_names(data, source)
    if is_unnamed(stored):
        if data.class_names is not None and len(names) == len(stored):
            return names
        raise ValueError(
            f"the checkpoint has {len(stored)} classes without names and the data has {len(names)} ({_listed(names)}); "
            f"give a file with the checkpoint's {len(stored)} names in its order as class_names, or --new_head to "
            "train a new head"
        )
    unknown = [name for name in names if name not in set(stored)]
    if unknown:
        raise ValueError(
            f"the checkpoint has no class for {len(unknown)} of the {len(names)} names of the data: {_listed(unknown)} "
            f"(it has {len(stored)}: {_listed(stored)}); correct the names, or pass --new_head to train a new head"
        )
    return list(stored)


def is_unnamed(class_names: Sequence[str]) -> bool:
    """Whether names are those that transformers makes up.

    Example:
        >>> is_unnamed(["LABEL_0", "LABEL_1"]), is_unnamed(["jump", "run"])
        (True, False)
    """
    return list(class_names) == [f"LABEL_{number}" for number in range(len(class_names))]


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")


def label_numbers(data: LabelledDataArguments, source: Source, class_names: Sequence[str]) -> tuple[int, ...] | None:
    """Number each class of a part of the data as a model does, by name.

    Args:
        data: may name a file of class names.
        source: the part.
        class_names: names of the model's classes, in label order, with all those of the part.

    Returns:
        The model's number of each class of the part; None if they are the same.
    """
    if data.class_names is None and source.class_names is None:
        return None
    place = {name: number for number, name in enumerate(class_names)}
    numbers = tuple(place[name] for name in resolve_class_names(data, source))
    return None if numbers == tuple(range(len(class_names))) else numbers


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


def label_tensor(
    item: Mapping[str, Any], num_labels: int, multi_label: bool = False, numbers: Sequence[int] | None = None
) -> Tensor:
    """Convert the label of a clip to a tensor for the loss.

    Args:
        item: mapping with `label` and `clip_id`.
        num_labels: classes of the model.
        multi_label: the label is a list of the classes that are present; otherwise one class number.
        numbers: the model's number of each class of the data, see `label_numbers`; None if they are the same.

    Returns:
        An int64 scalar, or float32 `(num_labels,)` in {0, 1} with `multi_label`.

    Raises:
        ValueError: if the label does not fit; the message names the clip.

    Example:
        >>> label_tensor({"clip_id": "a", "label": [0, 2]}, 3, multi_label=True)
        tensor([1., 0., 1.])
    """
    label = item["label"]
    found = label if multi_label else [label]
    if not isinstance(found, (list, tuple)) or not all(type(number) is int for number in found):
        expected = "a list of class numbers (multi_label)" if multi_label else "a class number"
        raise ValueError(f"clip {item['clip_id']} has the label {label!r}; expected {expected}")
    classes = num_labels if numbers is None else len(numbers)
    for number in found:
        if not 0 <= number < classes:
            raise ValueError(
                f"clip {item['clip_id']} has label {number} and the {'model' if numbers is None else 'data'} has "
                f"{classes} classes (0 to {classes - 1}); give the class names of this data set"
            )
    known = list(found) if numbers is None else [numbers[number] for number in found]
    if not multi_label:
        return torch.tensor(known[0])
    present = torch.zeros(num_labels)
    present[known] = 1.0
    return present
