"""Splits in the names of files and folders, recognised as `datasets` recognises them on the Hub."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_CANONICAL = {word: split for split, words in _KEYWORDS.items() for word in words}
_SEPARATORS = re.compile(r"[-._ 0-9]+")
SHARD_NAME = re.compile(
    r"(?P<split>[\w.]+)-(?P<index>\d{5})-of-(?P<total>\d{5})(?P<hash>-[0-9A-Za-z]+)?\.(?:parquet|tar)"
)
"""File name of a numbered shard, as this package and the Hub write them."""

Found = TypeVar("Found")


def canonical_split(name: str) -> str:
    """The usual name of a split: "train", "validation" or "test"; other names stay as they are.

    Example:
        >>> canonical_split("val"), canonical_split("dev"), canonical_split("clean")
        ('validation', 'validation', 'clean')
    """
    return _CANONICAL.get(name.lower(), name)


def split_in_name(name: str) -> str | None:
    """The split keyword in the name of a file or folder, None without one.

    Args:
        name: The name; keywords are separated by digits, spaces, "-", "." or "_".

    Example:
        >>> split_in_name("ucf101_test.parquet"), split_in_name("val-000000.tar"), split_in_name("contest.tar")
        ('test', 'val', None)
    """
    words = _SEPARATORS.split(name.lower())
    return next((word for word in words if word in _CANONICAL), None)


def split_of(path: str) -> str | None:
    """Split of a shard by its path, None if it does not say.

    A number such as `-00000-of-00008` comes first, then folders, then keywords in the file name.

    Args:
        path: Path below the folder that the user named, with "/" as separator.

    Example:
        >>> split_of("data/test-00000-of-00001-1a2b3c.parquet"), split_of("dev/clips-0.tar"), split_of("clips.tar")
        ('test', 'dev', None)
    """
    *folders, name = PurePosixPath(path).parts
    match = SHARD_NAME.fullmatch(name)
    if match is not None:
        return match["split"]
    return next((found for part in (*folders, name) if (found := split_in_name(part)) is not None), None)


def by_split(paths: Iterable[str], where: str) -> dict[str, list[str]]:
    """Sort paths into splits.

    Args:
        paths: Paths below `where`.
        where: What the user named, for messages.

    Returns:
        Paths by split as written. Without any split in the names, all are "train".

    Raises:
        ValueError: Some paths are of the split "train" and others do not say theirs: they could be test data.

    Example:
        >>> by_split(["train.parquet", "test-00000-of-00001-abc.parquet"], "data")
        {'train': ['train.parquet'], 'test': ['test-00000-of-00001-abc.parquet']}
    """
    found: dict[str, list[str]] = {}
    unnamed = []
    for path in paths:
        split = split_of(path)
        if split is None:
            unnamed.append(path)
        else:
            found.setdefault(split, []).append(path)
    if unnamed:
        if any(canonical_split(split) == "train" for split in found):
            raise ValueError(
                f"{where} has files of the split 'train' and others that do not name their split, such as "
                f"{unnamed[0]!r}; rename or move these, or select files with a pattern such as train-*"
            )
        found["train"] = unnamed
    return found


def choose_split(named: Mapping[str, Sequence[Found]], split: str | None, where: str) -> list[Found]:
    """What belongs to a split, by its name as written or by its usual name.

    Args:
        named: Contents by split.
        split: The split; None chooses everything.
        where: What the user named, for the message.

    Raises:
        ValueError: The split does not exist; the message lists those that do.

    Example:
        >>> choose_split({"train": ["a"], "val": ["b"]}, "validation", "data")
        ['b']
    """
    if split is None:
        return [each for content in named.values() for each in content]
    names = find_split(named, split)
    if not names:
        raise ValueError(f"{where} has no split {split!r}; its splits are {sorted(named)}")
    return [each for name in names for each in named[name]]


def find_split(names: Collection[str], split: str) -> list[str]:
    """The names that a split goes by: the exact one if it exists, otherwise those with the same usual name.

    Example:
        >>> find_split(["train", "valid"], "validation"), find_split(["train"], "test")
        (['valid'], [])
    """
    if split in names:
        return [split]
    return sorted(name for name in names if canonical_split(name) == canonical_split(split))
