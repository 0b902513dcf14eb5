"""Draw every kind of mask over real frames and a real spectrogram, with its spectrum and temporal correlation.

Writes `masks.png` (the visible part of a clip under each mask), `statistics.png` (a mask, the mean spectrum
of many, and their temporal correlation), `sound_masks.png` and `sound_statistics.png` to OUTPUT.
By default it uses the package's footage and recordings; with a video, also the video's audio track.

Examples:
  python scripts/visualize_masks.py runs/masks
  python scripts/visualize_masks.py runs/masks --video clip.mp4 --kinds tube green3d --mask-ratio 0.75
  python scripts/visualize_masks.py runs/masks --audio song.ogg --audio-kinds random regularized_blue
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tubelets import StructuredNoiseAudioConfig
from tubelets.benchmarks.game_sounds import game_sound_sources
from tubelets.data.assets.fetching import AssetError, fetch
from tubelets.data.assets.table import FOOTAGE
from tubelets.data.modalities.audio import HOP_SECONDS, BadAudioError, decode_audio
from tubelets.data.modalities.video import BadVideoError, read_clip
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize
from tubelets.masking import MASK_TYPES, VIDEO_NOISE, MaskGenerator, build_mask_generator
from tubelets.models.backbones.audio_vit.filterbanks import spectrogram
from tubelets.visualization.figures import save_masks
from tubelets.visualization.masks import save_mask_statistics, save_sound_mask_statistics, save_sound_masks

NUM_FRAMES, SIZE, PATCH = 16, 224, 16
GRID = (NUM_FRAMES // 2, SIZE // PATCH, SIZE // PATCH)
SAMPLING_RATE = 16000
SOUND_KINDS = ("random", "red2d", "blue2d", "green2d", "regularized_blue")
# Spectrogram frames of 10 ms: lengths of the audio models for long recordings and for single words.
LONGEST, SHORTEST = 1024, 128


def read_frames(video: Path | None, stride: int) -> torch.Tensor:
    """A clip of the video, or of the package's footage: uint8 `(16, 3, 224, 224)`."""
    if video is None:
        fetch([FOOTAGE[0].asset])
        video = FOOTAGE[0].local_path()
    crop = Compose((ShortSideResize(SIZE), CenterCrop(SIZE)))
    return crop(read_clip(video, NUM_FRAMES, stride), torch.Generator())


def read_sound(audio: Path | None, video: Path | None) -> torch.Tensor | None:
    """Read an audio file, the video's audio track, or the package's recordings, concatenated.

    Returns:
        float32 `(samples,)` at 16 kHz; None, with a message on stderr, if a video's audio track cannot be read.
    """
    if audio is not None:
        return decode_audio(audio, SAMPLING_RATE)
    if video is None:
        families = {source.family: source.path for source in game_sound_sources("train")}
        return torch.cat([decode_audio(path, SAMPLING_RATE) for path in families.values()])
    try:
        return decode_audio(video, SAMPLING_RATE)
    except BadAudioError as error:
        print(f"visualize_masks: skipped audio masks: {error}; give an audio file with --audio", file=sys.stderr)
        return None


def draw_video(frames: torch.Tensor, options: argparse.Namespace) -> list[Path]:
    """Write the figures of video masks."""
    generators = {}
    for kind in options.kinds:
        bank = {"bank_size": options.bank_size} if kind in VIDEO_NOISE else {}
        generators[kind] = build_mask_generator(kind, GRID, options.mask_ratio, **bank)
    drawn = draw(generators, options)
    title = f"{options.mask_ratio:.0%} masked"
    first = {kind: masks[0] for kind, masks in drawn.items()}
    volumes = {kind: masks.view(-1, *GRID) for kind, masks in drawn.items()}
    return [
        save_masks(frames, first, GRID, options.output / "masks.png", title),
        save_mask_statistics(volumes, options.output / "statistics.png", title),
    ]


def draw_sound(waveform: torch.Tensor, options: argparse.Namespace) -> list[Path]:
    """Write the figures of audio masks, at the length of the audio models."""
    hops, patch = int(len(waveform) / SAMPLING_RATE / HOP_SECONDS), StructuredNoiseAudioConfig().patch_size
    sizes: dict[str, Any] = {
        "sampling_rate": SAMPLING_RATE,
        "max_length": min(max(hops // patch * patch, SHORTEST), LONGEST),
        "mask_ratio": options.audio_mask_ratio,
        "decoder_type": "plain",  # works on grids of any length
    }
    generators: dict[str, MaskGenerator] = {}
    for kind in options.audio_kinds:
        # A regularised-blue bank holds masks; other banks hold volumes from which many masks are cropped.
        size = options.draws if kind == "regularized_blue" else options.bank_size
        bank = None if kind == "random" else {"bank_size": size}
        config = StructuredNoiseAudioConfig(mask_type=kind, mask_options=bank, **sizes)
        generators[kind] = config.build_mask_generator()
    drawn = draw(generators, options)
    title = f"{options.audio_mask_ratio:.0%} masked"
    maps = {kind: masks.view(-1, *config.audio_grid) for kind, masks in drawn.items()}
    return [
        save_sound_masks(spectrogram(waveform, config), maps, options.output / "sound_masks.png", title),
        save_sound_mask_statistics(maps, options.output / "sound_statistics.png", title),
    ]


def draw(generators: dict[str, MaskGenerator], options: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Draw masks of each kind from one seed: bool `(draws, tokens)`."""
    return {
        kind: generator(options.draws, generator=torch.Generator().manual_seed(options.seed))
        for kind, generator in generators.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="output folder")
    parser.add_argument("--video", type=Path, help="video file (default: the package's footage, fetched once)")
    parser.add_argument(
        "--audio", type=Path, help="audio file (default: the video's audio track, or recordings, fetched once)"
    )
    parser.add_argument("--stride", type=int, default=4, help="distance between frames (default: 4)")
    parser.add_argument("--kinds", nargs="+", choices=MASK_TYPES, default=list(MASK_TYPES), help="of video")
    parser.add_argument("--audio-kinds", nargs="+", choices=SOUND_KINDS, default=list(SOUND_KINDS), help="of sound")
    parser.add_argument("--mask-ratio", type=float, default=0.9, help="mask ratio of video (default: 0.9)")
    parser.add_argument("--audio-mask-ratio", type=float, default=0.8, help="mask ratio of audio (default: 0.8)")
    parser.add_argument("--draws", type=int, default=256, help="masks per spectrum (default: 256)")
    parser.add_argument("--bank-size", type=int, default=4, help="noise volumes per kind (default: 4)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        written = draw_video(read_frames(options.video, options.stride), options)
        waveform = read_sound(options.audio, options.video)
        if waveform is not None:
            written += draw_sound(waveform, options)
    except (AssetError, BadVideoError, ValueError) as error:
        print(f"visualize_masks: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
