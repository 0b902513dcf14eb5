"""The one door to data: shards, files in folders or lists, a Hub data set, or blank clips, by address."""

import glob
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets import DownloadConfig, get_dataset_split_names, load_dataset
from datasets.data_files import resolve_pattern

from tubelets.data.sources.annotations import read_splits
from tubelets.data.sources.blank import BlankSource
from tubelets.data.sources.columns import Columns
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.hub import HubRows
from tubelets.data.sources.labels import Labels, names_of
from tubelets.data.sources.parquet import ParquetShards
from tubelets.data.sources.records import find_class_names
from tubelets.data.sources.rows import ShardReader
from tubelets.data.sources.shard_files import is_unfinished, missing_shards, stated_counts
from tubelets.data.sources.shards import ShardSource
from tubelets.data.sources.source import Source
from tubelets.data.sources.splits import by_split, choose_split, find_split, split_in_name
from tubelets.data.sources.tars import TarShards

_SUFFIXES = (".parquet", ".tar")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def open_source(
    path: str | Path,
    split: str | None = "train",
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    revision: str | None = None,
    token: str | None = None,
    class_names: Sequence[str] | None = None,
    multi_label: bool = False,
) -> Source:
    """Open shards, files in class folders, a list of files or a Hub data set, reading only what is asked for.

    In shards, media are found by the types and names of columns: type Video is "video", type Audio is "audio"; columns
    named `flow`, `depth`, `skeleton` or after a medium of a registered modality are that medium; otherwise a column
    such as `path` or `file_name` is "video". In tars `x.mp4` is "video", `x.flac` "audio", `x.flow.mp4` "flow" and
    `x.npy` "skeleton"; values in `x.json` are columns. Images without a video are videos of one frame. The main medium
    is "video", otherwise "audio", otherwise the first one.

    A shard that is damaged or missing from its numbering is not an error here: its rows are samples with a `problem`,
    which streams skip and report.

    Args:
        path: A folder, file or glob pattern of `.parquet` or WebDataset `.tar` shards (or an fsspec URL of one); a
            folder of class folders, a csv file or a list (see `read_splits`); or the id of a Hub data set.
            `blank://80000` is that number of black clips.
        split: Name of the split; None opens all together. "validation", "valid", "val" and "dev" are the same, and so
            are "train" and "training", "test" and "eval". On disk, splits are recognised in the names of files and
            folders as `datasets` does. Without a split in any name, everything is "train".
        name: Configuration of a Hub data set.
        columns: Columns that are not found by themselves, by medium or annotation, such as `{"video": "left_camera",
            "label": "verb"}`.
        revision: Branch, tag or commit of a Hub data set.
        token: Access token of a private Hub data set.
        class_names: Class names in label order, for labels that are text or files. By default those that occur in any
            split on disk, or in this split of a Hub data set.
        multi_label: Labels of files are several names with `;` between them.

    Returns:
        The source. Labels come from a column `label`, `labels`, `cls` or another usual name, captions from `caption`,
        `txt` or `text`, ids from `clip_id` or `__key__` (otherwise "shard:row"). The checksum of the main medium comes
        from `sha256`, that of medium NAME from `NAME_sha256`.

    Raises:
        FileNotFoundError: The path does not exist or holds neither shards nor media, or the pattern matches nothing.
        ValueError: The split does not exist, shards are mixed or not yet built, none can be read, or no medium is
            found.
    """
    text = _local_path(path)
    if text.startswith("blank://"):
        return BlankSource.parse(text)
    if "://" in text:
        found = (
            resolve_pattern(text, "", download_config=DownloadConfig(token=token)) if glob.has_magic(text) else [text]
        )
        return _open_shards(_reader(found, text, token), columns, class_names, text, token)
    if _is_hub_id(text):
        return _open_hub(text, split, name, columns, revision, token, class_names)
    shards = _local_shards(text)
    if not shards:
        return _open_files(Path(text), split, columns, class_names, multi_label)
    named = by_split(shards, text)
    chosen = choose_split(named, split, text)
    if Path(text).is_dir() and split is not None:
        chosen = _complete(chosen, Path(text))
    base = _base_of(text)
    reader = _reader([(base / file).absolute().as_posix() for file in chosen], text, token)
    if class_names is None and len(chosen) < len(shards):
        class_names = _names_in_all([(base / file).absolute().as_posix() for file in shards], reader, columns, text)
    return _open_shards(reader, columns, class_names, text, token)


def list_splits(
    path: str | Path,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> list[str]:
    """Names of the splits at an address, as `open_source` understands them.

    Args:
        path: See `open_source`, also for the other arguments.
        name: Configuration of a Hub data set.
        columns: Columns of a csv file that are not found by themselves.
        revision: Branch, tag or commit of a Hub data set.
        token: Access token of a private Hub data set.

    Returns:
        The names as written, sorted; "train" alone if nothing names a split.

    Raises:
        FileNotFoundError: The path does not exist, or holds neither shards nor media.

    Example:
        >>> list_splits("blank://10")
        ['train']
    """
    text = _local_path(path)
    if "://" in text:
        return ["train"]
    if _is_hub_id(text):
        return sorted(get_dataset_split_names(text, name, revision=revision, token=token))
    shards = _local_shards(text)
    return sorted(by_split(shards, text)) if shards else sorted(_records_of(Path(text), columns))


def _local_path(path: str | Path) -> str:
    """An address as text, without the scheme of local files."""
    return str(path).removeprefix("file://").removeprefix("local://")


def _is_hub_id(path: str) -> bool:
    return not Path(path).exists() and not glob.has_magic(path) and _HUB_ID.fullmatch(path) is not None


def _base_of(path: str) -> Path:
    """The folder that file names are relative to: in a pattern, the part before its first wildcard."""
    if Path(path).is_dir():
        return Path(path)
    base = Path(path).parent
    while not Path(path).is_file() and glob.has_magic(str(base)):
        base = base.parent
    return base


def _local_shards(path: str) -> list[str]:
    """Shard files of `path`, relative to `_base_of`; empty for other files and folders.

    Raises:
        FileNotFoundError: Nothing exists there.
    """
    base = _base_of(path)
    if Path(path).is_dir():
        found = [*Path(path).iterdir()]
        if not any(file.suffix in _SUFFIXES for file in found):
            parts = [each for each in found if each.is_dir() and (each.name == "data" or split_in_name(each.name))]
            found = [file for part in parts for file in part.iterdir()]
    elif Path(path).is_file():
        found = [Path(path)]
    elif glob.has_magic(path):
        found = [Path(file) for file in glob.glob(path, recursive=True)]
        if not any(file.suffix in _SUFFIXES for file in found):
            raise FileNotFoundError(f"{path} contains no .parquet or .tar shards; build them with `tubelets shards`")
    else:
        raise FileNotFoundError(
            f"{path} does not exist; give a folder, file or pattern of shards, a folder of class folders, a list of "
            "files, or a Hub data set id"
        )
    # Hidden files are unfinished shards.
    return sorted(
        file.relative_to(base).as_posix()
        for file in found
        if file.suffix in _SUFFIXES and not file.name.startswith(".")
    )


def _complete(names: list[str], folder: Path) -> list[str]:
    """Add shards that are missing from the numbering of a split, as damaged ones.

    Raises:
        ValueError: They are missing because their build has not finished.
    """
    absent = missing_shards([Path(name).name for name in names])
    if not absent:
        return names
    inside = Path(names[0]).parent
    split = absent[0].rpartition("-of-")[0].rpartition("-")[0]
    if is_unfinished(folder / inside, split, Path(names[0]).name):
        raise ValueError(
            f"{folder} lacks {len(absent)} shards of split {split!r}, first {absent[0]}; finish building them"
        )
    warnings.warn(
        f"{folder} lacks {len(absent)} shards of split {split!r}, first {absent[0]}; streams skip and count them",
        stacklevel=3,
    )
    return sorted([*names, *((inside / name).as_posix() for name in absent)])


def _reader(files: Sequence[str], where: str, token: str | None) -> ShardReader:
    """The reader of shard files of one kind."""
    suffixes = {file[file.rfind(".") :] for file in files}
    if not suffixes <= set(_SUFFIXES):
        raise ValueError(f"{where} must end in one of {_SUFFIXES}")
    if len(suffixes) > 1:
        raise ValueError(f"{where} mixes .parquet and .tar shards; select one kind with a pattern such as *.parquet")
    if suffixes == {".tar"}:
        return TarShards(files, token, where)
    folders = {file.rpartition("/")[0] for file in files if "://" not in file}
    counts = {
        file: count
        for folder in folders
        for content in stated_counts(Path(folder)).values()
        for file, count in content.items()
    }
    return ParquetShards(files, token, counts, where)


def _open_shards(
    reader: ShardReader,
    columns: Mapping[str, str] | None,
    class_names: Sequence[str] | None,
    where: str,
    token: str | None,
) -> Source:
    found = Columns.find(reader.features, columns, where)
    return ShardSource(reader, found, class_names=class_names, token=token)


def _names_in_all(
    files: Sequence[str], reader: ShardReader, columns: Mapping[str, str] | None, where: str
) -> list[str] | None:
    """Class names of text labels in all splits, since they belong to the data and not to a split."""
    column = Columns.find(reader.features, columns, where).annotations.get("label")
    if column is None or not Labels.of(reader.features[column]).as_text:
        return None
    every = _reader(files, where, None)
    rows = (row for index in range(len(files)) for row in every.rows(index, [column]))
    return names_of(row[column] for row in rows if isinstance(row, dict))


def _records_of(path: Path, columns: Mapping[str, str] | None) -> dict[str, list]:
    """Records of a folder or list by split; "train" if nothing names one."""
    if path.is_dir() and not any(path.iterdir()):
        raise FileNotFoundError(f"{path} contains no .parquet or .tar shards and no class folders")
    return {split or "train": records for split, records in read_splits(path, columns=columns).items()}


def _open_files(
    path: Path,
    split: str | None,
    columns: Mapping[str, str] | None,
    class_names: Sequence[str] | None,
    multi_label: bool,
) -> Source:
    """Open a folder of class folders or a list of files."""
    named = _records_of(path, columns)
    chosen = choose_split(named, split, str(path))
    if class_names is None and len(named) > 1 and not multi_label:
        class_names = find_class_names(record for records in named.values() for record in records)
    return FolderSource(chosen, class_names, multi_label)


def _open_hub(
    repository: str,
    split: str | None,
    name: str | None,
    columns: Mapping[str, str] | None,
    revision: str | None,
    token: str | None,
    class_names: Sequence[str] | None,
) -> Source:
    """Open a Hub data set by id."""
    if split is None:
        split = "all"
    options = {"name": name, "revision": revision, "token": token}
    try:
        dataset = load_dataset(repository, split=split, streaming=True, **options)
    except ValueError:
        names = get_dataset_split_names(repository, name, revision=revision, token=token)
        if split in names or not (other := find_split(names, split)):
            raise
        dataset = load_dataset(repository, split="+".join(other), streaming=True, **options)
    if dataset.features is None:
        raise ValueError(f"{repository} does not declare its columns; convert it to Parquet shards first")
    base = f"hf://datasets/{repository}" + (f"@{revision}" if revision else "")
    return _open_shards(HubRows(dataset, repository, base), columns, class_names, repository, token)
