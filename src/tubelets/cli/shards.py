r"""Pack videos, audio files or skeletons into Parquet shards, which training reads in order and from anywhere.

INPUT is a folder of class folders, a text file of `path label` lines, or a csv file (`--help input`). All splits are
built in one run with one list of classes; a csv column `split`, or folders named train, validation and test name them.
Otherwise they are drawn class by class (`--help splits`). Files are stored byte for byte unless flags of
`--help encoding` are given. Unreadable files are skipped and listed. Run the same command again to resume a killed run.

  tubelets shards videos --output_dir shards
  tubelets shards videos --output_dir shards --splits train=0.7 test=0.3 --group_by '(v_\w+)_c[0-9]+'
  tubelets shards videos --output_dir shards --short_side 128 --keyframe_interval 16 --num_workers 8
  tubelets shards all.csv --output_dir shards --root videos --class_names classes.txt
  tubelets shards nturgb+d_skeletons --output_dir shards --kind skeletons --protocol ntu60_xview   # --help skeletons
  tubelets shards annotations --dataset msrvtt --root videos --output_dir shards
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tubelets.cli.parser import Verb

if TYPE_CHECKING:
    from tubelets.data.build.shards import ShardReport

INPUT = """
INPUT is one of
  a folder     the first folder level is the class (FOLDER/<class>/.../x.mp4); a flat folder is unlabelled
  a text file  `path label` on each line, split at the last space
  a csv file   with a header: path, label and/or caption, optionally id, split and sha256; for multi-label clips the
               column labels (names separated by `;`) instead of label; for clips with several files a column per
               medium: video, audio, flow, depth, skeleton (.npy .npz .safetensors); other usual names such as
               file_name and class are understood, or given with --columns path=NAME label=NAME
The files are either all videos or all audio files (.wav .flac .ogg .mp3 .m4a ...); audio goes into a column `audio`.

  tubelets shards sounds.csv --output_dir shards --root sounds --split train    # multi-label audio: path and labels
  tubelets shards clips.csv --output_dir shards --root ntu                      # columns video, flow, skeleton, label

With --dataset, INPUT is a folder with the annotation files of a known data set of videos with captions, as its authors
or the retrieval literature publish them, and --root is the folder of its videos. Videos that are missing are counted.
"""
SKELETONS = """
With --kind skeletons INPUT is a folder: class folders, or folders of splits that hold them, of recordings: arrays
(.npy .npz .safetensors with bodies x frames x joints x coordinates), .skeleton of NTU RGB+D, .bvh, .json of OpenPose,
COCO or MediaPipe, and folders with one OpenPose file for each frame. A protocol fixes splits and classes: with ntu60_*
and ntu120_* INPUT holds the .skeleton files at any depth, with pku_* the folders skeleton and label and the split files
of PKU-MMD, whose actions are cut out of the videos first, into OUTPUT_DIR_clips.

  tubelets shards nturgb+d_skeletons --output_dir shards --kind skeletons --protocol ntu60_xsub
  tubelets shards PKUMMD1 --output_dir shards --kind skeletons --protocol pku_xsub
  tubelets shards poses --output_dir shards --kind skeletons                    # poses/<class>/<recording>.json
"""
SPLITS = """
Splits come from a csv column `split`, or from folders named train, validation (val, valid, dev) and test that hold the
class folders; otherwise from the name of INPUT if that is one of these. If nothing names a split, labelled clips are
divided by --splits, class by class; --group_by keeps the clips of one source video together. Unlabelled clips become
`train`, and --split NAME makes everything one split.

  tubelets shards all.csv --output_dir shards --split validation --class_names classes.txt
  tubelets shards videos/train --output_dir quarter --class_fraction 0.25       # a quarter of each class
"""
ENCODING = """
Videos become H.264; the audio track is copied if MP4 supports its codec and re-encoded as AAC otherwise, or dropped
with --drop_audio.
"""
WORK = """
Several machines that share a file system divide the work; the last one to finish writes dataset_info.json.

  tubelets shards videos --output_dir shards --num_jobs 4 --job_index 0    # ... and 1, 2, 3
  tubelets shards --finalize --output_dir shards                           # after merging folders of shards
"""


def add_arguments(verb: Verb) -> None:
    """Declare the command line."""
    verb.add("input", metavar="INPUT", nargs="?", help="folder, text file or csv file")
    verb.add("--output_dir", type=Path, required=True, help="folder of the shards")
    verb.add("--finalize", action="store_true", help="without INPUT: only write dataset_info.json for the shards there")
    add = verb.section("input", "lists of files, csv columns, order of the classes", INPUT)
    add("--root", help="base folder of relative paths in a list; by default the list's folder")
    known = ["ssv2_template", "ssv2_label", "msrvtt", "msrvtt_7k", "didemo", "activitynet"]
    add(
        "--dataset",
        choices=known,
        help="read the annotation files of this data set; where they are is said if not found",
    )
    add("--columns", nargs="+", type=pair, default=[], metavar="MEANING=NAME", help="csv columns")
    add("--class_names", help="text file with one class name per line; fixes the label order")
    add = verb.section("skeletons", "recordings of body joints", SKELETONS)
    add("--kind", choices=("files", "skeletons"), default="files", help="skeletons: INPUT is a folder of recordings")
    protocols = "ntu60_xsub, ntu60_xview, ntu120_xsub, ntu120_xsetup, pku_xsub or pku_xview"
    add("--protocol", help=f"splits and classes of a data set: {protocols}")
    add = verb.section("splits", "which splits are built or drawn, and how much of them", SPLITS)
    add("--split", help="build only this split; without splits in INPUT, the name of the only one")
    shares = "shares of splits that are drawn; by default train=0.8 validation=0.1 test=0.1"
    add("--splits", nargs="+", type=share, default=[], metavar="NAME=SHARE", help=shares)
    add("--split_seed", type=int, default=0, help="seed of that draw")
    add("--group_by", help="clips of a group share a split: a csv column, or a regular expression for ids")
    add("--class_fraction", type=float, help="keep only this share of each class of the training videos")
    add("--fraction_seed", type=int, default=12345, help="seed of the class_fraction draw")
    add = verb.section("encoding", "smaller videos; off by default", ENCODING)
    add("--short_side", type=int, help="downscale larger videos to this shorter side, in pixels")
    add("--fps", type=float, help="resample to this frame rate by repeating and dropping frames")
    add("--keyframe_interval", type=int, help="frames between key frames; 16 suits 16-frame clips")
    add("--crf", type=int, default=20, help="x264 quality when re-encoding, 0-51")
    add("--drop_audio", action="store_true", help="drop the audio track when re-encoding")
    add = verb.section("size", "size, number and order of the shards")
    add("--max_shard_size", default="256MB", help="input bytes per shard")
    add("--clips_per_shard", type=int, help="maximum clips per shard; replaces --max_shard_size")
    add("--readers", type=int, default=8, help="processes times workers that will read; each gets a shard")
    add("--seed", type=int, default=0, help="seed of the shuffle before sharding")
    add = verb.section("work", "worker processes, several machines, progress bar", WORK)
    add("--num_workers", type=int, default=1, help="worker processes")
    add("--num_jobs", type=int, default=1, help="number of jobs that share the work")
    add("--job_index", type=int, default=0, help="index of this job, from 0")
    add("--no_progress", action="store_true", help="do not show the progress bar")


def pair(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def share(text: str) -> tuple[str, float]:
    """Parse NAME=SHARE."""
    name, value = pair(text)
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SHARE with a number") from None


def run(options: argparse.Namespace) -> int:
    """Build the shards.

    Args:
        options: the command line.

    Returns:
        The exit code: 1 if no file was readable, or with `--finalize` if shards are missing.
    """
    if (options.input is None) != options.finalize:
        raise ValueError("--finalize takes no INPUT" if options.finalize else "give INPUT, a folder or a list of files")
    if options.finalize:
        from tubelets.data.sources.shard_files import finalize_shards

        missing = finalize_shards(options.output_dir)
        print(f"{len(missing)} shards are missing{': ' + ', '.join(missing) if missing else ''}")
        return 1 if missing else 0
    reports = build(options)
    for split, report in reports.items():
        total = len(report.written) + len(report.skipped)
        print(
            f"{split}: {report.num_clips} clips in {total} shards, {report.num_bytes / 1e6:.1f} MB in "
            f"{options.output_dir} ({len(report.written)} written now, {len(report.skipped)} complete before)"
        )
        if report.missing:
            print(f"{split}: {len(report.missing)} of {report.num_shards} shards are still to be written by other jobs")
    return report_bad_files(list(reports.values()))


def build(options: argparse.Namespace) -> "dict[str, ShardReport]":
    """Build the shards that the command line describes."""
    from tubelets.data.build.data_sets import SplitChoice, build_data_set
    from tubelets.data.build.splitting import FRACTIONS
    from tubelets.data.build.transcoding import TranscodeOptions

    encoding = (options.short_side, options.fps, options.keyframe_interval, options.crf)
    return build_data_set(
        options.input,
        options.output_dir,
        root=options.root,
        columns=dict(options.columns),
        class_names=options.class_names,
        caption_set=options.dataset,
        choice=SplitChoice(
            options.split,
            dict(options.splits) or FRACTIONS,
            options.split_seed,
            options.group_by,
            options.class_fraction,
            options.fraction_seed,
        ),
        kind=options.kind,
        protocol=options.protocol,
        transcode=TranscodeOptions(*encoding, keep_audio=not options.drop_audio),
        max_shard_size=options.max_shard_size,
        clips_per_shard=options.clips_per_shard,
        num_readers=1 if options.clips_per_shard else options.readers,
        seed=options.seed,
        num_workers=options.num_workers,
        num_jobs=options.num_jobs,
        job_index=options.job_index,
        progress=not options.no_progress,
    )


def report_bad_files(reports: "Sequence[ShardReport]") -> int:
    """Print the files that could not be read; return the exit code."""
    bad_files = [bad for report in reports for bad in report.bad_files]
    for bad in bad_files:
        print(f"bad file {bad.clip_id}: {bad.reason}")
    if bad_files and not any(report.num_clips for report in reports):
        print(f"tubelets shards: none of {len(bad_files)} files could be read", file=sys.stderr)
        return 1
    return 0
