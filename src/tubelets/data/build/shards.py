"""Build Parquet shards in parallel, resumable, with the same rows for any number of workers."""

import functools
import hashlib
import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Features, List
from tqdm import tqdm

from tubelets.data.build.plan import FACTS, ShardPlan
from tubelets.data.build.skeleton_sets import recording_bytes
from tubelets.data.build.transcoding import TranscodeOptions, prepare_video
from tubelets.data.modalities.audio import check_audio
from tubelets.data.modalities.modality import BadMediumError, Modality
from tubelets.data.sources.records import VideoRecord, printable
from tubelets.data.sources.shard_files import ShardSummary, ShardWriter, finalize_shards, read_summary, shard_files

# Limit of a cell in a Parquet binary column.
MAX_VIDEO_BYTES = 2**31 - 1


@dataclass(frozen=True)
class BadFile:
    """A sample that could not be written to a shard.

    Attributes:
        clip_id: Its id in the input.
        file: Name of the corrupt file.
        reason: Error message.
    """

    clip_id: str
    file: str
    reason: str


@dataclass
class ShardReport:
    """Result of `build_shards`.

    Attributes:
        num_shards: Shards of the whole plan.
        written: Names of the shards written by this call.
        skipped: Names of this job's shards that were already complete.
        num_clips: Clips in the shards of this job.
        num_bytes: Size in bytes of the shards of this job.
        bad_files: Skipped samples of this job's shards, with reasons.
        missing: Names of shards that other jobs have yet to write.
    """

    num_shards: int
    written: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    num_clips: int = 0
    num_bytes: int = 0
    bad_files: list[BadFile] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def _add(self, summary: ShardSummary) -> None:
        """Count a complete shard."""
        self.num_clips += summary.num_rows
        self.num_bytes += summary.num_bytes
        self.bad_files += [BadFile(**entry) for entry in summary.content["bad_files"]]


def build_shards(
    records: Sequence[VideoRecord],
    output_dir: str | Path,
    *,
    split: str = "train",
    class_names: Sequence[str] | None = None,
    transcode: TranscodeOptions | None = None,
    max_shard_size: int | str = "256MB",
    clips_per_shard: int | None = None,
    seed: int = 0,
    num_readers: int = 1,
    num_workers: int = 1,
    num_jobs: int = 1,
    job_index: int = 0,
    progress: bool = True,
) -> ShardReport:
    """Write samples into Parquet shards that `datasets.load_dataset("parquet", ...)` reads with their types.

    Each medium has a column with its name. The checksum of the main medium is in `sha256`, that of any other medium
    NAME in `NAME_sha256`.

    A shard gets its final name only when it is complete. To resume a killed run, run it again: complete shards of the
    same plan are kept. Samples with unreadable files are skipped and reported, and never stop the run. When all shards
    of the plan exist, `dataset_info.json` is written.

    Args:
        records: The samples, all with the same media, see `tubelets.data.sources.annotations.read_records`.
        output_dir: Folder of the shards, created if needed. It may hold several splits, with one plan per split.
        split: See `ShardPlan.make`, also for the next five arguments.
        class_names: Class names in label order; required for labelled records.
        transcode: How videos are re-encoded, by default not at all.
        max_shard_size: Bytes of input video per shard.
        clips_per_shard: Clips per shard; replaces `max_shard_size`.
        seed: Seed of the shuffle.
        num_readers: Processes times DataLoader workers that will read the split, each from shards of its own.
        num_workers: Processes that read and encode videos; 1 uses this process.
        num_jobs: Number of jobs that share the plan.
        job_index: Index of this job, which writes shard i if i % num_jobs == job_index.
        progress: Show a progress bar of clips.

    Returns:
        Report of written, kept and skipped shards and files.

    Raises:
        ValueError: The folder has shards of this split with other options, videos or class names; or an argument is
            out of range.
    """
    _check_jobs(num_workers, num_jobs, job_index)
    plan = ShardPlan.make(
        records,
        split=split,
        class_names=class_names,
        transcode=transcode,
        max_shard_size=max_shard_size,
        clips_per_shard=clips_per_shard,
        seed=seed,
        num_readers=num_readers,
    )
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    complete = _check_folder(folder, plan)
    report = ShardReport(num_shards=len(plan.shards))
    mine = range(job_index, len(plan.shards), num_jobs)
    for name in (plan.file_name(index) for index in mine):
        if name in complete:
            report.skipped.append(name)
            report._add(complete[name])
    todo = [index for index in mine if plan.file_name(index) not in complete]
    _write_shards(plan, todo, folder, num_workers, progress, report)
    report.missing = [name for i in range(len(plan.shards)) if not (folder / (name := plan.file_name(i))).exists()]
    if not report.missing:
        finalize_shards(folder)
    return report


def is_complete(output_dir: str | Path, plan: ShardPlan) -> bool:
    """Whether a folder has all shards of a plan, and no other shards of its split.

    Builders of synthetic data check this before they render clips.

    Args:
        output_dir: Folder of the shards; need not exist.
        plan: The plan.

    Raises:
        ValueError: A file is corrupt or was not written by the shard builder.
    """
    folder = Path(output_dir)
    names = shard_files(folder).get(plan.split, []) if folder.is_dir() else []
    wanted = [plan.file_name(index) for index in range(len(plan.shards))]
    return names == wanted and all(read_summary(folder / name).content["plan"] == plan.hash for name in names)


def _check_jobs(num_workers: int, num_jobs: int, job_index: int) -> None:
    """Reject invalid numbers of processes and jobs."""
    if num_workers < 1 or num_jobs < 1 or not 0 <= job_index < num_jobs:
        raise ValueError(
            f"num_workers={num_workers} and num_jobs={num_jobs} must be at least 1 and "
            f"job_index={job_index} between 0 and num_jobs - 1"
        )


def _check_folder(folder: Path, plan: ShardPlan) -> dict[str, ShardSummary]:
    """Return the complete shards of the plan by name; reject shards of another plan."""
    complete: dict[str, ShardSummary] = {}
    for split, names in shard_files(folder).items():
        for name in names:
            found = read_summary(folder / name)
            if split == plan.split and found.content["plan"] != plan.hash:
                old, new = found.content["options"], plan.options
                changes = [f"{key}={old.get(key)!r} (now {new[key]!r})" for key in new if old.get(key) != new[key]]
                raise ValueError(
                    f"{folder} contains shard {name} of another plan: "
                    f"{', '.join(changes) or 'other videos, labels or captions'}; "
                    "choose an empty folder, or delete the old shards"
                )
            old_names, new_names = found.content["class_names"], plan.class_names
            if old_names is not None and new_names is not None and tuple(old_names) != new_names:
                raise ValueError(
                    f"{folder} contains shard {name} with other class names; splits in one folder must share labels: "
                    "build all splits in one run, or give the same class names for all"
                )
            if split == plan.split:
                complete[name] = found
    return complete


def _write_shards(
    plan: ShardPlan,
    indices: Sequence[int],
    folder: Path,
    num_workers: int,
    progress: bool,
    report: ShardReport,
) -> None:
    """Write the shards with the given indices, one at a time."""
    tasks = [record for index in indices for record in plan.shards[index]]
    prepare = functools.partial(_prepare_row, transcode=plan.transcode, media=plan.media)
    with (
        closing(_ordered_map(prepare, tasks, num_workers)) as rows,
        tqdm(total=len(tasks), unit="clip", disable=not progress) as bar,
    ):
        for index in indices:
            bad: list[dict[str, str]] = []
            path = folder / plan.file_name(index)
            with ShardWriter(path, plan.features) as writer:
                for record, row in zip(plan.shards[index], rows, strict=False):
                    if isinstance(row, BadFile):
                        bad.append(asdict(row))
                    else:
                        _add_annotations(row, record, plan.features)
                        writer.add(row)
                    bar.update()
                writer.finish({**plan.summary(), "bad_files": bad})
            report.written.append(path.name)
            report._add(read_summary(path))


def _add_annotations(row: dict[str, Any], record: VideoRecord, features: Features) -> None:
    """Add label, caption and id to a row."""
    row["clip_id"] = record.clip_id
    if "label" in features:
        numbers = [_class_label(features).str2int(name) for name in record.label_names]
        row["label"] = numbers[0] if isinstance(record.label, str) else numbers
    if "caption" in features:
        row["caption"] = record.caption
    if "captions" in features:
        row["captions"] = list(record.captions)


def _class_label(features: Features) -> ClassLabel:
    """The `ClassLabel` feature of the class names."""
    label = features["label"]
    return label.feature if isinstance(label, List) else label


def _prepare_row(
    record: VideoRecord, transcode: TranscodeOptions, media: Mapping[str, Modality]
) -> dict[str, Any] | BadFile:
    """Read and verify or encode the media of one sample, in a worker process."""
    row: dict[str, Any] = {}
    # Worker processes may lack registered modalities, so the task carries them.
    paths = [record.path, *(path for _, path in record.others)]
    stated = dict(record.checksums)
    for (name, modality), path in zip(media.items(), paths, strict=True):
        try:
            data = recording_bytes(path)
            _check_checksum(data, stated.get(name))
            stored = _video(data, path, transcode) if modality.name == "video" else _other(data, path, modality)
            size = len(stored["bytes"])
            if size > MAX_VIDEO_BYTES:
                raise BadMediumError(f"{size} bytes exceed the limit of a Parquet cell (2 GiB); cut the file")
        except (BadMediumError, OSError) as error:
            # An OSError's message contains a local path, which does not belong in a data set.
            reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
            return BadFile(record.clip_id, printable(path.name), reason)
        row[name] = {"bytes": stored["bytes"], "path": stored["path"]}
        checksum = hashlib.sha256(stored["bytes"]).hexdigest()
        if path is record.path:
            row["sha256"] = checksum
            row |= {fact: stored[fact] for fact in FACTS.get(modality.name, {})}
        else:
            row[f"{name}_sha256"] = checksum
    return row


def _check_checksum(data: bytes, stated: str | None) -> None:
    """Reject a file with other bytes than the user listed."""
    found = None if stated is None else hashlib.sha256(data).hexdigest()
    if found != stated:
        raise BadMediumError(f"sha256 of the file is {str(found)[:12]}..., expected {str(stated)[:12]}...")


def _video(data: bytes, path: Path, transcode: TranscodeOptions) -> dict[str, Any]:
    """The cell of a video and its metadata."""
    video = prepare_video(data, transcode, printable(path.name))
    name = printable(path.with_suffix(".mp4").name if transcode.reencodes else path.name)
    facts = {"num_frames": video.num_frames, "fps": video.fps, "height": video.height, "width": video.width}
    return {"bytes": video.data, "path": name, **facts}


def _other(data: bytes, path: Path, modality: Modality) -> dict[str, Any]:
    """The cell of a medium other than video, and its metadata."""
    name = printable(path.name)
    facts = asdict(check_audio(data, name)) if modality.name == "audio" else {}
    if not facts:
        modality.check(data, name)
        data, name = modality.stored(data, name)
    return {"bytes": data, "path": name, **facts}


def _ordered_map(
    function: Callable[[VideoRecord], dict[str, Any] | BadFile], tasks: Iterable[VideoRecord], num_workers: int
) -> Generator[dict[str, Any] | BadFile, None, None]:
    """Map over tasks in a pool of processes, in order and with bounded prefetching."""
    if num_workers == 1:
        yield from map(function, tasks)
        return
    # Forked processes would inherit the locks of Arrow's and FFmpeg's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        pending: deque[Future[dict[str, Any] | BadFile]] = deque()
        waiting = iter(tasks)
        try:
            for task in itertools.islice(waiting, 2 * num_workers):
                pending.append(pool.submit(function, task))
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(function, task) for task in itertools.islice(waiting, 1))
                yield result
        finally:
            for future in pending:
                future.cancel()
