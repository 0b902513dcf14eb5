"""Open data by address: shards on disk or by URL, a Hub data set, or blank clips."""

import functools
import glob
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from datasets import IterableDataset, load_dataset

from tubelets.data.sources.blank import BlankSource
from tubelets.data.sources.columns import Columns
from tubelets.data.sources.shard_files import missing_shards, split_of
from tubelets.data.sources.shards import ShardSource
from tubelets.data.sources.source import Source
from tubelets.data.sources.tars import open_tars

_SUFFIXES = (".parquet", ".tar")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def open_source(
    path: str | Path,
    split: str = "train",
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Source:
    """Open shards on disk or a Hub data set, streaming only what is read.

    Media are found by the types and names of columns: type Video is "video", type Audio is "audio"; columns named
    `flow`, `depth`, `skeleton` or after a medium of a registered modality are that medium. In tars `x.mp4` is
    "video", `x.flac` "audio", `x.flow.mp4` "flow" and `x.npy` "skeleton". Images without a video are videos of one
    frame. The main medium is "video", otherwise "audio", otherwise the first one.

    Args:
        path: A folder, file or glob pattern of `.parquet` or WebDataset `.tar` shards (or an fsspec URL of one), or the
            id of a Hub data set. `blank://80000` is that number of black clips.
        split: Name of the split. On disk it selects files named `<split>-00000-of-00008...`; other files belong to the
            split "train".
        name: Configuration of a Hub data set.
        columns: Media columns that are not found automatically, by medium, such as `{"video": "left_camera"}`.
        revision: Branch, tag or commit of a Hub data set.
        token: Access token of a private Hub data set.

    Returns:
        The source. Labels come from a column `label`, `labels` or `cls`, captions from `caption`, `txt` or `text`, ids
        from `clip_id` or `__key__` (otherwise "shard:row"). The checksum of the main medium comes from `sha256`, that
        of medium NAME from `NAME_sha256`.

    Raises:
        FileNotFoundError: The folder does not exist or has no shards, or the pattern matches nothing.
        ValueError: The split does not exist, shards are missing or mixed, or no medium is found.
    """
    text = str(path)
    if text.startswith("blank://"):
        return BlankSource.parse(text)
    if "://" in text:
        return _open_files(text, [text], columns, token)
    files = _local_files(text)
    if files is None:
        return _open_hub(text, split, name, columns, revision, token)
    chosen = _files_of_split(files, split, text, complete=Path(text).is_dir())
    return _open_files(text, chosen, columns, token)


def _local_files(path: str) -> list[str] | None:
    """Return the shard files of `path`, or None if it can only be a Hub data set id."""
    if Path(path).is_dir():
        candidates = [str(file) for file in Path(path).iterdir() if not file.name.startswith(".")]
    elif Path(path).is_file():
        candidates = [path]
    elif glob.has_magic(path):
        candidates = glob.glob(path, recursive=True)
    elif _HUB_ID.fullmatch(path):
        return None
    else:
        raise FileNotFoundError(
            f"{path} does not exist; give a folder, file or pattern of shards, or a Hub data set id"
        )
    files = sorted(file for file in candidates if Path(file).suffix in _SUFFIXES)
    if not files:
        raise FileNotFoundError(f"{path} contains no .parquet or .tar shards; build them with scripts/make_shards.py")
    return files


def _files_of_split(files: list[str], split: str, where: str, *, complete: bool) -> list[str]:
    """Choose the files of a split; `complete` rejects gaps in their numbering."""
    named: dict[str, list[str]] = {}
    for file in files:
        named.setdefault(split_of(Path(file).name) or "train", []).append(file)
    if split not in named:
        raise ValueError(f"{where} has no split {split!r}; its splits are {sorted(named)}")
    chosen = named[split]
    if len({Path(file).suffix for file in chosen}) > 1:
        raise ValueError(f"{where} mixes .parquet and .tar shards; select one kind with a pattern such as *.parquet")
    if complete and (absent := missing_shards([Path(file).name for file in chosen])):
        raise ValueError(
            f"{where} lacks {len(absent)} shards of split {split!r}, first {absent[0]}; finish building them"
        )
    return chosen


def _open_files(where: str, files: list[str], columns: Mapping[str, str] | None, token: str | None) -> Source:
    """Open shard files through `datasets`."""
    suffix = PurePosixPath(files[0]).suffix
    if suffix not in _SUFFIXES:
        raise ValueError(f"{where} must end in one of {_SUFFIXES}")
    # Existing file names are not patterns, even in a folder named "[1]".
    files = [file if "://" in file else Path(file).absolute().as_posix() for file in files]
    literal = [file if "://" in file else glob.escape(file) for file in files]
    options = {"data_files": {"train": literal}, "split": "train", "streaming": True, "token": token}
    reopen = None if suffix == ".tar" else functools.partial(load_dataset, "parquet", **options)
    dataset: IterableDataset = open_tars(literal, token) if reopen is None else reopen()
    found = Columns.find(dict(dataset.features), columns, where)
    if dataset.num_shards == len(files):
        shard_names = [PurePosixPath(file).name for file in files]
        return ShardSource(dataset, found, shard_names, files=files, token=token, reopen=reopen)
    # `datasets` expanded the URL pattern and does not return the names.
    names = [f"{PurePosixPath(where).name}[{index}]" for index in range(dataset.num_shards)]
    return ShardSource(dataset, found, names, base=where.rpartition("/")[0], token=token, reopen=reopen)


def _open_hub(
    repository: str,
    split: str,
    name: str | None,
    columns: Mapping[str, str] | None,
    revision: str | None,
    token: str | None,
) -> Source:
    """Open a Hub data set by id."""
    dataset = load_dataset(repository, name=name, split=split, revision=revision, token=token, streaming=True)
    if dataset.features is None:
        raise ValueError(f"{repository} does not declare its columns; convert it to Parquet shards first")
    found = Columns.find(dict(dataset.features), columns, repository)
    names = [f"{repository}[{index}]" for index in range(dataset.num_shards)]
    base = f"hf://datasets/{repository}" + (f"@{revision}" if revision else "")
    return ShardSource(dataset, found, names, base=base, token=token)
