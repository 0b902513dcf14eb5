"""Shards of a whole data set: its splits as the input names them, or drawn, with one list of classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tubelets.data.build.shards import ShardReport
from tubelets.data.build.skeleton_sets import skeleton_splits
from tubelets.data.build.splitting import FRACTIONS, build_splits, draw_splits, find_groups
from tubelets.data.sources.annotations import read_splits
from tubelets.data.sources.caption_sets import read_caption_set
from tubelets.data.sources.records import VideoRecord, class_fraction, find_class_names
from tubelets.data.sources.splits import canonical_split, choose_split, split_in_name


@dataclass(frozen=True)
class SplitChoice:
    """Which splits of a data set are built.

    Attributes:
        only: build only this split; where the input names none, the name of the only one.
        shares: shares of the splits that are drawn where the input names none.
        seed: seed of that draw.
        group_by: clips of a group share a split: a csv column, or a regular expression for ids.
        class_fraction: share of each class of the training clips that is kept; None keeps all.
        fraction_seed: seed of that draw.
    """

    only: str | None = None
    shares: Mapping[str, float] = field(default_factory=lambda: dict(FRACTIONS))
    seed: int = 0
    group_by: str | None = None
    class_fraction: float | None = None
    fraction_seed: int = 12345


def choose_splits(
    found: Mapping[str | None, list[VideoRecord]], source: str | Path, columns: Mapping[str, str], choice: SplitChoice
) -> dict[str, list[VideoRecord]]:
    """The samples of each split to build.

    Args:
        found: samples by split; the split None holds those of an input that names no splits.
        source: the input.
        columns: meaning to name of csv columns.
        choice: what is asked for.

    Returns:
        Samples by split.

    Raises:
        ValueError: if a split that is asked for does not exist, or shares or groups do not fit.

    Example:
        >>> records = [VideoRecord(Path(f"{i}.mp4"), "a", None, str(i)) for i in range(10)]
        >>> {name: len(part) for name, part in choose_splits({None: records}, "clips", {}, SplitChoice()).items()}
        {'train': 8, 'validation': 1, 'test': 1}
    """
    source = Path(source)
    if None not in found:
        named = {str(split): records for split, records in found.items()}
        if choice.only is None:
            return named
        # The name of the input itself is only a guess, which the user overrules.
        own = list(named) == [source.name if source.is_dir() else split_in_name(source.stem)]
        return {choice.only: choose_split(named, None if own else choice.only, str(source))}
    records = found[None]
    if choice.only is not None or all(record.label is None for record in records):
        return {choice.only or "train": records}
    groups = find_groups(records, choice.group_by, source, columns) if choice.group_by else None
    return draw_splits(records, choice.shares, seed=choice.seed, groups=groups)


def build_data_set(
    source: str | Path,
    output_dir: Path,
    *,
    root: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    class_names: str | Path | None = None,
    choice: SplitChoice | None = None,
    kind: str = "files",
    protocol: str | None = None,
    caption_set: str | None = None,
    **shards: Any,
) -> dict[str, ShardReport]:
    """Write the shards of all splits of a folder or list of files.

    Args:
        source: folder, text file or csv file.
        output_dir: folder of the shards.
        root: base folder of relative paths in a list; by default the list's folder.
        columns: meaning to name of csv columns.
        class_names: text file with one class name per line, which fixes the order of labels.
        choice: which splits.
        kind: "files" takes videos or sounds, and csv files of any media; "skeletons" takes a folder of recordings, see
            `tubelets.data.build.skeleton_sets.skeleton_splits`.
        protocol: of a data set of skeletons, which fixes splits and classes.
        caption_set: read the annotation files of this data set in the folder `source`, see `CAPTION_SETS`; `root` is
            then the folder of its videos.
        **shards: further arguments of `build_splits`.

    Returns:
        A report for each split.

    Raises:
        OSError: if a file is missing.
        ValueError: if the input or the choice does not fit.
    """
    columns, choice = columns or {}, choice or SplitChoice()
    fixed: list[str] | None = None
    found: dict[str | None, list[VideoRecord]] = {}
    if kind == "skeletons" and Path(source).is_dir():
        output_dir = Path(output_dir)
        found, fixed = skeleton_splits(source, protocol, output_dir.with_name(f"{output_dir.name}_clips"))
    elif kind not in ("files", "skeletons") or protocol is not None:
        raise ValueError(f"kind={kind!r} and protocol={protocol!r}; a protocol is for a folder of kind 'skeletons'")
    elif caption_set is not None:
        found.update(read_caption_set(caption_set, source, source if root is None else root))
    else:
        found = read_splits(source, root=root, columns=columns)
    # Classes belong to the data and not to a split, also where only one split is built.
    names = find_class_names((record for records in found.values() for record in records), class_names)
    if fixed is not None and class_names is None:
        names = fixed
    splits = choose_splits(found, source, columns, choice)
    if choice.class_fraction is not None:
        splits = {
            split: class_fraction(records, choice.class_fraction, choice.fraction_seed)
            if canonical_split(split) == "train" or len(splits) == 1
            else records
            for split, records in splits.items()
        }
    return build_splits(splits, output_dir, class_names=names, **shards)
