"""Find the columns of a shard with media, checksums, annotations and ids."""

import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Audio, Image, Value, Video

from tubelets.data.modalities.registry import modality_of_medium, modality_of_suffix
from tubelets.data.sources.source import Media

ANNOTATIONS: dict[str, tuple[str, ...]] = {
    "label": ("label", "labels", "cls", "class", "classes", "category", "categories", "target", "action", "activity"),
    "caption": ("caption", "txt", "text"),
    "captions": ("captions", "captions.json"),
    "segments": ("segments", "segments.json"),
    "boxes": ("boxes", "boxes.json"),
    "count": ("count",),
    "pair_id": ("pair_id",),
}
"""Optional annotations and their candidate columns."""

_ID_COLUMNS = ("clip_id", "__key__")
# The main medium, to which the column `sha256` belongs.
_MAIN = ("video", "audio")
_TYPES = {"video": (Video, Image), "audio": (Audio,)}

FILE_COLUMNS = ("path", "video", "file_name", "filename", "file", "clip", "video_path", "clip_path")
"""Names of columns with the main medium or its file."""


@dataclass(frozen=True)
class MediumColumn:
    """Location of a medium.

    Attributes:
        column: Name of its column.
        modality: Name of its modality.
        sha256: Column of its checksum, or None.
    """

    column: str
    modality: str
    sha256: str | None


@dataclass(frozen=True)
class Columns:
    """Names of the columns to use.

    A checksum of medium NAME is in the column `NAME_sha256`; that of the main medium may be in `sha256`.

    Attributes:
        media: Column of each medium by name, the main medium first.
        annotations: Column of each annotation by name.
        clip_id: Column of the id, or None.
    """

    media: Mapping[str, MediumColumn]
    annotations: Mapping[str, str]
    clip_id: str | None

    @classmethod
    def find(cls, features: Mapping[str, Any], named: Mapping[str, str] | None, where: str) -> "Columns":
        """Choose columns by type and name.

        Args:
            features: Type of each column.
            named: Columns named by the user, by medium, annotation or "clip_id".
            where: Name in error messages.

        Raises:
            ValueError: A named column does not exist, or the main medium is ambiguous.
        """
        named = dict(named or {})
        for column in named.values():
            if column not in features:
                raise ValueError(f"{where} has no column {column!r} (from columns=); its columns are {list(features)}")
        others = {name: named.pop(name) for name in (*ANNOTATIONS, "clip_id") if name in named}
        free = {name: feature for name, feature in features.items() if name not in others.values()}
        media = _media_columns(free, named, where)
        main = next(name for name in (*_MAIN, *media) if name in media)
        ordered = {main: media[main], **media}
        found = {}
        for name, (column, modality) in ordered.items():
            own = f"{name}_sha256"
            checksum = own if own in features else "sha256" if name == main and "sha256" in features else None
            found[name] = MediumColumn(column, modality, checksum)
        left = [name for name in free if name not in {column for column, _ in media.values()}]
        wanted = {name: others.get(name) or _first(names, left) for name, names in ANNOTATIONS.items()}
        annotations = {name: chosen for name, chosen in wanted.items() if chosen is not None}
        return cls(found, annotations, others.get("clip_id") or _first(_ID_COLUMNS, left))

    @property
    def used(self) -> list[str]:
        """The columns to read."""
        media = [name for each in self.media.values() for name in (each.column, each.sha256) if name is not None]
        others = [*self.annotations.values(), *([] if self.clip_id is None else [self.clip_id])]
        return list(dict.fromkeys((*media, *others)))

    def only(self, media: Collection[str]) -> "Columns":
        """The columns of some media, and all annotations."""
        return replace(self, media={name: column for name, column in self.media.items() if name in media})

    def medium(self, name: str, values: Mapping[str, Any]) -> Media:
        """Read a medium of a row.

        Args:
            name: Its name.
            values: The row by column.
        """
        column = self.media[name]
        value = values[column.column]
        sha256 = None if column.sha256 is None else values[column.sha256]
        if isinstance(value, Mapping):
            return Media(column.modality, value.get("bytes"), value.get("path"), sha256)
        if value is None or isinstance(value, bytes):
            return Media(column.modality, value, None, sha256)
        if isinstance(value, str):
            return Media(column.modality, None, value, sha256)
        # Arrays in cells are not files, so they have no checksum.
        file = io.BytesIO()
        np.save(file, np.asarray(value), allow_pickle=False)
        return Media(column.modality, file.getvalue())


def _media_columns(features: Mapping[str, Any], named: Mapping[str, str], where: str) -> dict[str, tuple[str, str]]:
    """(column, modality) of each medium by name."""
    found: dict[str, tuple[str, str]] = {}
    for medium, column in named.items():
        modality = _modality(medium) or _modality_of_column(column, features.get(column))
        if modality is None:
            raise ValueError(
                f"columns= names {medium!r}, which is neither a medium of a registered modality nor one of "
                f"{[*ANNOTATIONS, 'clip_id']}"
            )
        found[medium] = column, modality
    unclear: dict[str, list[str]] = {}
    clear: dict[str, list[str]] = {}
    kinds = {column: _modality_of_column(column, feature) for column, feature in features.items()}
    for column, kind in kinds.items():
        if kind is not None and column not in named.values():
            name = _medium_name(column, kind)
            (unclear.setdefault(kind, []) if name is None else clear.setdefault(name, [])).append(column)
    for medium, columns in clear.items():
        kind = str(kinds[columns[0]])
        # A tar may contain the same clip as .mp4 and .webm: the user has to choose one.
        if len(columns) > 1 or medium in found:
            unclear.setdefault(kind, []).extend(columns)
        else:
            found[medium] = columns[0], kind
    for kind, columns in unclear.items():
        # An image next to a video is its thumbnail.
        columns = [column for column in columns if not isinstance(features[column], Image)] or columns
        if len(columns) == 1 and kind not in found:
            found[kind] = columns[0], kind
        else:
            found |= {column: (column, kind) for column in columns if column not in found}
    if not any(_modality(name) for name in found) and not unclear:
        file = _first(FILE_COLUMNS, [name for name in features if _may_be_file(features[name])])
        if file is not None:
            found["video"] = file, "video"
    if not any(_modality(name) for name in found):
        every = [column for columns in unclear.values() for column in columns]
        raise ValueError(
            f"{where} has {len(every)} video or audio columns {every} among {list(features)}; name the right one, "
            "such as columns={'video': 'COLUMN'}"
        )
    return found


def _modality_of_column(column: str, feature: Any) -> str | None:
    """Modality of a column by its type, otherwise by its name or suffix."""
    for modality, types in _TYPES.items():
        if isinstance(feature, types):
            return modality
    found = modality_of_medium(column.partition(".")[0]) or modality_of_suffix(column.rpartition(".")[2])
    return None if found is None else found.name


def _may_be_file(feature: Any) -> bool:
    """Whether cells can be paths or the bytes of files."""
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string", "binary", "large_binary")


def _modality(medium: str) -> str | None:
    found = modality_of_medium(medium)
    return None if found is None else found.name


def _medium_name(column: str, modality: str) -> str | None:
    """Medium in a column name such as `flow` or `flow.mp4`; a bare suffix such as `mp4` is the main one."""
    stem = column.partition(".")[0]
    if _modality(stem) == modality:
        return stem
    by_suffix = modality_of_suffix(column)
    return by_suffix.media[0] if by_suffix is not None and by_suffix.name == modality else None


def _first(wanted: Iterable[str], columns: Collection[str]) -> str | None:
    """The first of these names that is a column."""
    return next((name for name in wanted if name in columns), None)
