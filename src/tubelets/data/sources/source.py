"""The source interface: samples, their media, and shards that can be read from any row."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tubelets.data.modalities.modality import BadMediumError

ALL_CLIPS = "*"
"""Id of rows whose own ids cannot be read: a whole shard, or a damaged stretch of it."""


@dataclass(frozen=True)
class Media:
    """An encoded medium of a sample.

    Attributes:
        modality: Name of its modality: "video", "audio", "skeleton" or a registered one.
        data: The encoded file, None if only its path is stored.
        path: File name of an embedded file, otherwise the path or URL to read (stored paths are relative to their
            shard).
        sha256: Hexadecimal checksum of the encoded file, or None.
    """

    modality: str
    data: bytes | None = None
    path: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Sample:
    """A row of a source, not decoded.

    Attributes:
        shard: Name of its shard, for messages.
        clip_id: Id of the sample, which seeds its augmentations.
        media: Its media by name ("video", "audio", "flow", "depth", "skeleton", ...), the main one first.
        annotations: Values by name: "label" (class index, or a list of them for multi-label samples), "caption", and
            others of the source.
        problem: Why the row cannot be read, None for a readable one. Such a sample keeps the place of a row in a
            damaged shard, so that damage does not move the rows behind it. It has no media. Its id is `ALL_CLIPS` if
            the damage hides the ids.

    Example:
        >>> Sample("train-00000-of-00001.parquet", "7", {}, problem="the row group is damaged").get("video")
        Traceback (most recent call last):
        tubelets.data.modalities.modality.BadMediumError: the row group is damaged
    """

    shard: str
    clip_id: str
    media: Mapping[str, Media]
    annotations: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    @property
    def medium(self) -> Media:
        """The main medium."""
        return next(iter(self.media.values()))

    def get(self, medium: str | None) -> Media:
        """Return a medium by name, or the main one for None.

        Raises:
            BadMediumError: The row cannot be read, or does not have the medium.
        """
        if self.problem is not None:
            raise BadMediumError(self.problem)
        if medium is None:
            return self.medium
        if medium not in self.media:
            raise BadMediumError(f"the row has no {medium!r}; its media are {list(self.media)}")
        return self.media[medium]

    @property
    def label(self) -> Any:
        """Class index or list of indices, or None."""
        return self.annotations.get("label")

    @property
    def caption(self) -> str | None:
        """Caption, or None."""
        return self.annotations.get("caption")


@dataclass(frozen=True)
class SourceDescription:
    """Properties shared by all samples of a source.

    Attributes:
        shard_names: Name of each shard, the file name if known. They identify the data when a run resumes.
        media: Modality of each medium by name, the main one first.
        annotations: Names of the annotations.
        class_names: Class names in label order, None if unknown.
        multi_label: Whether labels are lists of class indices.
    """

    shard_names: tuple[str, ...]
    media: Mapping[str, str]
    annotations: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    multi_label: bool = False


class Source(ABC):
    """Shards of samples that can be read independently, from any row, in any process.

    Iterating never splits rows among DataLoader workers: each reader reads the whole shard. Subclasses implement the
    four abstract members; the base class needs no initialisation.
    """

    @property
    @abstractmethod
    def description(self) -> SourceDescription:
        """Properties shared by all samples."""

    @property
    @abstractmethod
    def num_samples(self) -> int | None:
        """Number of samples, or None if counting requires reading them."""

    @abstractmethod
    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
        """Read one shard in its stored order.

        Args:
            index: Index of the shard, 0 to `num_shards - 1`.
            skip: Rows at the start that are not returned.

        Yields:
            The rows from `skip`. Damage raises nothing: rows that cannot be read are samples with a `problem`.

        Raises:
            IndexError: The shard does not exist.
        """

    @abstractmethod
    def read_bytes(self, sample: Sample, medium: str | None = None) -> bytes:
        """Return an encoded medium of a sample, embedded or from its path.

        Args:
            sample: A row of this source.
            medium: Name of the medium; None is the main one.

        Raises:
            BadMediumError: The row does not have the medium.
            OSError: Its path cannot be read.
        """

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self.description.shard_names)

    @property
    def shard_names(self) -> list[str]:
        """Name of each shard."""
        return list(self.description.shard_names)

    def fingerprints(self) -> dict[str, str]:
        """What tells other media under the same names apart, found without reading the media.

        Returns:
            A short text for each shard, or for some of the files, by name. Parts that cannot be read now are left out,
            and so is everything that is not on this machine.
        """
        return {}

    @property
    def lists_paths(self) -> bool:
        """Whether iterating reads no media, so that any number of readers can iterate over all samples."""
        return False

    @property
    def media(self) -> Mapping[str, str]:
        """Modality of each medium by name, the main medium first."""
        return self.description.media

    @property
    def annotations(self) -> list[str]:
        """Names of the annotations."""
        return list(self.description.annotations)

    @property
    def class_names(self) -> list[str] | None:
        """Class names in label order, None if unknown."""
        names = self.description.class_names
        return None if names is None else list(names)

    @property
    def multi_label(self) -> bool:
        """Whether labels are lists of class indices."""
        return self.description.multi_label

    def with_media(self, names: Collection[str]) -> "Source":
        """Return a source of the same samples that reads only some media.

        Args:
            names: Media to read; all must exist.

        Returns:
            A source, possibly this one if reading less has no benefit.
        """
        return self

    def read_labels(self, index: int) -> list[Any]:
        """Return the label of each row of a shard; sources may override this to read only labels.

        Args:
            index: Index of the shard.

        Raises:
            ValueError: The source has no labels.
        """
        if "label" not in self.description.annotations:
            raise ValueError(f"{self.shard_names[index]} has no labels")
        return [sample.label for sample in self.iterate_shard(index)]

    def read_row(self, index: int, row: int) -> Sample:
        """Read one row; sources with random access read only that row.

        Args:
            index: Index of the shard.
            row: Index of the row.

        Raises:
            IndexError: The row does not exist.
        """
        for sample in self.iterate_shard(index, skip=row):
            return sample
        raise IndexError(f"row {row} does not exist in {self.shard_names[index]}")

    def _check_shard(self, index: int) -> None:
        if not 0 <= index < self.num_shards:
            raise IndexError(f"shard {index} does not exist; the source has {self.num_shards} shards")
