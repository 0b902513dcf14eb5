"""Lines of several runs in one picture."""

import pytest
import torch
from PIL import Image

from tubelets.visualization import save_curves

FIRST, SECOND = (31, 119, 180), (255, 127, 14)  # matplotlib's first two colours


def count(path, colour):
    pixels = torch.tensor(list(Image.open(path).convert("RGB").getdata()))
    return int((pixels == torch.tensor(colour)).all(dim=1).sum())


def line(height):
    return [(0.0, height), (1.0, height)]


def test_lines_of_a_name_share_a_colour(tmp_path):
    together = save_curves({"a": [line(1.0), line(2.0)]}, tmp_path / "one.png", ("step", "loss"))
    apart = save_curves({"a": [line(1.0)], "b": [line(2.0)]}, tmp_path / "two.png", ("step", "loss"))
    assert count(together, FIRST) > 1.5 * count(apart, FIRST) > 100
    assert count(together, SECOND) == 0 < count(apart, SECOND)


def test_wide_ranges_are_logarithmic(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    scales = []
    monkeypatch.setattr(Axes, "set_yscale", lambda _, scale: scales.append(scale))
    for least in (0.5, -1.0, 0.01):
        save_curves({"a": [line(least), line(1.0)]}, tmp_path / "curves.png", ("step", "loss"))
    assert scales == ["log"]


@pytest.mark.parametrize("curves", [{}, {"a": []}, {"a": [[]]}])
def test_nothing_to_draw(tmp_path, curves):
    with pytest.raises(ValueError, match="no curve"):
        save_curves(curves, tmp_path / "curves.png", ("step", "loss"))
