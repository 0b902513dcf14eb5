"""Pack videos or audio files into streamable Parquet shards.

INPUT is one of
  a folder        the first folder level is the class (FOLDER/<class>/.../x.mp4); a flat folder is unlabelled
  a text file     `path label` on each line, split at the last space
  a csv file      with a header: path, label and/or caption, optionally id and split; for multi-label clips
                  the column labels (names separated by `;`) instead of label; for clips with several files a column
                  per medium: video, audio, flow, depth, skeleton (.npy .npz .safetensors)

The files are either all videos or all audio files (.wav .flac .ogg .mp3 .m4a ...); audio goes into a column `audio`.
The script writes `<split>-00000-of-00012.parquet` etc. and `dataset_info.json` to OUTPUT. By default, files are stored
byte for byte. --short-side, --fps and --keyframe-interval re-encode videos as H.264; the audio track is copied if MP4
supports its codec and re-encoded as AAC otherwise, or dropped with --drop-audio. Unreadable files are skipped and
listed at the end; the exit code is 0 unless no clip was readable. Run the same command again to resume a killed run.

Examples:
  python scripts/make_shards.py videos/train shards
  python scripts/make_shards.py videos/train shards --short-side 128 --keyframe-interval 16 --num-workers 8
  python scripts/make_shards.py all.csv shards --split validation --root videos --class-names classes.txt

  # Multi-label audio: clips.csv has the columns path and labels.
  python scripts/make_shards.py clips.csv shards --root sounds --split train --num-workers 8

  # Video with optical flow and skeletons: clips.csv has the columns video, flow, skeleton and label.
  python scripts/make_shards.py clips.csv shards --root ntu --num-workers 8

  # A quarter of the videos of each class.
  python scripts/make_shards.py videos/train quarter --class-fraction 0.25 --fraction-seed 12345

  # Four machines that share a file system; the last one to finish writes dataset_info.json.
  python scripts/make_shards.py videos/train shards --num-jobs 4 --job-index 0    # ... and 1, 2, 3

  # Rewrite dataset_info.json, for example after merging folders of shards.
  python scripts/make_shards.py --finalize shards
"""

import argparse
import csv
import sys
from pathlib import Path

from tubelets.data.build.shards import ShardReport, build_shards
from tubelets.data.build.transcoding import TranscodeOptions
from tubelets.data.sources.annotations import class_fraction, find_class_names, read_records
from tubelets.data.sources.shard_files import finalize_shards


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", metavar="INPUT", nargs="?", help="folder, text file or csv file")
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="output folder of the shards")
    parser.add_argument("--finalize", action="store_true", help="only write dataset_info.json for the shards in OUTPUT")
    group = parser.add_argument_group("input")
    group.add_argument("--root", help="base folder of relative paths in a list (default: the list's folder)")
    group.add_argument(
        "--split", default="train", help="name of the split; selects csv rows if the csv has a split column"
    )
    group.add_argument("--class-names", help="text file with one class name per line; fixes the label order")
    group.add_argument("--class-fraction", type=float, help="keep only this share of the videos of each class")
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


def has_split_column(file: Path) -> bool:
    """Whether `file` is a csv file with a split column; other inputs are one split, named by --split."""
    if file.suffix.lower() != ".csv" or not file.is_file():
        return False
    with file.open(encoding="utf-8-sig", newline="") as stream:
        return "split" in next(csv.reader(stream), [])


def build(options: argparse.Namespace) -> ShardReport:
    """Build the shards."""
    split = options.split if has_split_column(Path(options.input)) else None
    records = read_records(options.input, root=options.root, split=split)
    names = find_class_names(records, options.class_names)
    if options.class_fraction is not None:
        records = class_fraction(records, options.class_fraction, options.fraction_seed)
    return build_shards(
        records,
        options.output,
        split=options.split,
        class_names=names,
        transcode=TranscodeOptions(
            options.short_side, options.fps, options.keyframe_interval, options.crf, keep_audio=not options.drop_audio
        ),
        max_shard_size=options.max_shard_size,
        clips_per_shard=options.clips_per_shard,
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
        report = build(options)
    except (FileNotFoundError, ValueError) as error:
        print(f"make_shards: {error}", file=sys.stderr)
        return 2
    total = len(report.written) + len(report.skipped)
    print(
        f"{report.num_clips} clips in {total} shards, {report.num_bytes / 1e6:.1f} MB in {options.output} "
        f"({len(report.written)} written now, {len(report.skipped)} complete before)"
    )
    for bad in report.bad_files:
        print(f"bad file {bad.clip_id}: {bad.reason}")
    if report.missing:
        print(f"{len(report.missing)} of {report.num_shards} shards are still to be written by other jobs")
    if report.bad_files and report.num_clips == 0:
        print(f"make_shards: none of {len(report.bad_files)} files could be read", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
