"""Build the package's mini-benchmarks from real footage and sounds, as ordinary shards.

  camera-motion    CameraMotion-8: footage seen through a window that stays still, pans, tilts, zooms or rotates
  moving-objects   MovingObjects: named cut-outs that move over footage, with captions of the motion
  game-sounds      GameSounds-10: short video-game sounds, varied and overlaid, labelled by family

Splits share no source videos, objects or recordings. Run a command again to resume; complete shards are kept.

Examples:
  python scripts/make_benchmarks.py camera-motion benchmarks/camera_motion
  python scripts/make_benchmarks.py camera-motion benchmarks/large --train-clips 16384 --size 112 --num-frames 16
  python scripts/make_benchmarks.py moving-objects benchmarks/moving_objects --objects cutouts --num-workers 2
  python scripts/make_benchmarks.py game-sounds benchmarks/game_sounds
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tubelets.benchmarks.camera_motion import CAMERA_MOTIONS, build_camera_motion
from tubelets.benchmarks.game_sounds import build_game_sounds
from tubelets.benchmarks.moving_objects import OBJECT_MOTIONS, build_moving_objects
from tubelets.data.assets.fetching import AssetError
from tubelets.data.assets.objects import open_objects
from tubelets.data.assets.table import SOUNDS
from tubelets.data.build.shards import ShardReport
from tubelets.data.modalities.video import BadVideoError

NUM_FAMILIES = len({sound.family for sound in SOUNDS})
NUM_CLASSES = {
    "camera-motion": len(CAMERA_MOTIONS),
    "moving-objects": len(OBJECT_MOTIONS),
    "game-sounds": NUM_FAMILIES,
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    camera = commands.add_parser("camera-motion", help=f"how the camera moves; {len(CAMERA_MOTIONS)} classes")
    objects = commands.add_parser("moving-objects", help=f"how an object moves; {len(OBJECT_MOTIONS)} classes")
    sounds = commands.add_parser("game-sounds", help=f"the family of a sound; {NUM_FAMILIES} classes")
    for command, count in ((camera, 4096), (objects, 4096), (sounds, 2048)):
        command.add_argument("output", type=Path, help="folder of the shards")
        command.add_argument("--train-clips", type=int, default=count)
        command.add_argument("--test-clips", type=int, default=count // 4)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--no-progress", action="store_true", help="do not show the progress bar")
    sounds.add_argument("--seconds", type=float, default=1.28, help="clip length in seconds")
    sounds.add_argument("--sampling-rate", type=int, default=16000)
    for command in (camera, objects):
        command.add_argument("--num-frames", type=int, default=8)
        command.add_argument("--stride", type=int, default=2, help="distance between frames, in frames of the footage")
        command.add_argument("--size", type=int, default=64, help="side of the square frames in pixels")
    objects.add_argument("--objects", help="folder of images with alpha, or a Hub data set (default: the emoji set)")
    objects.add_argument("--num-workers", type=int, default=1, help="processes")
    return parser.parse_args(arguments)


def build(options: argparse.Namespace) -> Mapping[str, ShardReport]:
    """Build the selected benchmark."""
    shared: dict[str, Any] = {
        "num_clips": {"train": options.train_clips, "test": options.test_clips},
        "seed": options.seed,
        "progress": not options.no_progress,
    }
    if options.benchmark == "game-sounds":
        return build_game_sounds(options.output, seconds=options.seconds, sampling_rate=options.sampling_rate, **shared)
    shared |= {"num_frames": options.num_frames, "stride": options.stride, "size": options.size}
    if options.benchmark == "camera-motion":
        return build_camera_motion(options.output, **shared)
    objects = None if options.objects is None else open_objects(options.objects)
    return build_moving_objects(options.output, objects=objects, num_workers=options.num_workers, **shared)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parse_arguments(arguments)
    try:
        reports = build(options)
    except (AssetError, BadVideoError, FileNotFoundError, ValueError) as error:
        print(f"make_benchmarks: {error}", file=sys.stderr)
        return 2
    for split, done in reports.items():
        state = "written" if done.written else "complete before"
        if done.bad_files:
            state += f", {len(done.bad_files)} clips left out because their source cannot be read"
        print(f"{split}: {done.num_clips} clips, {done.num_bytes / 1e6:.1f} MB in {options.output} ({state})")
    num_classes = NUM_CLASSES[options.benchmark]
    print(f"{num_classes} classes, chance {1 / num_classes:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
