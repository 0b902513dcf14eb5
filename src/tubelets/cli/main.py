"""The command `tubelets`, also as `python -m tubelets`: one function a verb."""

import argparse
import json
from collections.abc import Sequence

from tubelets.info import collect


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb.

    Args:
        arguments: of the command line; None takes those of this process.
    """
    parser = argparse.ArgumentParser(prog="tubelets", description="Motion-aware video representation learning.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    add_info(verbs)
    given = parser.parse_args(arguments)
    given.run(given)


def add_info(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The verb `info`."""
    info = verbs.add_parser("info", help="versions, decoders, devices and data paths for a bug report")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=print_info)


def print_info(given: argparse.Namespace) -> None:
    """Print what a bug report needs."""
    found = collect()
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for section, values in found.items():
        print(f"{section}:")
        for name, value in values.items():
            print(f"  {name}: {value}")
