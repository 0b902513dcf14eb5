"""Read annotations for shards and sources of files: a folder, a list, a csv file, with or without splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tubelets.data.modalities.suffixes import AUDIO_SUFFIXES, IMAGE_SUFFIXES, SKELETON_SUFFIXES, VIDEO_SUFFIXES
from tubelets.data.sources.file_folders import read_folder
from tubelets.data.sources.lists import Table, is_headerless, read_csv, read_list
from tubelets.data.sources.records import VideoRecord, check_unique_ids
from tubelets.data.sources.splits import canonical_split, split_in_name

_MEDIA_SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES | IMAGE_SUFFIXES | SKELETON_SUFFIXES
_LIST_SUFFIXES = (".csv", ".txt", ".tsv", ".lst")


def read_records(
    source: str | Path,
    *,
    root: str | Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[VideoRecord]:
    """Read a folder of class folders, a text list or a csv file.

    Args:
        source: A folder (see `read_folder`), a `.csv` file (see `read_csv`), a video, sound, image or recording
            of skeletons, or any other file (see `read_list`).
        root: Base folder of relative paths in a list; by default the folder of the list.
        split: Keep only the csv rows of this split; invalid for inputs without splits.
        columns: Names of csv columns, see `read_csv`.

    Returns:
        The records in the order of the input (folders: sorted by path).

    Raises:
        FileNotFoundError: `source` does not exist.
        ValueError: The list is empty, two videos share an id, or a line is invalid.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a folder of class folders or an annotation file")
    if source.suffix.lower() in _MEDIA_SUFFIXES and source.is_file():
        return [VideoRecord(source, label=None, caption=None, clip_id=source.name)]
    if source.suffix.lower() in (".csv", ".tsv") and source.is_file():
        return _checked(read_csv(source, root=root, split=split, columns=columns), source)
    if split is not None:
        raise ValueError(f"{source} has no splits (got split={split!r}); only a csv file with a `split` column has")
    return _checked(read_folder(source) if source.is_dir() else read_list(source, root=root), source)


def read_splits(
    source: str | Path, *, root: str | Path | None = None, columns: Mapping[str, str] | None = None
) -> dict[str | None, list[VideoRecord]]:
    """Read the records of every split of a folder, a list or a csv file.

    Splits come from a column `split` of a csv file; from folders named train, validation (val, valid, dev) and test
    that hold the class folders; from lists of these names in a folder; otherwise from the name of the folder or list
    itself.

    Args:
        source: See `read_records`; or a folder of such folders or lists.
        root: Base folder of relative paths in lists; by default the folder of each list.
        columns: Names of csv columns, see `read_csv`.

    Returns:
        Records by split as written, or under None if nothing says a split.

    Raises:
        FileNotFoundError: `source` does not exist.
        ValueError: A list is empty, two videos share an id, or a line is invalid.
    """
    source = Path(source)
    if source.is_dir():
        parts = _parts_of(source)
        if parts:
            found = {part.stem if part.is_file() else part.name: part for part in parts}
            return {name: read_records(part, root=root, columns=columns) for name, part in found.items()}
        named = source.name if _is_split(source.name) else None
        return {named: read_records(source)}
    records = read_records(source, root=root, columns=columns)
    if source.suffix.lower() in (".csv", ".tsv") and (columns or not is_headerless(source)):
        table = Table.read(source, columns)
        if "split" in table.meaning:
            splits: dict[str | None, list[VideoRecord]] = {}
            for record, name in zip(records, table.cells("split"), strict=True):
                splits.setdefault(name, []).append(record)
            return splits
    return {split_in_name(source.stem): records}


def _parts_of(folder: Path) -> list[Path]:
    """Folders, or otherwise lists, that hold one split each; empty if others lie beside the folders."""
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path for path in visible if path.is_dir()]
    if folders and all(_is_split(path.name) for path in folders):
        return folders
    lists = [path for path in visible if path.suffix.lower() in _LIST_SUFFIXES and path.is_file()]
    has_media = any(path.suffix.lower() in _MEDIA_SUFFIXES for path in visible)
    return [] if has_media else [path for path in lists if _is_split(path.stem)]


def _is_split(name: str) -> bool:
    return canonical_split(name) in ("train", "validation", "test")


def _checked(records: Sequence[VideoRecord], source: Path) -> list[VideoRecord]:
    """Reject an empty list and duplicate clip ids."""
    if not records:
        raise ValueError(f"{source} lists no videos; known suffixes in folders are {sorted(_MEDIA_SUFFIXES)}")
    check_unique_ids(records)
    return list(records)
