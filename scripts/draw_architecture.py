"""Draw the subpackages and their imports into docs/architecture.svg.

Rows are the layers of the import contracts in pyproject.toml; arrows are the imports found in the code. Imports that
follow from others (A imports B, B imports C, A imports C) and optional layers without a module are omitted.

Example:
  python scripts/draw_architecture.py
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grimp
from importlinter.api import read_configuration

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "tubelets"
WIDTH, ROW_HEIGHT = 1000, 84
BOX_WIDTH, BOX_HEIGHT = 168, 38
MARGIN = 24


class Box(NamedTuple):
    """A subpackage in the picture; x of its centre and y of its top."""

    name: str
    x: float
    y: float


def layers(contracts: Sequence[dict], modules: set[str]) -> list[list[str]]:
    """Rows of subpackages from top to bottom; one with layers of its own is replaced by these."""
    rows_of = {}
    for contract in contracts:
        if contract["type"] == "layers":
            rows = [[room.strip(" ()") for room in layer.split(":")] for layer in contract["layers"]]
            present = [[room for room in row if room in modules] for row in rows]
            rows_of[parent_of([room for row in rows for room in row])] = [row for row in present if row]
    result = []
    for row in rows_of[PACKAGE]:
        inner = rows_of.get(row[0]) if row == [f"{PACKAGE}.models"] else None
        result += inner or [row]
    return result


def parent_of(rooms: Sequence[str]) -> str:
    """The package that directly contains all of these subpackages."""
    (parent,) = {room.rpartition(".")[0] for room in rooms}
    return parent


def room_of(module: str, rooms: Sequence[str]) -> str | None:
    """The subpackage of a module; None for top-level modules."""
    return next((room for room in rooms if module == room or module.startswith(f"{room}.")), None)


def room_imports(graph: grimp.ImportGraph, rooms: Sequence[str]) -> dict[str, set[str]]:
    """Map each subpackage to those it imports."""
    imports: dict[str, set[str]] = {room: set() for room in rooms}
    for module in graph.modules:
        importer = room_of(module, rooms)
        if importer is None:
            continue
        for imported in graph.find_modules_directly_imported_by(module):
            target = room_of(imported, rooms)
            if target is not None and target != importer:
                imports[importer].add(target)
    return imports


def without_implied(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Remove imports that follow from others (transitive reduction)."""

    def reached(room: str) -> set[str]:
        return imports[room].union(*(reached(other) for other in imports[room]))

    return {
        room: {target for target in targets if not any(target in reached(other) for other in targets - {target})}
        for room, targets in imports.items()
    }


def place(rows: Sequence[Sequence[str]]) -> dict[str, Box]:
    """Spread the subpackages of each row over the width."""
    boxes = {}
    for number, row in enumerate(rows):
        # Single boxes alternate between left and right, so that arrows over several rows pass beside them.
        aside = WIDTH * (0.16 if number % 2 else -0.16) if len(row) == 1 else 0
        for index, room in enumerate(row):
            x = WIDTH * (index + 1) / (len(row) + 1) + aside
            boxes[room] = Box(room, x, MARGIN + number * ROW_HEIGHT)
    return boxes


def ports(box: Box, others: Sequence[Box]) -> dict[str, float]:
    """Points on a box's border where arrows attach, in the left-to-right order of the other boxes."""
    ordered = sorted(others, key=lambda other: (other.x, other.name))
    step = BOX_WIDTH / (len(ordered) + 1)
    return {other.name: box.x - BOX_WIDTH / 2 + step * (index + 1) for index, other in enumerate(ordered)}


def arrows(boxes: dict[str, Box], imports: dict[str, set[str]]) -> list[str]:
    """Draw curves from importing to imported subpackages."""
    importers = {room: [boxes[other] for other in imports if room in imports[other]] for room in boxes}
    starts = {room: ports(box, [boxes[target] for target in imports[room]]) for room, box in boxes.items()}
    ends = {room: ports(box, importers[room]) for room, box in boxes.items()}
    lines = []
    for room in boxes:
        for target in sorted(imports[room]):
            x1, y1 = starts[room][target], boxes[room].y + BOX_HEIGHT
            x2, y2 = ends[target][room], boxes[target].y - 3
            bend = (y2 - y1) / 2
            lines.append(
                f'<path class="import" d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} '
                f'{x2:.0f} {y2:.0f}"/>'
            )
    return lines


def frame(boxes: dict[str, Box], parent: str) -> list[str]:
    """Draw a frame around the subpackages of a package."""
    inner = [box for box in boxes.values() if box.name.startswith(f"{parent}.")]
    if not inner:
        return []
    top, bottom = min(box.y for box in inner) - 20, max(box.y for box in inner) + BOX_HEIGHT + 14
    title = f'<text class="title" x="{MARGIN + 12}" y="{top + 18:.0f}">{parent.partition(".")[2]}/</text>'
    return [
        f'<rect class="frame" x="{MARGIN}" y="{top:.0f}" width="{WIDTH - 2 * MARGIN}" height="{bottom - top:.0f}" '
        'rx="8"/>',
        title,
    ]


def draw() -> str:
    """Render the picture as SVG text, deterministically."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    configuration = read_configuration(str(ROOT / "pyproject.toml"))
    rows = layers(configuration["contracts_options"], graph.modules)
    rooms = [room for row in rows for room in row]
    boxes = place(rows)
    height = 2 * MARGIN + (len(rows) - 1) * ROW_HEIGHT + BOX_HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        "<title>Rooms of tubelets and their imports</title>",
        "<style>",
        "text { font: 15px sans-serif; text-anchor: middle; fill: #1b1f24 }",
        ".title { text-anchor: start; fill: #57606a }",
        ".room { fill: #eaf2ff; stroke: #3b6fb6 }",
        ".frame { fill: #f6f8fa; stroke: #c4ccd4 }",
        ".import { fill: none; stroke: #7d8590; stroke-width: 1.3; marker-end: url(#head) }",
        "</style>",
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#7d8590"/></marker>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *frame(boxes, f"{PACKAGE}.models"),
        *arrows(boxes, without_implied(room_imports(graph, rooms))),
    ]
    for box in boxes.values():
        name = box.name.rpartition(".")[2]
        lines += [
            f'<rect class="room" x="{box.x - BOX_WIDTH / 2:.0f}" y="{box.y:.0f}" width="{BOX_WIDTH}" '
            f'height="{BOX_HEIGHT}" rx="6"/>',
            f'<text x="{box.x:.0f}" y="{box.y + 24:.0f}">{name}/</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "architecture.svg", help="SVG file to write")
    options = parser.parse_args(arguments)
    options.out.write_text(draw(), encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
