"""Readers of shards: rows as values by column, and damage as rows that say what is wrong with them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import fsspec
from datasets import DownloadConfig
from datasets.utils.file_utils import xopen
from torch.utils.data import get_worker_info


@dataclass(frozen=True)
class Lost:
    """A row that cannot be read.

    Attributes:
        reason: What is wrong.
        clip_id: Its id if that can be read, otherwise None.
    """

    reason: str
    clip_id: str | None = None


class ShardReader(ABC):
    """Shards of one format. Readers are sent to worker processes, so they hold no open files.

    Attributes:
        names: Name of each shard.
        bases: Folder or URL that relative paths in the rows of each shard start from.
        features: Type of each column.
    """

    names: tuple[str, ...]
    bases: tuple[str, ...]
    features: Mapping[str, Any]

    @property
    @abstractmethod
    def num_rows(self) -> int | None:
        """Number of rows of all shards, None if counting requires reading them."""

    @abstractmethod
    def rows(self, index: int, columns: Collection[str], skip: int = 0) -> Iterator[dict[str, Any] | Lost]:
        """Read rows of a shard; whatever damage raises becomes `Lost`.

        Args:
            index: Index of the shard.
            columns: Columns to read; those that a row lacks are None.
            skip: Rows at the start that are not returned.

        Yields:
            Values by column, or `Lost`, for each row from `skip`.
        """

    def fingerprint(self, index: int) -> str | None:
        """Short text that differs for other rows, from a few bytes of the shard; None if it cannot be read here."""
        return None

    def local_parquet(self, index: int) -> str | None:
        """Path of a shard whose rows can be read one by one, otherwise None."""
        return None


def open_file(address: str, token: str | None = None) -> BinaryIO:
    """Open a file by path or URL for reading.

    Args:
        address: Path or fsspec URL.
        token: Access token of a private Hub repository.

    Raises:
        OSError: The file cannot be opened.
    """
    if "://" not in address:
        return open(address, "rb")
    if get_worker_info() is not None:
        # A forked worker would wait forever for its parent's event-loop thread.
        fsspec.asyn.reset_lock()
    return xopen(address, "rb", download_config=DownloadConfig(token=token))


def fingerprint_of(size: int, content: bytes) -> str:
    """A fingerprint from the size of a file and a part of it.

    Example:
        >>> fingerprint_of(10240, b"first bytes")
        '10240-d67e08ad'
    """
    return f"{size}-{hashlib.sha256(content).hexdigest()[:8]}"


def shard_name(file: str) -> str:
    """File name of a shard's path or URL.

    Example:
        >>> shard_name("/data/clips/train-00000-of-00001.parquet")
        'train-00000-of-00001.parquet'
    """
    return PurePosixPath(Path(file).as_posix() if "://" not in file else file).name


def explain(error: Exception) -> str:
    """The first line of an error, without the path of the file, which the name of the shard stands for.

    Example:
        >>> explain(FileNotFoundError(2, "No such file or directory", "/data/a.parquet"))
        'No such file or directory'
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def first_readable(reasons: Sequence[str], names: Sequence[str], where: str) -> ValueError:
    """The error for shards none of which can be read.

    Args:
        reasons: What is wrong with each of them.
        names: Their names.
        where: What the user named.
    """
    return ValueError(
        f"none of the {len(names)} shards of {where} can be read; {names[0]}: {reasons[0]}. Build or fetch them again"
    )
