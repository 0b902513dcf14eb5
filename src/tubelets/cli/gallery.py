"""Draw synthetic motion, every kind of mask, or skeletons and their augmentations.

PICTURES is one of
  motion  for each clip a GIF and a PNG with the clip, the moving objects, their boxes and the visible part under a
          trajectory mask; `motions.json` holds the motion record and caption of each clip
  masks   `masks.png` (the visible part of a clip under each mask), `statistics.png` (spectrum and temporal
          correlation), `sound_masks.png` and `sound_statistics.png`, over real frames and a real sound
  skeletons  a GIF for each recording: its bones, and views of it under each augmentation of Skeleton-Contrast

  tubelets gallery motion --output_dir runs/motion
  tubelets gallery motion --video street.mp4 --objects emoji --seed 3 --output_dir runs/motion
  tubelets gallery motion --video data/k400_shards --motion tubelet_contrast --output_dir runs/tubelets
  tubelets gallery masks --output_dir runs/masks
  tubelets gallery masks --video clip.mp4 --kinds tube green3d --mask_ratio 0.75 --output_dir runs/masks
  tubelets gallery skeletons --skeletons jump.bvh walk.json --output_dir runs/skeletons
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from tubelets.cli.parser import Verb

# Written here again because the modules that define them import torch; a test compares them.
MOTIONS = ("smile", "tubelet_contrast", "locomotion")
BACKGROUNDS = ("grey", "black", "noise")
MASKS = ("tube+traj_mask", "tube", "tube+picked_frame_visible")


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("pictures", metavar="PICTURES", choices=["motion", "masks", "skeletons"], help="what is drawn")
    verb.add("--output_dir", type=Path, required=True, help="folder of the pictures")
    text = "a video file; for motion also shards; by default a plain background, or for masks the package's footage"
    verb.add("--video", help=text)
    verb.add("--stride", type=int, default=4, help="distance between the frames of the video")
    verb.add("--mask_ratio", type=float, help="share of masked tokens; by default 0.8 of motion, 0.9 of masks")
    verb.add("--seed", type=int, default=0, help="seed of all draws")
    add = verb.section("motion", "background, objects, their motion and the mask that follows them")
    add("--background", choices=BACKGROUNDS, default="grey", help="without a video")
    add("--objects", default="shapes", help="shapes, emoji, a folder of images with alpha, or a Hub data set")
    add("--motion", choices=MOTIONS, default="smile", help="parameterisation")
    add("--mask", choices=MASKS, default=MASKS[0], help="kind of trajectory mask")
    add("--clips", type=int, default=4, help="number of clips")
    add("--num_frames", type=int, default=16, help="frames per clip")
    add("--size", type=int, default=224, help="side of the frames in pixels")
    add = verb.section("masks", "kinds of masks, sound, and how many are drawn")
    add("--kinds", nargs="+", help="kinds of video masks; by default all")
    add("--audio", type=Path, help="audio file; by default the video's audio track, or recordings, fetched once")
    add("--audio_kinds", nargs="+", help="kinds of audio masks; by default all")
    add("--audio_mask_ratio", type=float, default=0.8, help="share of masked audio tokens")
    add("--draws", type=int, default=256, help="masks per spectrum")
    add("--bank_size", type=int, default=4, help="noise volumes per kind")
    add = verb.section("skeletons", "recordings of body joints")
    add("--skeletons", nargs="+", type=Path, default=[], help="files of recordings, or folders with one for each frame")
    add("--layout", help="layout of files that do not state it, such as kinect-25")


def run(options: argparse.Namespace) -> int:
    """Draw the pictures.

    Args:
        options: the command line.

    Returns:
        The exit code.
    """
    logging.basicConfig(format="tubelets gallery: %(message)s")
    return {"motion": draw_motion, "masks": draw_masks, "skeletons": draw_skeletons}[options.pictures](options)


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The named flags, without those that were not given and have no default."""
    return {name: value for name in names if (value := vars(options)[name]) is not None}


def draw_motion(options: argparse.Namespace) -> int:
    """Draw motion."""
    from tubelets.visualization.motion_gallery import MotionGallery

    names = ("video", "background", "objects", "motion", "mask", "mask_ratio", "clips", "num_frames", "stride", "size")
    for path, text in MotionGallery(**given(options, *names, "seed")).save(options.output_dir).items():
        print(f"{path}: {text}")
    return 0


def draw_masks(options: argparse.Namespace) -> int:
    """Draw masks."""
    from tubelets.visualization.mask_gallery import MaskGallery

    kinds: dict[str, Any] = {name: tuple(value) for name, value in given(options, "kinds", "audio_kinds").items()}
    numbers = given(options, "mask_ratio", "audio_mask_ratio", "draws", "bank_size", "seed")
    video = None if options.video is None else Path(options.video)
    for path in MaskGallery(**kinds, **numbers).save(options.output_dir, video, options.audio, options.stride):
        print(f"wrote {path}")
    return 0


def draw_skeletons(options: argparse.Namespace) -> int:
    """Draw skeletons."""
    from tubelets.visualization.skeleton_gallery import SkeletonGallery

    for path in SkeletonGallery(options.skeletons, options.layout, seed=options.seed).save(options.output_dir):
        print(f"wrote {path}")
    return 0
