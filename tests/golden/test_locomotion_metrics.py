"""Recalls of the base framework's own evaluation (locomotion.md, section 8), in every case with a matrix of scores."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cases_io import DEVICE, case_paths, load_case
from tubelets.evaluation.video_text import video_text_recalls


def holds_scores(path: Path) -> bool:
    return "scores_v2t" in load_case(path)[0].get("tensors", {})


def check_retrieval_metrics(case: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    assert tensors.keys() == {"scores_v2t", "video_to_text"}
    scores, owner = tensors["scores_v2t"], tensors["video_to_text"].long()
    pairs = torch.stack([torch.arange(len(scores), device=DEVICE), owner], dim=1)
    found = video_text_recalls(scores, pairs)
    expected = dict(case["expected"])
    for official, ours in (("txt", "video_to_text"), ("img", "text_to_video")):
        for theirs, own in (("r1", "r1"), ("r5", "r5"), ("r10", "r10"), ("r_mean", "mean")):
            assert found[f"{ours}_{own}"] == pytest.approx(expected.pop(f"{official}_{theirs}"), abs=0.006)
    assert found["mean"] == pytest.approx(expected.pop("r_mean"), abs=0.006)
    assert not expected, f"not checked: {sorted(expected)}"


@pytest.mark.parametrize("path", filter(holds_scores, case_paths("locomotion")), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    check_retrieval_metrics(*load_case(path))
