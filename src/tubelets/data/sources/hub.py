"""Rows of a data set on the Hub, streamed by `datasets`."""

import functools
from collections.abc import Collection, Iterator
from typing import Any

import fsspec
from datasets import Audio, Image, IterableDataset, Video
from torch.utils.data import get_worker_info

from tubelets.data.sources.rows import Lost, ShardReader, explain


class HubRows(ShardReader):
    """A streaming data set.

    Args:
        dataset: The data set.
        repository: Its name in messages and in names of shards.
        base: URL that relative paths in its rows start from.
    """

    def __init__(self, dataset: IterableDataset, repository: str, base: str) -> None:
        self._stored = dataset
        self.names = tuple(f"{repository}[{index}]" for index in range(dataset.num_shards))
        self.bases = (base,) * dataset.num_shards
        self.features = dict(dataset.features)

    @functools.cached_property
    def num_rows(self) -> int | None:
        """The number that the data set states."""
        split = (self._stored.info.splits or {}).get(str(self._stored.split))
        return split.num_examples or None if split is not None else None

    def rows(self, index: int, columns: Collection[str], skip: int = 0) -> Iterator[dict[str, Any] | Lost]:
        """Read rows of a shard; see `ShardReader.rows`. Behind the first error, the rest of the shard is lost."""
        row = -1
        try:
            if get_worker_info() is not None:
                # A forked worker would wait forever for its parent's event-loop thread.
                fsspec.asyn.reset_lock()
            shard = self._undecoded(columns).shard(num_shards=len(self.names), index=index)
            # `iter` with a batch size, unlike `__iter__`, does not split rows among DataLoader workers.
            for row, batch in enumerate(shard.iter(batch_size=1)):
                if row >= skip:
                    yield {name: values[0] for name, values in batch.items()}
        except Exception as error:  # `datasets` and its file systems raise errors of any type
            if row + 1 >= skip:
                yield Lost(f"the shard cannot be read further: {explain(error)}")

    def _undecoded(self, columns: Collection[str]) -> IterableDataset:
        """Some columns, with the bytes of files instead of open decoders."""
        dataset = self._stored.select_columns(list(columns))
        for column in columns:
            kind = next((kind for kind in (Image, Audio, Video) if isinstance(self.features[column], kind)), None)
            if kind is not None:
                dataset = dataset.cast_column(column, kind(decode=False))
        return dataset
