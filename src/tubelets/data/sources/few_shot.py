"""Few-shot subsets: a few labelled samples per class of a larger source."""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from tubelets.data.seeds import stable_seed
from tubelets.data.sources.source import Sample, Source, SourceDescription


class FewShotSource(Source):
    """The same number of samples per class, drawn once and kept in memory (as bytes, if the source has bytes).

    The samples of a class with the smallest hashes of (seed, id) are chosen. The choice does not depend on shards or
    their order, and larger draws with the same seed contain the smaller ones.

    Args:
        source: labelled samples, read once completely.
        shots: samples per class, at least 1.
        seed: seed of the draw.
        skip: samples of each class that another draw with the same seed takes first, and this one leaves out.

    Raises:
        ValueError: if the source has no labels, a sample has several, or a class has too few samples.

    Example:
        >>> from pathlib import Path
        >>> from tubelets.data.sources.records import VideoRecord
        >>> from tubelets.data.sources.folders import FolderSource
        >>> records = [VideoRecord(Path(f"{i}.mp4"), "ab"[i % 2], None, str(i)) for i in range(10)]
        >>> source = FewShotSource(FolderSource(records), shots=3)
        >>> sorted(sample.label for sample in source.iterate_shard(0))
        [0, 0, 0, 1, 1, 1]
    """

    def __init__(self, source: Source, shots: int, seed: int = 0, skip: int = 0) -> None:
        if shots < 1:
            raise ValueError(f"shots must be at least 1 video per class, got {shots}")
        if skip < 0:
            raise ValueError(f"skip must be at least 0 videos per class, got {skip}")
        if "label" not in source.annotations:
            raise ValueError("few-label subsets need labels; the source has none")
        self._source, self._draw = source, (shots, seed, skip)
        self._samples = _draw(source, *self._draw)
        names = "\n".join(sample.clip_id for sample in self._samples)
        # The name identifies the draw, so that a run cannot resume with different videos.
        name = f"{shots}-shot-{hashlib.sha256(names.encode()).hexdigest()[:16]}"
        self._description = dataclasses.replace(source.description, shard_names=(name,))

    @property
    def description(self) -> SourceDescription:
        """One shard with the annotations and media of the source."""
        return self._description

    def with_media(self, names: Collection[str]) -> "FewShotSource":
        """The same draw with other media in memory; see `Source.with_media`."""
        readable = [sample for sample in self._samples if sample.problem is None]
        if readable and set(names) <= set(readable[0].media):
            return self
        return FewShotSource(self._source.with_media(names), *self._draw)

    @property
    def lists_paths(self) -> bool:
        """True: the draw is in memory or on disk."""
        return True

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def fingerprints(self) -> dict[str, str]:
        """Those of the source it draws from."""
        return self._source.fingerprints()

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
        """List the chosen samples.

        Args:
            index: 0, the only shard.
            skip: samples to skip at the start.

        Yields:
            The samples from `skip`.

        Raises:
            IndexError: if the shard does not exist.
        """
        self._check_shard(index)
        for sample in self._samples[skip:]:
            yield dataclasses.replace(sample, shard=self.shard_names[0])

    def read_bytes(self, sample: Sample, medium: str | None = None) -> bytes:
        """An encoded medium of a sample; see `Source.read_bytes`."""
        return self._source.read_bytes(sample, medium)


def first_of_each_class(
    labels: Sequence[Any], order: Iterable[int], count: Callable[[int], int] | int
) -> dict[Any, list[int]]:
    """Draw for few-shot learning: the first clips of each class in a given order.

    Args:
        labels: Class of each clip.
        order: Indices of all clips in random order, which determines the draw.
        count: Clips per class, or a function from the size of a class to that number.

    Returns:
        The chosen indices by class; classes sorted, indices in the given order.

    Raises:
        ValueError: A class has too few clips.

    Example:
        >>> first_of_each_class(["b", "a", "b", "a"], [3, 2, 1, 0], 1)
        {'a': [3], 'b': [2]}
    """
    places: dict[Any, list[int]] = {}
    for place in order:
        places.setdefault(labels[place], []).append(place)
    chosen = {}
    for label, found in sorted(places.items()):
        wanted = count if isinstance(count, int) else count(len(found))
        if len(found) < wanted:
            raise ValueError(
                f"class {label} has {len(found)} videos, fewer than the {wanted} requested; use fewer shots"
            )
        chosen[label] = found[:wanted]
    return chosen


def _draw(source: Source, shots: int, seed: int, skip: int) -> list[Sample]:
    """The `shots` samples of each class with the smallest hashes after the first `skip`, class after class, by id."""
    # A first pass reads only labels and ids, so that only the drawn media are kept in memory.
    light = source.with_media(())
    listed = [
        (index, row, sample)
        for index in range(light.num_shards)
        for row, sample in enumerate(light.iterate_shard(index))
        if sample.problem is None
    ]
    for _, _, sample in listed:
        if not isinstance(sample.label, int):
            raise ValueError(f"clip {sample.clip_id} has the label {sample.label!r}; few-label subsets need one class")
    hashes = [stable_seed(seed, sample.clip_id) for _, _, sample in listed]
    order = sorted(range(len(listed)), key=hashes.__getitem__)
    chosen = first_of_each_class([sample.label for _, _, sample in listed], order, skip + shots)
    wanted = {listed[place][:2] for places in chosen.values() for place in places[skip:]}
    found = [
        sample
        for index in sorted({index for index, _ in wanted})
        for row, sample in enumerate(source.iterate_shard(index))
        if (index, row) in wanted
    ]
    # Rows whose media turn out damaged stay, and streams report them.
    return sorted(found, key=lambda sample: (sample.label or 0, sample.clip_id))
