import runpy
from pathlib import Path

import pytest
import torch

from tubelets.masking import build_mask_generator
from tubelets.visualization.masks import save_mask_statistics, spatial_spectrum, temporal_correlation
from videos import make_video

GRID = (8, 14, 14)


def draws(kind: str, count: int = 64) -> torch.Tensor:
    noise = {"bank_size": 2, "volume_shape": (16, 32, 32)} if kind[-1] == "d" else {}
    generator = build_mask_generator(kind, GRID, 0.75, **noise)
    return generator(count, generator=torch.Generator().manual_seed(0)).view(-1, *GRID)


def test_spectra_have_the_colour_of_their_noise() -> None:
    rows, columns = torch.meshgrid(torch.arange(14) - 7, torch.arange(14) - 7, indexing="ij")
    distance = (rows**2 + columns**2).float().sqrt() / 14
    low, middle, high = (distance > 0) & (distance < 0.09), (distance > 0.12) & (distance < 0.2), distance > 0.4
    power = {kind: spatial_spectrum(draws(kind)) for kind in ("red3d", "green2d", "blue2d", "random")}
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


def test_pictures_are_written(tmp_path: Path) -> None:
    path = save_mask_statistics({"random": draws("random", 4), "tube": draws("tube", 4)}, tmp_path / "a" / "s.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no masks"):
        save_mask_statistics({}, tmp_path / "none.png")


def test_the_script_draws_over_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "visualize_masks.py"))["main"]
    (tmp_path / "clip.mp4").write_bytes(make_video(20, 48, 64))
    words = ["--video", str(tmp_path / "clip.mp4"), "--kinds", "tube", "green3d", "--draws", "8", "--bank-size", "1"]
    assert main([str(tmp_path / "out"), *words]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["masks.png", "statistics.png"]
    assert main([str(tmp_path / "out"), "--video", str(tmp_path / "none.mp4"), "--kinds", "tube"]) == 2
    assert "none.mp4" in capsys.readouterr().err
