r"""Pack videos or audio files into streamable Parquet shards.

INPUT is one of
  a folder        the first folder level is the class (FOLDER/<class>/.../x.mp4); a flat folder is unlabelled
  a text file     `path label` on each line, split at the last space
  a csv file      with a header: path, label and/or caption, optionally id, split and sha256; for multi-label clips
                  the column labels (names separated by `;`) instead of label; for clips with several files a column
                  per medium: video, audio, flow, depth, skeleton (.npy .npz .safetensors); other usual names such as
                  file_name and class are understood, or given with --columns path=NAME label=NAME

The files are either all videos or all audio files (.wav .flac .ogg .mp3 .m4a ...); audio goes into a column `audio`.

All splits are built in one run, with one list of classes. They come from a csv column `split`, or from folders named
train, validation (val, valid, dev) and test that hold the class folders; otherwise from the name of INPUT if that is
one of these. If nothing names a split, labelled clips are divided by --splits, class by class; --group-by keeps the
clips of one source video together. Unlabelled clips become `train`, and --split NAME makes everything one split.

The script writes `<split>-00000-of-00012.parquet` etc. and `dataset_info.json` to OUTPUT. By default, files are stored
byte for byte. --short-side, --fps and --keyframe-interval re-encode videos as H.264; the audio track is copied if MP4
supports its codec and re-encoded as AAC otherwise, or dropped with --drop-audio. Unreadable files are skipped and
listed at the end; the exit code is 0 unless no clip was readable. Run the same command again to resume a killed run.

Examples:
  python scripts/make_shards.py videos shards
  python scripts/make_shards.py videos shards --splits train=0.7 test=0.3 --group-by '(v_\w+)_c[0-9]+'
  python scripts/make_shards.py videos/train shards --short-side 128 --keyframe-interval 16 --num-workers 8
  python scripts/make_shards.py all.csv shards --root videos --class-names classes.txt

  # Only one of the splits of a csv file.
  python scripts/make_shards.py all.csv shards --split validation --class-names classes.txt

  # Multi-label audio: clips.csv has the columns path and labels.
  python scripts/make_shards.py clips.csv shards --root sounds --split train --num-workers 8

  # Video with optical flow and skeletons: clips.csv has the columns video, flow, skeleton and label.
  python scripts/make_shards.py clips.csv shards --root ntu --num-workers 8

  # A quarter of the training videos of each class.
  python scripts/make_shards.py videos/train quarter --class-fraction 0.25 --fraction-seed 12345

  # Four machines that share a file system; the last one to finish writes dataset_info.json.
  python scripts/make_shards.py videos/train shards --num-jobs 4 --job-index 0    # ... and 1, 2, 3

  # Rewrite dataset_info.json, for example after merging folders of shards.
  python scripts/make_shards.py --finalize shards
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tubelets.data.build.shards import ShardReport
from tubelets.data.build.splitting import FRACTIONS, build_splits, draw_splits, find_groups
from tubelets.data.build.transcoding import TranscodeOptions
from tubelets.data.sources.annotations import read_splits
from tubelets.data.sources.records import VideoRecord, class_fraction, find_class_names
from tubelets.data.sources.shard_files import finalize_shards
from tubelets.data.sources.splits import canonical_split, choose_split, split_in_name


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", metavar="INPUT", nargs="?", help="folder, text file or csv file")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="output folder of the shards")
    parser.add_argument("--finalize", action="store_true", help="only write dataset_info.json for the shards in OUTPUT")
    group = parser.add_argument_group("input")
    group.add_argument("--root", help="base folder of relative paths in a list (default: the list's folder)")
    group.add_argument("--columns", nargs="+", type=_pair, default=[], metavar="MEANING=NAME", help="csv columns")
    group.add_argument("--class-names", help="text file with one class name per line; fixes the label order")
    group = parser.add_argument_group("splits")
    group.add_argument("--split", help="build only this split; without splits in INPUT, the name of the only one")
    group.add_argument(
        "--splits",
        nargs="+",
        type=_share,
        default=list(FRACTIONS.items()),
        metavar="NAME=SHARE",
        help="shares of splits that are drawn (default: train=0.8 validation=0.1 test=0.1)",
    )
    group.add_argument("--split-seed", type=int, default=0, help="seed of that draw (default: 0)")
    group.add_argument(
        "--group-by", "--group_by", help="clips of a group share a split: a csv column, or a regular expression for ids"
    )
    group.add_argument("--class-fraction", type=float, help="keep only this share of each class of the training videos")
    group.add_argument(
        "--fraction-seed", type=int, default=12345, help="seed of the class-fraction draw (default: 12345)"
    )
    group = parser.add_argument_group("re-encoding (off by default)")
    group.add_argument("--short-side", type=int, help="downscale larger videos to this shorter side, in pixels")
    group.add_argument("--fps", type=float, help="resample to this frame rate by repeating and dropping frames")
    group.add_argument("--keyframe-interval", type=int, help="frames between key frames; 16 suits 16-frame clips")
    group.add_argument("--crf", type=int, default=20, help="x264 quality when re-encoding, 0-51 (default: 20)")
    group.add_argument("--drop-audio", action="store_true", help="drop the audio track when re-encoding")
    group = parser.add_argument_group("shards")
    group.add_argument("--max-shard-size", default="256MB", help="input bytes per shard (default: 256MB)")
    group.add_argument("--clips-per-shard", type=int, help="maximum clips per shard; replaces --max-shard-size")
    group.add_argument(
        "--readers", type=int, default=8, help="processes times workers that will read; each gets a shard (default: 8)"
    )
    group.add_argument("--seed", type=int, default=0, help="seed of the shuffle before sharding (default: 0)")
    group = parser.add_argument_group("work")
    group.add_argument("--num-workers", type=int, default=1, help="worker processes (default: 1)")
    group.add_argument("--num-jobs", type=int, default=1, help="number of jobs that share the work (default: 1)")
    group.add_argument("--job-index", type=int, default=0, help="index of this job, from 0")
    group.add_argument("--no-progress", action="store_true", help="do not show the progress bar")
    parsed = parser.parse_args(arguments)
    if (parsed.input is None) != parsed.finalize:
        parser.error("--finalize accepts OUTPUT only" if parsed.finalize else "give INPUT and OUTPUT")
    return parsed


def _pair(text: str) -> tuple[str, str]:
    """Parse NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _share(text: str) -> tuple[str, float]:
    """Parse NAME=SHARE."""
    name, value = _pair(text)
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SHARE with a number") from None


def choose_splits(found: dict[str | None, list[VideoRecord]], options: argparse.Namespace) -> dict[str, list]:
    """The samples of each split to build: as the input names them, or drawn."""
    source = Path(options.input)
    if None not in found:
        named = {str(split): records for split, records in found.items()}
        if options.split is None:
            return named
        # The name of the input itself is only a guess, which --split overrules.
        own = list(named) == [source.name if source.is_dir() else split_in_name(source.stem)]
        return {options.split: choose_split(named, None if own else options.split, str(source))}
    records = found[None]
    if options.split is not None or all(record.label is None for record in records):
        return {options.split or "train": records}
    groups = find_groups(records, options.group_by, source, dict(options.columns)) if options.group_by else None
    return draw_splits(records, dict(options.splits), seed=options.split_seed, groups=groups)


def build(options: argparse.Namespace) -> dict[str, ShardReport]:
    """Build the shards."""
    found = read_splits(options.input, root=options.root, columns=dict(options.columns))
    # Classes belong to the data and not to a split, also where only one split is built.
    names = find_class_names((record for records in found.values() for record in records), options.class_names)
    splits = choose_splits(found, options)
    if options.class_fraction is not None:
        splits = {
            split: class_fraction(records, options.class_fraction, options.fraction_seed)
            if canonical_split(split) == "train" or len(splits) == 1
            else records
            for split, records in splits.items()
        }
    return build_splits(
        splits,
        options.output,
        class_names=names,
        transcode=TranscodeOptions(
            options.short_side, options.fps, options.keyframe_interval, options.crf, keep_audio=not options.drop_audio
        ),
        max_shard_size=options.max_shard_size,
        clips_per_shard=options.clips_per_shard,
        num_readers=1 if options.clips_per_shard else options.readers,
        seed=options.seed,
        num_workers=options.num_workers,
        num_jobs=options.num_jobs,
        job_index=options.job_index,
        progress=not options.no_progress,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parse_arguments(arguments)
    try:
        if options.finalize:
            missing = finalize_shards(options.output)
            print(f"{len(missing)} shards are missing{': ' + ', '.join(missing) if missing else ''}")
            return 1 if missing else 0
        reports = build(options)
    except (OSError, ValueError) as error:
        print(f"make_shards: {error}", file=sys.stderr)
        return 2
    for split, report in reports.items():
        total = len(report.written) + len(report.skipped)
        print(
            f"{split}: {report.num_clips} clips in {total} shards, {report.num_bytes / 1e6:.1f} MB in {options.output} "
            f"({len(report.written)} written now, {len(report.skipped)} complete before)"
        )
        if report.missing:
            print(f"{split}: {len(report.missing)} of {report.num_shards} shards are still to be written by other jobs")
    return report_bad_files(list(reports.values()))


def report_bad_files(reports: Sequence[ShardReport]) -> int:
    """Print the files that could not be read; return the exit code."""
    bad_files = [bad for report in reports for bad in report.bad_files]
    for bad in bad_files:
        print(f"bad file {bad.clip_id}: {bad.reason}")
    if bad_files and not any(report.num_clips for report in reports):
        print(f"make_shards: none of {len(bad_files)} files could be read", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
