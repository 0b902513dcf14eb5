"""Class-balanced sampling with replacement: rare classes are drawn as often as frequent ones."""

import copy
import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from tubelets.data.seeds import stable_seed
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.source import Media, Sample, Source, SourceDescription


class BalancedSource(Source):
    """Draws clips of a source with replacement, with probabilities inverse to the frequencies of their classes.

    A clip's weight is the sum over its classes of 1 / (number of clips of the class). Each draw is one epoch and one
    shard, in random order, so it needs no shuffle window. Only labels are kept in memory; a row is read on demand
    together with its row group (16 rows in shards of this package).

    Args:
        source: labelled clips in local Parquet shards, or a list of files.
        num_samples: clips per draw.
        num_draws: number of draws; a stream repeats them from the first.
        seed: seed of the draws.

    Raises:
        ValueError: if the source has no labels or another type, or a number is below 1.

    Example:
        >>> from pathlib import Path
        >>> from tubelets.data.sources.records import VideoRecord
        >>> records = [VideoRecord(Path(f"{i}.wav"), "rare" if i == 0 else "usual", None, str(i)) for i in range(100)]
        >>> source = BalancedSource(FolderSource(records), num_samples=1000)
        >>> 400 < sum(sample.label == 0 for sample in source.iterate_shard(0)) < 600
        True

    Source: structured_noise_masking.md, section 8, fine-tuning on AudioSet-2M; the weights are
    our choice.
    """

    def __init__(self, source: Source, num_samples: int, num_draws: int = 1, seed: int = 0) -> None:
        if num_samples < 1 or num_draws < 1:
            raise ValueError(f"num_samples={num_samples} and num_draws={num_draws} must be at least 1")
        if "label" not in source.annotations:
            raise ValueError("balanced draws need labels; the source has none")
        self._source, self._num_samples, self._seed = source, num_samples, seed
        self._rows = _Rows(source)
        self._weights = balanced_weights(self._rows.labels)
        named = hashlib.sha256("\n".join(source.shard_names).encode()).hexdigest()[:16]
        # The names identify the draws, so that a run cannot resume with different ones.
        names = tuple(f"balanced-{named}-{seed}-{num_samples}[{index}]" for index in range(num_draws))
        self._description = dataclasses.replace(source.description, shard_names=names, annotations=("label",))

    @property
    def description(self) -> SourceDescription:
        """One shard per draw, with the labels and media of the source."""
        return self._description

    def with_media(self, names: Collection[str]) -> "BalancedSource":
        """The same draws with other media; see `Source.with_media`."""
        other = copy.copy(self)
        other._source = self._source.with_media(names)
        other._rows = self._rows.of(other._source)
        return other

    @property
    def lists_paths(self) -> bool:
        """True: media are read on demand."""
        return True

    @property
    def num_samples(self) -> int:
        """Clips per draw."""
        return self._num_samples

    def fingerprints(self) -> dict[str, str]:
        """Those of the source it draws from."""
        return self._source.fingerprints()

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
        """List the clips of a draw without reading them.

        Args:
            index: index of the draw.
            skip: clips to skip at the start.

        Yields:
            The clips from `skip`. A clip drawn again gets another id, and therefore another augmentation.

        Raises:
            IndexError: if the draw does not exist.
        """
        self._check_shard(index)
        generator = np.random.default_rng(stable_seed(self._seed, "balanced", index))
        drawn = generator.choice(len(self._weights), self._num_samples, p=self._weights)
        for place, row in enumerate(drawn[skip:].tolist(), start=skip):
            media = {name: Media(modality, path=str(row)) for name, modality in self.media.items()}
            name = f"{self._rows.name(row)}#{index}.{place}"
            yield Sample(self.shard_names[index], name, media, {"label": self._rows.labels[row]})

    def read_bytes(self, sample: Sample, medium: str | None = None) -> bytes:
        """Read an encoded medium of a sample.

        Args:
            sample: a sample from `iterate_shard`.
            medium: name of the medium; None is the main one.

        Raises:
            OSError: if the medium cannot be read.
        """
        return self._source.read_bytes(self._rows.read(int(str(sample.get(medium).path))), medium)


def balanced_weights(labels: Sequence[Any]) -> np.ndarray:
    """Sampling probabilities: proportional to the sum over a clip's classes of 1 / (number of clips of the class).

    Args:
        labels: class index of each clip, or a list of them; None for a clip that cannot be read.

    Returns:
        float64 `(clips,)` that sums to 1; 0 for clips without classes.

    Raises:
        ValueError: if no clip has a class.

    Example:
        >>> balanced_weights([0, 1, 1]).tolist(), balanced_weights([[0], [0, 1], []]).tolist()
        ([0.5, 0.25, 0.25], [0.25, 0.75, 0.0])
    """
    classes = [label if isinstance(label, (list, tuple)) else [] if label is None else [label] for label in labels]
    counts = Counter(number for numbers in classes for number in numbers)
    weights = np.array([sum(1 / counts[number] for number in numbers) for numbers in classes], dtype=np.float64)
    if not weights.sum():
        raise ValueError(f"none of the {len(labels)} clips has a class; give labelled clips")
    return weights / weights.sum()


class _Rows:
    """Rows of a source by index, with only their labels in memory."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._last: tuple[int, Sample] | None = None
        shards = [source.read_labels(index) for index in range(source.num_shards)]
        self.labels = list(itertools.chain.from_iterable(shards))
        self._ends = np.cumsum([len(labels) for labels in shards])

    def of(self, source: Source) -> "_Rows":
        """The same rows of a source with other media."""
        other = copy.copy(self)
        other._source, other._last = source, None
        return other

    def name(self, row: int) -> str:
        """Name for seeding: the id if it is known without reading the row."""
        shard, place = self._locate(row)
        if isinstance(self._source, FolderSource):
            return self._source.read_row(shard, place).clip_id
        return f"{self._source.shard_names[shard]}:{place}"

    def read(self, row: int) -> Sample:
        # Cached, because media of a sample are requested one by one and each row costs a row group.
        if self._last is None or self._last[0] != row:
            self._last = row, self._source.read_row(*self._locate(row))
        return self._last[1]

    def _locate(self, row: int) -> tuple[int, int]:
        """The shard of a row, and its index in it."""
        shard = int(np.searchsorted(self._ends, row, side="right"))
        return shard, row - (int(self._ends[shard - 1]) if shard else 0)
