"""Show synthetic motion: moving objects, their boxes and paths, and the masks that follow them.

For each clip it writes a GIF and a PNG with the clip, the moving objects, their boxes and the visible part under a
trajectory mask. `motions.json` holds the motion record and caption of each clip.

Examples:
  python scripts/visualize_motion.py --out runs/motion
  python scripts/visualize_motion.py --frames street.mp4 --objects emoji --seed 3 --out runs/motion
  python scripts/visualize_motion.py --frames data/k400_shards --motion tubelet_contrast --out runs/tubelets
"""

import argparse
import json
import textwrap
from collections.abc import Sequence
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


def read_frames(options: argparse.Namespace, generator: torch.Generator) -> Tensor:
    """Background clips, uint8 `(clips, frames, 3, size, size)`."""
    shape = (options.clips, options.num_frames, 3, options.size, options.size)
    if options.frames == "none":
        if options.background == "noise":
            still = torch.randint(256, (shape[0], 1, *shape[2:]), generator=generator, dtype=torch.uint8)
            return still.expand(shape).contiguous()
        return torch.full(shape, 128 if options.background == "grey" else 0, dtype=torch.uint8)
    transform = Compose((ShortSideResize(options.size), CenterCrop(options.size)))
    path = Path(options.frames)
    if path.is_file() and path.suffix not in (".parquet", ".tar"):
        with open_video(path) as reader:
            last = max(0, reader.num_frames - options.num_frames * options.stride)
        starts = [round(last * number / max(1, options.clips - 1)) for number in range(options.clips)]
        clips = [read_clip(path, options.num_frames, options.stride, start) for start in starts]
        return torch.stack([transform(clip, generator) for clip in clips])
    spec = ClipSpec(options.num_frames, options.stride)
    stream = ClipStream(open_source(options.frames), spec, transform, seed=options.seed, repeat=True)
    return torch.stack([item["pixel_values"] for item, _ in zip(stream, range(options.clips), strict=False)])


def make_patches(
    frames: Tensor, motion: Motion, objects: ObjectSet | None, generator: torch.Generator
) -> tuple[Patches, list[list[str]]]:
    """Moving patches and their names: objects of a set, or patches cut from the clips."""
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


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read and check the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--frames", default="none", help="a video file, a folder of shards, or 'none' (default)")
    parser.add_argument(
        "--background", choices=BACKGROUNDS, default="grey", help="background without --frames (default: grey)"
    )
    parser.add_argument("--objects", default="shapes", help="'shapes' (default), 'emoji', a folder or a Hub data set")
    parser.add_argument(
        "--motion", choices=tuple(MOTIONS), default="smile", help="motion parameterisation (default: smile)"
    )
    parser.add_argument("--mask", choices=TRAJECTORY_TYPES, default=TRAJECTORY_TYPES[0], help="kind of mask")
    parser.add_argument("--mask-ratio", type=float, default=0.8, help="share of masked tokens (default: 0.8)")
    parser.add_argument("--clips", type=int, default=4, help="number of clips (default: 4)")
    parser.add_argument("--num-frames", type=int, default=16, help="frames per clip (default: 16)")
    parser.add_argument("--stride", type=int, default=4, help="frame stride in the video (default: 4)")
    parser.add_argument("--size", type=int, default=224, help="side of the frames in pixels (default: 224)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws (default: 0)")
    options = parser.parse_args(arguments)
    if options.clips < 1 or options.num_frames % TUBELET_SIZE or options.size % PATCH_SIZE:
        parser.error(
            f"expected at least 1 clip, frames in multiples of {TUBELET_SIZE} and sizes in multiples of "
            f"{PATCH_SIZE}, got {options.clips}, {options.num_frames} and {options.size}"
        )
    if options.motion == "tubelet_contrast" and options.frames == "none" and options.background != "noise":
        parser.error(
            f"patches cut from a {options.background} background cannot be seen; give --frames or --background noise"
        )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse(arguments)
    generator = torch.Generator().manual_seed(options.seed)
    frames = read_frames(options, generator)
    settings = MOTIONS[options.motion]()
    size = (options.size, options.size)
    motion = sample_motion(settings, len(frames), options.num_frames, size, generator)
    objects = None if options.motion == "tubelet_contrast" else open_objects(options.objects)
    patches, names = make_patches(frames, motion, objects, generator)
    moved = render(frames, motion, patches)
    grid = (options.num_frames // TUBELET_SIZE, options.size // PATCH_SIZE, options.size // PATCH_SIZE)
    masks = TrajectoryMaskGenerator(grid, options.mask_ratio, PATCH_SIZE, kind=options.mask)
    mask = masks(motion.boxes, generator=generator)

    records, picks = motion.records(names), torch.linspace(0, options.num_frames - 1, PICTURES).round().long()
    texts = [caption(record) for record in records]
    for number, text in enumerate(texts):
        panels = panels_of(frames[number], moved[number], motion.boxes[number], mask[number], grid)
        save_gif(panels, options.out / f"clip_{number}.gif")
        strips = {name: panel[picks] for name, panel in panels.items()}
        save_strips(strips, options.out / f"clip_{number}.png", textwrap.fill(text, 120))
        print(f"{options.out / f'clip_{number}.gif'}: {text}")
    listed = [{"caption": text, **record.to_dict()} for text, record in zip(texts, records, strict=True)]
    (options.out / "motions.json").write_text(json.dumps(listed) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
