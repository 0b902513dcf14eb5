"""Atomic writes: readers see either the old or the complete new file, even after a crash or power loss."""

import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, flush it to disk and rename it.

    The temporary file is a hidden `.tmp` file in the same folder. It is removed if `write` fails.

    Args:
        path: The final name; an existing file is replaced. Its folder must exist.
        write: Writes the content to the path it is given.

    Raises:
        OSError: The file cannot be written or renamed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder) / "notes.txt", lambda file: file.write_text("done"))
        ...     [entry.name for entry in Path(folder).iterdir()]
        ['notes.txt']
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        write(temporary)
        replace_synced(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Hidden temporary name beside `path`, unique to this process; for writers that stay open."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def replace_synced(temporary: Path, path: Path) -> None:
    """Rename a finished file so that power loss leaves either the old or the new content.

    Args:
        temporary: The finished file, in the same folder as `path`.
        path: The final name; an existing file is replaced.
    """
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    # The rename is durable only after the folder is synced; Windows cannot open folders.
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
