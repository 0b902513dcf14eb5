from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tubelets.visualization.confusion import save_confusion_matrix


def darkness(path: Path) -> float:
    return 255.0 - float(np.asarray(Image.open(path).convert("L")).mean())


def test_a_picture_shows_the_shares(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(10)]
    right = save_confusion_matrix(torch.eye(10, dtype=torch.long) * 7, names, tmp_path / "deep" / "right.png", "run")
    none = save_confusion_matrix(torch.zeros(10, 10, dtype=torch.long), names, tmp_path / "none.png", "run")
    assert darkness(right) > darkness(none) + 1


def test_many_classes_are_drawn_without_names(tmp_path: Path) -> None:
    path = save_confusion_matrix(torch.eye(400), [str(number) for number in range(400)], tmp_path / "many.png")
    assert max(Image.open(path).size) < 2500


def test_bad_matrices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="square"):
        save_confusion_matrix(torch.zeros(2, 3), ["a", "b"], tmp_path / "x.png")
    with pytest.raises(ValueError, match="2 classes need 2 names, got 1"):
        save_confusion_matrix(torch.eye(2), ["a"], tmp_path / "x.png")
