r"""Paste moving objects into any videos and write captions of the motion, as shards for video-language training.

SOURCE is shards, a folder of videos, a list or csv file, or a Hub data set. Each clip gets an object that moves, a
caption with varied verbs, the same motion in plain and in other words (`captions`), captions with one wrong descriptor
(`negatives`), and exact boxes in every frame. Unreadable videos are skipped and listed. Run the same command again to
resume a killed run.

  tubelets caption_motion videos --output_dir shards
  tubelets caption_motion shards --output_dir captioned --size 112 --num_frames 8 --clips_per_video 4
  tubelets caption_motion videos --output_dir shards --objects cut_outs --num_objects 2 --num_workers 8
"""

import argparse
from pathlib import Path

from tubelets.cli.parser import Verb


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("source", metavar="SOURCE", help="shards, a folder of videos, a list, or a Hub data set")
    verb.add("--output_dir", type=Path, required=True, help="folder of the shards")
    verb.add("--split", default="train", help="split to read, and name of the written one")
    verb.add("--seed", type=int, default=0, help="seed of all draws")
    verb.add("--num_workers", type=int, default=0, help="decoding processes; 0 works in this one")
    verb.add("--videos_per_shard", type=int, default=256, help="videos whose clips are in a shard")
    add = verb.section("clips", "frames of the clips")
    add("--num_frames", type=int, default=16, help="frames of a clip")
    add("--stride", type=int, default=2, help="distance between frames, in frames of the video")
    add("--size", type=int, default=224, help="side of the square frames in pixels")
    add("--clips_per_video", type=int, default=1, help="clips of each video")
    add = verb.section("captions", "what moves, and how much is said about it")
    add("--objects", default="emoji", help="emoji, shapes, a folder of images with alpha, or a Hub data set")
    add("--num_objects", type=int, default=1, help="objects of a clip, 1 or 2")
    add("--variations", type=int, default=4, help="captions with varied verbs, beside the plain one")
    add("--negatives", type=int, default=4, help="captions with one wrong descriptor")


def run(options: argparse.Namespace) -> int:
    """Write the shards.

    Args:
        options: the command line.

    Returns:
        The exit code: 1 if no video was readable.
    """
    from tubelets.benchmarks.motion_captions import MotionCaptionSettings, build_motion_captions

    names = (
        "num_frames",
        "stride",
        "size",
        "clips_per_video",
        "objects",
        "num_objects",
        "variations",
        "negatives",
        "seed",
    )
    settings = MotionCaptionSettings(**{name: getattr(options, name) for name in names})
    report = build_motion_captions(
        options.source,
        options.output_dir,
        settings,
        split=options.split,
        videos_per_shard=options.videos_per_shard,
        num_workers=options.num_workers,
    )
    print(
        f"{options.split}: {report.num_clips} clips in {report.num_shards} shards, {report.num_bytes / 1e6:.1f} MB in "
        f"{options.output_dir} ({len(report.written)} written now, {len(report.skipped)} complete before)"
    )
    for bad in report.bad_files:
        print(f"bad file {bad.clip_id}: {bad.reason}")
    return 0 if report.num_clips else 1
