"""GameSounds-10 on generated recordings: labels, disjoint splits, reproducible clips."""

from pathlib import Path

import pytest
import torch

from tubelets.benchmarks.game_sounds import SoundSource, build_game_sounds, mix_sound
from tubelets.data.assets.table import SOUNDS
from tubelets.data.modalities.audio import BadAudioError, encode_audio
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import AudioSpec, ClipStream

PITCHES = {"low": 0.05, "high": 0.8}


def tone(pitch: float, seconds: float = 0.3) -> torch.Tensor:
    return 0.5 * torch.sin(torch.arange(round(8000 * seconds)) * pitch)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, list[SoundSource]]:
    found: dict[str, list[SoundSource]] = {"train": [], "test": []}
    for split, sources in found.items():
        for family, pitch in PITCHES.items():
            path = tmp_path / f"{split}-{family}.wav"
            path.write_bytes(encode_audio(tone(pitch), 8000))
            sources.append(SoundSource(path, family))
    return found


def build(folder: Path, sources: dict[str, list[SoundSource]], **changes: object) -> dict:
    options = {"num_clips": {"train": 6, "test": 4}, "seconds": 0.5, "sampling_rate": 8000, "progress": False}
    return build_game_sounds(folder, sources=sources, **{**options, **changes})


def clips(folder: Path, split: str) -> dict[str, tuple[torch.Tensor, int]]:
    stream = ClipStream(open_source(folder, split=split), None, audio=AudioSpec(8000, 1.0, "centre"))
    return {item["clip_id"]: (item["waveform"], item["label"]) for item in stream}


def test_clips_sound_like_their_family_and_are_the_same_again(sources, tmp_path):
    build(tmp_path / "a", sources)
    build(tmp_path / "b", sources)
    source = open_source(tmp_path / "a", split="test")
    assert (source.class_names, source.num_samples) == (["high", "low"], 4)
    first, second = clips(tmp_path / "a", "train"), clips(tmp_path / "b", "train")
    assert sorted(first) == sorted(second)
    assert len(first) == 6
    for name, (waveform, label) in first.items():
        assert torch.equal(waveform, second[name][0])
        assert waveform.shape == (4000,)
        loudest = torch.fft.rfft(waveform).abs().argmax().item() * 2 * torch.pi / 4000
        expected = PITCHES[source.class_names[label]]
        assert 0.75 * expected < loudest < 1.3 * expected
    assert [label for _, label in first.values()].count(0) == 3


def test_complete_shards_are_kept(sources, tmp_path):
    assert build(tmp_path / "a", sources)["train"].written
    assert not build(tmp_path / "a", sources)["train"].written


def test_a_long_sound_is_cut_and_a_clip_never_overshoots():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        clip = mix_sound(tone(0.3, 2.0), tone(0.1, 0.1), 4000, generator)
        assert clip.shape == (4000,)
        assert clip.abs().max() <= 1
        assert clip.abs().max() > 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_clips": {"train": 0, "test": 4}}, "at least one clip"),
        ({"seconds": 0.0}, "must be positive"),
    ],
)
def test_bad_numbers_are_refused(sources, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "a", sources, **changes)


def test_shared_recordings_and_missing_families_are_refused(sources, tmp_path):
    with pytest.raises(ValueError, match="one split only"):
        build(tmp_path / "a", {**sources, "test": sources["train"]})
    with pytest.raises(ValueError, match=r"lacks \['low'\]"):
        build(tmp_path / "a", {**sources, "test": sources["test"][1:]})


def test_the_table_has_four_or_five_recordings_of_ten_families():
    counts = [sum(sound.family == family for sound in SOUNDS) for family in {sound.family for sound in SOUNDS}]
    assert len(counts) == 10
    assert set(counts) == {4, 5}


def test_a_recording_that_cannot_be_read_is_skipped_and_named(sources, tmp_path):
    broken = SoundSource(tmp_path / "broken.wav", next(iter(PITCHES)))
    broken.path.write_bytes(b"no sound")
    more = {**sources, "train": [*sources["train"], broken]}
    with pytest.warns(UserWarning, match=r"recordings cannot be read and are skipped: broken\.wav"):
        report = build(tmp_path / "out", more)["train"]
    assert (report.num_clips, report.bad_files) == (6, [])
    others = [source for source in sources["train"] if source.family != broken.family]
    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(BadAudioError, match=f"no recording of '{broken.family}' can be read"),
    ):
        build(tmp_path / "none", {**sources, "train": [*others, broken]})
