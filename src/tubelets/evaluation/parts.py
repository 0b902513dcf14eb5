"""Long extractions that survive an interruption: finished parts on disk, with the loader's position beside them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tubelets.data.atomic import write_atomically
from tubelets.data.stream.loader import ClipLoader

_PROGRESS = "progress.json"


class Parts:
    """Finished parts of an extraction, in order.

    Args:
        folder: where they are kept.
        what: everything that determines the result, as JSON values; parts of another extraction are not continued.

    Attributes:
        num_clips: clips in the finished parts.

    Example:
        >>> Parts(Path("nowhere"), {"model": "a"}).paths
        []
    """

    def __init__(self, folder: Path, what: Mapping[str, Any]) -> None:
        self.folder, self._what = folder, dict(what)
        self._names: list[str] = []
        self.num_clips = 0

    @property
    def paths(self) -> list[Path]:
        """The parts, as `write` of `add` made them."""
        return [self.folder / name for name in self._names]

    def resume(self, loader: ClipLoader) -> None:
        """Move a loader behind the finished parts of the same extraction.

        Args:
            loader: at its start.

        Raises:
            ValueError: if the file with the position is corrupt.
        """
        path = self.folder / _PROGRESS
        if not path.is_file():
            return
        try:
            progress = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is corrupt ({error}); remove {self.folder} to start again") from error
        if progress["what"] == self._what:
            loader.load_state_dict(progress["loader"])
            self._names, self.num_clips = progress["parts"], progress["num_clips"]

    def add(self, write: Callable[[Path], object], num_clips: int, loader: ClipLoader) -> None:
        """Write a part, then the loader's position, which makes it count.

        Args:
            write: writes the part, a file or a folder, at the path that it is given.
            num_clips: clips of the part.
            loader: has delivered exactly the clips of all parts.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"part-{len(self._names):05d}"
        write(self.folder / name)
        self._names.append(name)
        self.num_clips += num_clips
        state = {
            "what": self._what,
            "loader": loader.state_dict(),
            "parts": self._names,
            "num_clips": self.num_clips,
        }
        content = json.dumps(state)
        write_atomically(self.folder / _PROGRESS, lambda path: path.write_text(content, encoding="utf-8"))
