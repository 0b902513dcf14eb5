"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from tubelets.data.atomic import write_atomically


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, lambda file: file.write_text("old"))

    def fail(file: Path) -> None:
        file.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    write_atomically(path, lambda file: file.write_text("new"))
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("state.json", "new")]


def test_the_final_name_appears_only_when_the_content_is_complete(tmp_path: Path) -> None:
    def write(file: Path) -> None:
        file.write_text("all")
        assert not (tmp_path / "a.txt").exists()

    write_atomically(tmp_path / "a.txt", write)
    assert (tmp_path / "a.txt").read_text() == "all"
