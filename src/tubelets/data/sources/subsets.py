"""Some of a source's samples: listed ones, a share of every group, or those that are new."""

import bisect
import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Sequence

from tubelets.data.seeds import stable_seed
from tubelets.data.sources.source import Sample, Source, SourceDescription

_SEEDS = 2**63


class SubsetSource(Source):
    """Some rows of a source, in its order, without holding any of them in memory.

    Args:
        source: the whole.
        rows: chosen rows of each of its shards, ascending.
        name: what the choice is, for the names of the shards: a run does not resume with another one.

    Raises:
        ValueError: if there is not a list of rows for each shard.
    """

    def __init__(self, source: Source, rows: Sequence[Sequence[int]], name: str) -> None:
        if len(rows) != source.num_shards:
            raise ValueError(f"rows must be a list for each of {source.num_shards} shards, got {len(rows)}")
        self._source, self._rows = source, [list(each) for each in rows]
        content = "\n".join(f"{index}:{each}" for index, each in enumerate(self._rows))
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        names = tuple(f"{shard} ({name}, {digest})" for shard in source.shard_names)
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

    def with_media(self, names: Collection[str]) -> "SubsetSource":
        """The same rows with other media; see `Source.with_media`."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _source=self._source.with_media(names))
        return other

    def fingerprints(self) -> dict[str, str]:
        """Those of the source."""
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


def without_ids(source: Source, known: Collection[str]) -> SubsetSource:
    """The samples of a source whose ids are not among some others; ids are read once, media are not.

    Args:
        source: the whole.
        known: ids to leave out.

    Example:
        >>> from pathlib import Path
        >>> from tubelets.data.sources.records import VideoRecord
        >>> from tubelets.data.sources.folders import FolderSource
        >>> source = FolderSource([VideoRecord(Path(f"{i}.mp4"), None, None, str(i)) for i in range(4)])
        >>> [sample.clip_id for sample in without_ids(source, {"1", "2"}).iterate_shard(0)]
        ['0', '3']
    """
    light, left_out = source.with_media(()), set(known)
    shards = (enumerate(light.iterate_shard(index)) for index in range(light.num_shards))
    rows = [[row for row, sample in shard if sample.clip_id not in left_out] for shard in shards]
    return SubsetSource(source, rows, f"without {len(left_out)} ids")


class ListedSource(SubsetSource):
    """The samples whose ids are listed, such as a published subset, in the order of the source.

    Args:
        source: the whole; ids are read once, media are not.
        ids: of the samples, each once.

    Raises:
        ValueError: if an id is not in the source, or listed twice.

    Example:
        >>> from pathlib import Path
        >>> from tubelets.data.sources.records import VideoRecord
        >>> from tubelets.data.sources.folders import FolderSource
        >>> source = FolderSource([VideoRecord(Path(f"{i}.mp4"), None, None, str(i)) for i in range(9)])
        >>> [sample.clip_id for sample in ListedSource(source, ["7", "2"]).iterate_shard(0)]
        ['2', '7']
    """

    def __init__(self, source: Source, ids: Sequence[str]) -> None:
        wanted, light = set(ids), source.with_media(())
        if len(wanted) != len(ids):
            raise ValueError(f"the list has {len(ids)} clips, some of them twice; list each once")
        shards = [[sample.clip_id for sample in light.iterate_shard(index)] for index in range(light.num_shards)]
        missing = sorted(wanted.difference(*shards))
        if missing or not wanted:
            raise ValueError(
                f"{len(missing)} of {len(ids)} listed clips are not in the data, such as {', '.join(missing[:3])}; "
                "list ids of the training part"
            )
        rows = [[row for row, clip in enumerate(shard) if clip in wanted] for shard in shards]
        super().__init__(source, rows, f"{len(ids)} listed")


class FractionSource(SubsetSource):
    """A seeded share of the samples; groups of equal captions, or of one class, keep their shares of the whole.

    The choice depends on seed, ids and groups alone, and a larger share with the same seed contains the smaller ones.
    Ids, captions and labels are read once.

    Args:
        source: the whole.
        fraction: share of its readable samples, in (0, 1]; at least one sample is kept.
        seed: seed of the draw.
        grouped: keep the shares of groups; otherwise a sample counts whatever its caption or class.

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

    def __init__(self, source: Source, fraction: float, seed: int = 0, grouped: bool = True) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
        super().__init__(source, _drawn_rows(source, fraction, seed, grouped), f"{fraction:g} of it")


def _drawn_rows(source: Source, fraction: float, seed: int, grouped: bool) -> list[list[int]]:
    """The chosen rows of each shard, ascending."""
    light = source.with_media(())
    groups: dict[Hashable, list[tuple[int, int, int]]] = defaultdict(list)
    for index in range(light.num_shards):
        for row, sample in enumerate(light.iterate_shard(index)):
            if sample.problem is None:
                groups[_group_of(sample) if grouped else None].append((stable_seed(seed, sample.clip_id), index, row))
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
