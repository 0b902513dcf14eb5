"""Build the mini-benchmarks of real footage that every method here is measured on, as ordinary shards.

  camera-motion   CameraMotion-8: footage through a window that stands, pans, tilts, zooms or rotates

Source videos are disjoint between the splits. Running a command again keeps what is complete.

Examples:
  python scripts/make_benchmarks.py camera-motion benchmarks/camera_motion
  python scripts/make_benchmarks.py camera-motion benchmarks/large --train-clips 16384 --size 112 --num-frames 16
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from tubelets.data.assets import AssetError
from tubelets.data.camera_motion import CAMERA_MOTIONS, build_camera_motion
from tubelets.data.shards import ShardReport


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    camera = commands.add_parser("camera-motion", help="which way the camera moves; 8 classes")
    for command in (camera,):
        command.add_argument("output", type=Path, help="folder of the shards")
        command.add_argument("--train-clips", type=int, default=4096)
        command.add_argument("--test-clips", type=int, default=1024)
        command.add_argument("--num-frames", type=int, default=8)
        command.add_argument("--size", type=int, default=64, help="side of the square frames in pixels")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--no-progress", action="store_true", help="do not show the progress bar")
    return parser.parse_args(arguments)


def report(output: Path, reports: Mapping[str, ShardReport], num_classes: int) -> None:
    """Print what was built."""
    for split, done in reports.items():
        state = "written" if done.written else "complete before"
        print(f"{split}: {done.num_clips} clips, {done.num_bytes / 1e6:.1f} MB in {output} ({state})")
    print(f"{num_classes} classes, chance {1 / num_classes:.1%}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parse_arguments(arguments)
    try:
        reports = build_camera_motion(
            options.output,
            num_clips={"train": options.train_clips, "test": options.test_clips},
            num_frames=options.num_frames,
            size=options.size,
            seed=options.seed,
            progress=not options.no_progress,
        )
    except (AssetError, ValueError) as error:
        print(f"make_benchmarks: {error}", file=sys.stderr)
        return 2
    report(options.output, reports, len(CAMERA_MOTIONS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
