"""Divide a data set into splits, and build the shards of all of them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tubelets.data.build.shards import ShardReport, build_shards
from tubelets.data.seeds import stable_seed
from tubelets.data.sources.lists import Table
from tubelets.data.sources.records import VideoRecord, find_class_names

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""Share of the clips in each split."""


def draw_splits(
    records: Sequence[VideoRecord],
    fractions: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> dict[str, list[VideoRecord]]:
    """Draw splits class by class, so that each has its share of every class.

    Within a class, groups are taken in an order drawn from the seed and their names, each for the split that lacks most
    clips; what a class leaves open is carried to the next one, so that the shares of all clips hold. The first group of
    a class goes to the first split: a rare class is trained on, and may be missing in the others.

    Args:
        records: The samples. Multi-label samples count for the rarest of their classes, unlabelled ones are one class.
        fractions: Share of each split, the one that is trained on first; sums to 1. `FRACTIONS` by default.
        seed: Seed of the draw.
        groups: Group of each clip id, such as its source video; the clips of a group stay together. By default each
            clip is a group.

    Returns:
        The samples of each split in their original order; splits that got none are left out.

    Raises:
        ValueError: The fractions are not positive or do not sum to 1, or a sample has no group.

    Example:
        >>> records = [VideoRecord(Path(f"{i}.mp4"), "ab"[i % 2], None, str(i)) for i in range(20)]
        >>> {name: [record.label for record in part].count("a") for name, part in draw_splits(records).items()}
        {'train': 8, 'validation': 1, 'test': 1}
    """
    shares = dict(FRACTIONS if fractions is None else fractions)
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"the shares of the splits must be positive and sum to 1, got {shares}")
    members: dict[str, list[VideoRecord]] = {}
    for record in records:
        if groups is not None and record.clip_id not in groups:
            raise ValueError(f"clip {record.clip_id!r} has no group; give one for every clip")
        members.setdefault(record.clip_id if groups is None else groups[record.clip_id], []).append(record)
    by_class: dict[str, list[str]] = {}
    for group, label in _class_of_groups(members).items():
        by_class.setdefault(label, []).append(group)
    open_places = dict.fromkeys(shares, 0.0)
    chosen: dict[str, str] = {}
    for _, names in sorted(by_class.items()):
        size = sum(len(members[name]) for name in names)
        open_places = {split: left + shares[split] * size for split, left in open_places.items()}
        for place, name in enumerate(sorted(names, key=lambda name: (stable_seed(seed, "split", name), name))):
            split = next(iter(shares)) if place == 0 else max(open_places, key=open_places.__getitem__)
            open_places[split] -= len(members[name])
            chosen |= dict.fromkeys((record.clip_id for record in members[name]), split)
    drawn = {split: [record for record in records if chosen[record.clip_id] == split] for split in shares}
    return {split: part for split, part in drawn.items() if part}


def _class_of_groups(members: Mapping[str, Sequence[VideoRecord]]) -> dict[str, str]:
    """The rarest class of each group."""
    counts = Counter(name for records in members.values() for record in records for name in record.label_names)
    return {
        group: min(
            (name for record in records for name in record.label_names),
            key=lambda name: (counts[name], name),
            default="",
        )
        for group, records in members.items()
    }


def find_groups(
    records: Sequence[VideoRecord], group_by: str, source: str | Path | None = None, columns: Any = None
) -> dict[str, str]:
    """Group of each clip, from a csv column or from its id.

    Args:
        records: The samples, in the order of `source` if that is a csv file.
        group_by: Name of a column of the csv file `source`, otherwise a regular expression that is searched in the ids.
            The group is its first parenthesis, or all that matched.
        source: The input of the records.
        columns: Names of columns, see `read_csv`.

    Returns:
        Group by clip id.

    Raises:
        ValueError: The expression is invalid, or does not match an id.

    Example:
        >>> records = [VideoRecord(Path(f"{name}.mp4"), None, None, name) for name in ("run/v1_c1", "run/v1_c2")]
        >>> find_groups(records, "v[0-9]+")
        {'run/v1_c1': 'v1', 'run/v1_c2': 'v1'}
    """
    file = None if source is None else Path(source)
    if file is not None and file.suffix.lower() in (".csv", ".tsv") and file.is_file():
        table = Table.read(file, columns)
        if group_by in table.columns:
            return {record.clip_id: group for record, group in zip(records, table.cells(group_by), strict=True)}
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ValueError(f"group_by={group_by!r} is neither a column nor a regular expression ({error})") from error
    groups = {}
    for record in records:
        match = pattern.search(record.clip_id)
        if match is None:
            raise ValueError(f"group_by={group_by!r} does not match the clip id {record.clip_id!r}; correct it")
        groups[record.clip_id] = match[1] if pattern.groups else match[0]
    return groups


def build_splits(
    splits: Mapping[str, Sequence[VideoRecord]],
    output_dir: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    **options: Any,
) -> dict[str, ShardReport]:
    """Build the shards of all splits of a data set, with one list of classes.

    Args:
        splits: The samples of each split.
        output_dir: Folder of the shards.
        class_names: Class names in label order. By default those that occur in any split; a split need not have all.
        **options: Further arguments of `build_shards`.

    Returns:
        The report of each split.

    Raises:
        ValueError: See `build_shards`.
    """
    if class_names is None:
        class_names = find_class_names(record for records in splits.values() for record in records)
    return {
        split: build_shards(records, output_dir, split=split, class_names=class_names, **options)
        for split, records in splits.items()
    }
