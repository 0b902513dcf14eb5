"""Rows of Parquet shards, row group by row group, so that damage costs no more rows than it hits."""

import functools
import os
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features
from datasets.table import table_cast

from tubelets.data.sources.rows import Lost, ShardReader, explain, fingerprint_of, first_readable, open_file, shard_name

# Rows decoded at once. Shards of this package have groups of 16; groups of other writers can be much larger.
_ROWS_AT_ONCE = 16
# The columns are those that most of the first shards agree on, since one of them may be damaged.
_SHARDS_FOR_COLUMNS = 5
_IDS = ("clip_id", "__key__")


class ParquetShards(ShardReader):
    """Parquet files on disk or by URL.

    Args:
        files: Their paths or URLs; files that do not exist count as damaged.
        token: Access token of a private Hub repository.
        counts: Rows of shards by file name, as far as they are known without opening them. With them, an unreadable
            shard keeps its number of rows, so that the order of the others stays as it was.
        where: What the user named, for messages.

    Raises:
        ValueError: None of the files can be read.
    """

    def __init__(
        self,
        files: Sequence[str],
        token: str | None = None,
        counts: Mapping[str, int] | None = None,
        where: str = "the data",
    ) -> None:
        self._files, self._token, self._counts = list(files), token, dict(counts or {})
        self.names = tuple(shard_name(file) for file in files)
        self.bases = tuple(file.rpartition("/")[0] for file in files)
        self.features = self._find_features(where)

    def _find_features(self, where: str) -> Features:
        found: list[Features] = []
        reasons = []
        for file in self._files:
            try:
                with open_file(file, self._token) as stream:
                    found.append(Features.from_arrow_schema(pq.read_schema(stream)))
            except Exception as error:  # damage raises errors of any type in Arrow and `datasets`
                reasons.append(explain(error))
            if len(found) == (1 if "://" in file else _SHARDS_FOR_COLUMNS):
                break
        if not found:
            raise first_readable(reasons, self.names, where)
        commonest, _ = Counter(str(features) for features in found).most_common(1)[0]
        return next(features for features in found if str(features) == commonest)

    @functools.cached_property
    def num_rows(self) -> int | None:
        """Rows of all local shards; those of unreadable ones count if they are known."""
        if any("://" in file for file in self._files):
            return None
        return sum(self._count(index) or 0 for index in range(len(self._files)))

    def _count(self, index: int) -> int | None:
        try:
            with open_file(self._files[index]) as stream:
                return pq.read_metadata(stream).num_rows
        except Exception:  # damage raises errors of any type, and is reported when the shard is read
            return self._counts.get(self.names[index])

    def fingerprint(self, index: int) -> str | None:
        """From the size and the footer, which states the bytes of each column of each row group."""
        if "://" in self._files[index]:
            return None
        try:
            with open_file(self._files[index]) as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(-8, os.SEEK_END)
                length, magic = struct.unpack("<I4s", stream.read(8))
                if magic != b"PAR1":
                    return None
                stream.seek(-8 - length, os.SEEK_END)
                return fingerprint_of(size, stream.read(length))
        except (OSError, ValueError, struct.error):  # damage is reported when the shard is read
            return None

    def local_parquet(self, index: int) -> str | None:
        """The path of a shard on this machine."""
        file = self._files[index]
        return None if "://" in file else file

    def rows(self, index: int, columns: Collection[str], skip: int = 0) -> Iterator[dict[str, Any] | Lost]:
        """Read rows of a shard; see `ShardReader.rows`.

        Rows before damage in a row group are read, rows behind it are lost, and other groups are not affected. Without
        a footer, all rows are lost: as many as are known, otherwise one stands for all.
        """
        row = skip
        try:
            with self._open(index) as shard:
                absent = sorted(set(columns) - set(shard.schema_arrow.names))
                if absent:
                    raise ValueError(f"the shard has no column {absent[0]!r}")
                start = 0
                for group in range(shard.metadata.num_row_groups):
                    size = shard.metadata.row_group(group).num_rows
                    for found in self._group(shard, group, size, list(columns), max(0, row - start)):
                        # Counted first: the reader of a generator may stop at any row.
                        row += 1
                        yield found
                    start += size
        except Exception as error:  # damage raises errors of any type in Arrow
            for _ in range(self._num_lost(index, skip, row)):
                yield Lost(f"the shard cannot be read: {explain(error)}")

    def _num_lost(self, index: int, skip: int, row: int) -> int:
        """Rows that stand for the unreadable rest of a shard behind `row`, if `skip` rows were read before."""
        total = self._counts.get(self.names[index])
        if total is not None:
            return max(total - row, int(skip < total))
        # A single row stands for a shard of unknown length; a run that continues behind it does not see it again.
        return int(skip != 1)

    @contextmanager
    def _open(self, index: int) -> Iterator[pq.ParquetFile]:
        with open_file(self._files[index], self._token) as stream, pq.ParquetFile(stream) as shard:
            yield shard

    def _group(
        self, shard: pq.ParquetFile, group: int, size: int, columns: list[str], skip: int
    ) -> Iterator[dict[str, Any] | Lost]:
        """Rows of a group from `skip`; first many at once, behind the first error one by one."""
        row = skip
        reason = "the row group has fewer rows than the shard says"
        for at_once in (_ROWS_AT_ONCE, 1):
            try:
                for found in self._read(shard, group, columns, row, at_once):
                    row += 1
                    yield found
                if row >= size:
                    return
            except Exception as error:  # damage raises errors of any type in Arrow
                reason = f"the row group cannot be read: {explain(error)}"
        ids = self._ids(shard, group)
        for place in range(row, size):
            yield Lost(reason, ids.get(place))

    def _read(
        self, shard: pq.ParquetFile, group: int, columns: list[str], skip: int, at_once: int
    ) -> Iterator[dict[str, Any] | Lost]:
        schema = Features({name: self.features[name] for name in columns}).arrow_schema
        size = shard.metadata.row_group(group).num_rows
        if not columns:
            yield from ({} for _ in range(skip, size))
            return
        if skip >= size:
            return
        start = 0
        batches = shard.iter_batches(at_once, row_groups=[group], columns=columns, use_threads=False)
        for batch in batches:
            stop = start + batch.num_rows
            if stop > skip:
                table = table_cast(pa.Table.from_batches([batch]).select(columns), schema)
                for place in range(max(skip, start), min(stop, size)):
                    yield _row(table, place - start)
            start = stop

    def _ids(self, shard: pq.ParquetFile, group: int) -> dict[int, str]:
        """Ids of a group's rows, as far as they can be read."""
        column = next((name for name in _IDS if name in self.features), None)
        if column is None:
            return {}
        try:
            values = shard.read_row_group(group, columns=[column], use_threads=False).column(column).to_pylist()
        except Exception:  # the ids are damaged as well
            return {}
        return {place: str(value) for place, value in enumerate(values) if value is not None}


def _row(table: Any, place: int) -> dict[str, Any] | Lost:
    """Values of a row; text that is not UTF-8 costs only its own row."""
    try:
        return table.slice(place, 1).to_pylist()[0]
    except (ValueError, OverflowError) as error:
        return Lost(f"the row cannot be read: {explain(error)}")
