"""MovingObjects: named cut-outs moved over real footage, with labels, captions and exact masks.

The label is the object's motion and the caption describes it with the object's name. A side file stores each clip's
motion record, from which the object's mask in every frame can be rendered. The splits share no videos or objects. All
classes draw the object's position, size and angle in the middle of the clip from the same distributions, so that the
middle frame does not depend on the class; position and size in other frames reveal a little. Chance is one in nine.
"""

import functools
import json
import math
import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from tubelets.benchmarks.camera_motion import SourceVideo, footage_sources, read_footage
from tubelets.benchmarks.skipped import warn_of_skipped, with_reasons
from tubelets.data.assets.objects import TEST_SHARE, ObjectSet, emoji_objects
from tubelets.data.atomic import write_atomically
from tubelets.data.build.plan import ShardPlan
from tubelets.data.build.shards import ShardReport, build_shards, is_complete
from tubelets.data.modalities.video import BadVideoError, encode_video
from tubelets.data.seeds import stable_seed
from tubelets.data.sources.records import VideoRecord
from tubelets.motion import Motion, MotionRecord, object_patches, render
from tubelets.motion.captions import caption
from tubelets.motion.paths import centred_boxes, rounded_boxes, with_area

OBJECT_MOTIONS = (
    "still",
    "left",
    "right",
    "up",
    "down",
    "grow",
    "shrink",
    "turn clockwise",
    "turn anticlockwise",
)
"""The classes, in the order of their labels."""

_TRAVEL = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
# Shares of the frame's side; even in 32-pixel clips objects travel more than a pixel per frame.
_OBJECT_SIDE, _TRAVEL_LENGTH = (0.24, 0.36), (0.22, 0.34)
_GROWTH = (1.7, 2.3)  # factor over the whole clip
_TURN = (60.0, 150.0)  # degrees over the whole clip
# A rotation is visible if a quarter turn changes this share of the visible values.
_TURN_SHOWS = 0.08
_MARGIN = 1.25  # short side of the footage relative to the frame cropped from it
_CRF = 12
_CLIPS_PER_SHARD = 256


def sample_object_motion(
    motion: str, num_frames: int, size: int, generator: torch.Generator, aspect_ratio: float = 1.0
) -> Motion:
    """Draw the motion of one object in a square clip.

    Args:
        motion: a name in `OBJECT_MOTIONS`.
        num_frames: frames of the clip, at least 2.
        size: side of the frames in pixels, at least 32.
        generator: random draws.
        aspect_ratio: width over height of the object.

    Returns:
        A batch of one clip with one object, which moves, grows or turns at constant speed.

    Raises:
        ValueError: if the motion is unknown or a size too small.

    Example:
        >>> motion = sample_object_motion("right", 8, 64, torch.Generator().manual_seed(0))
        >>> bool((motion.boxes[0, 0, 1:, 0] >= motion.boxes[0, 0, :-1, 0]).all())
        True
    """
    if motion not in OBJECT_MOTIONS or num_frames < 2 or size < 32:
        raise ValueError(
            f"motion must be one of {', '.join(OBJECT_MOTIONS)} over at least 2 frames of 32 pixels, got {motion!r} "
            f"over {num_frames} frames of {size} pixels"
        )

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()

    time = torch.linspace(-0.5, 0.5, num_frames, dtype=torch.float64)
    # Draw all parameters for every class, so that unused ones have the same distribution.
    side, travel, growth, turn = uniform(*_OBJECT_SIDE), uniform(*_TRAVEL_LENGTH), uniform(*_GROWTH), uniform(*_TURN)
    tilt, x, y = uniform(-20.0, 20.0), uniform(-1.0, 1.0), uniform(-1.0, 1.0)

    room = max(0.0, 0.5 - side / 2 - travel / 2)
    centres = size * (0.5 + room * torch.tensor([x, y], dtype=torch.float64)).expand(num_frames, 2)
    if motion in _TRAVEL:
        centres = centres + size * travel * time[:, None] * torch.tensor(_TRAVEL[motion], dtype=torch.float64)
    power = {"grow": 1.0, "shrink": -1.0}.get(motion, 0.0)
    sides = size * side * growth ** (power * time)
    shape = torch.tensor([min(aspect_ratio, 1.0), min(1 / aspect_ratio, 1.0)], dtype=torch.float64)
    sense = {"turn clockwise": 1.0, "turn anticlockwise": -1.0}.get(motion, 0.0)
    angles = (tilt + sense * turn * time).round().long()
    boxes = with_area(rounded_boxes(centred_boxes(centres, sides[:, None] * shape)))
    return Motion(
        frame_size=(size, size),
        boxes=boxes[None, None],
        angles=angles[None, None],
        shears=torch.zeros(1, 1, num_frames, 2),
        opacities=torch.ones(1, 1, num_frames),
        source_frames=sides.argmax().view(1, 1),  # the largest size, so that no detail is lost
        alpha_shapes=torch.zeros(1, 1, dtype=torch.int64),
        alpha_edges=torch.zeros(1, 1),
        key_frames=torch.tensor([[0, num_frames - 1]]),
        modes=torch.zeros(1, 1, dtype=torch.int64),
    )


def turning_shows(image: Tensor) -> bool:
    """Whether the rotation of an object is visible, unlike that of a disc or a ball.

    Args:
        image: uint8 RGBA `(4, rows, columns)`.

    Returns:
        True if a quarter turn changes enough visible pixels.

    Example:
        >>> from tubelets.motion.shapes import draw_shapes
        >>> circle, triangle = draw_shapes(["circle", "triangle"], ["red", "red"])
        >>> turning_shows(circle), turning_shows(triangle)
        (False, True)
    """
    side = min(image.shape[1:])
    square = torch.nn.functional.interpolate(image[None].float(), (side, side), mode="area")[0] / 255
    visible = torch.cat((square[:3] * square[3:], square[3:]))
    changed = (visible - visible.rot90(1, (1, 2))).abs().mean()
    return bool(changed / visible.mean().clamp_min(1e-6) > _TURN_SHOWS)


@dataclass(frozen=True)
class _Clips:
    """How the clips of a split are drawn; the arguments of `build_moving_objects`."""

    split: str
    objects: ObjectSet
    num_frames: int
    stride: int
    size: int
    seed: int
    folder: Path

    @property
    def span(self) -> int:
        return (self.num_frames - 1) * self.stride + 1

    @functools.cached_property
    def turning(self) -> list[int]:
        """Objects whose rotation is visible."""
        return [place for place in range(len(self.objects)) if turning_shows(self.objects[place])]

    def generator(self, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(stable_seed(self.seed, "moving objects", self.split, index))

    def name(self, video: SourceVideo, index: int) -> str:
        """Names everything that decides the clip, so that a plan of other clips is another plan."""
        return f"{video.name}-{index:06d}-seed{self.seed}-{self.num_frames}x{self.stride}-{self.size}px"

    def motion(self, index: int) -> tuple[str, int, Motion, torch.Generator]:
        """Class, object and motion of a clip, and the generator for the remaining draws."""
        label = OBJECT_MOTIONS[index % len(OBJECT_MOTIONS)]
        generator = self.generator(index)
        # All classes use objects with visible rotation: otherwise round objects would reveal "still".
        place = self.turning[int(torch.randint(len(self.turning), (), generator=generator))]
        rows, columns = self.objects[place].shape[1:]
        motion = sample_object_motion(label, self.num_frames, self.size, generator, columns / rows)
        return label, place, motion, generator

    def record(self, index: int) -> MotionRecord:
        _, place, motion, _ = self.motion(index)
        return motion.records([[self.objects.names[place]]], [[self.objects.ids[place]]])[0]

    def write(self, frames: Tensor, starts: Sequence[int], index: int, name: str) -> None:
        """Render a clip over footage uint8 `(F, 3, h, w)`, from one of the starts, and encode it."""
        _, place, motion, generator = self.motion(index)

        def draw(stop: int) -> int:
            return int(torch.randint(stop, (), generator=generator))

        start = starts[draw(len(starts))]
        top, left = draw(frames.shape[2] - self.size + 1), draw(frames.shape[3] - self.size + 1)
        window = frames[start : start + self.span : self.stride, :, top : top + self.size, left : left + self.size]
        clip = render(window.contiguous()[None], motion, object_patches([[self.objects[place]]], motion))[0]
        (self.folder / f"{name}.mp4").write_bytes(encode_video(clip, crf=_CRF))


def build_moving_objects(
    output_dir: str | Path,
    sources: Mapping[str, Sequence[SourceVideo]] | None = None,
    objects: Mapping[str, ObjectSet] | ObjectSet | None = None,
    *,
    num_clips: Mapping[str, int] | None = None,
    num_frames: int = 8,
    stride: int = 2,
    size: int = 64,
    seed: int = 0,
    num_workers: int = 1,
    progress: bool = True,
) -> dict[str, ShardReport]:
    """Write MovingObjects as Parquet shards with labels and captions, and a file of motion records for each split.

    Classes and source videos are equally frequent. Clip i of a split depends only on (seed, split, i), not on the
    number of processes. Complete splits are kept. A source that cannot be read is skipped with a warning; its clips are
    `bad_files` of the report.

    Args:
        output_dir: folder of the shards, created if needed.
        sources: the videos of each split; by default the package's own footage.
        objects: the objects of each split, or one set that is divided, a quarter of the names for testing; by default
            the emoji set.
        num_clips: clips of each split; by default 4096 for training and 1024 for testing.
        num_frames: frames of a clip.
        stride: distance between them in frames of the source.
        size: side of the square frames in pixels, even and at least 32.
        seed: seed of all draws.
        num_workers: processes; each works on whole source videos.
        progress: show a progress bar.

    Returns:
        Reports by split.

    Raises:
        ValueError: if splits share a video or an object, one is missing or empty, or a video is shorter than a clip.
        BadVideoError: if no source of a split can be read.
    """
    num_clips = {"train": 4096, "test": 1024} if num_clips is None else num_clips
    if sources is None:
        sources = {split: footage_sources(split) for split in num_clips}
    if not isinstance(objects, Mapping):
        train, test = (emoji_objects() if objects is None else objects).split(TEST_SHARE, seed)
        objects = {split: test if split == "test" else train for split in num_clips}
    _check(sources, objects, num_clips, size, num_workers)
    reports = {}
    for split, count in num_clips.items():
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{split}-clips-") as scratch:
            clips = _Clips(split, objects[split], num_frames, stride, size, seed, Path(scratch))
            reports[split] = _build_split(folder, list(sources[split]), count, clips, num_workers, progress)
    return reports


def _check(
    sources: Mapping[str, Sequence[SourceVideo]],
    objects: Mapping[str, ObjectSet],
    num_clips: Mapping[str, int],
    size: int,
    num_workers: int,
) -> None:
    if size < 32 or size % 2 or num_workers < 1:
        raise ValueError(f"size must be even and at least 32, num_workers at least 1; got {size} and {num_workers}")
    for split, count in num_clips.items():
        if count < 1 or not sources.get(split) or not len(objects.get(split, ())):
            raise ValueError(f"split {split!r} needs at least one clip, one source video and one object")
    paths = Counter(video.path.resolve() for split in num_clips for video in sources[split])
    names = Counter(name for split in num_clips for name in set(objects[split].names))
    shared = [str(path) for path, times in paths.items() if times > 1] + [n for n, times in names.items() if times > 1]
    if shared:
        raise ValueError(f"videos and objects must be in one split only; these are not: {', '.join(sorted(shared))}")


def _build_split(
    folder: Path, videos: Sequence[SourceVideo], count: int, clips: _Clips, num_workers: int, progress: bool
) -> ShardReport:
    if not clips.turning:
        raise ValueError(f"split {clips.split!r} has only round objects, whose rotation is not visible; add others")
    owners = [index // len(OBJECT_MOTIONS) % len(videos) for index in range(count)]
    names = [clips.name(videos[owner], index) for index, owner in enumerate(owners)]
    motions = [clips.record(index) for index in range(count)]
    records = [
        VideoRecord(
            clips.folder / f"{name}.mp4",
            label=OBJECT_MOTIONS[index % len(OBJECT_MOTIONS)],
            caption=caption(motions[index]),
            clip_id=name,
        )
        for index, name in enumerate(names)
    ]
    options: dict[str, Any] = {
        "split": clips.split,
        "class_names": OBJECT_MOTIONS,
        "clips_per_shard": _CLIPS_PER_SHARD,
        "seed": clips.seed,
    }
    unreadable: dict[str, str] = {}
    if not is_complete(folder, ShardPlan.make(records, **options)):
        tasks = [
            (video, [(index, names[index]) for index in range(count) if owners[index] == number])
            for number, video in enumerate(videos)
        ]
        tasks = [task for task in tasks if task[1]]
        with tqdm(total=count, desc=f"MovingObjects {clips.split}", unit="clip", disable=not progress) as bar:
            for done in _run(clips, tasks, num_workers):
                bar.update(done.count)
                if done.reason is not None:
                    unreadable |= dict.fromkeys([name for _, name in done.wanted], done.reason)
        reasons = {video.name: unreadable[wanted[0][1]] for video, wanted in tasks if wanted[0][1] in unreadable}
        warn_of_skipped(reasons, len(tasks), f"source videos of {clips.split!r}")
    report = with_reasons(build_shards(records, folder, progress=False, **options), unreadable)
    missing = {bad.clip_id for bad in report.bad_files}
    kept = {name: motion for name, motion in zip(names, motions, strict=True) if name not in missing}
    _write_records(folder / motion_file(clips.split), kept)
    return report


@dataclass(frozen=True)
class _Done:
    """Clips rendered from one video: their number, and why it cannot be read."""

    wanted: Sequence[tuple[int, str]]
    count: int
    reason: str | None = None


def _run(
    clips: _Clips, tasks: Sequence[tuple[SourceVideo, list[tuple[int, str]]]], num_workers: int
) -> Iterator[_Done]:
    """Render the clips of each video, in processes if there are several."""
    if num_workers == 1:
        yield from (_render_video(clips, video, wanted) for video, wanted in tasks)
        return
    # Forked processes would inherit the locks of FFmpeg's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        futures = [pool.submit(_render_video, clips, video, wanted) for video, wanted in tasks]
        for future in as_completed(futures):
            yield future.result()


def _render_video(clips: _Clips, video: SourceVideo, wanted: Sequence[tuple[int, str]]) -> _Done:
    """Decode a video once and write its clips."""
    try:
        frames, starts = read_footage(video, clips.span, math.ceil(_MARGIN * clips.size))
    except BadVideoError as error:
        return _Done(wanted, 0, str(error))
    for index, name in wanted:
        clips.write(frames, starts, index, name)
    return _Done(wanted, len(wanted))


def motion_file(split: str) -> str:
    """Name of the side file with the motion records of a split, one JSON object per line."""
    return f"{split}-motions.jsonl"


def _write_records(path: Path, records: Mapping[str, MotionRecord]) -> None:
    lines = [json.dumps({"clip_id": name, "motion": record.to_dict()}) + "\n" for name, record in records.items()]
    write_atomically(path, lambda file: file.write_text("".join(lines), encoding="utf-8"))
