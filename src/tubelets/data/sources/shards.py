"""Shards of encoded media: Parquet files, WebDataset tars, or a Hub data set."""

import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from tubelets.data.modalities.modality import BadMediumError
from tubelets.data.modalities.video import BadVideoError
from tubelets.data.sources.columns import Columns
from tubelets.data.sources.labels import Labels, names_of
from tubelets.data.sources.rows import Lost, ShardReader, explain, open_file
from tubelets.data.sources.source import ALL_CLIPS, Media, Sample, Source, SourceDescription


class UnsafePathError(BadVideoError):
    """A row of a shard names a file outside the folder of the shards."""


class ShardSource(Source):
    """A source of shards, created by `tubelets.data.sources.opening.open_source`.

    Only the main medium is read unless `with_media` selects others. What cannot be read is a sample with a `problem`.

    Args:
        reader: Reads the rows.
        columns: The columns to use.
        class_names: Names in label order, for labels that have none of their own. None lists those that occur, if
            labels are text.
        token: Access token of a private Hub data set.
    """

    def __init__(
        self,
        reader: ShardReader,
        columns: Columns,
        *,
        class_names: Sequence[str] | None = None,
        token: str | None = None,
    ) -> None:
        self._reader, self._token = reader, token
        self._all_columns = columns
        self._columns = columns.only([next(iter(columns.media))])
        label = columns.annotations.get("label")
        self._labels = Labels.of(reader.features[label] if label is not None else None, class_names)
        if self._labels.as_text and self._labels.class_names is None:
            self._labels = replace(self._labels, class_names=tuple(names_of(self._cells(str(label)))))
        self._description = SourceDescription(
            reader.names,
            {name: column.modality for name, column in columns.media.items()},
            tuple(columns.annotations),
            self._labels.class_names,
            self._labels.multi_label,
        )

    def _cells(self, column: str) -> Iterator[Any]:
        """The readable cells of a column."""
        for index in range(len(self._reader.names)):
            for row in self._reader.rows(index, [column]):
                if not isinstance(row, Lost):
                    yield row[column]

    @property
    def description(self) -> SourceDescription:
        """Names of shards, media, annotations and classes."""
        return self._description

    def with_media(self, names: Collection[str]) -> "ShardSource":
        """The same shards with other columns; see `Source.with_media`."""
        if missing := [name for name in names if name not in self.media]:
            raise ValueError(f"the data has no medium {missing[0]!r}; its media are {list(self.media)}")
        other = copy.copy(self)
        other._columns = self._all_columns.only(names)
        return other

    @property
    def num_samples(self) -> int | None:
        """Number of samples, or None if counting requires reading them."""
        return self._reader.num_rows

    def fingerprints(self) -> dict[str, str]:
        """Size and table of contents of each local shard; see `Source.fingerprints`."""
        found = {name: self._reader.fingerprint(index) for index, name in enumerate(self._reader.names)}
        return {name: each for name, each in found.items() if each is not None}

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
        """Read one shard in its stored order.

        Args:
            index: Index of the shard, 0 to `num_shards - 1`.
            skip: Rows at the start that are not returned.

        Yields:
            The rows from `skip`; those that cannot be read are samples with a `problem`.

        Raises:
            IndexError: The shard does not exist.
        """
        self._check_shard(index)
        for row, values in enumerate(self._reader.rows(index, self._columns.used, skip), start=skip):
            yield self._sample(index, row, values)

    def read_labels(self, index: int) -> list[Any]:
        """Read only the labels of a local Parquet shard.

        Args:
            index: Index of the shard.

        Returns:
            The label of each row, as in `iterate_shard`; None for rows that cannot be read.

        Raises:
            ValueError: The shard is not a local Parquet file, or has no labels.
        """
        if "label" not in self.description.annotations:
            raise ValueError(f"{self.shard_names[index]} has no labels")
        self._check_random_access(index)
        column = self._columns.annotations["label"]
        samples = (self._sample(index, 0, values) for values in self._labelled(index, column))
        return [sample.label for sample in samples]

    def _labelled(self, index: int, column: str) -> Iterator[dict[str, Any] | Lost]:
        """Rows with nothing but their label."""
        for values in self._reader.rows(index, [column]):
            yield values if isinstance(values, Lost) else dict.fromkeys(self._columns.used) | values

    def read_row(self, index: int, row: int) -> Sample:
        """Read one row of a local Parquet shard, loading only its row group.

        Args:
            index: Index of the shard.
            row: Index of the row.

        Raises:
            ValueError: The shard is not a local Parquet file.
            IndexError: The row does not exist.
        """
        self._check_random_access(index)
        return super().read_row(index, row)

    def _check_random_access(self, index: int) -> None:
        if self._reader.local_parquet(index) is None:
            raise ValueError(
                f"{self.shard_names[index]} is not a local Parquet file, which random access requires; copy it to "
                "this machine"
            )

    def read_bytes(self, sample: Sample, medium: str | None = None) -> bytes:
        """Return an encoded medium of a sample, embedded or from its path.

        Args:
            sample: A row of this source.
            medium: Name of the medium; None is the main one.

        Raises:
            BadMediumError: The row cannot be read, or has neither bytes nor a path.
            UnsafePathError: The path leads out of the folder of the shards, or from a remote shard to a local file.
            OSError: The path cannot be read.
        """
        stored = sample.get(medium)
        if stored.data is not None:
            return stored.data
        if stored.path is None:
            raise BadMediumError("the row has neither bytes nor a path")
        self._check_path(stored.path)
        try:
            with open_file(stored.path, self._token) as file:
                return file.read()
        except ValueError as error:
            raise BadMediumError(f"the path {stored.path!r} cannot be read: {explain(error)}") from error

    def _check_path(self, path: str) -> None:
        """Reject a path that leads out of the folder of the shards; shards may be untrusted."""
        bases = [base for base in self._reader.bases if path.startswith(f"{base}/")]
        inside = min((path[len(base) + 1 :] for base in bases), key=len, default=path)
        # In a chained address such as zip://clip.mp4::https://host/clips.zip, the last part is opened first.
        scheme = path.rpartition("::")[2].partition("://")[0] if "://" in path else None
        local = scheme is None or scheme in ("file", "local")
        if ".." in inside.replace("\\", "/").split("/") or (local and not bases):
            raise UnsafePathError(
                f"the row names the file {path}, which is not beside its shard; move it there, or store its bytes"
            )

    def _sample(self, index: int, row: int, values: dict[str, Any] | Lost) -> Sample:
        """Convert a row to a sample."""
        shard = self.shard_names[index]
        if isinstance(values, Lost):
            return Sample(shard, values.clip_id or ALL_CLIPS, {}, problem=values.reason)
        clip_id = None if self._columns.clip_id is None else values[self._columns.clip_id]
        clip_id = f"{shard}:{row}" if clip_id is None else str(clip_id)
        annotations = {name: values[column] for name, column in self._columns.annotations.items()}
        try:
            if "label" in annotations:
                annotations["label"] = self._labels.number(annotations["label"])
            media = {name: self._placed(self._columns.medium(name, values), index) for name in self._columns.media}
        except (TypeError, ValueError) as error:
            return Sample(shard, clip_id, {}, problem=str(error))
        return Sample(shard, clip_id, media, annotations)

    def _placed(self, medium: Media, index: int) -> Media:
        """Resolve the relative path of a medium against the folder of its shard."""
        path = medium.path
        if medium.data is not None or path is None or "://" in path or PurePosixPath(path).is_absolute():
            return medium
        return replace(medium, path=f"{self._reader.bases[index]}/{path}")
