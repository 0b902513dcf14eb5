"""Pictures of every kind of mask over real frames and a real spectrogram, with spectrum and temporal correlation."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubelets.benchmarks.game_sounds import game_sound_sources
from tubelets.data.assets.fetching import fetch
from tubelets.data.assets.table import FOOTAGE
from tubelets.data.modalities.audio import HOP_SECONDS, BadAudioError, decode_audio
from tubelets.data.modalities.video import read_clip
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize
from tubelets.masking import MASK_TYPES, VIDEO_NOISE, MaskGenerator, build_mask_generator
from tubelets.models.backbones.audio_vit.filterbanks import spectrogram
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio import StructuredNoiseAudioConfig
from tubelets.visualization.figures import save_masks
from tubelets.visualization.masks import save_mask_statistics, save_sound_mask_statistics, save_sound_masks

logger = logging.getLogger(__name__)

NUM_FRAMES, SIZE, PATCH = 16, 224, 16
GRID = (NUM_FRAMES // 2, SIZE // PATCH, SIZE // PATCH)
SAMPLING_RATE = 16000
SOUND_KINDS = ("random", "red2d", "blue2d", "green2d", "regularized_blue")
# Spectrogram frames of 10 ms: lengths of the audio models for long recordings and for single words.
LONGEST, SHORTEST = 1024, 128


@dataclass(frozen=True)
class MaskGallery:
    """What a gallery of masks shows.

    Attributes:
        kinds: kinds of video masks.
        audio_kinds: kinds of audio masks.
        mask_ratio: share of masked video tokens.
        audio_mask_ratio: share of masked audio tokens.
        draws: masks per spectrum.
        bank_size: noise volumes per kind.
        seed: seed of all draws.

    Raises:
        ValueError: if a kind does not exist.

    Example:
        >>> import tempfile
        >>> frames = torch.zeros(16, 3, 224, 224, dtype=torch.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in MaskGallery(("tube",), draws=2).save_video(frames, Path(folder))]
        ['masks.png', 'statistics.png']
    """

    kinds: tuple[str, ...] = tuple(MASK_TYPES)
    audio_kinds: tuple[str, ...] = SOUND_KINDS
    mask_ratio: float = 0.9
    audio_mask_ratio: float = 0.8
    draws: int = 256
    bank_size: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for given, known in ((self.kinds, MASK_TYPES), (self.audio_kinds, SOUND_KINDS)):
            for kind in given:
                if kind not in known:
                    raise ValueError(f"there is no mask {kind!r}; choose from {', '.join(known)}")

    def save(
        self, output_dir: Path, video: Path | None = None, audio: Path | None = None, stride: int = 4
    ) -> list[Path]:
        """Draw the figures.

        Args:
            output_dir: gets `masks.png` (the visible part of a clip under each mask), `statistics.png` (a mask, the
                mean spectrum of many, and their temporal correlation), `sound_masks.png` and `sound_statistics.png`.
            video: a video; by default the package's footage, fetched once.
            audio: a sound; by default the video's audio track, or the package's recordings, fetched once.
            stride: distance between frames.

        Returns:
            The files.

        Raises:
            tubelets.data.assets.fetching.AssetError: if footage or recordings cannot be fetched.
            ValueError: if a file cannot be read.
        """
        written = self.save_video(read_frames(video, stride), output_dir)
        waveform = read_sound(audio, video)
        return written if waveform is None else written + self.save_sound(waveform, output_dir)

    def save_video(self, frames: Tensor, output_dir: Path) -> list[Path]:
        """Write the figures of video masks over frames, uint8 `(16, 3, 224, 224)`."""
        generators = {}
        for kind in self.kinds:
            bank = {"bank_size": self.bank_size} if kind in VIDEO_NOISE else {}
            generators[kind] = build_mask_generator(kind, GRID, self.mask_ratio, **bank)
        drawn = self._draw(generators)
        title = f"{self.mask_ratio:.0%} masked"
        first = {kind: masks[0] for kind, masks in drawn.items()}
        volumes = {kind: masks.view(-1, *GRID) for kind, masks in drawn.items()}
        return [
            save_masks(frames, first, GRID, output_dir / "masks.png", title),
            save_mask_statistics(volumes, output_dir / "statistics.png", title),
        ]

    def save_sound(self, waveform: Tensor, output_dir: Path) -> list[Path]:
        """Write the figures of audio masks over a sound at 16 kHz, at the length of the audio models."""
        hops, patch = int(len(waveform) / SAMPLING_RATE / HOP_SECONDS), StructuredNoiseAudioConfig().patch_size
        sizes: dict[str, Any] = {
            "sampling_rate": SAMPLING_RATE,
            "max_length": min(max(hops // patch * patch, SHORTEST), LONGEST),
            "mask_ratio": self.audio_mask_ratio,
            "decoder_type": "plain",  # works on grids of any length
        }
        configs: dict[str, Any] = {}
        for kind in self.audio_kinds:
            # A regularised-blue bank holds masks; other banks hold volumes from which many masks are cropped.
            size = self.draws if kind == "regularized_blue" else self.bank_size
            bank = None if kind == "random" else {"bank_size": size}
            configs[kind] = StructuredNoiseAudioConfig(**{"mask_type": kind, "mask_options": bank, **sizes})
        drawn = self._draw({kind: config.build_mask_generator() for kind, config in configs.items()})
        config = next(iter(configs.values()))
        title = f"{self.audio_mask_ratio:.0%} masked"
        maps = {kind: masks.view(-1, *config.audio_grid) for kind, masks in drawn.items()}
        return [
            save_sound_masks(spectrogram(waveform, config), maps, output_dir / "sound_masks.png", title),
            save_sound_mask_statistics(maps, output_dir / "sound_statistics.png", title),
        ]

    def _draw(self, generators: Mapping[str, MaskGenerator]) -> dict[str, Tensor]:
        """Masks of each kind from one seed: bool `(draws, tokens)`."""
        return {
            kind: generator(self.draws, generator=torch.Generator().manual_seed(self.seed))
            for kind, generator in generators.items()
        }


def read_frames(video: Path | None, stride: int) -> Tensor:
    """A clip of the video, or of the package's footage: uint8 `(16, 3, 224, 224)`."""
    if video is None:
        fetch([FOOTAGE[0].asset])
        video = FOOTAGE[0].local_path()
    crop = Compose((ShortSideResize(SIZE), CenterCrop(SIZE)))
    return crop(read_clip(video, NUM_FRAMES, stride), torch.Generator())


def read_sound(audio: Path | None, video: Path | None) -> Tensor | None:
    """Read an audio file, the video's audio track, or the package's recordings, concatenated.

    Args:
        audio: an audio file.
        video: a video file, whose audio track is read if no audio file is given.

    Returns:
        float32 `(samples,)` at 16 kHz; None, with a warning, if a video's audio track cannot be read.
    """
    if audio is not None:
        return decode_audio(audio, SAMPLING_RATE)
    if video is None:
        families = {source.family: source.path for source in game_sound_sources("train")}
        return torch.cat([decode_audio(path, SAMPLING_RATE) for path in families.values()])
    try:
        return decode_audio(video, SAMPLING_RATE)
    except BadAudioError as error:
        logger.warning("skipped audio masks: %s; give an audio file with --audio", error)
        return None
