from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread

from sounds import make_sounding_video, tone
from tubelets.cli.main import main
from tubelets.data.modalities.audio import encode_audio
from tubelets.masking import NoiseMaskGenerator, build_mask_generator
from tubelets.visualization.masks import (
    save_mask_statistics,
    save_sound_mask_statistics,
    save_sound_masks,
    spatial_spectrum,
    temporal_correlation,
)
from videos import make_video

GRID = (8, 14, 14)


def draws(kind: str, count: int = 64, **options: Any) -> torch.Tensor:
    noise = {"bank_size": 2, "volume_shape": (16, 32, 32)} if kind[-1] == "d" else {}
    generator = build_mask_generator(kind, GRID, 0.75, **noise, **options)
    return generator(count, generator=torch.Generator().manual_seed(0)).view(-1, *GRID)


def test_spectra_have_the_colour_of_their_noise() -> None:
    rows, columns = torch.meshgrid(torch.arange(14) - 7, torch.arange(14) - 7, indexing="ij")
    distance = (rows**2 + columns**2).float().sqrt() / 14
    low, middle, high = (distance > 0) & (distance < 0.09), (distance > 0.12) & (distance < 0.2), distance > 0.4
    power = {kind: spatial_spectrum(draws(kind)) for kind in ("red3d", "blue2d", "random")}
    # Narrow Gaussians, whose band a grid of 14 cells resolves.
    power["green2d"] = spatial_spectrum(draws("green2d", sigma_low=0.6, sigma_high=1.8))
    assert power["red3d"][low].mean() > 3 * power["red3d"][high].mean()
    assert power["blue2d"][high].mean() > 1.5 * power["blue2d"][low].mean()
    assert power["green2d"][middle].mean() > max(power["green2d"][low].mean(), power["green2d"][high].mean())
    assert torch.allclose(power["random"][distance > 0], torch.ones(()), atol=0.35)


def test_tubes_stay_and_random_masks_do_not() -> None:
    assert torch.allclose(temporal_correlation(draws("tube")), torch.ones(8), atol=1e-4)
    random = temporal_correlation(draws("random"))
    assert random[0] == pytest.approx(1.0, abs=1e-4)
    assert random[1:].abs().max() < 0.05
    assert 0.1 < temporal_correlation(draws("red3d"))[1] < 0.95


def test_green_masks_lose_their_likeness_as_the_specification_says() -> None:
    options = {"sigma_low": 1.0, "sigma_high": 2.0, "bank_size": 4, "volume_shape": (32, 64, 64)}
    masks = NoiseMaskGenerator("green3d", GRID, 0.9, **options)(200, generator=torch.Generator().manual_seed(0))
    found = temporal_correlation(masks.view(-1, *GRID))[:4]
    assert found.tolist() == pytest.approx([1.0, 0.41, 0.08, -0.02], abs=0.04)


def test_neighbouring_times_of_regularized_blue_masks_of_sound_differ() -> None:
    masks = NoiseMaskGenerator("regularized_blue", (16, 8), 0.8, bank_size=64)(64, generator=torch.Generator())
    assert temporal_correlation(masks.view(-1, 16, 8, 1))[1] < -0.1


def test_pictures_are_written(tmp_path: Path) -> None:
    path = save_mask_statistics({"random": draws("random", 4), "tube": draws("tube", 4)}, tmp_path / "a" / "s.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no masks"):
        save_mask_statistics({}, tmp_path / "none.png")


def test_masks_of_sound_must_tile_the_spectrogram(tmp_path: Path) -> None:
    masks = {"random": torch.rand(4, 8, 4) < 0.5}
    path = save_sound_masks(torch.rand(64, 32), masks, tmp_path / "sound.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"do not tile a spectrogram of \(60, 32\)"):
        save_sound_masks(torch.rand(60, 32), masks, tmp_path / "sound.png")
    with pytest.raises(ValueError, match="no masks"):
        save_sound_masks(torch.rand(64, 32), {}, tmp_path / "sound.png")


def test_masks_of_sound_hide_their_own_patches(tmp_path: Path) -> None:
    mask = torch.zeros(1, 2, 2, dtype=torch.bool)
    mask[0, 0, 1] = True  # early and high: the left upper quarter
    spectrogram = torch.linspace(0, 1, 64 * 32).view(64, 32)
    pictures = [
        imread(save_sound_masks(spectrogram, {"a mask": masks}, tmp_path / "sound.png"))
        for masks in (torch.zeros_like(mask), mask)
    ]
    changed = torch.from_numpy((abs(pictures[0] - pictures[1]) > 0.01).any(axis=-1))
    changed, whole = changed[len(changed) // 2 :], changed[: len(changed) // 2]
    assert not whole.any()
    rows, columns = changed.nonzero(as_tuple=True)
    assert len(rows) / (rows.max() - rows.min() + 1) / (columns.max() - columns.min() + 1) > 0.98
    assert columns.max() < 0.55 * changed.shape[1]
    assert rows.max() < 0.75 * changed.shape[0]


def test_statistics_of_masks_of_sound_are_drawn(tmp_path: Path) -> None:
    masks = {"random": torch.rand(4, 8, 4) < 0.5, "other": torch.rand(4, 8, 4) < 0.5}
    assert save_sound_mask_statistics(masks, tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no masks"):
        save_sound_mask_statistics({}, tmp_path / "s.png")


def gallery(out: Path, *words: str) -> int:
    return main(["gallery", "masks", "--output_dir", str(out), *words])


def test_the_gallery_shows_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clip.mp4").write_bytes(make_video(20, 48, 64))
    words = ["--video", str(tmp_path / "clip.mp4"), "--kinds", "tube", "green3d", "--draws", "8", "--bank_size", "1"]
    assert gallery(tmp_path / "out", *words) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["masks.png", "statistics.png"]
    (tmp_path / "sound.wav").write_bytes(encode_audio(tone(1.0, 8000, 500.0), 8000))
    assert gallery(tmp_path / "both", *words, "--audio", str(tmp_path / "sound.wav")) == 0
    assert (tmp_path / "both" / "sound_masks.png").read_bytes().startswith(b"\x89PNG")
    assert gallery(tmp_path / "out", *words, "--audio", str(tmp_path / "clip.mp4")) == 2
    assert "clip.mp4" in capsys.readouterr().err
    assert gallery(tmp_path / "out", "--video", str(tmp_path / "none.mp4"), "--kinds", "tube") == 2
    assert "none.mp4" in capsys.readouterr().err
    assert gallery(tmp_path / "out", "--kinds", "tubes") == 2
    assert "no mask 'tubes'" in capsys.readouterr().err


def test_the_gallery_shows_the_sound_of_a_video(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(make_sounding_video(1.0))
    words = ["--kinds", "tube", "--audio-kinds", "random", "green2d", "regularized_blue", "--draws", "8"]
    out = tmp_path / "out"
    assert gallery(out, "--video", str(tmp_path / "clip.mp4"), *words, "--bank_size", "1", "--stride", "1") == 0
    names = ["masks.png", "sound_masks.png", "sound_statistics.png", "statistics.png"]
    assert sorted(path.name for path in out.iterdir()) == names
