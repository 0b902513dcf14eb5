"""A share of a source's samples, the same of every group, without holding any of them in memory."""

import bisect
import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator

from tubelets.data.seeds import stable_seed
from tubelets.data.sources.source import Sample, Source, SourceDescription

_SEEDS = 2**63


class FractionSource(Source):
    """A seeded share of the samples; groups of equal captions, or of one class, keep their shares of the whole.

    The choice depends on seed, ids and groups alone, and a larger share with the same seed contains the smaller ones.
    Ids, captions and labels are read once.

    Args:
        source: the whole.
        fraction: share of its readable samples, in (0, 1]; at least one sample is kept.
        seed: seed of the draw.

    Raises:
        ValueError: if the share is out of range, or no sample can be read.

    Example:
        >>> from pathlib import Path
        >>> from tubelets.data.sources.records import VideoRecord
        >>> from tubelets.data.sources.folders import FolderSource
        >>> records = [VideoRecord(Path(f"{i}.mp4"), None, "ab"[i % 2], str(i)) for i in range(20)]
        >>> source = FractionSource(FolderSource(records), 0.2)
        >>> sorted(sample.caption for sample in source.iterate_shard(0))
        ['a', 'a', 'b', 'b']
    """

    def __init__(self, source: Source, fraction: float, seed: int = 0) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
        self._source = source
        self._rows = _drawn_rows(source, fraction, seed)
        content = "\n".join(f"{index}:{rows}" for index, rows in enumerate(self._rows))
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        # The names identify the draw, so that a run cannot resume with different videos.
        names = tuple(f"{name} ({fraction:g} of it, {digest})" for name in source.shard_names)
        self._description = dataclasses.replace(source.description, shard_names=names)

    @property
    def description(self) -> SourceDescription:
        """Shards, annotations and media of the source."""
        return self._description

    @property
    def lists_paths(self) -> bool:
        """Whether iterating reads no media, as for the source."""
        return self._source.lists_paths

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return sum(map(len, self._rows))

    @property
    def num_of_whole(self) -> int | None:
        """Number of samples of the source, None if it does not state it."""
        return self._source.num_samples

    def with_media(self, names: Collection[str]) -> "FractionSource":
        """The same draw with other media; see `Source.with_media`."""
        other = object.__new__(FractionSource)
        other.__dict__.update(self.__dict__, _source=self._source.with_media(names))
        return other

    def fingerprints(self) -> dict[str, str]:
        """Those of the source it draws from."""
        return self._source.fingerprints()

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
        """Read the chosen rows of a shard in their stored order.

        Args:
            index: number of the shard.
            skip: samples to skip at the start.

        Yields:
            The samples from `skip`.

        Raises:
            IndexError: if the shard does not exist.
        """
        self._check_shard(index)
        rows = self._rows[index][skip:]
        if not rows:
            return
        wanted = set(rows)
        for row, sample in enumerate(self._source.iterate_shard(index, skip=rows[0]), start=rows[0]):
            if row in wanted:
                yield sample
            if row >= rows[-1]:
                return

    def read_row(self, index: int, row: int) -> Sample:
        """The chosen sample of a number; see `Source.read_row`."""
        self._check_shard(index)
        if not 0 <= row < len(self._rows[index]):
            raise IndexError(f"row {row} does not exist in {self.shard_names[index]}")
        return self._source.read_row(index, self._rows[index][row])

    def read_bytes(self, sample: Sample, medium: str | None = None) -> bytes:
        """An encoded medium of a sample; see `Source.read_bytes`."""
        return self._source.read_bytes(sample, medium)


def _drawn_rows(source: Source, fraction: float, seed: int) -> list[list[int]]:
    """The chosen rows of each shard, ascending."""
    light = source.with_media(())
    groups: dict[Hashable, list[tuple[int, int, int]]] = defaultdict(list)
    for index in range(light.num_shards):
        for row, sample in enumerate(light.iterate_shard(index)):
            if sample.problem is None:
                groups[_group_of(sample)].append((stable_seed(seed, sample.clip_id), index, row))
    # Places in [0, 1) at equal distances within a group, so that any share takes as much of each, up to rounding.
    places = [
        ((place + stable_seed(seed, str(group)) % _SEEDS / _SEEDS) / len(members), *member)
        for group, members in groups.items()
        for place, member in enumerate(sorted(members))
    ]
    if not places:
        raise ValueError("none of the samples can be read, so that no share of them can be drawn")
    rows: list[list[int]] = [[] for _ in range(light.num_shards)]
    for _, _, index, row in sorted(places)[: max(1, round(fraction * len(places)))]:
        bisect.insort(rows[index], row)
    return rows


def _group_of(sample: Sample) -> Hashable:
    """What samples of a group have in common: their caption, or else their class."""
    captions = sample.annotations.get("captions") or ()
    return sample.caption or (captions[0] if captions else str(sample.label))
