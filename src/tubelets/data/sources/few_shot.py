"""A few labelled samples of each class of a larger source, for learning with few labels."""

import dataclasses
import hashlib
import heapq
import itertools
from collections.abc import Collection, Iterator

from tubelets.data.seeds import stable_seed
from tubelets.data.sources.source import Sample, Source, SourceDescription


class FewShotSource(Source):
    """The same number of samples of each class, drawn once and held in memory (as bytes, where the source has bytes).

    A sample is chosen if the hash of (seed, its id) is among the smallest of its class: the choice does not depend on
    shards or their order, and more shots with the same seed contain the fewer.

    Args:
        source: labelled samples, read once from beginning to end.
        shots: samples a class, at least 1.
        seed: seed of the draw.

    Raises:
        ValueError: if the source has no labels, a sample has several, or a class has too few samples.

    Example:
        >>> from pathlib import Path
        >>> from tubelets.data.sources.annotations import VideoRecord
        >>> from tubelets.data.sources.folders import FolderSource
        >>> records = [VideoRecord(Path(f"{i}.mp4"), "ab"[i % 2], None, str(i)) for i in range(10)]
        >>> source = FewShotSource(FolderSource(records), shots=3)
        >>> sorted(sample.label for sample in source.iterate_shard(0))
        [0, 0, 0, 1, 1, 1]
    """

    def __init__(self, source: Source, shots: int, seed: int = 0) -> None:
        if shots < 1:
            raise ValueError(f"shots must be at least 1 video a class, got {shots}")
        if "label" not in source.annotations:
            raise ValueError("few-label subsets need labels; the source has none")
        self._source, self._shots, self._seed = source, shots, seed
        self._samples = _draw(source, shots, seed)
        names = "\n".join(sample.clip_id for sample in self._samples)
        # The name identifies the draw, so that a run is not resumed with other videos.
        name = f"{shots}-shot-{hashlib.sha256(names.encode()).hexdigest()[:16]}"
        self._description = dataclasses.replace(source.description, shard_names=(name,))

    @property
    def description(self) -> SourceDescription:
        """One shard with the annotations and media of the source."""
        return self._description

    def with_media(self, names: Collection[str]) -> "FewShotSource":
        """The same draw with other media in memory; see `Source.with_media`."""
        if set(names) <= set(self._samples[0].media):
            return self
        return FewShotSource(self._source.with_media(names), self._shots, self._seed)

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
        """List the chosen samples.

        Args:
            index: 0, the only shard.
            skip: samples at the beginning that are skipped.

        Yields:
            The samples from `skip` on.

        Raises:
            IndexError: if the shard does not exist.
        """
        self._check_shard(index)
        for sample in self._samples[skip:]:
            yield dataclasses.replace(sample, shard=self.shard_names[0])

    def read_bytes(self, sample: Sample, medium: str | None = None) -> bytes:
        """An encoded medium of a sample; see `Source.read_bytes`."""
        return self._source.read_bytes(sample, medium)


def _draw(source: Source, shots: int, seed: int) -> list[Sample]:
    """The `shots` videos of each class with the smallest hashes, class after class."""
    # Heaps of negated hashes: the largest hash that is kept is the first to go.
    kept: dict[int, list[tuple[int, str, Sample]]] = {}
    shards = (source.iterate_shard(index) for index in range(source.num_shards))
    for sample in itertools.chain.from_iterable(shards):
        if not isinstance(sample.label, int):
            raise ValueError(f"clip {sample.clip_id} has the label {sample.label!r}; few-label subsets need one class")
        heap = kept.setdefault(sample.label, [])
        entry = (-stable_seed(seed, sample.clip_id), sample.clip_id, sample)
        if len(heap) < shots:
            heapq.heappush(heap, entry)
        elif entry[:2] > heap[0][:2]:
            heapq.heapreplace(heap, entry)
    for label, heap in sorted(kept.items()):
        if len(heap) < shots:
            raise ValueError(f"class {label} has {len(heap)} videos and {shots} are asked for; ask for fewer shots")
    return [entry[2] for _, heap in sorted(kept.items()) for entry in sorted(heap, key=lambda entry: entry[1])]
