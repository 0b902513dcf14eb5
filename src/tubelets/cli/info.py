"""Print versions, decoders, devices and data paths, for a bug report."""

import argparse
import json

from tubelets.cli.parser import Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the information.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    from tubelets.info import collect

    found = collect()
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for section, values in found.items():
        print(f"{section}:")
        for name, value in values.items():
            print(f"  {name}: {value}")
    return 0
