"""Sample order: shard permutation, window shuffle and the split among ranks and workers.

The order of an epoch is a function of (seed, epoch) and the consumer. A position in it is a few integers, so a run can
resume at any sample by reading at most one shard's rows again. Nothing is decoded here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch

from tubelets.data.modalities.modality import BadMediumError
from tubelets.data.seeds import stable_seed
from tubelets.data.sources.source import ALL_CLIPS, Sample, Source

SplitMode = Literal["shards", "samples"]


@dataclass
class StreamState:
    """Position of a consumer in its endless or single pass; all fields are integers.

    Attributes:
        worker: Logical worker of the rank, 0 to workers - 1.
        epoch: Current epoch.
        shard: Start of the current window: index in this consumer's permuted shard order ...
        row: ... and row in that shard.
        window: Number of the current window in the epoch.
        consumed: Finished samples of the window, including skipped ones and those of other consumers.
        clip: Clips of the next sample that were already yielded.
        samples: Samples before the current window, over all epochs.
        good: Videos decoded in this epoch.
        bad: Videos skipped in this epoch.
        bad_run: Videos skipped since the last readable one, without rows lost in damaged shards.
        lost: Rows lost in damaged shards in this epoch; `bad` counts them as well.
    """

    worker: int = 0
    epoch: int = 0
    shard: int = 0
    row: int = 0
    window: int = 0
    consumed: int = 0
    clip: int = 0
    samples: int = 0
    good: int = 0
    bad: int = 0
    bad_run: int = 0
    lost: int = 0

    def next_epoch(self) -> None:
        """Move to the first sample of the next epoch; `samples` and `bad_run` keep counting."""
        self.epoch += 1
        self.shard = self.row = self.window = self.consumed = self.clip = 0
        self.good = self.bad = self.lost = 0


@dataclass(frozen=True)
class Consumer:
    """A reader: one DataLoader worker of one rank.

    Attributes:
        rank: Rank of the process, 0 to `world_size - 1`.
        world_size: Number of processes.
        worker: Logical worker of the process, 0 to `num_workers - 1`.
        num_workers: Workers of each process, at least 1 (without DataLoader workers the process itself is one).
    """

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    num_workers: int = 1

    @property
    def index(self) -> int:
        """Index among all consumers; ranks alternate, so that surplus shards are spread over ranks."""
        return self.worker * self.world_size + self.rank

    @property
    def total(self) -> int:
        """Number of all consumers."""
        return self.world_size * self.num_workers


@dataclass(frozen=True)
class SampleOrder:
    """The order of samples for one consumer.

    Attributes:
        source: The source of the samples.
        consumer: The reader.
        mode: "shards": each consumer reads its own shards. "samples": each reads all and keeps its own samples.
        seed: Seed of all permutations.
        window: Samples shuffled together; 0 or 1 keeps the stored order of shards and rows.
        videos_per_batch: Videos per batch of one rank; in "samples" mode workers produce batches in turn.
    """

    source: Source
    consumer: Consumer
    mode: SplitMode
    seed: int
    window: int
    videos_per_batch: int

    def walk(self, state: StreamState) -> Iterator[tuple[int, Sample]]:
        """Yield the rest of an epoch.

        Args:
            state: Start position. Its window fields are advanced; `consumed` is reset to 0 at each new window and
                otherwise set by the caller, to `place + 1` when a sample is finished.

        Yields:
            (index in the window, sample) of the samples of this consumer.
        """
        reader = _EpochReader(self.source, self._shards(state.epoch), state.shard, state.row)
        while window := list(islice(reader, max(1, self.window))):
            size = len(window)
            order = self._permutation(size, state)
            mine = [(p, window[order[p]]) for p in range(state.consumed, size) if self._owns(state.samples + p)]
            # Encoded videos are large, so do not keep those of other consumers or those already yielded.
            del window
            mine.reverse()
            while mine:
                yield mine.pop()
            state.shard, state.row = reader.shard, reader.row
            state.window += 1
            state.samples += size
            state.consumed = 0

    def _shards(self, epoch: int) -> list[int]:
        """Shards of this consumer in the order of the epoch."""
        shards = list(range(self.source.num_shards))
        if self.window > 1:
            shards = _permutation(len(shards), stable_seed(self.seed, epoch, "shards"))
        return shards[self.consumer.index :: self.consumer.total] if self.mode == "shards" else shards

    def _permutation(self, size: int, state: StreamState) -> list[int]:
        """Order of a window; in "samples" mode the same for all consumers."""
        if size == 1:
            return [0]
        # `total` is part of the seed because the shards of a consumer depend on the number of consumers.
        who = f"{self.consumer.index}/{self.consumer.total}" if self.mode == "shards" else "all"
        return _permutation(size, stable_seed(self.seed, state.epoch, "window", who, state.window))

    def _owns(self, number: int) -> bool:
        """Whether the sample with this global index belongs to this consumer."""
        if self.mode == "shards":
            return True
        batch, place = divmod(number, self.videos_per_batch * self.consumer.world_size)
        return (
            place % self.consumer.world_size == self.consumer.rank
            and batch % self.consumer.num_workers == self.consumer.worker
        )


class _EpochReader:
    """Reads shards sequentially and tracks the position of the next row."""

    def __init__(self, source: Source, shards: list[int], shard: int, row: int) -> None:
        self.shard, self.row = shard, row
        self._rows = self._read(source, shards)

    def __iter__(self) -> Iterator[Sample]:
        return self._rows

    def _read(self, source: Source, shards: list[int]) -> Iterator[Sample]:
        while self.shard < len(shards):
            try:
                for sample in source.iterate_shard(shards[self.shard], skip=self.row):
                    self.row += 1
                    yield sample
            except (BadMediumError, OSError) as error:
                # A source from outside may raise where those of the package mark samples; the rest is lost.
                name = source.shard_names[shards[self.shard]]
                self.row += 1
                yield Sample(name, ALL_CLIPS, {}, problem=str(error))
            self.shard, self.row = self.shard + 1, 0


def _permutation(size: int, seed: int) -> list[int]:
    """A random order of 0 to size - 1."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
