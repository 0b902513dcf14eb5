"""A source of samples from files in a folder or a list, without shards."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tubelets.data.modalities.modality import BadMediumError
from tubelets.data.sources.records import VideoRecord, find_class_names, split_labels
from tubelets.data.sources.source import Media, Sample, Source, SourceDescription

# Looking at every file of a large list on a network drive would take minutes.
_FILES_OF_FINGERPRINT = 256


class FolderSource(Source):
    """Media files, read on demand.

    The source is a single shard, so that samples are divided among workers one by one and shuffled within the stream's
    window. Only paths are kept in memory.

    Args:
        records: the videos, see `tubelets.data.sources.annotations.read_records`; all with a label, or none.
        class_names: names in label order; None uses the sorted labels.
        multi_label: split labels into several names at `;`; not needed for labels that are tuples.

    Raises:
        ValueError: if the list is empty, only some samples have a label, or a label is not among the names.

    Example:
        >>> records = [VideoRecord(Path(f"{i}.mp4"), name, None, str(i)) for i, name in enumerate(["run", "jump"])]
        >>> source = FolderSource(records)
        >>> source.class_names, [sample.label for sample in source.iterate_shard(0)]
        (['jump', 'run'], [1, 0])
    """

    def __init__(
        self, records: Sequence[VideoRecord], class_names: Sequence[str] | None = None, multi_label: bool = False
    ) -> None:
        if not records:
            raise ValueError("the list is empty; give a folder of class folders or a list with `path label` lines")
        self._records = list(records)
        several = multi_label or any(isinstance(record.label, tuple) for record in self._records)
        self._labelled = any(record.label is not None for record in self._records)
        self._captioned = any(record.caption is not None for record in self._records)
        self._several = any(record.captions for record in self._records)
        self._labels = [_split(record, several) if self._labelled else () for record in self._records]
        names_in_order = list(class_names) if class_names is not None else self._found_names()
        self._numbers = {name: number for number, name in enumerate(names_in_order)}
        for record, names in zip(self._records, self._labels, strict=True):
            unknown = [name for name in names if name not in self._numbers]
            if unknown:
                raise ValueError(
                    f"label {unknown[0]!r} of clip {record.clip_id!r} is not among the {len(names_in_order)} class "
                    "names; add it to them or correct the label"
                )
        listed = "\n".join(f"{record.clip_id} {record.label}" for record in self._records)
        # The name identifies the list, so that a run cannot resume with different videos.
        name = f"videos-{hashlib.sha256(listed.encode()).hexdigest()[:16]}"
        media = {medium: modality for medium, (modality, _) in self._records[0].media.items()}
        annotations = (*(("label",) if self._labelled else ()), *(("caption",) if self._captioned else ()))
        annotations += ("captions",) if self._several else ()
        class_tuple = tuple(names_in_order) if self._labelled else None
        self._description = SourceDescription((name,), media, annotations, class_tuple, several)

    @property
    def description(self) -> SourceDescription:
        """One shard with all samples."""
        return self._description

    @property
    def lists_paths(self) -> bool:
        """True: media are read on demand."""
        return True

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return len(self._records)

    def fingerprints(self) -> dict[str, str]:
        """Sizes of files spread over the list; see `Source.fingerprints`."""
        step = -(-len(self._records) // _FILES_OF_FINGERPRINT)
        found = {}
        for record in self._records[::step]:
            try:
                found[record.clip_id] = str(os.stat(record.path).st_size)
            except (OSError, ValueError):  # the file is reported when it is read
                continue
        return found

    def iterate_shard(self, index: int, skip: int = 0) -> Iterator[Sample]:
        """List the samples.

        Args:
            index: 0, the only shard.
            skip: samples to skip at the start.

        Yields:
            The samples from `skip`, with their paths; no file is read.

        Raises:
            IndexError: if the shard does not exist.
        """
        self._check_shard(index)
        for place in range(skip, len(self._records)):
            yield self.read_row(index, place)

    def read_row(self, index: int, row: int) -> Sample:
        """Return a sample by its index in the list; see `Source.read_row`."""
        self._check_shard(index)
        record = self._records[row]
        numbers = [self._numbers[name] for name in self._labels[row]]
        checksums = dict(record.checksums)
        media = {
            name: Media(modality, path=str(path), sha256=checksums.get(name))
            for name, (modality, path) in record.media.items()
        }
        annotations: dict[str, Any] = {}
        if self._labelled:
            annotations["label"] = numbers if self.multi_label else numbers[0]
        if self._captioned:
            annotations["caption"] = record.caption
        if self._several:
            annotations["captions"] = list(record.captions)
        return Sample(self.shard_names[0], record.clip_id, media, annotations)

    def read_bytes(self, sample: Sample, medium: str | None = None) -> bytes:
        """Read a file of a sample.

        Args:
            sample: a sample from `iterate_shard`.
            medium: name of the medium; None is the main one.

        Raises:
            BadMediumError: if the path is none.
            OSError: if the file cannot be read.
        """
        path = str(sample.get(medium).path)
        try:
            return Path(path).read_bytes()
        except ValueError as error:  # a null character
            raise BadMediumError(f"the path {path!r} cannot be read: {error}") from error

    def _found_names(self) -> list[str]:
        """The labels that occur, in the order of the shard builder."""
        flat = [
            VideoRecord(record.path, names, None, record.clip_id)
            for record, names in zip(self._records, self._labels, strict=True)
        ]
        return find_class_names(flat) or []


def _split(record: VideoRecord, multi_label: bool) -> tuple[str, ...]:
    """Class names of a record."""
    if record.label is None:
        raise ValueError(
            f"clip {record.clip_id!r} has no label; put videos into class folders, or list them with their labels"
        )
    return split_labels(record.label) if multi_label and isinstance(record.label, str) else record.label_names
