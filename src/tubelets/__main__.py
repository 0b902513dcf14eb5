"""Command line of the package: `python -m tubelets info`."""

import argparse
import json

from tubelets.info import collect


def main() -> None:
    """Print what a bug report needs."""
    parser = argparse.ArgumentParser(prog="tubelets", description="Motion-aware video representation learning.")
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="versions, decoders, devices and data paths for a bug report")
    info.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    found = collect()
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for section, values in found.items():
        print(f"{section}:")
        for name, value in values.items():
            print(f"  {name}: {value}")


if __name__ == "__main__":
    main()
