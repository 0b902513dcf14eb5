from pathlib import Path

import pytest
import torch
from PIL import Image

from tubelets.masking import TubeMaskGenerator
from tubelets.visualization import save_assignments, save_masks, save_training_curves
from tubelets.visualization.figures import _palette

GRID = (4, 4, 4)
CLIP = torch.full((8, 3, 32, 32), 200, dtype=torch.uint8)


def pixels(path: Path) -> torch.Tensor:
    return torch.tensor(list(Image.open(path).convert("RGB").getdata()))


def test_masked_tubes_are_dark(tmp_path: Path) -> None:
    mask = TubeMaskGenerator(GRID, 0.5)(1, generator=torch.Generator().manual_seed(0))[0]
    covered = pixels(save_masks(CLIP, {"tube": mask}, GRID, tmp_path / "masks.png"))
    bare = pixels(save_masks(CLIP, {"none": torch.zeros_like(mask)}, GRID, tmp_path / "bare.png"))
    assert (covered == 40).all(dim=1).sum() > 1000
    assert (bare == 40).all(dim=1).sum() < 10  # edges of letters


def test_assignments_have_one_colour_a_prototype(tmp_path: Path) -> None:
    mask = torch.zeros(64, dtype=torch.bool)
    mask[:32] = True
    path = save_assignments(CLIP, mask, {"branch": torch.arange(32) % 2}, GRID, tmp_path / "assignments.png")
    first, second = (0.7 * _palette(2).float() + 0.3 * 200).to(torch.uint8)
    for colour in (first, second):
        assert (pixels(path) == colour).all(dim=1).sum() > 100
    assert len(_palette(64).unique(dim=0)) == 64


def test_curves_need_lines(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 1 / step, "learning_rate": 0.1, "clips_per_second": 3.0} for step in (1, 2, 3)]
    assert save_training_curves(lines, tmp_path / "curves.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="no lines"):
        save_training_curves([], tmp_path / "curves.png")
