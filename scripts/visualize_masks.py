"""Draw every kind of mask for video: over real frames, with its spectrum and its correlation over time.

OUTPUT gets `masks.png` (what is left of a clip under each mask) and `statistics.png` (a mask, the mean spectrum of
many, and how alike their time steps are). The clip is read from a video file; without one the package's own footage is
used.

Examples:
  python scripts/visualize_masks.py runs/masks
  python scripts/visualize_masks.py runs/masks --video clip.mp4 --kinds tube green3d --mask-ratio 0.75
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from tubelets.data.assets import FOOTAGE, AssetError, fetch
from tubelets.data.decoding import BadVideoError, read_clip
from tubelets.data.transforms import CenterCrop, Compose, ShortSideResize
from tubelets.masking import MASK_TYPES, VIDEO_NOISE, build_mask_generator
from tubelets.visualization.figures import save_masks
from tubelets.visualization.masks import save_mask_statistics

NUM_FRAMES, SIZE, PATCH = 16, 224, 16
GRID = (NUM_FRAMES // 2, SIZE // PATCH, SIZE // PATCH)


def read_frames(video: Path | None, stride: int) -> torch.Tensor:
    """A clip of the video, or of the package's footage: uint8 `(16, 3, 224, 224)`."""
    if video is None:
        fetch([FOOTAGE[0].asset])
        video = FOOTAGE[0].local_path()
    crop = Compose((ShortSideResize(SIZE), CenterCrop(SIZE)))
    return crop(read_clip(video, NUM_FRAMES, stride), torch.Generator())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of the pictures")
    parser.add_argument("--video", type=Path, help="video file (default: footage of the package, fetched once)")
    parser.add_argument("--stride", type=int, default=4, help="distance between frames (default: 4)")
    parser.add_argument("--kinds", nargs="+", choices=MASK_TYPES, default=list(MASK_TYPES))
    parser.add_argument("--mask-ratio", type=float, default=0.9)
    parser.add_argument("--draws", type=int, default=256, help="masks behind each spectrum (default: 256)")
    parser.add_argument("--bank-size", type=int, default=4, help="volumes of noise of each kind (default: 4)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        frames = read_frames(options.video, options.stride)
        drawn = {}
        for kind in options.kinds:
            bank = {"bank_size": options.bank_size} if kind in VIDEO_NOISE else {}
            generator = build_mask_generator(kind, GRID, options.mask_ratio, **bank)
            drawn[kind] = generator(options.draws, generator=torch.Generator().manual_seed(options.seed))
    except (AssetError, BadVideoError, ValueError) as error:
        print(f"visualize_masks: {error}", file=sys.stderr)
        return 2
    title = f"{options.mask_ratio:.0%} masked"
    first = {kind: masks[0] for kind, masks in drawn.items()}
    volumes = {kind: masks.view(-1, *GRID) for kind, masks in drawn.items()}
    for path in (
        save_masks(frames, first, GRID, options.output / "masks.png", title),
        save_mask_statistics(volumes, options.output / "statistics.png", title),
    ):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
