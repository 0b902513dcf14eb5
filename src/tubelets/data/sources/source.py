"""What every source of samples has in common: samples, media, and shards that are read from any row on."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tubelets.data.modalities.modality import BadMediumError


@dataclass(frozen=True)
class Media:
    """One encoded medium of a sample.

    Attributes:
        modality: Name of its modality: "video", "audio", "skeleton" or one that was registered.
        data: The encoded file, None where only its path is stored.
        path: File name of an embedded file, otherwise the path or URL to read (stored relative paths start beside their
            shard).
        sha256: Hexadecimal checksum of the encoded file, None if none is stored.
    """

    modality: str
    data: bytes | None = None
    path: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Sample:
    """One row of a source; nothing of it is decoded.

    Attributes:
        shard: Name of the shard it comes from, for messages.
        clip_id: Its id, from which its augmentations are seeded.
        media: Its media by name ("video", "audio", "flow", "depth", "skeleton", ...), the main one first.
        annotations: Values by name: "label" (class number, or the list of them where a sample has several), "caption",
            and others that the source has.
    """

    shard: str
    clip_id: str
    media: Mapping[str, Media]
    annotations: Mapping[str, Any] = field(default_factory=dict)

    @property
    def medium(self) -> Media:
        """The main medium."""
        return next(iter(self.media.values()))

    def get(self, medium: str | None) -> Media:
        """A medium by name, the main one for None.

        Raises:
            BadMediumError: The sample does not have it.
        """
        if medium is None:
            return self.medium
        if medium not in self.media:
            raise BadMediumError(f"the row has no {medium!r}; its media are {list(self.media)}")
        return self.media[medium]

    @property
    def label(self) -> Any:
        """Class number or numbers, None where there is none."""
        return self.annotations.get("label")

    @property
    def caption(self) -> str | None:
        """Caption, None where there is none."""
        return self.annotations.get("caption")


@dataclass(frozen=True)
class SourceDescription:
    """What a source states about all of its samples.

    Attributes:
        shard_names: A name for each shard, file names where they are known. They identify the data for a resume.
        media: Modality of each medium that the samples have, by name, the main one first.
        annotations: Names of the annotations that the samples have.
        class_names: Names of the classes in the order of their numbers, None when unknown.
        multi_label: Whether a label is a list of class numbers.
    """

    shard_names: tuple[str, ...]
    media: Mapping[str, str]
    annotations: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    multi_label: bool = False


class Source(ABC):
    """Shards of samples that can be read one by one, from any row on, in any process.

    Iterating never splits the rows among DataLoader workers: the whole shard is read by its reader. A subclass
    implements four members, and nothing has to be set up by its constructor: Python refuses to make an instance as long
    as one is missing.
    """

    @property
    @abstractmethod
    def description(self) -> SourceDescription:
        """What holds for all samples."""

    @property
    @abstractmethod
    def num_samples(self) -> int | None:
        """Number of samples, None when counting them would mean reading them."""

    @abstractmethod
    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
        """Read one shard in its stored order.

        Args:
            index: Which shard, 0 to `num_shards - 1`.
            skip: Rows at its beginning that are not returned.

        Yields:
            The rows from `skip` on.

        Raises:
            IndexError: The shard does not exist.
        """

    @abstractmethod
    def read_bytes(self, sample: Sample, medium: str | None = None) -> bytes:
        """Return an encoded medium of a sample, from wherever it is stored.

        Args:
            sample: A row of this source.
            medium: Name of the medium; None takes the main one.

        Raises:
            BadMediumError: The row does not hold it.
            OSError: Its path cannot be read.
        """

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self.description.shard_names)

    @property
    def shard_names(self) -> list[str]:
        """A name for each shard."""
        return list(self.description.shard_names)

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
        """Names of the classes in the order of their numbers, None when unknown."""
        names = self.description.class_names
        return None if names is None else list(names)

    @property
    def multi_label(self) -> bool:
        """Whether a label is a list of class numbers."""
        return self.description.multi_label

    def with_media(self, names: Collection[str]) -> "Source":
        """A source of the same samples that reads only some of their media.

        Args:
            names: Media to read; all of them must exist.

        Returns:
            This source where nothing is saved by reading less.
        """
        return self

    def read_labels(self, index: int) -> list[Any]:
        """The label of each row of a shard; sources that can read nothing else of it.

        Args:
            index: Which shard.

        Raises:
            ValueError: The source has no labels.
        """
        if "label" not in self.description.annotations:
            raise ValueError(f"{self.shard_names[index]} has no labels")
        return [sample.label for sample in self.iterate_shard(index)]

    def read_row(self, index: int, row: int) -> Sample:
        """Read one row; sources with random access read nothing else.

        Args:
            index: Which shard.
            row: Which of its rows.

        Raises:
            IndexError: The row does not exist.
        """
        for sample in self.iterate_shard(index, skip=row):
            return sample
        raise IndexError(f"row {row} does not exist in {self.shard_names[index]}")

    def _check_shard(self, index: int) -> None:
        if not 0 <= index < self.num_shards:
            raise IndexError(f"shard {index} does not exist; the source has {self.num_shards} shards")
