"""Read lists of samples: csv files with or without a header, and text files with `path label` lines."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tubelets.data.modalities.registry import modalities, modality_of_suffix
from tubelets.data.modalities.suffixes import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from tubelets.data.sources.columns import ANNOTATIONS, FILE_COLUMNS
from tubelets.data.sources.records import VideoRecord, printable, split_labels

_SEVERAL = ("labels", "classes", "categories")
_COLUMNS = {
    "label": tuple(name for name in ANNOTATIONS["label"] if name not in _SEVERAL),
    "labels": _SEVERAL,
    "caption": ANNOTATIONS["caption"],
    "id": ("id", "clip_id"),
    "split": ("split",),
}


@dataclass(frozen=True)
class Table:
    """A csv file.

    Attributes:
        file: The file.
        columns: Names of its columns.
        rows: Line number and cells of each row.
        meaning: Column of "label", "labels", "caption", "id", "split" and "path", if there is one.
        media: Column of each medium by name, the main one first.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    meaning: Mapping[str, str]
    media: Mapping[str, str]

    @classmethod
    def read(cls, file: Path, named: Mapping[str, str] | None = None) -> "Table":
        """Read a csv file with a header.

        Args:
            file: The file, UTF-8.
            named: Columns named by the user, by meaning or medium.

        Raises:
            ValueError: A named or required column is missing, or two columns have one meaning.
        """
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=_delimiter(file), restval="")
            columns = tuple(name.strip() for name in reader.fieldnames or ())
            reader.fieldnames = columns
            rows = tuple((reader.line_num, {name: (row[name] or "").strip() for name in columns}) for row in reader)
        return cls(file, columns, rows, *_meanings(columns, dict(named or {}), file))

    def cells(self, meaning: str) -> list[str]:
        """Cells of a column, by meaning or name."""
        column = self.meaning.get(meaning, meaning)
        if column not in self.columns:
            raise ValueError(f"{self.file} has no column {meaning!r}; its columns are {list(self.columns)}")
        return [row[column] for _, row in self.rows]


def read_csv(
    file: str | Path,
    *,
    root: str | Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[VideoRecord]:
    """Read a csv file.

    With a header it has the columns `path` of the main medium, at least one of `label`, `labels` and `caption`, and
    optionally `id` (unique clip name, by default the path), `split`, and `sha256` of the main medium. Other usual
    names, such as `file_name`, `video` and `class`, are understood. Samples with several media have one column per
    medium, by name: `video`, `audio`, `flow`, `depth`, `skeleton`, or a medium of a registered modality (checksums in
    `NAME_sha256`). Without `path` the main medium is `video`, otherwise `audio`, otherwise another one. Multi-label
    clips have the column `labels` instead of `label`, with `;` between names.

    A file whose first line is a sample has no header and is read by `read_list`.

    Args:
        file: The csv file, UTF-8.
        root: Base folder of relative paths; by default the folder of the csv file.
        split: Keep only rows whose `split` column has this value; None keeps all.
        columns: Names of columns that are not found by themselves, such as `{"path": "name", "label": "verb"}`.

    Returns:
        Records in the order of the rows.

    Raises:
        ValueError: A column is missing, a row has an empty path or label, or the split does not occur.
    """
    file = Path(file)
    if not columns and is_headerless(file):
        if split is not None:
            raise ValueError(f"{file} has no header and no `split` column, but split={split!r} was requested")
        return read_list(file, root=root)
    table = Table.read(file, columns)
    records = list(_records(table, file.parent if root is None else Path(root)))
    if split is None:
        return records
    if "split" not in table.meaning:
        raise ValueError(
            f"{file} has no `split` column (its columns are {list(table.columns)}) but split={split!r} was requested"
        )
    chosen = [record for record, name in zip(records, table.cells("split"), strict=True) if name == split]
    if not chosen:
        raise ValueError(f"{file} has no rows of split {split!r}; its splits are {sorted(set(table.cells('split')))}")
    return chosen


def read_list(file: str | Path, *, root: str | Path | None = None) -> list[VideoRecord]:
    """Read a file with `path label` on each line.

    A tab, otherwise the *last* space, otherwise the last comma separates the two, so paths may contain spaces; labels
    are numbers or names without spaces. A number of frames between them is dropped. Empty lines are skipped.

    Args:
        file: The list, UTF-8.
        root: Base folder of relative paths; by default the folder of the list.

    Returns:
        Records in the order of the lines. The id is the path as written.

    Raises:
        ValueError: A line has no label.
    """
    file = Path(file)
    root = file.parent if root is None else Path(root)
    records = []
    text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line:
            continue
        path, label = _split_line(line)
        if not path:
            raise ValueError(f"{file}, line {number}: {line!r} has no label; write `path label` on each line")
        records.append(VideoRecord(root / path, printable(label), None, printable(path)))
    return records


def is_headerless(file: Path) -> bool:
    """Whether the first line of a csv file is a sample and not a header."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        first = next((line.strip() for line in stream if line.strip()), "")
    return _is_file(_split_line(first)[0])


def _split_line(line: str) -> tuple[str, str]:
    """Path and label of a line; the path is empty if there is no label."""
    separator = next((each for each in "\t ," if each in line), " ")
    path, _, label = line.rpartition(separator)
    before, _, count = path.strip().rpartition(separator)
    if not _is_file(path.strip()) and count.isdecimal() and _is_file(before.strip()):
        path = before
    return path.strip(), label.strip()


def _is_file(path: str) -> bool:
    suffix = Path(path).suffix.lower()
    return suffix in VIDEO_SUFFIXES | AUDIO_SUFFIXES | IMAGE_SUFFIXES or modality_of_suffix(suffix[1:]) is not None


def _delimiter(file: Path) -> str:
    """The delimiter that the header has most of."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        header = stream.readline()
    return max(",\t;", key=header.count)


def _meanings(columns: Sequence[str], named: Mapping[str, str], file: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Columns by meaning, and of the media."""
    if absent := [name for name in named.values() if name not in columns]:
        raise ValueError(f"{file} has no column {absent[0]!r} (from columns=); its columns are {list(columns)}")
    free = [name for name in columns if name not in named.values()]
    meaning = {}
    for name, usual in _COLUMNS.items():
        column = named.get(name) or next((each for each in usual if each in free), None)
        if column is not None:
            meaning[name] = column
    known = [name for modality in modalities() for name in modality.media]
    if unknown := sorted(set(named) - {*_COLUMNS, *known, "path"}):
        raise ValueError(
            f"columns= names {unknown[0]!r}; for csv files it can name {[*_COLUMNS, 'path']} and the media {known}"
        )
    media = {name: named.get(name, name) for name in known if name in named or name in free}
    media = dict(sorted(media.items(), key=lambda item: item[0] not in ("video", "audio")))
    path = named.get("path") or ("path" if "path" in free else None)
    if path is None and not media:
        path = next((name for name in FILE_COLUMNS if name in free), None)
    if path is not None:
        meaning["path"] = path
    _check_meanings(columns, meaning, media, file)
    return meaning, media


def _check_meanings(columns: Sequence[str], meaning: Mapping[str, str], media: Mapping[str, str], file: Path) -> None:
    """Reject a header without the required columns."""
    if not ("path" in meaning or media) or not {"label", "labels", "caption"} & set(meaning):
        raise ValueError(
            f"{file} has the columns {list(columns)}; required are `path` (or media such as `video`) and at least one "
            "of `label`, `labels`, `caption`; name others with columns="
        )
    if {"label", "labels"} <= set(meaning):
        raise ValueError(f"{file} has both a `{meaning['label']}` and a `{meaning['labels']}` column; keep one of them")


def _records(table: Table, root: Path) -> Iterator[VideoRecord]:
    """Convert the rows of a table to records."""
    meaning = table.meaning
    # For a column `path` the suffix determines the main medium; other columns name it.
    main = None if "path" in meaning else next(iter(table.media))
    main_column = meaning["path"] if main is None else table.media[main]
    others = {name: column for name, column in table.media.items() if column != main_column}
    for number, row in table.rows:
        needed = {main_column: row[main_column], **{column: row[column] for column in others.values()}}
        needed |= {meaning[name]: row[meaning[name]] for name in ("label", "id", "split") if name in meaning}
        if empty := [name for name, value in needed.items() if not value]:
            raise ValueError(f"{table.file}, line {number}: `{empty[0]}` is empty; fill it in or drop the row")
        labels: str | tuple[str, ...] | None = None
        if "labels" in meaning:
            labels = split_labels(printable(row[meaning["labels"]]))
        elif "label" in meaning:
            labels = printable(row[meaning["label"]])
        record = VideoRecord(
            root / row[main_column],
            labels,
            printable(row[meaning["caption"]]) if "caption" in meaning else None,
            printable(row[meaning["id"]] if "id" in meaning else row[main_column]),
            tuple((name, root / row[column]) for name, column in others.items()),
            main,
        )
        yield record.with_checksums(_checksums(row, record))


def _checksums(row: Mapping[str, str], record: VideoRecord) -> dict[str, str]:
    """Checksums of a row by medium."""
    columns = {name: f"{name}_sha256" for name in record.media}
    if columns[record.main_name] not in row:
        columns[record.main_name] = "sha256"
    return {name: row[column].lower() for name, column in columns.items() if row.get(column)}
