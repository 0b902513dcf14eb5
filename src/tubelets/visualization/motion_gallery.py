"""Pictures of synthetic motion: moving objects, their boxes and paths, and the masks that follow them."""

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tubelets.data.assets.objects import ObjectSet, open_objects
from tubelets.data.modalities.video import open_video, read_clip
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize
from tubelets.masking.trajectory import TRAJECTORY_TYPES, TrajectoryMaskGenerator
from tubelets.motion import Motion, MotionSettings, Patches, crop_patches, object_patches, render, sample_motion
from tubelets.motion.captions import caption
from tubelets.visualization import draw_boxes, hide_tokens, save_gif, save_strips

MOTIONS = {
    "smile": MotionSettings.smile,
    "tubelet_contrast": MotionSettings.tubelet_contrast,
    "locomotion": MotionSettings.locomotion,
}
BACKGROUNDS = ("grey", "black", "noise")
PATCH_SIZE, TUBELET_SIZE = 16, 2
PICTURES = 8  # frames of a PNG


@dataclass(frozen=True)
class MotionGallery:
    """What a gallery of motion shows.

    Attributes:
        video: a video file or a source of videos behind the objects; None shows `background`.
        background: `grey`, `black` or `noise`, without a video.
        objects: "shapes", "emoji", a folder or a Hub data set; patches of the clips for Tubelet-Contrast.
        motion: one of `MOTIONS`.
        mask: kind of the trajectory mask.
        mask_ratio: share of masked tokens.
        clips: number of clips.
        num_frames: frames of a clip.
        stride: distance between frames of the video.
        size: side of the frames in pixels.
        seed: seed of all draws.

    Raises:
        ValueError: if a value is not possible.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = MotionGallery(clips=1, num_frames=4, size=32).save(Path(folder))
        >>> [path.name for path in written]
        ['clip_0.gif']
    """

    video: str | None = None
    background: str = "grey"
    objects: str = "shapes"
    motion: str = "smile"
    mask: str = TRAJECTORY_TYPES[0]
    mask_ratio: float = 0.8
    clips: int = 4
    num_frames: int = 16
    stride: int = 4
    size: int = 224
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("background", BACKGROUNDS), ("motion", MOTIONS), ("mask", TRAJECTORY_TYPES)):
            if vars(self)[name] not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {vars(self)[name]!r}")
        if self.clips < 1 or self.num_frames % TUBELET_SIZE or self.size % PATCH_SIZE:
            raise ValueError(
                f"expected at least 1 clip, frames in multiples of {TUBELET_SIZE} and sizes in multiples of "
                f"{PATCH_SIZE}, got {self.clips}, {self.num_frames} and {self.size}"
            )
        if self.motion == "tubelet_contrast" and self.video is None and self.background != "noise":
            raise ValueError(
                f"patches cut from a {self.background} background cannot be seen; give --video or --background noise"
            )

    def save(self, output_dir: Path) -> dict[Path, str]:
        """Draw the pictures.

        Args:
            output_dir: gets for each clip a GIF and a PNG with the clip, the moving objects, their boxes and the
                visible part under a trajectory mask, and `motions.json` with the record and caption of each clip.

        Returns:
            GIF to caption.

        Raises:
            OSError: if the video or the objects do not exist.
            ValueError: if they cannot be read.
        """
        generator = torch.Generator().manual_seed(self.seed)
        frames = self.read_frames(generator)
        size = (self.size, self.size)
        motion = sample_motion(MOTIONS[self.motion](), len(frames), self.num_frames, size, generator)
        objects = None if self.motion == "tubelet_contrast" else open_objects(self.objects)
        patches, names = make_patches(frames, motion, objects, generator)
        moved = render(frames, motion, patches)
        grid = (self.num_frames // TUBELET_SIZE, self.size // PATCH_SIZE, self.size // PATCH_SIZE)
        masks = TrajectoryMaskGenerator(grid, self.mask_ratio, PATCH_SIZE, kind=self.mask)
        mask = masks(motion.boxes, generator=generator)

        records, picks = motion.records(names), torch.linspace(0, self.num_frames - 1, PICTURES).round().long()
        texts = [caption(record) for record in records]
        written = {}
        for number, text in enumerate(texts):
            panels = panels_of(frames[number], moved[number], motion.boxes[number], mask[number], grid)
            save_gif(panels, output_dir / f"clip_{number}.gif")
            strips = {name: panel[picks] for name, panel in panels.items()}
            save_strips(strips, output_dir / f"clip_{number}.png", textwrap.fill(text, 120))
            written[output_dir / f"clip_{number}.gif"] = text
        listed = [{"caption": text, **record.to_dict()} for text, record in zip(texts, records, strict=True)]
        (output_dir / "motions.json").write_text(json.dumps(listed) + "\n", encoding="utf-8")
        return written

    def read_frames(self, generator: torch.Generator) -> Tensor:
        """Background clips, uint8 `(clips, frames, 3, size, size)`."""
        shape = (self.clips, self.num_frames, 3, self.size, self.size)
        if self.video is None:
            if self.background == "noise":
                still = torch.randint(256, (shape[0], 1, *shape[2:]), generator=generator, dtype=torch.uint8)
                return still.expand(shape).contiguous()
            return torch.full(shape, 128 if self.background == "grey" else 0, dtype=torch.uint8)
        transform = Compose((ShortSideResize(self.size), CenterCrop(self.size)))
        path = Path(self.video)
        if path.is_file() and path.suffix not in (".parquet", ".tar"):
            with open_video(path) as reader:
                last = max(0, reader.num_frames - self.num_frames * self.stride)
            starts = [round(last * number / max(1, self.clips - 1)) for number in range(self.clips)]
            clips = [read_clip(path, self.num_frames, self.stride, start) for start in starts]
            return torch.stack([transform(clip, generator) for clip in clips])
        spec = ClipSpec(self.num_frames, self.stride)
        stream = ClipStream(open_source(self.video), spec, transform, seed=self.seed, repeat=True)
        return torch.stack([item["pixel_values"] for item, _ in zip(stream, range(self.clips), strict=False)])


def make_patches(
    frames: Tensor, motion: Motion, objects: ObjectSet | None, generator: torch.Generator
) -> tuple[Patches, list[list[str]]]:
    """Moving patches and their names: objects of a set, or patches cut from the clips.

    Args:
        frames: uint8 `(clips, frames, 3, size, size)`.
        motion: where they move.
        objects: a set of objects; None cuts patches.
        generator: draws objects of the set.

    Returns:
        The patches, and the names for each clip.
    """
    clips, count = motion.source_frames.shape
    if objects is None:
        return crop_patches(frames, motion), [["patch"] * count] * clips
    picks = torch.randint(len(objects), (clips, count), generator=generator).tolist()
    patches = object_patches([[objects.weighted(pick) for pick in row] for row in picks], motion, weighted=True)
    return patches, [[objects.names[pick] for pick in row] for row in picks]


def panels_of(
    frames: Tensor, moved: Tensor, boxes: Tensor, mask: Tensor, grid: tuple[int, int, int]
) -> dict[str, Tensor]:
    """Rows of the figure for one clip."""
    return {
        "clip": frames,
        "with motion": moved,
        "boxes and paths": draw_boxes(moved, boxes),
        "under a trajectory mask": draw_boxes(hide_tokens(moved, mask, grid), boxes, line=1),
    }
