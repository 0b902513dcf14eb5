"""Samples as the user lists them: files, labels and ids."""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tubelets.data.modalities.registry import modalities, modality_of_medium, modality_of_suffix
from tubelets.data.modalities.suffixes import AUDIO_SUFFIXES
from tubelets.data.sources.few_shot import first_of_each_class

# Separates the classes of a multi-label clip.
LABEL_SEPARATOR = ";"


@dataclass(frozen=True)
class VideoRecord:
    """A sample listed by the user, before any of its files is read.

    Attributes:
        path: File of the main medium. It may be missing; the shard builder then reports it as unreadable.
        label: Class name, a tuple of class names for multi-label clips (possibly empty), or None for an unlabelled
            clip.
        caption: A sentence about the video, or None.
        clip_id: Unique name of the sample; seeds its augmentations.
        others: Files of its other media, as pairs of medium name ("audio", "flow", "depth", "skeleton") and
            file.
        main: Name of the main medium; None infers it from the file suffix, "video" for unknown ones.
        checksums: SHA-256 of files in hexadecimal, as pairs of medium name and checksum.
        captions: Several sentences about the video, instead of `caption`; empty if it has at most one.

    Example:
        >>> record = VideoRecord(Path("1.mp4"), "run", None, "1", others=(("flow", Path("1_flow.mp4")),))
        >>> {name: modality for name, (modality, _) in record.media.items()}
        {'video': 'video', 'flow': 'video'}
    """

    path: Path
    label: str | tuple[str, ...] | None
    caption: str | None
    clip_id: str
    others: tuple[tuple[str, Path], ...] = ()
    main: str | None = None
    checksums: tuple[tuple[str, str], ...] = ()
    captions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [self.main_name, *(name for name, _ in self.others)]
        if len(set(names)) < len(names):
            raise ValueError(f"clip {self.clip_id!r} has two files of one medium among {names}; keep one of them")

    def with_checksums(self, checksums: Mapping[str, str]) -> "VideoRecord":
        """The same sample with checksums of its files by medium."""
        return replace(self, checksums=tuple(checksums.items())) if checksums else self

    @property
    def main_name(self) -> str:
        """Name of the main medium."""
        if self.main is not None or self.is_audio:
            return self.main or "audio"
        found = modality_of_suffix(self.path.suffix[1:])
        return "video" if found is None else found.media[0]

    @property
    def media(self) -> dict[str, tuple[str, Path]]:
        """Modality and file of each medium by name, the main one first.

        Raises:
            ValueError: A medium does not belong to a registered modality.
        """
        return {name: (_modality_name(name), path) for name, path in ((self.main_name, self.path), *self.others)}

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of all classes of the sample."""
        if self.label is None:
            return ()
        return (self.label,) if isinstance(self.label, str) else self.label

    @property
    def is_audio(self) -> bool:
        """Whether the main medium is audio, by the suffix of its file."""
        return self.main == "audio" or (self.main is None and self.path.suffix.lower() in AUDIO_SUFFIXES)


def _modality_name(medium: str) -> str:
    found = modality_of_medium(medium)
    if found is None:
        known = [name for each in modalities() for name in each.media]
        raise ValueError(f"medium {medium!r} does not belong to a registered modality; known media are {known}")
    return found.name


def printable(text: str) -> str:
    r"""Text as valid UTF-8; bytes of file names that are not UTF-8 are written out.

    Example:
        >>> print(printable(b"caf\xe9.mp4".decode("utf-8", "surrogateescape")))
        caf\xe9.mp4
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def split_labels(text: str) -> tuple[str, ...]:
    """Split class names at `;`, without duplicates.

    Example:
        >>> split_labels("dog; barking;;dog")
        ('dog', 'barking')
    """
    return tuple(dict.fromkeys(name.strip() for name in text.split(LABEL_SEPARATOR) if name.strip()))


def class_fraction(records: Sequence[VideoRecord], fraction: float, seed: int = 12345) -> list[VideoRecord]:
    """Draw a share of the videos of each class, for runs on less data.

    Args:
        records: labelled videos.
        fraction: share of each class, in (0, 1]; rounded up to whole videos.
        seed: seed of the draw; the Tubelet-Contrast authors used 12345, 99999 and 4567980.

    Returns:
        The chosen videos in their original order.

    Raises:
        ValueError: if the fraction is out of range or a video has no label or several.

    Example:
        >>> records = [VideoRecord(Path(f"{i}.mp4"), "ab"[i % 2], None, str(i)) for i in range(10)]
        >>> [record.label for record in class_fraction(records, 0.25)].count("a")
        2

    Source: tubelet_contrast.md, section 7. The alphabetical order of classes is our choice.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
    for record in records:
        if not isinstance(record.label, str):
            raise ValueError(
                f"video {record.clip_id} has the label {record.label}; a share of each class needs exactly one"
            )
    labels = [str(record.label) for record in records]
    # One random stream for all classes, from the legacy generator used for the authors' lists.
    numbers = np.random.RandomState(seed)
    by_class = first_of_each_class(labels, range(len(labels)), lambda size: size)
    order = [places[index] for places in by_class.values() for index in numbers.permutation(len(places))]
    chosen = first_of_each_class(labels, order, lambda size: math.ceil(fraction * size))
    return [records[place] for place in sorted(itertools.chain.from_iterable(chosen.values()))]


def check_unique_ids(records: Iterable[VideoRecord]) -> None:
    """Raise if two records have the same clip id.

    Args:
        records: The records to check.

    Raises:
        ValueError: If an id occurs twice; names the id and both files.

    Example:
        >>> check_unique_ids([VideoRecord(Path(f"{name}.mp4"), None, None, name) for name in ("1", "2")])
    """
    seen: dict[str, Path] = {}
    for record in records:
        if record.clip_id in seen:
            raise ValueError(
                f"clip id {record.clip_id!r} occurs twice, for {seen[record.clip_id].name} and {record.path.name}; "
                "ids must be unique: remove the duplicate or give ids in the `id` column of a csv file"
            )
        seen[record.clip_id] = record.path


def sorted_names(labels: Collection[str]) -> list[str]:
    """Class names in label order: by value if all are numbers, otherwise by name.

    Example:
        >>> sorted_names(["9", "10"]), sorted_names(["run", "jump"])
        (['9', '10'], ['jump', 'run'])
    """
    numeric = all(label.isdecimal() for label in labels)
    return sorted(labels, key=(lambda label: (int(label), label)) if numeric else None)


def find_class_names(records: Iterable[VideoRecord], names_file: str | Path | None = None) -> list[str] | None:
    """Return the class names in label order.

    Args:
        records: The videos.
        names_file: Text file with one class name per line, which fixes the order and may name classes that do not
            occur. By default the sorted labels; if all are numbers, sorted by value.

    Returns:
        The names, or None for unlabelled records.

    Raises:
        ValueError: The file names a class twice, or lacks the label of a record.

    Example:
        >>> videos = [VideoRecord(Path(f"{i}.mp4"), label, None, str(i)) for i, label in enumerate(["run", "jump"])]
        >>> find_class_names(videos)
        ['jump', 'run']
    """
    labels = {name: record for record in records for name in record.label_names}
    if names_file is None:
        return sorted_names(labels) if labels else None
    lines = Path(names_file).read_text(encoding="utf-8-sig").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{names_file} names {twice} more than once; list each class once")
    unknown = sorted(set(labels) - set(names))
    if unknown:
        raise ValueError(
            f"label {unknown[0]!r} of clip {labels[unknown[0]].clip_id!r} is not in {names_file} "
            f"({len(names)} classes); add it or correct the label ({len(unknown)} labels are unknown)"
        )
    return names
