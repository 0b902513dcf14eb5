"""CameraMotion-8: real footage seen through a moving window, labelled by the window's motion.

A stretch of a video is seen through a square window that stays still, pans, tilts, zooms or rotates. The frames are
real, the label is exact, and no single frame reveals it: a classifier must use motion. All videos of one place are in
the same split.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from tubelets.benchmarks.skipped import warn_of_skipped, with_reasons
from tubelets.data.assets.fetching import fetch
from tubelets.data.assets.table import FOOTAGE
from tubelets.data.build.plan import ShardPlan
from tubelets.data.build.shards import ShardReport, build_shards, is_complete
from tubelets.data.modalities.video import BadVideoError, encode_video, open_video
from tubelets.data.seeds import stable_seed
from tubelets.data.sources.records import VideoRecord
from tubelets.data.transforms.spatial import ShortSideResize

CAMERA_MOTIONS: dict[str, str] = {
    "still": "The camera stands still.",
    "pan left": "The camera pans to the left.",
    "pan right": "The camera pans to the right.",
    "tilt up": "The camera tilts upwards.",
    "tilt down": "The camera tilts downwards.",
    "zoom in": "The camera zooms in.",
    "zoom out": "The camera zooms out.",
    "rotate": "The camera rotates.",
}
"""The classes, in the order of their labels, and the caption of each."""

# All videos of a scene are in one split; these four scenes are the test split.
_TEST_FOOTAGE = frozenset({"talking", "animation", "bird", "exercise"})

_SHORT_SIDE, _WINDOW = 160, 112
_SHIFT = (14.0, 32.0)  # pixels of the scaled video over the whole clip
_ZOOM = (1.25, 1.6)  # ratio of the window's sides at both ends of the clip
_TURN = (15.0, 35.0)  # degrees over the whole clip
# Mean absolute difference of neighbouring frames, in grey levels, above which they belong to different shots.
_CUT = 40.0
_CRF = 12  # the encoder's default of 23 blurs motion of one pixel per frame at 64 pixels
_CLIPS_PER_SHARD = 256


@dataclass(frozen=True)
class SourceVideo:
    """A video that clips are cut from.

    Attributes:
        name: a unique name; it becomes part of the clip ids.
        path: the file.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class CameraPath:
    """Position of the window in each frame of a clip, in pixels of the video scaled to a short side of 160.

    Attributes:
        motion: a key of `CAMERA_MOTIONS`.
        centers: `(T, 2)` column and row of the window's centre.
        sides: `(T,)` length of its sides.
        angles: `(T,)` its angle in degrees.
    """

    motion: str
    centers: Tensor
    sides: Tensor
    angles: Tensor


def sample_camera_path(motion: str, num_frames: int, height: int, width: int, generator: torch.Generator) -> CameraPath:
    """Draw the path of a window with the given motion; the window never leaves the frame.

    Pans and tilts cover 14-32 pixels, zooms change the window's side by a factor of 1.25-1.6, rotations turn it by
    15-35 degrees to either side, each at constant speed over the clip. The window is 112 pixels wide, for zooms at
    most.

    Args:
        motion: a key of `CAMERA_MOTIONS`.
        num_frames: frames of the clip, at least 2.
        height: rows of the scaled video, at least 160.
        width: its columns, at least 160.
        generator: random draws.

    Returns:
        The path.

    Raises:
        ValueError: if the motion is unknown, or the video or clip too small.

    Example:
        >>> path = sample_camera_path("pan right", 8, 160, 200, torch.Generator().manual_seed(0))
        >>> bool((path.centers[1:, 0] > path.centers[:-1, 0]).all()), path.sides.unique().tolist()
        (True, [112.0])
    """
    if motion not in CAMERA_MOTIONS:
        raise ValueError(f"motion must be one of {', '.join(CAMERA_MOTIONS)}, got {motion!r}")
    if num_frames < 2 or min(height, width) < _SHORT_SIDE:
        raise ValueError(
            f"a path needs at least 2 frames of at least {_SHORT_SIDE} x {_SHORT_SIDE} pixels, got {num_frames} frames "
            f"of {height} x {width}"
        )

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    time = torch.linspace(0.0, 1.0, num_frames)
    sides, angles = torch.full((num_frames,), float(_WINDOW)), torch.zeros(num_frames)
    shift = torch.zeros(2)
    if motion.startswith(("pan", "tilt")):
        axis = 0 if motion.startswith("pan") else 1
        shift[axis] = uniform(*_SHIFT) * (1.0 if motion in ("pan right", "tilt down") else -1.0)
    elif motion.startswith("zoom"):
        small = _WINDOW / uniform(*_ZOOM)
        sides = small * (_WINDOW / small) ** (time if motion == "zoom out" else 1.0 - time)
    elif motion == "rotate":
        turn = uniform(*_TURN) * (1.0 if uniform(0.0, 1.0) < 0.5 else -1.0)
        angles = turn * (time - uniform(0.0, 1.0))
    # The circle around a turned window must stay inside; half the side is enough for an upright one.
    radians = torch.deg2rad(angles.abs())
    reach = (sides / 2 * (radians.cos() + radians.sin())).max().item()
    start = []
    for axis, length in enumerate((width, height)):
        travel = shift[axis].item()
        start.append(uniform(reach - min(travel, 0.0), length - reach - max(travel, 0.0)))
    return CameraPath(motion, torch.tensor(start) + time[:, None] * shift, sides, angles)


def render_path(frames: Tensor, path: CameraPath, size: int) -> Tensor:
    """Render frames as seen through a moving window.

    Each output pixel is the mean of 2 x 2 bilinear samples, which keeps the reduction from 112 to 64 pixels free of
    aliasing, which would be a false motion cue.

    Args:
        frames: uint8 `(T, 3, H, W)`, one for each position of the path.
        path: the window's path.
        size: side of the result in pixels.

    Returns:
        uint8 `(T, 3, size, size)`.

    Example:
        >>> path = sample_camera_path("still", 4, 160, 160, torch.Generator())
        >>> render_path(torch.full((4, 3, 160, 160), 9, dtype=torch.uint8), path, 32).unique()
        tensor([9], dtype=torch.uint8)
    """
    height, width = frames.shape[-2:]
    unit = (torch.arange(2 * size) + 0.5) / (2 * size) - 0.5
    rows, columns = torch.meshgrid(unit, unit, indexing="ij")
    radians = torch.deg2rad(path.angles)[:, None, None]
    sides = path.sides[:, None, None]
    x = path.centers[:, 0, None, None] + sides * (radians.cos() * columns - radians.sin() * rows)
    y = path.centers[:, 1, None, None] + sides * (radians.sin() * columns + radians.cos() * rows)
    grid = torch.stack((2 * x / width - 1, 2 * y / height - 1), dim=-1)
    sampled = F.grid_sample(frames.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(sampled, 2).round_().clamp_(0, 255).to(torch.uint8)


def footage_sources(split: str) -> list[SourceVideo]:
    """Return the package's footage for a split, and fetch it if it is not in the cache.

    Args:
        split: "train" (street, city, Earth and a laboratory seen by eight cameras) or "test" (a talking man, an
            animation, a bird, a man exercising).

    Returns:
        The videos.

    Raises:
        ValueError: if the split is unknown.
        AssetError: if the footage cannot be fetched.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    chosen = [clip for clip in FOOTAGE if (clip.label in _TEST_FOOTAGE) == (split == "test")]
    fetch(sorted({clip.asset for clip in chosen}), progress=False)
    return [SourceVideo(clip.label, clip.local_path()) for clip in chosen]


def build_camera_motion(
    output_dir: str | Path,
    sources: Mapping[str, Sequence[SourceVideo]] | None = None,
    *,
    num_clips: Mapping[str, int] | None = None,
    num_frames: int = 8,
    stride: int = 2,
    size: int = 64,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, ShardReport]:
    """Write CameraMotion-8 as Parquet shards with labels and captions.

    Classes and source videos are equally frequent. Clip i of a split depends only on (seed, split, i). Complete
    splits are kept. A source that cannot be read is skipped with a warning; its clips are `bad_files` of the report.

    Args:
        output_dir: folder of the shards, created if needed.
        sources: the videos of each split; by default the package's own footage, see `footage_sources`.
        num_clips: clips of each split; by default 4096 for training and 1024 for testing.
        num_frames: frames of a clip.
        stride: distance between them in frames of the source.
        size: side of the square frames in pixels, even.
        seed: seed of all draws.
        progress: show a progress bar.

    Returns:
        Reports by split.

    Raises:
        ValueError: if splits share a video, a split is missing or empty, or a video is shorter than a clip.
        BadVideoError: if no source of a split can be read.
    """
    num_clips = {"train": 4096, "test": 1024} if num_clips is None else num_clips
    if sources is None:
        sources = {split: footage_sources(split) for split in num_clips}
    _check_sources(sources, num_clips)
    draw = _ClipDraw(num_frames, stride, size, seed)
    return {
        split: _build_split(Path(output_dir), split, list(sources[split]), count, draw, progress)
        for split, count in num_clips.items()
    }


@dataclass(frozen=True)
class _ClipDraw:
    """How clips of a source are drawn; the arguments of `build_camera_motion`."""

    num_frames: int
    stride: int
    size: int
    seed: int

    @property
    def span(self) -> int:
        return (self.num_frames - 1) * self.stride + 1

    def clip_id(self, video: SourceVideo, index: int) -> str:
        """Encodes all settings of the clip, so that other settings give another shard plan."""
        return f"{video.name}-{index:06d}-seed{self.seed}-{self.num_frames}x{self.stride}-{self.size}px"

    def render(self, frames: Tensor, starts: Sequence[int], motion: str, split: str, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(stable_seed(self.seed, split, index))
        start = starts[int(torch.randint(len(starts), (), generator=generator))]
        path = sample_camera_path(motion, self.num_frames, frames.shape[-2], frames.shape[-1], generator)
        return render_path(frames[start : start + self.span : self.stride], path, self.size)


def _check_sources(sources: Mapping[str, Sequence[SourceVideo]], num_clips: Mapping[str, int]) -> None:
    for split, count in num_clips.items():
        if count < 1 or not sources.get(split):
            raise ValueError(f"split {split!r} needs at least one clip and one source video, got {count} clips")
    paths = Counter(video.path.resolve() for videos in sources.values() for video in videos)
    if shared := [str(path) for path, times in paths.items() if times > 1]:
        raise ValueError(f"source videos must be in one split only, once; these are not: {', '.join(sorted(shared))}")


def _build_split(
    folder: Path, split: str, videos: Sequence[SourceVideo], count: int, draw: _ClipDraw, progress: bool
) -> ShardReport:
    """Render the clips of a split into a scratch folder and pack them."""
    motions = list(CAMERA_MOTIONS)
    # Clips cycle through the classes, then through the videos, so that both are balanced.
    labels = [motions[index % len(motions)] for index in range(count)]
    owners = [index // len(motions) % len(videos) for index in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{split}-clips-") as scratch:
        names = [draw.clip_id(videos[owner], index) for index, owner in enumerate(owners)]
        records = [
            VideoRecord(Path(scratch) / f"{name}.mp4", label=label, caption=CAMERA_MOTIONS[label], clip_id=name)
            for name, label in zip(names, labels, strict=True)
        ]
        plan = ShardPlan.make(
            records, split=split, class_names=motions, clips_per_shard=_CLIPS_PER_SHARD, seed=draw.seed
        )
        unreadable: dict[str, str] = {}
        if not is_complete(folder, plan):
            with tqdm(total=count, desc=f"CameraMotion-8 {split}", unit="clip", disable=not progress) as bar:
                for number, video in enumerate(videos):
                    mine = [index for index in range(count) if owners[index] == number]
                    try:
                        frames, starts = read_footage(video, draw.span, _SHORT_SIDE) if mine else (torch.empty(0), [])
                    except BadVideoError as error:
                        unreadable[video.name], mine = str(error), []
                    for index in mine:
                        clip = draw.render(frames, starts, labels[index], split, index)
                        records[index].path.write_bytes(encode_video(clip, crf=_CRF))
                        bar.update()
            warn_of_skipped(unreadable, min(len(videos), max(owners) + 1), f"source videos of {split!r}")
        report = build_shards(
            records,
            folder,
            split=split,
            class_names=motions,
            clips_per_shard=_CLIPS_PER_SHARD,
            seed=draw.seed,
            progress=False,
        )
        reasons = {name: unreadable.get(videos[owner].name, "") for name, owner in zip(names, owners, strict=True)}
        return with_reasons(report, {name: reason for name, reason in reasons.items() if reason})


def read_footage(video: SourceVideo, span: int, short_side: int) -> tuple[Tensor, list[int]]:
    """Read all frames of a video, scaled, and the possible starts of stretches within one shot.

    Args:
        video: the video.
        span: frames of a stretch.
        short_side: pixels of the shorter side.

    Returns:
        uint8 `(F, 3, H, W)`, and the indices of frames that start `span` frames without a cut.

    Raises:
        ValueError: if every stretch has a cut.
        BadVideoError: if the video cannot be read.
    """
    resize = ShortSideResize(short_side)
    with open_video(video.path) as reader:
        # Scale a few frames at a time: a minute of full HD would not fit into memory.
        firsts = range(0, reader.num_frames, 32)
        parts = [resize(reader.get_frames(range(first, min(first + 32, reader.num_frames)))) for first in firsts]
    frames = torch.cat(parts)
    small = F.adaptive_avg_pool2d(frames.float(), 20)
    cuts = (small[1:] - small[:-1]).abs().mean(dim=(1, 2, 3)) > _CUT
    shots = torch.cat((torch.zeros(1), cuts.float().cumsum(0))).int().tolist()
    starts = [start for start in range(len(frames) - span + 1) if shots[start] == shots[start + span - 1]]
    if not starts:
        raise ValueError(f"{video.path}: no {span} frames without a cut; choose a longer video or a smaller stride")
    return frames, starts
