"""Shards of encoded media: Parquet files, WebDataset tars, or a Hub data set, read with `datasets`."""

import copy
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow.parquet as pq
from datasets import Audio, ClassLabel, DownloadConfig, Image, IterableDataset, List, Video
from datasets.utils.file_utils import xopen
from torch.utils.data import get_worker_info

from tubelets.data.modalities.modality import BadMediumError
from tubelets.data.modalities.registry import modality_named
from tubelets.data.modalities.video import BadVideoError
from tubelets.data.sources.columns import Columns
from tubelets.data.sources.source import Media, Sample, Source, SourceDescription


class UnsafePathError(BadVideoError):
    """A row of a shard names a file outside the folder of the shards."""


class ShardSource(Source):
    """A source of shards, created by `tubelets.data.sources.opening.open_source`.

    Only the main medium is read unless `with_media` selects others.

    Args:
        dataset: A streaming data set with the same shards.
        columns: The columns to use.
        shard_names: Name of each shard.
        files: Shard files, if known.
        base: Base of relative paths in rows if `files` is unknown.
        token: Access token of a private Hub data set.
        reopen: Opens the data set with only some `columns`, if that avoids reading the others.
    """

    def __init__(
        self,
        dataset: IterableDataset,
        columns: Columns,
        shard_names: Sequence[str],
        *,
        files: Sequence[str] = (),
        base: str = "",
        token: str | None = None,
        reopen: Callable[..., IterableDataset] | None = None,
    ) -> None:
        label = dataset.features[columns.annotations["label"]] if "label" in columns.annotations else None
        several = isinstance(label, List)
        label = label.feature if isinstance(label, List) else label
        self._description = SourceDescription(
            tuple(shard_names),
            {name: column.modality for name, column in columns.media.items()},
            tuple(columns.annotations),
            tuple(label.names) if isinstance(label, ClassLabel) else None,
            several,
        )
        self._files = list(files)
        # Relative paths in rows are relative to the folder of the shard.
        self._bases = [file.rpartition("/")[0] for file in files] if files else [base] * dataset.num_shards
        self._token = token
        self._all_columns, self._stored, self._reopen = columns, dataset, reopen
        self._columns = columns.only([next(iter(columns.media))])

    @functools.cached_property
    def _dataset(self) -> IterableDataset:
        """The used columns, with the bytes of files instead of open decoders."""
        columns, stored = self._columns, self._stored
        if self._reopen is not None and len(columns.media) < len(self._all_columns.media):
            # `select_columns` drops columns after reading them; unused media must not be read at all.
            stored = self._reopen(columns=columns.used)
        dataset = stored.select_columns(columns.used)
        for column in columns.media.values():
            feature = stored.features[column.column]
            kind = next((kind for kind in (Image, Audio, Video) if isinstance(feature, kind)), None)
            kind = kind or {"Video": Video, "Audio": Audio}.get(modality_named(column.modality).feature)
            if kind is not None:
                dataset = dataset.cast_column(column.column, kind(decode=False))
        return dataset

    @property
    def description(self) -> SourceDescription:
        """Names of shards, media, annotations and classes."""
        return self._description

    def with_media(self, names: Collection[str]) -> "ShardSource":
        """The same shards with other columns; see `Source.with_media`."""
        if missing := [name for name in names if name not in self.media]:
            raise ValueError(f"the data has no medium {missing[0]!r}; its media are {list(self.media)}")
        other = copy.copy(self)
        other.__dict__.pop("_dataset", None)
        other._columns = self._all_columns.only(names)
        return other

    @functools.cached_property
    def num_samples(self) -> int | None:
        """Number of samples, or None if counting requires reading them."""
        if self._files and all(file.endswith(".parquet") and "://" not in file for file in self._files):
            return sum(pq.read_metadata(file).num_rows for file in self._files)
        split = (self._stored.info.splits or {}).get(str(self._stored.split))
        return split.num_examples or None if split is not None else None

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
        """Read one shard in its stored order.

        Args:
            index: Index of the shard, 0 to `num_shards - 1`.
            skip: Rows at the start that are read but not returned.

        Yields:
            The rows from `skip`.

        Raises:
            IndexError: The shard does not exist.
        """
        self._check_shard(index)
        if get_worker_info() is not None:
            # A forked worker would wait forever for its parent's event-loop thread.
            fsspec.asyn.reset_lock()
        shard = self._dataset.shard(num_shards=self.num_shards, index=index)
        # `iter` with a batch size, unlike `__iter__`, does not split rows among DataLoader workers.
        for row, batch in enumerate(shard.iter(batch_size=1)):
            if row >= skip:
                yield self._sample(index, row, {name: values[0] for name, values in batch.items()})

    def read_labels(self, index: int) -> list[Any]:
        """Read only the labels of a local Parquet shard.

        Args:
            index: Index of the shard.

        Returns:
            The label of each row, as in `iterate_shard`.

        Raises:
            ValueError: The shard is not a local Parquet file, or has no labels.
        """
        if "label" not in self._columns.annotations:
            raise ValueError(f"{self.shard_names[index]} has no labels")
        column = self._columns.annotations["label"]
        table = pq.read_table(self._parquet_file(index), columns=[column])
        return table.column(column).to_pylist()

    def read_row(self, index: int, row: int) -> Sample:
        """Read one row of a local Parquet shard, loading only its row group.

        Args:
            index: Index of the shard.
            row: Index of the row.

        Raises:
            ValueError: The shard is not a local Parquet file.
            IndexError: The row does not exist.
        """
        with pq.ParquetFile(self._parquet_file(index)) as shard:
            place = row
            for group in range(shard.metadata.num_row_groups):
                size = shard.metadata.row_group(group).num_rows
                if place < size:
                    found = shard.read_row_group(group, columns=self._columns.used).slice(place, 1).to_pylist()[0]
                    return self._sample(index, row, found)
                place -= size
        raise IndexError(f"row {row} does not exist in {self.shard_names[index]}")

    def _parquet_file(self, index: int) -> str:
        file = self._files[index] if self._files else self.shard_names[index]
        if not self._files or "://" in file or not file.endswith(".parquet"):
            raise ValueError(
                f"{file} is not a local Parquet file, which random access requires; copy it to this machine"
            )
        return file

    def read_bytes(self, sample: Sample, medium: str | None = None) -> bytes:
        """Return an encoded medium of a sample, embedded or from its path.

        Args:
            sample: A row of this source.
            medium: Name of the medium; None is the main one.

        Raises:
            BadMediumError: The row has neither bytes nor a path.
            UnsafePathError: The path leads out of the folder of the shards, or from a remote shard to a local file.
            OSError: The path cannot be read.
        """
        stored = sample.get(medium)
        if stored.data is not None:
            return stored.data
        if stored.path is None:
            raise BadMediumError("the row has neither bytes nor a path")
        self._check_path(stored.path)
        with xopen(stored.path, "rb", download_config=DownloadConfig(token=self._token)) as file:
            return file.read()

    def _check_path(self, path: str) -> None:
        """Reject a path that leads out of the folder of the shards; shards may be untrusted."""
        bases = [base for base in self._bases if path.startswith(f"{base}/")]
        inside = min((path[len(base) + 1 :] for base in bases), key=len, default=path)
        # In a chained address such as zip://clip.mp4::https://host/clips.zip, the last part is opened first.
        scheme = path.rpartition("::")[2].partition("://")[0] if "://" in path else None
        local = scheme is None or scheme in ("file", "local")
        if ".." in inside.replace("\\", "/").split("/") or (local and not bases):
            raise UnsafePathError(
                f"the row names the file {path}, which is not beside its shard; move it there, or store its bytes"
            )

    def _sample(self, index: int, row: int, values: dict[str, Any]) -> Sample:
        """Convert a row to a sample."""
        shard = self.shard_names[index]
        clip_id = None if self._columns.clip_id is None else values[self._columns.clip_id]
        return Sample(
            shard=shard,
            clip_id=f"{shard}:{row}" if clip_id is None else str(clip_id),
            media={name: self._placed(self._columns.medium(name, values), index) for name in self._columns.media},
            annotations={name: values[column] for name, column in self._columns.annotations.items()},
        )

    def _placed(self, medium: Media, index: int) -> Media:
        """Resolve the relative path of a medium against the folder of its shard."""
        path = medium.path
        if medium.data is not None or path is None or "://" in path or PurePosixPath(path).is_absolute():
            return medium
        return replace(medium, path=f"{self._bases[index]}/{path}")
