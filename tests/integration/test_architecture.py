"""The page on the architecture describes this tree: its picture follows the imports, its files and rooms exist."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "scripts" / "draw_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def walk(title: str) -> list[str]:
    """The files of a numbered list, in order."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([\w/.]+\.py)`", section, flags=re.MULTILINE)


def test_the_picture_is_that_of_the_code(drawing: ModuleType) -> None:
    committed = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert drawing.draw() == committed, "the imports between rooms changed: run python scripts/draw_architecture.py"


def test_implied_imports_are_left_out(drawing: ModuleType) -> None:
    imports = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert drawing.without_implied(imports) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}


def test_rooms_with_layers_of_their_own_are_opened(drawing: ModuleType) -> None:
    contracts = [
        {"type": "layers", "layers": ["(tubelets.planned)", "tubelets.models", "tubelets.data : tubelets.motion"]},
        {"type": "layers", "layers": ["tubelets.models.methods", "tubelets.models.common"]},
        {"type": "forbidden"},
    ]
    modules = {
        "tubelets.models",
        "tubelets.models.methods",
        "tubelets.models.common",
        "tubelets.data",
        "tubelets.motion",
    }
    rows = [["tubelets.models.methods"], ["tubelets.models.common"], ["tubelets.data", "tubelets.motion"]]
    assert drawing.layers(contracts, modules) == rows


def test_every_room_is_in_the_table() -> None:
    table = PAGE.split("## Rooms\n")[1].split("\n## ")[0]
    rooms = [folder.name for folder in (ROOT / "src" / "tubelets").iterdir() if (folder / "__init__.py").is_file()]
    assert all(f"`{room}/" in table for room in rooms), sorted(room for room in rooms if f"`{room}/" not in table)


@pytest.mark.parametrize(
    ("title", "most"), [("From a row of a shard to SIGMA's loss", 14), ("From a checkpoint folder to logits", 8)]
)
def test_walks_are_short_and_lead_through_files_that_exist(title: str, most: int) -> None:
    files = walk(title)
    assert 5 <= len(files) <= most
    assert len(set(files)) == len(files)
    assert [file for file in files if not (ROOT / file).is_file()] == []
