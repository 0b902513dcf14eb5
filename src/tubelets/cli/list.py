"""List the authors' checkpoints that this package converts: data, published numbers, where the weights are.

Examples:
  tubelets list
  tubelets list smile --json
"""

import argparse
import json
from typing import Any

from tubelets.cli.parser import Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("words", metavar="WORD", nargs="*", help="only checkpoints whose name has all of these words")
    verb.add("--json", action="store_true", help="print all fields as JSON")


def run(options: argparse.Namespace) -> int:
    """Print the checkpoints.

    Args:
        options: the command line.

    Returns:
        The exit code.

    Raises:
        ValueError: if no checkpoint has the words.
    """
    from tubelets.hub.author_cards import author_checkpoints
    from tubelets.hub.converting import describe

    known = author_checkpoints()
    found = [each for each in known.values() if all(word.lower() in each.name for word in options.words)]
    if not found:
        raise ValueError(f"no checkpoint has {' '.join(options.words)!r} in its name; known are {', '.join(known)}")
    rows = [describe(each) for each in found]
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    for row in rows:
        print(_paragraph(row))
    print(
        f"{len(rows)} checkpoints; `tubelets convert NAME --output_dir FOLDER` converts one. Numbers are the authors'."
    )
    return 0


def _paragraph(row: dict[str, Any]) -> str:
    numbers = ", ".join(f"{task} {value}" for task, value in row["published"].items()) or "none published"
    return (
        f"{row['name']}\n  {row['model_class']}, {row['parameters']}, {row['data']}\n  {numbers}\n  weights: "
        f"{row['weights']}{'' if row['download'] else ' (fetch by hand)'}; licence: {row['licence']}\n"
    )
