"""Time the motion engine against frame-by-frame pasting with Pillow.

Two settings: SMILE's (two objects on one clip of 16 frames of 224 x 224 pixels) and Tubelet-Contrast's (the same two
patches on two clips of 112 x 112). Ours draws motions, prepares patches and pastes them for a whole batch, in place;
the Pillow version resizes, rotates and pastes each object of the same motions in each frame. Rounds alternate, so that
load on the machine affects both equally; times are medians in milliseconds per clip.

Examples:
  python scripts/benchmark_motion.py
  python scripts/benchmark_motion.py --objects emoji --batch-size 32 --json motion.json
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tubelets.data.assets.objects import ObjectSet, ShapeObjects, open_objects
from tubelets.motion import (
    Motion,
    MotionSettings,
    Patches,
    crop_patches,
    object_patches,
    render,
    sample_motion,
)
from tubelets.motion.geometry import paste_order, place

NUM_FRAMES = 16


def draw_objects(objects: ObjectSet, motion: Motion, generator: torch.Generator) -> list[list[Tensor]]:
    """Draw a premultiplied object for every patch of a motion."""
    clips, count = motion.source_frames.shape
    picks = torch.randint(len(objects), (clips, count), generator=generator).tolist()
    return [[objects.weighted(pick) for pick in row] for row in picks]


def paste_with_pillow(frames: Tensor, motion: Motion, patches: Sequence[Sequence[Image.Image]]) -> Tensor:
    """Paste objects as usual: in a loop over clips, frames and objects.

    Args:
        frames: uint8 `(B, T, 3, H, W)`.
        motion: the motions.
        patches: RGBA images of each clip.

    Returns:
        Uint8 `(B, T, H, W, 3)`.
    """
    boxes, angles, order = motion.boxes.tolist(), motion.angles.tolist(), paste_order(motion.boxes).tolist()
    origins = place(
        motion.boxes, motion.angles, motion.shears, motion.frame_size, motion.shift_clipped
    ).origins.tolist()
    result = []
    for clip, images in enumerate(frames.permute(0, 1, 3, 4, 2).contiguous().numpy()):
        for frame, pixels in enumerate(images):
            image = Image.fromarray(pixels)
            for index in order[clip]:
                x1, y1, x2, y2 = boxes[clip][index][frame]
                patch = patches[clip][index].resize((x2 - x1, y2 - y1))
                patch = patch.rotate(-angles[clip][index][frame], Image.Resampling.BILINEAR, expand=True)
                image.paste(patch, tuple(origins[clip][index][frame]), patch)
            result.append(np.asarray(image))
    return torch.from_numpy(np.stack(result)).view(*frames.shape[:2], *frames.shape[3:], 3)


def pillow_patches(patches: Patches) -> list[list[Image.Image]]:
    """The same patches as images."""
    images = []
    for clip in range(len(patches.tops)):
        row = [patches.image(clip, index).clone() for index in range(patches.tops.shape[1])]
        for image in row:
            image[3] *= 255
        images.append([Image.fromarray(image.round().byte().permute(1, 2, 0).contiguous().numpy()) for image in row])
    return images


def timed(function: Callable[[], object], clips: int) -> float:
    """Run a function and return its time in milliseconds per clip."""
    start = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - start) / clips


def smile_round(objects: ObjectSet, clips: int, seed: int) -> dict[str, Callable[[], object]]:
    """Time the parts of pasting two objects into each clip of 224 x 224 pixels."""
    settings, generator = MotionSettings.smile(), torch.Generator().manual_seed(seed)
    frames = torch.randint(256, (clips, NUM_FRAMES, 3, 224, 224), generator=generator, dtype=torch.uint8)
    motion = sample_motion(settings, clips, NUM_FRAMES, (224, 224), generator)
    images = draw_objects(objects, motion, generator)
    patches = object_patches(images, motion, weighted=True)
    pasted, same = frames.clone(), pillow_patches(patches)
    return {
        "draw": lambda: sample_motion(settings, clips, NUM_FRAMES, (224, 224), generator),
        "patches": lambda: object_patches(images, motion, weighted=True),
        "paste": lambda: render(pasted, motion, patches, inplace=True),
        "pillow paste": lambda: paste_with_pillow(frames, motion, same),
    }


def tubelet_round(clips: int, seed: int) -> dict[str, Callable[[], object]]:
    """Time the parts of pasting two patches of the first clip into both clips of a pair, 112 x 112 pixels."""
    settings, generator = MotionSettings.tubelet_contrast(), torch.Generator().manual_seed(seed)
    shape = (2, clips, NUM_FRAMES, 3, 112, 112)
    pair = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    motion = sample_motion(settings, clips, NUM_FRAMES, (112, 112), generator)
    patches = crop_patches(pair[0], motion)
    pasted, same = pair.clone(), pillow_patches(patches)
    return {
        "draw": lambda: sample_motion(settings, clips, NUM_FRAMES, (112, 112), generator),
        "patches": lambda: crop_patches(pair[0], motion),
        "paste": lambda: [render(frames, motion, patches, inplace=True) for frames in pasted],
        "pillow paste": lambda: [paste_with_pillow(frames, motion, same) for frames in pair],
    }


def measure(make: Callable[[int], dict[str, Callable[[], object]]], clips: int, rounds: int) -> dict[str, float]:
    """Time the parts of several rounds.

    Args:
        make: function from the round number to the timed parts.
        clips: clips per round.
        rounds: timed rounds, after one warm-up.

    Returns:
        Medians in milliseconds per clip, our total, and the ratio of the pasting times.
    """
    times: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, part in make(number).items():
            elapsed = timed(part, clips)
            if number:
                times.setdefault(name, []).append(elapsed)
    return summarise(times)


def summarise(times: dict[str, list[float]]) -> dict[str, float]:
    """Medians, our total and the ratio of the pasting times."""
    result = {name: statistics.median(values) for name, values in times.items()}
    totals = zip(times["draw"], times["patches"], times["paste"], strict=True)
    result["all of ours"] = statistics.median(map(sum, totals))
    ratios = [slow / fast for slow, fast in zip(times["pillow paste"], times["paste"], strict=True)]
    result["ratio"], result["ratio low"], result["ratio high"] = statistics.median(ratios), min(ratios), max(ratios)
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", help="'emoji', a folder of images with alpha or a Hub data set (default: shapes)")
    parser.add_argument("--batch-size", type=int, default=16, help="clips per batch (default: 16)")
    parser.add_argument("--rounds", type=int, default=9, help="timed batches of each method (default: 9)")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads (default: 1)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    objects = ShapeObjects(size=256) if options.objects is None else open_objects(options.objects)
    clips, rounds = options.batch_size, options.rounds
    results = {
        "SMILE, 16 x 224 x 224": measure(lambda seed: smile_round(objects, clips, seed), clips, rounds),
        "Tubelet-Contrast, 2 x 16 x 112 x 112": measure(lambda seed: tubelet_round(clips, seed), clips, rounds),
    }
    for name, numbers in results.items():
        parts = ", ".join(f"{part} {value:.2f}" for part, value in numbers.items() if not part.startswith("ratio"))
        print(f"{name} (ms a clip): {parts}")
        print(f"  Pillow: {numbers['ratio']:.1f} x as long ({numbers['ratio low']:.1f}-{numbers['ratio high']:.1f})")
    if options.json is not None:
        settings = {"batch_size": clips, "threads": options.threads, "rounds": rounds}
        options.json.write_text(json.dumps({**settings, "results": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
