"""The command `tubelets`, also `python -m tubelets`: one function per subcommand."""

import argparse
import json
from collections.abc import Sequence

from tubelets.info import collect


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a subcommand.

    Args:
        arguments: command-line words; None reads `sys.argv`.
    """
    parser = argparse.ArgumentParser(prog="tubelets", description="Motion-aware video representation learning.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    add_info(verbs)
    given = parser.parse_args(arguments)
    given.run(given)


def add_info(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand `info`."""
    info = verbs.add_parser("info", help="print versions, decoders, devices and data paths for a bug report")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=print_info)


def print_info(given: argparse.Namespace) -> None:
    """Print the information for a bug report."""
    found = collect()
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for section, values in found.items():
        print(f"{section}:")
        for name, value in values.items():
            print(f"  {name}: {value}")
