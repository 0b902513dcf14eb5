"""GameSounds-10: short video-game sounds, varied and overlaid, labelled by family.

Each family has four or five recordings; the last two of each are the test split. A clip is one recording at a random
speed, loudness and position, over a quieter second recording of any family and a little noise: a model must learn the
family, not one file.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from tubelets.benchmarks.skipped import warn_of_skipped
from tubelets.data.assets.fetching import fetch
from tubelets.data.assets.table import SOUND_ASSETS, SOUNDS
from tubelets.data.build.plan import ShardPlan
from tubelets.data.build.shards import ShardReport, build_shards, is_complete
from tubelets.data.modalities.audio import BadAudioError, decode_audio, encode_audio
from tubelets.data.seeds import stable_seed
from tubelets.data.sources.records import VideoRecord

_TEST_SOUNDS = 2  # per family
_CLIPS_PER_SHARD = 256
_SPEEDS = (0.8, 1.25)
_LOUDNESS = (0.25, 1.0)
_BACKGROUND_LOUDNESS = (0.05, 0.2)  # relative to the sound
_NOISE = (1e-4, 1e-2)


@dataclass(frozen=True)
class SoundSource:
    """A recording that clips are made of.

    Attributes:
        path: the audio file.
        family: the label.
    """

    path: Path
    family: str


def game_sound_sources(split: str, cache_dir: str | Path | None = None) -> list[SoundSource]:
    """Return the recordings of a split of GameSounds-10, and fetch them if they are not in the cache.

    Args:
        split: "test"; any other name selects the training recordings.
        cache_dir: see `tubelets.data.assets.fetching.fetch`.

    Returns:
        Recordings of all ten families, two of each for "test".

    Raises:
        tubelets.data.assets.fetching.AssetError: if they cannot be fetched.
    """
    asset = SOUND_ASSETS[0]
    fetch([asset.name], cache_dir, progress=False)
    by_family: dict[str, list[SoundSource]] = {}
    for sound in SOUNDS:
        path = asset.local_path(sound.member, cache_dir)
        by_family.setdefault(sound.family, []).append(SoundSource(path, sound.family))
    chosen = slice(-_TEST_SOUNDS, None) if split == "test" else slice(None, -_TEST_SOUNDS)
    return [source for sources in by_family.values() for source in sources[chosen]]


def mix_sound(sound: Tensor, background: Tensor, num_samples: int, generator: torch.Generator) -> Tensor:
    """Make one clip: a sound at a random speed, loudness and place over a quieter one and noise.

    Args:
        sound: float `(samples,)`, the foreground.
        background: float `(samples,)`, the quieter background.
        num_samples: samples of the clip.
        generator: random draws.

    Returns:
        float32 `(num_samples,)` in [-1, 1].

    Example:
        >>> tone = torch.sin(torch.arange(8000) * 0.3)
        >>> mix_sound(tone, tone.flip(0), 16000, torch.Generator().manual_seed(0)).shape
        torch.Size([16000])
    """

    def draw(low: float, high: float) -> float:
        # Log-uniform: half as loud is as likely as twice as loud.
        share = float(torch.rand((), generator=generator))
        return float(low * (high / low) ** share)

    loudness = draw(*_LOUDNESS)
    clip = _place(sound, draw(*_SPEEDS), loudness, num_samples, generator)
    clip = clip + _place(background, draw(*_SPEEDS), loudness * draw(*_BACKGROUND_LOUDNESS), num_samples, generator)
    return (clip + draw(*_NOISE) * torch.randn(num_samples, generator=generator)).clamp(-1, 1)


def _place(sound: Tensor, speed: float, peak: float, num_samples: int, generator: torch.Generator) -> Tensor:
    """Place a sound, at some speed and peak, at a random position in silence; crop longer sounds at random."""
    length = max(1, round(len(sound) / speed))
    played = F.interpolate(sound[None, None], size=length, mode="linear", align_corners=True)[0, 0]
    played = played * (peak / played.abs().max().clamp_min(1e-6))
    room = num_samples - length
    start = int(torch.randint(abs(room) + 1, (), generator=generator))
    return F.pad(played, (start, room - start)) if room >= 0 else played[start : start + num_samples]


def build_game_sounds(
    output_dir: str | Path,
    num_clips: Mapping[str, int] | None = None,
    *,
    sources: Mapping[str, Sequence[SoundSource]] | None = None,
    seconds: float = 1.28,
    sampling_rate: int = 16000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, ShardReport]:
    """Write GameSounds-10, or the same benchmark from other recordings, as shards; complete shards are kept.

    Args:
        output_dir: folder of the shards.
        num_clips: clips of each split, spread evenly over the families; None is 2048 for training and 512 for testing.
        sources: recordings of each split; None is `game_sound_sources`.
        seconds: clip length.
        sampling_rate: samples per second.
        seed: seed of all draws.
        progress: show a progress bar.

    Returns:
        Reports by split.

    Raises:
        ValueError: if splits share a recording, a split has none, or a number is not positive.
        tubelets.data.modalities.audio.BadAudioError: if no recording of a family can be read in a split; others that
            cannot are skipped with a warning.
        tubelets.data.assets.fetching.AssetError: if the recordings cannot be fetched.
    """
    num_clips = {"train": 2048, "test": 512} if num_clips is None else num_clips
    if sources is None:
        sources = {split: game_sound_sources(split) for split in num_clips}
    _check(sources, num_clips, seconds, sampling_rate)
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({source.family for split in num_clips for source in sources[split]})
    reports = {}
    for split, count in num_clips.items():
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{split}-sounds-") as scratch:
            clips = [f"{split}-{index:06d}" for index in range(count)]
            records = [
                VideoRecord(Path(scratch) / f"{clip}.flac", names[index % len(names)], None, clip)
                for index, clip in enumerate(clips)
            ]
            options: dict[str, Any] = {
                "split": split, "class_names": names, "clips_per_shard": _CLIPS_PER_SHARD, "seed": seed
            }  # fmt: skip
            if not is_complete(folder, ShardPlan.make(records, **options)):
                _write_clips(records, sources[split], round(seconds * sampling_rate), sampling_rate, seed, progress)
            reports[split] = build_shards(records, folder, progress=False, **options)
    return reports


def _check(
    sources: Mapping[str, Sequence[SoundSource]], num_clips: Mapping[str, int], seconds: float, sampling_rate: int
) -> None:
    if not seconds > 0 or sampling_rate < 1:
        raise ValueError(f"seconds={seconds} and sampling_rate={sampling_rate} must be positive")
    families = {split: {source.family for source in sources.get(split, ())} for split in num_clips}
    everything = set().union(*families.values())
    for split, count in num_clips.items():
        if count < 1 or not families[split] or families[split] != everything:
            raise ValueError(
                f"split {split!r} needs at least one clip and a recording of each family; it asks for {count} clips "
                f"and lacks {sorted(everything - families[split])}"
            )
    paths = [source.path.resolve() for split in num_clips for source in sources[split]]
    shared = sorted({str(path) for path in paths if paths.count(path) > 1})
    if shared:
        raise ValueError(f"a recording must be in one split only; these are not: {', '.join(shared)}")


def _read_recordings(
    sources: Sequence[SoundSource], sampling_rate: int
) -> tuple[list[tuple[str, Tensor]], dict[str, list[Tensor]]]:
    """The recordings that can be read, with their families, and by family."""
    waves: list[tuple[str, Tensor]] = []
    families: dict[str, list[Tensor]] = {source.family: [] for source in sources}
    reasons: dict[str, str] = {}
    for source in sources:
        try:
            wave = decode_audio(source.path, sampling_rate)
        except BadAudioError as error:
            reasons[source.path.name] = str(error)
            continue
        waves.append((source.family, wave))
        families[source.family].append(wave)
    warn_of_skipped(reasons, len(sources), "recordings")
    if silent := [family for family, recordings in families.items() if not recordings]:
        raise BadAudioError(f"no recording of {silent[0]!r} can be read; every family needs one in each split")
    return waves, families


def _write_clips(
    records: Sequence[VideoRecord],
    sources: Sequence[SoundSource],
    num_samples: int,
    sampling_rate: int,
    seed: int,
    progress: bool,
) -> None:
    """Mix and write every clip of a split, cycling through the recordings of a family."""
    waves, families = _read_recordings(sources, sampling_rate)
    for index, record in enumerate(tqdm(records, desc="GameSounds", unit="clip", disable=not progress)):
        generator = torch.Generator().manual_seed(stable_seed(seed, record.clip_id))
        recordings = families[str(record.label)]
        sound = recordings[index // len(families) % len(recordings)]
        background = waves[int(torch.randint(len(waves), (), generator=generator))][1]
        record.path.write_bytes(
            encode_audio(mix_sound(sound, background, num_samples, generator), sampling_rate, "flac")
        )
