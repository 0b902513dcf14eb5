"""Numbers of the public networks that modality transfer builds on (skeleton_contrast.md, sections 3.3 and 3.4)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cases_io import case_paths, load_case
from skeleton_networks import Case, Tensors, check_network, layout_of

CHECKS: dict[str, Callable[[Case, Tensors], None]] = {"skeleton_network": check_network}


def kind_of(case: Case, tensors: Tensors) -> str:
    return "skeleton_network" if layout_of(case) is not None else "unknown"


@pytest.mark.parametrize("path", case_paths("modality_transfer"), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case, tensors = load_case(path)
    kind = kind_of(case, tensors)
    assert kind in CHECKS, f"unknown kind of case: {path.name}"
    CHECKS[kind](case, tensors)
