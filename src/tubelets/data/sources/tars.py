"""Rows of WebDataset tars: members with the same name and different suffixes are the columns of a row.

The tars are read here and not by `datasets`, which decodes every member of a row (so that one damaged array that nobody
needs makes a tar unreadable) and takes a damaged header for the end of the tar.
"""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Audio, Image, List, Value, Video

from tubelets.data.modalities.registry import modality_of_medium
from tubelets.data.modalities.suffixes import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from tubelets.data.sources.rows import Lost, ShardReader, explain, fingerprint_of, first_readable, open_file, shard_name
from tubelets.data.sources.tar_members import Damage, Member, read_members

_KEY = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
_JSON = ("json", "jsn")
_NUMBERS = ("cls", "cls2", "index", "inx", "id", "count", "label")
_TEXTS = ("txt", "text", "transcript", "caption", "sha256", "pair_id", "labels", "class", "category")
_BYTES_OF_FINGERPRINT = 2**16
# Rows whose members show which columns there are.
_ROWS_FOR_COLUMNS = 5


class TarShards(ShardReader):
    """WebDataset tars on disk or by URL, plain or compressed.

    Values of a member `.json` are columns as well, if no member has their name.

    Args:
        files: Their paths or URLs; files that do not exist count as damaged.
        token: Access token of a private Hub repository.
        where: What the user named, for messages.

    Raises:
        ValueError: None of the files has a readable row.
    """

    def __init__(self, files: Sequence[str], token: str | None = None, where: str = "the data") -> None:
        self._files, self._token = list(files), token
        self.names = tuple(shard_name(file) for file in files)
        self.bases = tuple(file.rpartition("/")[0] for file in files)
        # Columns from inside of a JSON member, and that member.
        self._inside: dict[str, str] = {}
        self._fields: tuple[str, ...] = ()
        self.features = self._find_features(where)
        self._fields = tuple(name for name in self.features if name not in self._inside and name != "__key__")

    @property
    def num_rows(self) -> int | None:
        """None: counting requires reading the tars."""
        return None

    def fingerprint(self, index: int) -> str | None:
        """From the size and the first rows."""
        if "://" in self._files[index]:
            return None
        try:
            with open_file(self._files[index]) as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(0)
                return fingerprint_of(size, stream.read(_BYTES_OF_FINGERPRINT))
        except OSError:  # damage is reported when the shard is read
            return None

    def rows(self, index: int, columns: Collection[str], skip: int = 0) -> Iterator[dict[str, Any] | Lost]:
        """Read rows of a shard; see `ShardReader.rows`. Members of other columns are not read."""
        members = {self._inside.get(name, name) for name in columns if name != "__key__"}
        for row, found in enumerate(self._samples(index, members, skip)):
            if row >= skip:
                yield found if isinstance(found, Lost) else self._values(found, columns)

    def _find_features(self, where: str) -> dict[str, Any]:
        """Types of all columns, from the first rows of the first tars without damage, or of all that are damaged."""
        reasons = []
        fields: dict[str, list[Any]] = {}
        for index in range(len(self._files)):
            reason = "it has no samples"
            damaged, count = False, 0
            for found in self._samples(index, None, 0):
                if isinstance(found, Lost):
                    damaged, reason = True, found.reason
                    continue
                for field, data in found.items():
                    fields.setdefault(field, []).append(data)
                count += 1
                if count == _ROWS_FOR_COLUMNS:
                    break
            if count and not damaged:
                break
            reasons.append(reason)
        if not fields:
            raise first_readable(reasons, self.names, where)
        return self._types(fields)

    def _types(self, fields: Mapping[str, list[Any]]) -> dict[str, Any]:
        types = {name: _type(name, values) for name, values in fields.items() if name != "__key__"}
        types["__key__"] = Value("string")
        for name in (name for name in fields if name in _JSON):
            for data in fields[name]:
                try:
                    content = _decoded(name, data)
                except ValueError:
                    continue
                for key, value in content.items() if isinstance(content, dict) else ():
                    if key not in fields and types.get(key) is None and _may_be_annotation(key):
                        self._inside[key] = name
                        types[key] = _type_of(value)
        return types

    def _values(self, found: dict[str, Any], columns: Collection[str]) -> dict[str, Any] | Lost:
        """Decode the annotations of a row; media stay bytes."""
        values: dict[str, Any] = {}
        try:
            for name in columns:
                source = self._inside.get(name, name)
                if name == "__key__":
                    values[name] = found[name]
                elif isinstance(self.features.get(name), (Video, Audio, Image)):
                    data = found.get(name)
                    values[name] = None if data is None else {"bytes": data, "path": f"{found['__key__']}.{name}"}
                elif source == name:
                    values[name] = _decoded(name, found.get(name))
                else:
                    content = _decoded(source, found.get(source))
                    values[name] = content.get(name) if isinstance(content, dict) else None
        except ValueError as error:
            return Lost(f"member {name} cannot be read: {explain(error)}", found["__key__"])
        return values

    def _samples(self, index: int, members: Collection[str] | None, skip: int) -> Iterator[dict[str, Any] | Lost]:
        """Members by suffix and `__key__` of each row; those before `skip` without content."""
        name, samples = self.names[index], _Grouping(members, self._fields)
        try:
            with open_file(self._files[index], self._token) as file:
                for found in read_members(file, lambda path: samples.wants(path, skip)):
                    yield from samples.add(found)
                yield from samples.finish()
        except Exception as error:  # a damaged compressed tar raises errors of any type
            yield from samples.finish()
            yield Lost(f"{name} cannot be read further: {explain(error)}")


@dataclass
class _Gap:
    """Damage, and whether a row beside it lacks what it has hidden; otherwise it has hidden whole rows."""

    damage: Damage
    explained: bool = False


class _Grouping:
    """Collects members into rows, and decides which rows damage has taken something from.

    Args:
        members: Fields whose content is read, None for those that are not media.
        expected: Columns that rows have.
    """

    def __init__(self, members: Collection[str] | None, expected: Collection[str]) -> None:
        self._members, self._expected = members, expected
        self._row: dict[str, Any] = {}
        self._count = 0
        # Damage before or inside of the current row, and damage that the next row may have a part in.
        self._touching: list[_Gap] = []
        self._behind: list[_Gap] = []

    def wants(self, path: str, skip: int) -> bool:
        """Whether the content of a member has to be read."""
        key, field = _split(path)
        if key is None or field is None:
            return False
        if self._members is None:
            return _suffix(field) in (*_JSON, *_NUMBERS, *_TEXTS)
        return field in self._members and self._count + bool(self._row and self._starts_row(key, field)) >= skip

    def add(self, found: Member | Damage) -> Iterator[dict[str, Any] | Lost]:
        """Take the next member, and yield the row that ends before it."""
        if isinstance(found, Damage):
            self._behind.append(_Gap(found))
            return
        key, field = _split(found.path)
        if key is None or field is None:
            return
        if self._row and self._starts_row(key, field):
            yield from self._end_row()
        self._touching += self._behind
        self._behind = []
        self._row.setdefault("__key__", key)
        self._row[field] = found.data

    def finish(self) -> Iterator[dict[str, Any] | Lost]:
        """Yield the last row."""
        if self._row:
            yield from self._end_row()
        yield from self._unexplained(self._behind)
        self._behind = []

    def _starts_row(self, key: str, field: str) -> bool:
        return key != self._row["__key__"] or field in self._row

    def _end_row(self) -> Iterator[dict[str, Any] | Lost]:
        row, gaps = self._row, [*self._touching, *self._behind]
        absent = [name for name in self._expected if name not in row] if gaps else []
        needed = [name for name in absent if self._members is None or name in self._members]
        self._count += 1
        yield Lost(f"member {needed[0]} is missing: {gaps[-1].damage.reason}", row["__key__"]) if needed else row
        for gap in gaps if absent else ():
            gap.explained = True
        yield from self._unexplained(self._touching)
        self._row, self._touching = {}, []

    def _unexplained(self, gaps: Sequence[_Gap]) -> Iterator[Lost]:
        for gap in gaps:
            if not gap.explained or gap.damage.cut_off:
                self._count += 1
                yield Lost(f"clips are lost: {gap.damage.reason}")


def _may_be_annotation(key: str) -> bool:
    """Whether a value inside of JSON can be a column: media are members of their own."""
    found = modality_of_medium(key)
    return found is None or found.in_annotations


def _split(path: str) -> tuple[str | None, str | None]:
    """Key and field of a member, None for hidden ones and those without a suffix."""
    match = _KEY.fullmatch(path)
    hidden = path.rpartition("/")[2].startswith((".", "__"))
    return (None, None) if match is None or hidden else (match[1], match[2])


def _suffix(field: str) -> str:
    return field.rpartition(".")[2].lower()


def _type(field: str, values: Sequence[bytes | None]) -> Any:
    """Type of the column of a field, None if its name has to tell."""
    suffix = "." + _suffix(field)
    for kind, suffixes in ((Video, VIDEO_SUFFIXES), (Audio, AUDIO_SUFFIXES), (Image, IMAGE_SUFFIXES)):
        if suffix in suffixes:
            return kind()
    for data in values:
        try:
            return _type_of(_decoded(field, data))
        except ValueError:
            continue
    return None


def _type_of(value: Any) -> Any:
    """Type of the column of a value."""
    if isinstance(value, list) and value and type(value[0]) in (int, str):
        return List(_type_of(value[0]))
    return {int: Value("int64"), str: Value("string")}.get(type(value))


def _decoded(field: str, data: bytes | None) -> Any:
    """Value of a member: JSON, a number, text, or otherwise its bytes."""
    suffix = _suffix(field)
    if data is None or suffix not in (*_JSON, *_NUMBERS, *_TEXTS):
        return data
    text = data.decode("utf-8")
    if suffix in _JSON:
        return json.loads(text)
    if suffix in _NUMBERS and re.fullmatch(r"-?\d+", text.strip()):
        return int(text)
    return text if suffix in ("txt", "text", "transcript", "caption") else text.strip()
