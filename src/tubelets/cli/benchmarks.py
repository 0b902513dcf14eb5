"""Build the package's mini-benchmarks from real footage and sounds, as ordinary shards.

  camera-motion    CameraMotion-8: footage seen through a window that stays still, pans, tilts, zooms or rotates
  moving-objects   MovingObjects: named cut-outs that move over footage, with captions of the motion
  game-sounds      GameSounds-10: short video-game sounds, varied and overlaid, labelled by family

Splits share no source videos, objects or recordings. Run a command again to resume; complete shards are kept.

  tubelets benchmarks camera-motion --output_dir benchmarks/camera_motion
  tubelets benchmarks camera-motion --output_dir benchmarks/large --train_clips 16384 --size 112 --num_frames 16
  tubelets benchmarks moving-objects --output_dir benchmarks/moving_objects --objects cutouts --num_workers 2
  tubelets benchmarks game-sounds --output_dir benchmarks/game_sounds
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tubelets.cli.parser import Verb

if TYPE_CHECKING:
    from tubelets.data.build.shards import ShardReport

TRAIN_CLIPS = {"camera-motion": 4096, "moving-objects": 4096, "game-sounds": 2048}


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add(
        "benchmark",
        metavar="BENCHMARK",
        choices=TRAIN_CLIPS,
        type=lambda name: name.replace("_", "-"),
        help="camera-motion, moving-objects or game-sounds",
    )
    verb.add("--output_dir", type=Path, required=True, help="folder of the shards")
    verb.add("--train_clips", type=int, help="training clips; by default 4096, of sounds 2048")
    verb.add("--test_clips", type=int, help="test clips; by default a quarter of that default")
    verb.add("--seed", type=int, default=0, help="seed of all draws")
    verb.add("--num_workers", type=int, default=1, help="processes that render moving objects")
    verb.add("--no_progress", action="store_true", help="do not show the progress bar")
    add = verb.section("video", "clips of camera-motion and moving-objects")
    add("--num_frames", type=int, default=8, help="frames of a clip")
    add("--stride", type=int, default=2, help="distance between frames, in frames of the footage")
    add("--size", type=int, default=64, help="side of the square frames in pixels")
    add("--objects", help="folder of images with alpha, or a Hub data set; by default the emoji set")
    add = verb.section("sound", "clips of game-sounds")
    add("--seconds", type=float, default=1.28, help="clip length in seconds")
    add("--sampling_rate", type=int, default=16000, help="samples in a second")


def run(options: argparse.Namespace) -> int:
    """Build a benchmark.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    reports, num_classes = build(options)
    for split, done in reports.items():
        state = "written" if done.written else "complete before"
        if done.bad_files:
            state += f", {len(done.bad_files)} clips left out because their source cannot be read"
        print(f"{split}: {done.num_clips} clips, {done.num_bytes / 1e6:.1f} MB in {options.output_dir} ({state})")
    print(f"{num_classes} classes, chance {1 / num_classes:.1%}")
    return 0


def build(options: argparse.Namespace) -> "tuple[Mapping[str, ShardReport], int]":
    """Build the benchmark that is asked for; also return its number of classes."""
    from tubelets.benchmarks.camera_motion import CAMERA_MOTIONS, build_camera_motion
    from tubelets.benchmarks.game_sounds import build_game_sounds
    from tubelets.benchmarks.moving_objects import OBJECT_MOTIONS, build_moving_objects
    from tubelets.data.assets.objects import open_objects
    from tubelets.data.assets.table import SOUNDS

    default = TRAIN_CLIPS[options.benchmark]
    train = default if options.train_clips is None else options.train_clips
    test = default // 4 if options.test_clips is None else options.test_clips
    shared: dict[str, Any] = {
        "num_clips": {"train": train, "test": test},
        "seed": options.seed,
        "progress": not options.no_progress,
    }
    if options.benchmark == "game-sounds":
        sound = {"seconds": options.seconds, "sampling_rate": options.sampling_rate}
        return build_game_sounds(options.output_dir, **sound, **shared), len({sound.family for sound in SOUNDS})
    shared |= {"num_frames": options.num_frames, "stride": options.stride, "size": options.size}
    if options.benchmark == "camera-motion":
        return build_camera_motion(options.output_dir, **shared), len(CAMERA_MOTIONS)
    objects = None if options.objects is None else open_objects(options.objects)
    reports = build_moving_objects(options.output_dir, objects=objects, num_workers=options.num_workers, **shared)
    return reports, len(OBJECT_MOTIONS)
