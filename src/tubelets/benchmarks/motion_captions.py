"""Any videos with objects moving over them, captions of the motion, wrong captions and exact boxes, as shards.

What LocoMotion draws while it trains is written once here, for training of other video-language models. Motions,
objects and captions of a clip depend on (seed, id of the video, number of the clip) alone.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import torch
from datasets import Features, List, Value, Video
from torch import Tensor

from tubelets.data.assets.objects import ObjectSet, open_objects
from tubelets.data.build.shards import BadFile, ShardReport
from tubelets.data.modalities.encoding import encode_video
from tubelets.data.seeds import stable_seed
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.shard_files import ShardWriter, finalize_shards, read_summary
from tubelets.data.sources.source import Source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize
from tubelets.draws import randint
from tubelets.motion import Motion, MotionSettings, object_masks, object_patches, render, sample_motion
from tubelets.motion.captions import CaptionSettings, caption, motion_caption

FEATURES = Features(
    {
        "video": Video(),
        "caption": Value("string"),
        "captions": List(Value("string")),
        "negatives": List(Value("string")),
        "objects": List(Value("string")),
        "boxes": List(List(List(Value("int32")))),
        "motion": Value("string"),
        "clip_id": Value("string"),
        "sha256": Value("string"),
        "num_frames": Value("int32"),
        "fps": Value("float32"),
        "height": Value("int32"),
        "width": Value("int32"),
    }
)
"""Columns: `captions` has the plain sentence first, `boxes` are (x1, y1, x2, y2) by frame and object."""

_TIMELINE_STEPS = 15
_CRF = 12
# Opacity from which a pixel counts as the object's.
_VISIBLE = 128


@dataclass(frozen=True)
class MotionCaptionSettings:
    """How clips are drawn and described.

    Attributes:
        num_frames: frames of a clip, at least 2.
        stride: distance between them, in frames of the video.
        size: side of the square frames in pixels, even and at least 32.
        clips_per_video: clips of each video.
        objects: what is pasted, see `tubelets.data.assets.objects.open_objects`.
        num_objects: pasted objects of a clip, 1 or 2.
        motion: fields of `tubelets.motion.MotionSettings` that differ from LocoMotion's.
        variations: captions with varied verbs, beside the plain one.
        negatives: captions with one wrong descriptor.
        seed: of all draws.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> MotionCaptionSettings(num_frames=31).motions.location_velocity
        6.0
    """

    num_frames: int = 16
    stride: int = 2
    size: int = 224
    clips_per_video: int = 1
    objects: str = "emoji"
    num_objects: int = 1
    motion: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    variations: int = 4
    negatives: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"num_frames": 2, "stride": 1, "size": 32, "clips_per_video": 1, "num_objects": 1}
        for name, low in {**least, "variations": 0, "negatives": 0}.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if self.size % 2 or self.num_objects > 2:
            raise ValueError(f"size must be even and num_objects 1 or 2, got {self.size} and {self.num_objects}")

    @property
    def motions(self) -> MotionSettings:
        """How motions are drawn: over a whole clip, whatever its number of frames, they go as far as over 16."""
        settings = MotionSettings.locomotion(num_objects=self.num_objects, **self.motion)
        factor = _TIMELINE_STEPS / (self.num_frames - 1)
        names = ("location_velocity", "size_velocity", "rotation_velocity")
        return dataclasses.replace(settings, **{name: factor * getattr(settings, name) for name in names})


class MotionCaptioner:
    """Turns clips of a stream into rows: objects pasted, motion described, frames encoded.

    Args:
        settings: how.
        objects: the objects to paste; None opens those that the settings name.

    Example:
        >>> captioner = MotionCaptioner(MotionCaptionSettings(num_frames=4, size=32, objects="shapes", variations=1))
        >>> clip = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
        >>> (row,) = captioner([{"pixel_values": clip, "clip_id": "a", "clip_index": 0, "seed": 1}])
        >>> row["clip_id"], len(row["boxes"]), len(row["captions"]), len(row["negatives"])
        ('a-0', 4, 2, 4)
    """

    def __init__(self, settings: MotionCaptionSettings, objects: ObjectSet | None = None) -> None:
        self.settings, self._objects = settings, objects

    @property
    def objects(self) -> ObjectSet:
        """The objects to paste."""
        if self._objects is None:
            self._objects = open_objects(self.settings.objects)
        return self._objects

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows of clips.

        Args:
            items: mappings with `pixel_values` uint8 `(frames, 3, size, size)`, `clip_id`, `clip_index` and `seed`.

        Returns:
            A row for each, see `FEATURES`.
        """
        return [self.row(item) for item in items]

    def row(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The row of one clip."""
        clip, seed = item["pixel_values"], int(item["seed"])
        generator = torch.Generator().manual_seed(stable_seed(seed, "motion"))
        settings = self.settings
        picks = randint(len(self.objects), settings.num_objects, generator=generator).tolist()
        images = [self.objects.weighted(pick) for pick in picks]
        ratios = torch.tensor([[image.shape[2] / image.shape[1] for image in images]])
        motion = sample_motion(settings.motions, 1, len(clip), tuple(clip.shape[2:]), generator, ratios)
        patches = object_patches([images], motion, weighted=True)
        names = [self.objects.names[pick] for pick in picks]
        record = motion.records([names], [[self.objects.ids[pick] for pick in picks]])[0]
        data = encode_video(render(clip[None], motion, patches)[0], crf=_CRF)
        varied = CaptionSettings(template_probability=0.0)
        spoken = [
            motion_caption(record, seed=stable_seed(seed, "caption", place), settings=varied)
            for place in range(settings.variations)
        ]
        wrong = [
            motion_caption(record, seed=stable_seed(seed, "negative", place), settings=varied, wrong=True)
            for place in range(settings.negatives)
        ]
        plain = caption(record)
        return {
            "video": {"bytes": data, "path": None},
            "caption": spoken[0] if spoken else plain,
            "captions": list(dict.fromkeys([plain, *spoken])),
            "negatives": wrong,
            "objects": names,
            "boxes": visible_boxes(motion, object_masks(motion, patches)[0]),
            "motion": json.dumps(record.to_dict()),
            "clip_id": f"{item['clip_id']}-{item['clip_index']}",
            "sha256": hashlib.sha256(data).hexdigest(),
            "num_frames": len(clip),
            "fps": 25.0,
            "height": clip.shape[2],
            "width": clip.shape[3],
        }


def visible_boxes(motion: Motion, masks: Tensor) -> list[list[list[int]]]:
    """Boxes around the pixels that show each object, rotation included and cut at the frame.

    Args:
        motion: of one clip; gives the box of an object that no pixel shows.
        masks: uint8 `(objects, frames, height, width)`, see `object_masks`.

    Returns:
        `(x1, y1, x2, y2)` in pixels, by frame and object; x2 and y2 are the first pixels behind it.

    Example:
        >>> settings = MotionSettings.locomotion(rotation_probability=0.0)
        >>> motion = sample_motion(settings, 1, 4, (64, 64), torch.Generator().manual_seed(0))
        >>> white = torch.full((4, 8, 8), 255, dtype=torch.uint8)
        >>> boxes = visible_boxes(motion, object_masks(motion, object_patches([[white]], motion))[0])
        >>> boxes[0][0] == motion.boxes[0, 0, 0].tolist()
        True
    """
    shown = masks >= _VISIBLE
    sides = []
    for dim, length in ((2, masks.shape[3]), (3, masks.shape[2])):
        along = shown.any(dim=dim)
        first = along.int().argmax(dim=-1)
        last = length - along.flip(-1).int().argmax(dim=-1)
        sides.append((first, last))
    (left, right), (top, bottom) = sides
    boxes = torch.stack((left, top, right, bottom), dim=-1)
    limit = torch.tensor([masks.shape[3], masks.shape[2]] * 2)
    nominal = motion.boxes[0].clamp_min(0).minimum(limit)
    found = torch.where(shown.flatten(2).any(dim=-1, keepdim=True), boxes, nominal)
    return found.transpose(0, 1).tolist()


def build_motion_captions(
    source: str | Path | Source,
    output_dir: str | Path,
    settings: MotionCaptionSettings | None = None,
    *,
    objects: ObjectSet | None = None,
    split: str = "train",
    videos_per_shard: int = 256,
    num_workers: int = 0,
) -> ShardReport:
    """Write clips of any videos with moving objects, captions and boxes as Parquet shards.

    Complete shards are kept: run it again to resume. Rows are the same for any number of workers. Videos that cannot be
    read are left out and reported.

    Args:
        source: what `tubelets.data.sources.opening.open_source` opens, or a source.
        output_dir: folder of the shards, created if needed.
        settings: how clips are drawn and described.
        objects: the objects to paste; None opens those that the settings name.
        split: the split to read, and the name of the written one.
        videos_per_shard: videos whose clips are in a shard.
        num_workers: decoding processes; 0 works in this one.

    Returns:
        The report.

    Raises:
        ValueError: if a number is out of range, or the folder has shards of other settings or videos.
        RuntimeError: if no video can be read.
    """
    settings = settings or MotionCaptionSettings()
    if videos_per_shard < 1:
        raise ValueError(f"videos_per_shard must be at least 1, got {videos_per_shard}")
    opened = source if isinstance(source, Source) else open_source(source, split)
    count = opened.num_samples
    if count is None:
        count = sum(1 for index in range(opened.num_shards) for _ in opened.iterate_shard(index))
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    shards = max(1, -(-count // videos_per_shard))
    plan = _plan(settings, opened, count, videos_per_shard, split)
    names = [f"{split}-{place:05d}-of-{shards:05d}.parquet" for place in range(shards)]
    report = ShardReport(num_shards=shards)
    loader = _loader(opened, settings, objects, num_workers)
    state, done = _complete_shards(folder, names, plan, report)
    if state is not None:
        loader.load_state_dict(state)
    rows = _rows(loader) if done < shards else iter(())
    for place in range(done, shards):
        last = place == shards - 1
        wanted = count if last else (place + 1) * videos_per_shard
        _write_shard(folder / names[place], rows, loader, wanted, settings, plan)
        report.written.append(names[place])
        report._add(read_summary(folder / names[place]))
    finalize_shards(folder)
    return report


def _loader(source: Source, settings: MotionCaptionSettings, objects: ObjectSet | None, num_workers: int) -> ClipLoader:
    stream = ClipStream(
        source,
        ClipSpec(settings.num_frames, settings.stride, settings.clips_per_video, "dense"),
        Compose((ShortSideResize(settings.size), CenterCrop(settings.size))),
        seed=settings.seed,
        shuffle_window=0,
        split="samples",
        batch_size=settings.clips_per_video,
    )
    return ClipLoader(stream, num_workers, MotionCaptioner(settings, objects))  # type: ignore[arg-type]


def _plan(
    settings: MotionCaptionSettings, source: Source, count: int, videos_per_shard: int, split: str
) -> dict[str, Any]:
    """What decides the rows; shards of one folder agree in it."""
    options = {**asdict(settings), "motion": dict(settings.motion), "videos_per_shard": videos_per_shard}
    content = {"split": split, "options": options, "videos": count, "shards": source.shard_names}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    versions = {name: importlib.metadata.version(name) for name in ("tubelets", "datasets")}
    return {"plan": digest, "options": options, "class_names": None, "versions": {**versions, "av": av.__version__}}


def _complete_shards(
    folder: Path, names: Sequence[str], plan: Mapping[str, Any], report: ShardReport
) -> tuple[dict[str, Any] | None, int]:
    """The state of the stream behind the first shards that are complete, and their number."""
    state: dict[str, Any] | None = None
    for place, name in enumerate(names):
        path = folder / name
        if not path.exists():
            return state, place
        summary = read_summary(path)
        if summary.content["plan"] != plan["plan"]:
            old = summary.content["options"]
            changed = [
                f"{key}={old.get(key)!r} (now {value!r})"
                for key, value in plan["options"].items()
                if old.get(key) != value
            ]
            raise ValueError(
                f"{path} is of other settings or videos: {', '.join(changed) or 'other videos'}; choose an empty "
                "folder, or delete the old shards"
            )
        state = summary.content["stream"]
        report.skipped.append(name)
        report._add(summary)
    return state, len(names)


def _rows(loader: ClipLoader) -> Iterator[list[dict[str, Any]]]:
    """The rows of each video."""
    yield from loader  # type: ignore[misc]


def _write_shard(
    path: Path,
    rows: Iterator[list[dict[str, Any]]],
    loader: ClipLoader,
    wanted: int,
    settings: MotionCaptionSettings,
    plan: Mapping[str, Any],
) -> None:
    """Write a shard: the videos up to number `wanted` of the source, those that were skipped included."""
    skipped = loader.num_skipped
    with ShardWriter(path, FEATURES) as writer:
        while _videos_seen(loader) < wanted:
            batch = next(rows, None)
            if batch is None:
                break
            for row in batch:
                writer.add(row)
        bad = [BadFile(each["clip_id"], each["clip_id"], each["reason"]) for each in loader.bad_samples]
        new = loader.num_skipped - skipped
        content = {**plan, "stream": loader.state_dict(), "bad_files": [asdict(each) for each in bad[len(bad) - new :]]}
        writer.finish(content)


def _videos_seen(loader: ClipLoader) -> int:
    return loader.state_dict()["batches_delivered"] + loader.num_skipped
