"""Parquet shard files: written atomically, described by footers, listed in `dataset_info.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from tubelets.data.atomic import replace_synced, temporary_path, write_atomically
from tubelets.data.sources.splits import SHARD_NAME

# A streaming reader keeps one row group in memory; 16 clips are about ten megabytes.
ROWS_PER_GROUP = 16
# Arrow limits arrays of binary cells to 2 GiB, so long videos end a row group earlier.
BYTES_PER_GROUP = 2**29
INFO_FILE = "dataset_info.json"

_METADATA_KEY = b"tubelets"


@dataclass(frozen=True)
class ShardSummary:
    """Contents of a shard's footer.

    Attributes:
        num_rows: Clips in the shard.
        num_bytes: Size of the file in bytes.
        content: The mapping passed to `ShardWriter.finish`.
    """

    num_rows: int
    num_bytes: int
    content: dict[str, Any]


class ShardWriter:
    """Context manager that writes a Parquet file under a temporary name and renames it when complete.

    The final name exists only after `finish`. A killed run leaves at most a hidden temporary
    file, which the next run removes.

    Args:
        path: The final name.
        features: The columns; written into the schema, so that `datasets` restores `Video` and `ClassLabel`.
    """

    def __init__(self, path: Path, features: Features) -> None:
        self._path = path
        self._temporary = temporary_path(path)
        self._schema = features.arrow_schema
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def __enter__(self) -> "ShardWriter":
        for leftover in self._path.parent.glob(f".{self._path.name}.*.tmp"):
            leftover.unlink()
        # Encoded video does not compress further; trying would cost time on every write and read.
        self._writer = pq.ParquetWriter(
            self._temporary, self._schema, compression="none", use_dictionary=False, write_statistics=False
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, row: dict[str, Any]) -> None:
        """Append a row.

        Args:
            row: One value per column; media are mappings with `bytes` and `path`.
        """
        self._rows.append(row)
        self._bytes += sum(len(value["bytes"]) for value in row.values() if isinstance(value, Mapping))
        if len(self._rows) == ROWS_PER_GROUP or self._bytes >= BYTES_PER_GROUP:
            self._flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Close the file and rename it to its final name.

        Args:
            summary: Description for the footer, JSON values, see `read_summary`.
        """
        self._flush()
        self._writer.add_key_value_metadata({_METADATA_KEY: json.dumps(summary, sort_keys=True).encode()})
        self._writer.close()
        replace_synced(self._temporary, self._path)

    def _flush(self) -> None:
        """Write the collected rows as one row group."""
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._bytes = [], 0


def read_summary(path: Path) -> ShardSummary:
    """Read the footer of a shard.

    Args:
        path: A Parquet file written by `ShardWriter`.

    Returns:
        Row count, size and the description passed to `finish`.

    Raises:
        ValueError: The file is not a complete Parquet file, or was not written by the shard builder.
    """
    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a complete Parquet file ({error}); delete it and build it again") from error
    content = (footer.metadata or {}).get(_METADATA_KEY)
    if content is None:
        raise ValueError(f"{path} was not written by this shard builder; choose another output folder")
    return ShardSummary(footer.num_rows, path.stat().st_size, json.loads(content))


def shard_files(folder: str | Path) -> dict[str, list[str]]:
    """Find the files in a folder with shard names.

    Args:
        folder: The folder; subfolders are not searched.

    Returns:
        File names by split, both sorted. Names look like `train-00000-of-00008.parquet` (or `.tar`).
    """
    found: dict[str, list[str]] = {}
    for path in sorted(Path(folder).iterdir()):
        match = SHARD_NAME.fullmatch(path.name)
        if match is not None and match["hash"] is None:
            found.setdefault(match["split"], []).append(path.name)
    return dict(sorted(found.items()))


def missing_shards(names: list[str]) -> list[str]:
    """Return the shards of a split that are missing according to the file names.

    Args:
        names: File names of one split.

    Returns:
        The missing file names, sorted.

    Raises:
        ValueError: The names disagree on the number of shards.

    Example:
        >>> missing_shards(["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"])
        ['train-00001-of-00003.parquet']
    """
    matches = [match for name in names if (match := SHARD_NAME.fullmatch(name))]
    totals = sorted({int(match["total"]) for match in matches})
    if len(totals) > 1:
        raise ValueError(f"the folder contains shards of several sets, of {totals} shards; delete the outdated ones")
    present = {int(match["index"]) for match in matches}
    suffix = Path(names[0]).suffix
    return [
        f"{matches[0]['split']}-{index:05d}-of-{total:05d}{suffix}"
        for total in totals
        for index in range(total)
        if index not in present
    ]


def is_unfinished(folder: Path, split: str, present: str) -> bool:
    """Whether shards of a split are missing because their build has not finished, and not because they were lost.

    Args:
        folder: Their folder.
        split: The split.
        present: File name of a shard that exists.
    """
    if split in stated_counts(folder):
        return False
    try:
        read_summary(folder / present)
    except (OSError, ValueError):
        return False
    return True


def stated_counts(folder: Path) -> dict[str, dict[str, int]]:
    """Clips of each shard according to `dataset_info.json`.

    Args:
        folder: Folder of shards; the file need not exist, and that of other writers states nothing.

    Returns:
        Numbers of clips by file name, by split.
    """
    try:
        splits = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))["splits"]
        return {
            split: {shard["file"]: int(shard["num_clips"]) for shard in content["shards"]}
            for split, content in splits.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def finalize_shards(folder: str | Path) -> list[str]:
    """Write `dataset_info.json` for the complete splits of a folder.

    It contains class names, clip and shard counts, options, unreadable files with reasons, and versions, all taken from
    the shards' footers, so any job writes the same file.

    Args:
        folder: A folder written by `build_shards`.

    Returns:
        Names of missing shards; their splits are not in the file.

    Raises:
        ValueError: A file is corrupt or was not written by the shard builder.
        FileNotFoundError: The folder has no shards.
    """
    folder = Path(folder)
    files = shard_files(folder)
    if not files:
        raise FileNotFoundError(f"{folder} contains no shards; build them first")
    missing: list[str] = []
    splits: dict[str, Any] = {}
    class_names = None
    for split, names in files.items():
        absent = missing_shards(names)
        missing += absent
        if not absent:
            summaries = {name: read_summary(folder / name) for name in names}
            class_names = summaries[names[0]].content["class_names"]
            splits[split] = _describe_split(summaries)
    if splits:
        info = json.dumps({"class_names": class_names, "splits": splits}, indent=2, ensure_ascii=False) + "\n"
        write_atomically(folder / INFO_FILE, lambda file: file.write_text(info, encoding="utf-8"))
    return missing


def _describe_split(summaries: dict[str, ShardSummary]) -> dict[str, Any]:
    """Summarise the shards of one split."""
    first = next(iter(summaries.values())).content
    return {
        "num_clips": sum(summary.num_rows for summary in summaries.values()),
        "shards": [
            {"file": name, "num_clips": summary.num_rows, "num_bytes": summary.num_bytes}
            for name, summary in summaries.items()
        ],
        "options": first["options"],
        "bad_files": [bad for summary in summaries.values() for bad in summary.content["bad_files"]],
        "versions": first["versions"],
        "plan": first["plan"],
    }
