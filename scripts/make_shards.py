"""Turn videos into Parquet shards that stream: a folder of class folders, a list file, or a csv file.

Inputs:
    a folder     one folder for each class, videos anywhere below it
    a text file  a line `path label` for each video; labels are names or numbers
    a .csv file  columns `path` and `label` or `caption` (or both), optionally `id` and `split`

Examples:
    python scripts/make_shards.py videos shards --short-side 256 --keyframe-interval 16 --workers 8
    python scripts/make_shards.py train.csv shards --split train --max-shard-size 500MB
    python scripts/make_shards.py list.txt shards --num-jobs 10 --job-index $SLURM_ARRAY_TASK_ID

Without --short-side, --fps and --keyframe-interval the files are stored as they are. A run that was interrupted is
continued by giving the same command again. A file that cannot be read never stops it; such files are listed at the end
and in `dataset_info.json`.
"""

import argparse
import sys
from pathlib import Path

from tubelets.data.annotations import find_class_names, read_records
from tubelets.data.shards import ShardReport, build_shards
from tubelets.data.transcoding import TranscodeOptions


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="folder of class folders, list file or csv file")
    parser.add_argument("output", help="folder for the shards")
    parser.add_argument("--split", default="train", help="name of the split (default: %(default)s)")
    parser.add_argument("--csv-split", help="only the csv rows whose column `split` has this value")
    parser.add_argument("--root", help="folder that relative paths of a list start from (default: the list's folder)")
    parser.add_argument("--class-names", type=Path, help="file with a class name a line, which fixes their order")
    parser.add_argument("--short-side", type=int, help="scale the shorter side down to this many pixels")
    parser.add_argument("--fps", type=float, help="frames per second, by dropping or repeating frames")
    parser.add_argument("--keyframe-interval", type=int, help="a key frame every so many frames, e.g. 16")
    parser.add_argument("--crf", type=int, default=20, help="x264 quality when re-encoding (default: %(default)s)")
    parser.add_argument("--max-shard-size", default="256MB", help="input bytes of a shard (default: %(default)s)")
    parser.add_argument("--clips-per-shard", type=int, help="videos of a shard, instead of --max-shard-size")
    parser.add_argument("--seed", type=int, default=0, help="seed of the shuffle (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that read and encode (default: %(default)s)")
    parser.add_argument("--num-jobs", type=int, default=1, help="jobs that share the work (default: %(default)s)")
    parser.add_argument("--job-index", type=int, default=0, help="which of them this is, from 0 (default: %(default)s)")
    return parser.parse_args()


def print_report(report: ShardReport, output: str) -> None:
    """Say what was done and which files were left out."""
    print(
        f"{output}: {len(report.written)} shards written, {len(report.skipped)} were there already, "
        f"{report.num_shards} in the plan; {report.num_clips} clips, {report.num_bytes / 1e6:.1f} MB"
    )
    if report.missing:
        print(f"{len(report.missing)} shards are still to be written by other jobs")
    for bad in report.bad_files:
        print(f"left out {bad.clip_id} ({bad.file}): {bad.reason}")


def main() -> int:
    """Build the shards; the exit code is 1 only if no video could be read."""
    arguments = parse_arguments()
    records = read_records(arguments.input, root=arguments.root, split=arguments.csv_split)
    if arguments.class_names is not None:
        class_names = arguments.class_names.read_text(encoding="utf-8").split("\n")
        class_names = [name.strip() for name in class_names if name.strip()]
    else:
        class_names = find_class_names(records)
    report = build_shards(
        records,
        arguments.output,
        split=arguments.split,
        class_names=class_names,
        transcode=TranscodeOptions(arguments.short_side, arguments.fps, arguments.keyframe_interval, arguments.crf),
        max_shard_size=arguments.max_shard_size,
        clips_per_shard=arguments.clips_per_shard,
        seed=arguments.seed,
        num_workers=arguments.workers,
        num_jobs=arguments.num_jobs,
        job_index=arguments.job_index,
    )
    print_report(report, arguments.output)
    return 1 if report.bad_files and not report.num_clips else 0


if __name__ == "__main__":
    sys.exit(main())
