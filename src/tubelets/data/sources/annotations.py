"""Read annotations for shards and folder sources: a folder of class folders, a text list or a csv file."""

import csv
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tubelets.data.modalities.registry import modalities, modality_named, modality_of_medium, modality_of_suffix
from tubelets.data.sources.few_shot import first_of_each_class

VIDEO_SUFFIXES, AUDIO_SUFFIXES = (
    frozenset(f".{suffix}" for suffix in modality_named(name).suffixes) for name in ("video", "audio")
)
# A still image is a video of one frame (smile.md, section 9).
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})

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

    def __post_init__(self) -> None:
        names = [self.main_name, *(name for name, _ in self.others)]
        if len(set(names)) < len(names):
            raise ValueError(f"clip {self.clip_id!r} has two files of one medium among {names}; keep one of them")

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


def read_records(source: str | Path, *, root: str | Path | None = None, split: str | None = None) -> list[VideoRecord]:
    """Read a folder of class folders, a text list or a csv file.

    Args:
        source: A folder (see `read_folder`), a `.csv` file (see `read_csv`) or any other file (see `read_list`).
        root: Base folder of relative paths in a list; by default the folder of the list.
        split: Keep only the csv rows of this split; invalid for inputs without splits.

    Returns:
        The records in the order of the input (folders: sorted by path).

    Raises:
        FileNotFoundError: `source` does not exist.
        ValueError: The list is empty, two videos share an id, or a line is invalid.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a folder of class folders or an annotation file")
    if source.suffix.lower() == ".csv" and source.is_file():
        return read_csv(source, root=root, split=split)
    if split is not None:
        raise ValueError(f"{source} has no splits (got split={split!r}); only a csv file with a `split` column has")
    return read_folder(source) if source.is_dir() else read_list(source, root=root)


def read_folder(folder: str | Path) -> list[VideoRecord]:
    """List the videos (otherwise audio files or images) of `folder/<class>/**/*`; the first level is the class.

    Videos directly in `folder` have no class, so a flat folder gives unlabelled records. Mixing both is an error,
    because it is nearly always a misplaced file.

    Args:
        folder: The folder. Suffixes distinguish videos (`VIDEO_SUFFIXES`), audio (`AUDIO_SUFFIXES`) and images
            (`IMAGE_SUFFIXES`). Hidden files are ignored, and so are images next to videos or audio files, which are
            thumbnails.

    Returns:
        Records sorted by relative path, which is also the id, with "/" as separator.

    Raises:
        ValueError: The folder is empty, has both videos and audio files, or only some files are in class folders.
    """
    folder = Path(folder)
    files = [
        path
        for path in (found.relative_to(folder) for found in folder.rglob("*"))
        if not any(part.startswith(".") for part in path.parts) and (folder / path).is_file()
    ]
    videos, sounds, images = (
        [path for path in files if path.suffix.lower() in suffixes]
        for suffixes in (VIDEO_SUFFIXES, AUDIO_SUFFIXES, IMAGE_SUFFIXES)
    )
    if videos and sounds:
        raise ValueError(
            f"{folder} contains {len(videos)} videos and {len(sounds)} audio files, for example {min(sounds)}; shards "
            "hold one kind: move the others out, or list the intended files in a text file"
        )
    records = []
    for path in sorted(videos or sounds or images, key=lambda path: path.as_posix()):
        label = path.parts[0] if len(path.parts) > 1 else None
        records.append(VideoRecord(folder / path, label, None, path.as_posix()))
    return _checked(records, folder)


def read_list(file: str | Path, *, root: str | Path | None = None) -> list[VideoRecord]:
    """Read a text file with `path label` on each line.

    The *last* space separates the two, so paths may contain spaces; labels are numbers or names without spaces.
    Empty lines are skipped.

    Args:
        file: The list, UTF-8.
        root: Base folder of relative paths; by default the folder of the list.

    Returns:
        Records in the order of the lines. The id is the path as written.

    Raises:
        ValueError: A line has no label, the list is empty, or a path occurs twice.
    """
    file = Path(file)
    root = file.parent if root is None else Path(root)
    records = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        text = line.strip()
        if not text:
            continue
        path, _, label = text.rpartition(" ")
        if not path.strip():
            raise ValueError(f"{file}, line {number}: {text!r} has no label; write `path label` on each line")
        path = path.strip()
        records.append(VideoRecord(root / path, label, None, path))
    return _checked(records, file)


def read_csv(file: str | Path, *, root: str | Path | None = None, split: str | None = None) -> list[VideoRecord]:
    """Read a csv file with a header.

    Columns: `path` of the main medium, at least one of `label`, `labels` and `caption`, and optionally `id` (unique
    clip name, by default the path) and `split`. Samples with several media have one column per medium, by name:
    `video`, `audio`, `flow`, `depth`, `skeleton`, or a medium of a registered modality. Without `path` the main medium
    is `video`, otherwise `audio`, otherwise another one. Multi-label clips have the column `labels` instead of `label`,
    with `;` between names.

    Args:
        file: The csv file, UTF-8.
        root: Base folder of relative paths; by default the folder of the csv file.
        split: Keep only rows whose `split` column has this value; None keeps all.

    Returns:
        Records in the order of the rows.

    Raises:
        ValueError: A column is missing, a row has an empty path or label, the split does not occur, the file is empty,
            or an id occurs twice.
    """
    file = Path(file)
    root = file.parent if root is None else Path(root)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        columns = list(reader.fieldnames or [])
        _check_columns(columns, file, split)
        rows = [(reader.line_num, row) for row in reader]
    if split is not None:
        found = sorted({row["split"] or "" for _, row in rows})
        rows = [(number, row) for number, row in rows if row["split"] == split]
        if not rows:
            raise ValueError(f"{file} has no rows of split {split!r}; its splits are {found}")
    return _checked(list(_csv_records(rows, columns, file, root)), file)


def _check_columns(columns: list[str], file: Path, split: str | None) -> None:
    """Reject a csv header without the required columns."""
    if not {"path", *_media_of(columns)} & set(columns) or not {"label", "labels", "caption"} & set(columns):
        raise ValueError(
            f"{file} has the columns {columns}; required are `path` (or media such as `video`) and at least one of "
            "`label`, `labels`, `caption`"
        )
    if {"label", "labels"} <= set(columns):
        raise ValueError(f"{file} has both a `label` and a `labels` column; keep one of them")
    if split is not None and "split" not in columns:
        raise ValueError(f"{file} has no `split` column (its columns are {columns}) but split={split!r} was requested")


def _csv_records(
    rows: Iterable[tuple[int, dict[str, str | None]]], columns: list[str], file: Path, root: Path
) -> Iterator[VideoRecord]:
    """Convert csv rows with their line numbers to records."""
    media = _media_of(columns)
    # For a column `path` the suffix determines the main medium; other columns name it.
    main_column, main = ("path", None) if "path" in columns else (media[0], media[0])
    for number, row in rows:
        path = (row[main_column] or "").strip()
        label = (row["label"] or "").strip() if "label" in columns else None
        clip_id = (row["id"] or "").strip() if "id" in columns else path
        others = tuple((name, (row[name] or "").strip()) for name in media if name != main_column)
        for name, value in ((main_column, path), ("label", label), ("id", clip_id), *others):
            if value == "":
                raise ValueError(f"{file}, line {number}: `{name}` is empty; fill it in or drop the row")
        caption = (row["caption"] or "") if "caption" in columns else None
        labels = split_labels(row["labels"] or "") if "labels" in columns else label
        files = tuple((name, root / value) for name, value in others)
        yield VideoRecord(root / path, labels, caption, clip_id, files, main)


def _media_of(columns: Sequence[str]) -> list[str]:
    """The media columns, starting with the main one unless there is a column `path`."""
    names = [name for modality in modalities() for name in modality.media if name in columns]
    return sorted(names, key=lambda name: name not in ("video", "audio"))


def split_labels(text: str) -> tuple[str, ...]:
    """Split class names at `;`, without duplicates.

    Example:
        >>> split_labels("dog; barking;;dog")
        ('dog', 'barking')
    """
    return tuple(dict.fromkeys(name.strip() for name in text.split(LABEL_SEPARATOR) if name.strip()))


def _checked(records: list[VideoRecord], source: Path) -> list[VideoRecord]:
    """Reject an empty list, duplicate clip ids, and a partly labelled list."""
    if not records:
        raise ValueError(
            f"{source} lists no videos; known suffixes in folders are "
            f"{sorted(VIDEO_SUFFIXES | AUDIO_SUFFIXES | IMAGE_SUFFIXES)}"
        )
    check_unique_ids(records)
    unlabelled = [record for record in records if record.label is None]
    if unlabelled and len(unlabelled) < len(records):
        raise ValueError(
            f"{source}: {len(unlabelled)} of {len(records)} videos have no class folder, for example "
            f"{unlabelled[0].clip_id!r}; move them into class folders or out of the folder"
        )
    return records


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
        if not labels:
            return None
        numeric = all(label.isdecimal() for label in labels)
        return sorted(labels, key=(lambda label: (int(label), label)) if numeric else None)
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
