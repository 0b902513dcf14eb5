"""Class-balanced draws from a labelled source, with replacement: rare classes are seen as often as frequent ones."""

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
    """Draws clips of a source with replacement, each with a probability that falls with how frequent its classes are.

    A clip's weight is the sum over its classes of one over the clips of the class. Each draw is as long as an epoch and
    is a shard of its own, already in random order: read it without a shuffle window, and one draw is one epoch. Nothing
    but labels is held in memory; a row is read when its turn comes, together with its row group (16 rows in shards of
    this package).

    Args:
        source: labelled clips in local Parquet shards, or a list of files.
        num_samples: clips in a draw.
        num_draws: how many draws there are; a stream that reads them all begins with the first one again.
        seed: seed of the draws.

    Raises:
        ValueError: if the source has no labels, is neither of these kinds, or a number is below 1.

    Example:
        >>> from pathlib import Path
        >>> from tubelets.data.sources.annotations import VideoRecord
        >>> records = [VideoRecord(Path(f"{i}.wav"), "rare" if i == 0 else "usual", None, str(i)) for i in range(100)]
        >>> source = BalancedSource(FolderSource(records), num_samples=1000)
        >>> 400 < sum(sample.label == 0 for sample in source.iterate_shard(0)) < 600
        True

    Source: structured_noise_masking.md, section 8, fine-tuning on AudioSet-2M; the weights are a choice of this
    package.
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
        # The names identify the draws, so that a run is not resumed with others.
        names = tuple(f"balanced-{named}-{seed}-{num_samples}[{index}]" for index in range(num_draws))
        self._description = dataclasses.replace(source.description, shard_names=names, annotations=("label",))

    @property
    def description(self) -> SourceDescription:
        """A shard for each draw, with the labels and media of the source."""
        return self._description

    def with_media(self, names: Collection[str]) -> "BalancedSource":
        """The same draws with other media; see `Source.with_media`."""
        other = copy.copy(self)
        other._source = self._source.with_media(names)
        other._rows = self._rows.of(other._source)
        return other

    @property
    def num_samples(self) -> int:
        """Number of clips in a draw."""
        return self._num_samples

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
        """List the clips of a draw; nothing of them is read.

        Args:
            index: which draw.
            skip: clips at its beginning that are skipped.

        Yields:
            The clips from `skip` on. A clip that is drawn again has another id, and so another augmentation.

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
        """An encoded medium of a sample.

        Args:
            sample: what `iterate_shard` gave.
            medium: which of its media; None takes the main one.

        Raises:
            OSError: if it cannot be read.
        """
        return self._source.read_bytes(self._rows.read(int(str(sample.get(medium).path))), medium)


def balanced_weights(labels: Sequence[Any]) -> np.ndarray:
    """Probabilities of clips: the sum over a clip's classes of one over the clips of the class.

    Args:
        labels: of each clip its class number, or the list of them.

    Returns:
        float64 `(clips,)` that sums to 1; a clip without any class has 0.

    Raises:
        ValueError: if no clip has a class.

    Example:
        >>> balanced_weights([0, 1, 1]).tolist(), balanced_weights([[0], [0, 1], []]).tolist()
        ([0.5, 0.25, 0.25], [0.25, 0.75, 0.0])
    """
    classes = [label if isinstance(label, (list, tuple)) else [label] for label in labels]
    counts = Counter(number for numbers in classes for number in numbers)
    weights = np.array([sum(1 / counts[number] for number in numbers) for numbers in classes], dtype=np.float64)
    if not weights.sum():
        raise ValueError(f"none of the {len(labels)} clips has a class; there is nothing to balance")
    return weights / weights.sum()


class _Rows:
    """Rows of a source by their number, of which only labels are kept."""

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
        """What seeds are made of: the id where it is known without reading the row."""
        shard, place = self._locate(row)
        if isinstance(self._source, FolderSource):
            return self._source.read_row(shard, place).clip_id
        return f"{self._source.shard_names[shard]}:{place}"

    def read(self, row: int) -> Sample:
        # The media of a sample are asked for one after the other, and each row costs a row group.
        if self._last is None or self._last[0] != row:
            self._last = row, self._source.read_row(*self._locate(row))
        return self._last[1]

    def _locate(self, row: int) -> tuple[int, int]:
        """The shard of a row, and its place in it."""
        shard = int(np.searchsorted(self._ends, row, side="right"))
        return shard, row - (int(self._ends[shard - 1]) if shard else 0)
