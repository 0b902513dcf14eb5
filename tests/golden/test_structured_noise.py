"""Numbers of ColorMAE's official code and of the spec's reference formulas (structured_noise_masking.md)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cases_io import assert_close, case_paths, load_case
from tubelets.masking.noise import color_noise, threshold_noise
from tubelets.masking.noise_masks import count_visible
from tubelets.masking.regularized_blue import clustering_energy, clustering_score, spread_visible

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def kind_of(tensors: Tensors) -> str:
    if "white" in tensors:
        return "filter"
    if "window" in tensors:
        return "threshold"
    if "optimized_visible" in tensors:
        return "regularized_blue"
    return "unknown"


def check_filter(case: Case, tensors: Tensors) -> None:
    axes = tensors["white"].ndim
    assert tensors.keys() == {"white", *case["hyper_parameters"]}
    for name, given in case["hyper_parameters"].items():
        low = given["sigma1"] if isinstance(given["sigma1"], list) else [given["sigma1"]] * axes
        found = color_noise(tensors["white"], given["colour"], low, given["sigma2"])
        assert_close(found, tensors[name], case["tolerance"], name)


def check_threshold(case: Case, tensors: Tensors) -> None:
    window = tensors["window"]
    normalised = window / window.amax(dim=(1, 2), keepdim=True)
    assert_close(normalised, tensors["window_normalised"], {"rel": 1e-6, "abs": 1e-6}, "window_normalised")
    checked = {"window", "window_normalised"}
    for name, given in case["hyper_parameters"].items():
        kept = count_visible(window[0].numel(), given["mask_ratio"], "kept_floor")
        assert kept == given["kept"]
        for noise in (window, normalised):
            mask = threshold_noise(noise.flatten(1), kept)
            assert torch.equal(mask, tensors[name].bool()), name
        assert mask.sum(dim=1).unique().tolist() == [given["masked"]]
        number = name.removeprefix("mask")
        # The visible tokens are those that the official code keeps; its order is that of their strength.
        kept_ids = torch.nonzero(~mask)[:, 1].view(len(mask), kept)
        assert torch.equal(kept_ids, tensors[f"ids_keep{number}"].long().sort(dim=1).values)
        assert torch.equal(mask, tensors[f"ids_restore{number}"].long() >= kept)
        checked |= {name, f"ids_keep{number}", f"ids_restore{number}"}
    assert tensors.keys() == checked


def check_regularized_blue(case: Case, tensors: Tensors) -> None:
    given, weights = case["hyper_parameters"], case["hyper_parameters"]["weights"]
    visible, optimized = tensors["visible"].bool(), tensors["optimized_visible"].bool()
    assert count_visible(visible[0].numel(), given["mask_ratio"]) == given["kept"]
    assert_close(clustering_score(visible, weights), tensors["score"], {"abs": 1e-4}, "score")
    assert_close(clustering_energy(visible, weights), tensors["energy"], {"abs": 1e-4}, "energy")
    assert_close(clustering_energy(optimized, weights), tensors["optimized_energy"], {"abs": 1e-4}, "optimized_energy")
    found = spread_visible(visible, weights)
    assert torch.equal(found.sum(dim=(1, 2)), visible.sum(dim=(1, 2)))
    # The case's note: masks depend on how ties are broken; the energy may be at most 1.3 times the stored one.
    assert bool((clustering_energy(found, weights) <= 1.3 * tensors["optimized_energy"]).all())
    assert tensors.keys() == {"visible", "score", "energy", "optimized_visible", "optimized_energy"}


CHECKS: dict[str, Callable[[Case, Tensors], None]] = {
    "filter": check_filter,
    "threshold": check_threshold,
    "regularized_blue": check_regularized_blue,
}


@pytest.mark.parametrize("path", case_paths("structured_noise"), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case, tensors = load_case(path)
    kind = kind_of(tensors)
    assert kind in CHECKS, f"unknown kind of case: {path.name}"
    CHECKS[kind](case, tensors)
