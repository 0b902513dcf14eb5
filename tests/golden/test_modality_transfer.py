"""Numbers of modality transfer, distillation and the public networks they build on.

The kind of a case is read off its own content (feature_supervised_transfer.md, section 12;
cross_modal_distillation.md, section 2).
"""

from collections.abc import Callable
from pathlib import Path

import pytest

import modality_transfer as transfer
from cases_io import case_paths, load_case
from skeleton_networks import Case, Tensors, check_network, layout_of

CHECKS: dict[str, Callable[[Case, Tensors], None]] = {
    "skeleton_network": check_network,
    "residual_network": transfer.check_residual_network,
    "official_keys": transfer.check_official_keys,
    "feature_supervision_clip": transfer.check_clip_supervision,
    "feature_supervision_sequence": transfer.check_sequence_supervision,
    "distillation_losses": transfer.check_distillation,
    "anchor_detection": transfer.check_anchor_detection,
    "pku_detection_map": transfer.check_pku_map,
}


def kind_of(case: Case, tensors: Tensors) -> str:
    if "kind" in case:
        return str(case["kind"])
    if not tensors:
        return "official_keys"
    if "activity_threshold" in case.get("hyper", {}):
        return "pku_detection_map"
    if "conv1.weight" in case.get("state_dict", {}):
        return "residual_network"
    return "skeleton_network" if layout_of(case) is not None else "unknown"


@pytest.mark.parametrize("path", case_paths("modality_transfer"), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case, tensors = load_case(path)
    kind = kind_of(case, tensors)
    assert kind in CHECKS, f"unknown kind of case: {path.name}"
    CHECKS[kind](case, tensors)
