"""List the media files of a folder."""

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from tubelets.data.modalities.suffixes import AUDIO_SUFFIXES, IMAGE_SUFFIXES, SKELETON_SUFFIXES, VIDEO_SUFFIXES
from tubelets.data.sources.records import VideoRecord, printable

CHECKSUMS_FILE = "SHA256SUMS"
"""Checksums of the files of a folder, as `sha256sum` writes them."""


def read_folder(folder: str | Path) -> list[VideoRecord]:
    """List the videos (otherwise sounds, images or skeletons) of `folder/<class>/**/*`; the first level is the class.

    Videos directly in `folder` have no class, so a flat folder gives unlabelled records. Beside class folders they are
    left out with a warning, because they are nearly always misplaced. Links are followed, and dead ones are named: a
    file in a warning when it is read, a folder at once. If the folder has a file `SHA256SUMS` (from `sha256sum`), its
    checksums belong to the records.

    Args:
        folder: The folder. Suffixes distinguish videos, audio, images and skeletons
            (`tubelets.data.modalities.suffixes`). Hidden files are ignored, and so are images next to videos or audio
            files, which are thumbnails, and arrays next to any of them.

    Returns:
        Records sorted by relative path, which is also the id, with "/" as separator.

    Raises:
        ValueError: The folder has both videos and audio files.
    """
    folder = Path(folder)
    files = list(_walk(folder))
    videos, sounds, images, skeletons = (
        [path for path in files if path.suffix.lower() in suffixes]
        for suffixes in (VIDEO_SUFFIXES, AUDIO_SUFFIXES, IMAGE_SUFFIXES, SKELETON_SUFFIXES)
    )
    if videos and sounds:
        raise ValueError(
            f"{folder} contains {len(videos)} videos and {len(sounds)} audio files, for example {min(sounds)}; shards "
            "hold one kind: move the others out, or list the intended files in a text file"
        )
    media = sorted(videos or sounds or images or skeletons, key=lambda path: path.as_posix())
    classes = {path.parts[0] for path in media if len(path.parts) > 1}
    _warn_empty_folders(folder, files, classes)
    loose = [path for path in media if len(path.parts) == 1]
    if classes and loose:
        warnings.warn(
            f"{len(loose)} of {len(media)} videos of {printable(str(folder))} are left out because they have no class "
            f"folder, for example {printable(loose[0].name)!r}; move them into class folders",
            stacklevel=2,
        )
        media = [path for path in media if len(path.parts) > 1]
    checksums = read_checksums(folder / CHECKSUMS_FILE)
    records = []
    for path in media:
        name = printable(path.as_posix())
        label = printable(path.parts[0]) if len(path.parts) > 1 else None
        record = VideoRecord(folder / path, label, None, name)
        found = checksums.get(path.as_posix())
        records.append(record if found is None else record.with_checksums({record.main_name: found}))
    return records


def read_checksums(file: Path) -> dict[str, str]:
    """Read a list of checksums, as `sha256sum` writes it.

    Args:
        file: The list; it need not exist.

    Returns:
        Hexadecimal checksum by path.

    Raises:
        ValueError: A line has another form.
    """
    if not file.is_file():
        return {}
    found = {}
    text = file.read_text(encoding="utf-8", errors="surrogateescape")
    for number, line in enumerate(text.splitlines(), start=1):
        checksum, _, path = line.strip().partition(" ")
        if not line.strip():
            continue
        if len(checksum) != 64 or not path:
            raise ValueError(f"{file}, line {number}: {line!r} is not `CHECKSUM  PATH`; write it with sha256sum")
        found[path.lstrip(" *").removeprefix("./")] = checksum.lower()
    return found


def list_files(folder: str | Path) -> list[Path]:
    """Relative paths of all files of a folder, through links, sorted; hidden ones are left out.

    Args:
        folder: The folder.
    """
    return sorted(_walk(Path(folder)), key=lambda path: path.as_posix())


def _walk(folder: Path) -> Iterator[Path]:
    """Relative paths of all files, through links; hidden ones are left out."""
    seen = set()
    for where, folders, names in os.walk(folder, followlinks=True):
        # A link to a parent would never end.
        place = os.path.realpath(where)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            if name.startswith("."):
                continue
            if path.is_symlink() and not path.exists() and not path.suffix:
                warnings.warn(f"{printable(str(path))} is a link to nothing; its files are missing", stacklevel=3)
            yield path.relative_to(folder)


def _warn_empty_folders(folder: Path, files: Iterable[Path], classes: set[str]) -> None:
    """Name the class folders none of whose files is used."""
    others = sorted({path.parts[0] for path in files if len(path.parts) > 1} - classes)
    if classes and others:
        warnings.warn(
            f"{len(others)} folders in {printable(str(folder))} have no file with a known suffix, for example "
            f"{printable(others[0])!r}; their classes are missing",
            stacklevel=3,
        )
