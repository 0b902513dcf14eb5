"""Members of a tar one after the other, read on behind damaged headers."""

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 2**20
# Names and other metadata of the next member; larger ones are damage.
_MOST_METADATA = 2**20
_OPENERS: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


@dataclass(frozen=True)
class Member:
    """A file in a tar.

    Attributes:
        path: Its name.
        data: Its content, None if it was not wanted.
    """

    path: str
    data: bytes | None


@dataclass(frozen=True)
class Damage:
    """A stretch of a tar that cannot be read.

    Attributes:
        place: Its first byte.
        reason: What is wrong.
        cut_off: Whether the tar ends here, with any number of members lost.
    """

    place: int
    reason: str
    cut_off: bool = False


def read_members(file: BinaryIO, wants: Callable[[str], bool]) -> Iterator[Member | Damage]:
    """Read the files of a tar, plain or compressed, in their order.

    The checksum of each header is verified. Behind a damaged one, reading goes on at the next valid header.

    Args:
        file: The tar; it need not be seekable.
        wants: Whether the content of a member with this path is read.

    Yields:
        The members, and `Damage` where something is missing.

    Raises:
        OSError: The file cannot be read.
        EOFError: A compressed tar is cut off.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> with tarfile.open(fileobj=file, mode="w") as tar:
        ...     for name in ("a", "b"):
        ...         info = tarfile.TarInfo(f"{name}.txt")
        ...         info.size = 3
        ...         tar.addfile(info, io.BytesIO(b"abc"))
        >>> damaged = bytearray(file.getvalue())
        >>> damaged[:4] = b"????"
        >>> [type(found).__name__ for found in read_members(io.BytesIO(damaged), lambda path: True)]
        ['Damage', 'Member']
    """
    tar = _Tar(_plain(file))
    damage: Damage | None = None
    metadata: dict[str, str] = {}
    ended = False
    while block := tar.read(_BLOCK):
        if not any(block):
            # Blocks of zeros end a tar, but concatenated tars go on.
            ended = True
            continue
        ended = False
        place = tar.place - len(block)
        header = _header(block)
        if header is None:
            damage = damage or Damage(place, f"there is no valid header at byte {place}")
            continue
        if damage is not None:
            yield damage
            damage, metadata = None, {}
        if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE):
            metadata |= _metadata(header, tar.read_padded(header.size) if header.size <= _MOST_METADATA else None)
            continue
        path, size = metadata.get("path", header.name), int(metadata.get("size", header.size))
        metadata = {}
        if not header.isreg():
            tar.skip(_padded(size if header.type not in _WITHOUT_CONTENT else 0))
            continue
        if header.issparse():
            yield Damage(place, f"{path} is stored as a sparse file, which is not supported")
            tar.skip(_padded(size))
            continue
        wanted = wants(path)
        data = tar.read(size) if wanted else None
        complete = tar.skip(_padded(size) - size if wanted else _padded(size), at_least=0 if wanted else size)
        if not complete or (data is not None and len(data) < size):
            yield Damage(place, f"{path} is cut off", cut_off=True)
            return
        yield Member(path, data)
    if damage is not None:
        yield replace(damage, cut_off=not ended)
    elif not ended:
        reason = f"it ends at byte {tar.place} without an end mark" if tar.place else "the file is empty"
        yield Damage(tar.place, reason, cut_off=True)


# Links, devices and folders have no content, whatever their header says.
_WITHOUT_CONTENT = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE)


def _header(block: bytes) -> tarfile.TarInfo | None:
    """The header in a block, None if it is damaged."""
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None


def _metadata(header: tarfile.TarInfo, content: bytes | None) -> dict[str, str]:
    """Path and size of the next member from a GNU or PAX extension."""
    if content is None or len(content) < header.size:
        return {}
    text = content[: header.size]
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": text.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    found: dict[str, str] = {}
    while header.type == tarfile.XHDTYPE and text:
        length, _, _ = text.partition(b" ")
        if not length.isdigit() or not len(length) < int(length) <= len(text):
            break
        key, _, value = text[len(length) + 1 : int(length) - 1].partition(b"=")
        text = text[int(length) :]
        if key == b"path" or (key == b"size" and value.isdigit()):
            found[key.decode()] = value.decode("utf-8", "surrogateescape")
    return found


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


class _Tar:
    """A file that is read forwards; `place` is the next byte."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.place = 0
        self._size: int | None = None
        if isinstance(file, _Prefixed) or not file.seekable() or isinstance(file, tuple(_DECOMPRESSORS)):
            return
        self._size = file.seek(0, 2)
        file.seek(0)

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes, fewer only at the end."""
        parts = []
        # A damaged size must not reserve memory.
        while size > 0 and (part := self._file.read(min(size, 16 * _CHUNK))):
            parts.append(part)
            size -= len(part)
        data = b"".join(parts)
        self.place += len(data)
        return data

    def read_padded(self, size: int) -> bytes:
        """Read whole blocks."""
        return self.read(_padded(size))

    def skip(self, size: int, at_least: int = 0) -> bool:
        """Move forwards; return whether the file has `at_least` so many more bytes."""
        if self._size is not None:
            complete = self.place + at_least <= self._size
            self.place = min(self.place + size, self._size)
            self._file.seek(self.place)
            return complete
        before = self.place
        while size > 0 and (part := self._file.read(min(size, _CHUNK))):
            self.place += len(part)
            size -= len(part)
        return self.place - before >= at_least


class _Prefixed:
    """A file that cannot be rewound, with its first bytes, which were read before."""

    def __init__(self, prefix: bytes, file: BinaryIO) -> None:
        self._prefix, self._file = prefix, file

    def read(self, size: int = -1) -> bytes:
        if self._prefix and size >= 0:
            part, self._prefix = self._prefix[:size], self._prefix[size:]
            return part
        part, self._prefix = self._prefix, b""
        return part + self._file.read(size)


_DECOMPRESSORS = (gzip.GzipFile, bz2.BZ2File, lzma.LZMAFile)


def _plain(file: BinaryIO) -> Any:
    """The decompressed tar."""
    start = file.read(6)
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    rewound: Any = file
    if file.seekable():
        file.seek(0)
    else:
        rewound = _Prefixed(start, file)
    return rewound if opener is None else opener(rewound)
