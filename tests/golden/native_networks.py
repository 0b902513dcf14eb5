"""Checks of the networks that AVID-CMA and RSPNet published, which are not the common R(2+1)D-18."""

from typing import Any

import torch
from torch import Tensor

from cases_io import DEVICE, assert_close
from fill import fill_state_dict
from tubelets.models.backbones.r2plus1d_native.conversion_r2plus1d_native import from_official, to_official

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def over_places(feature_map: Tensor) -> Tensor:
    return feature_map.mean(dim=(0, 2, 3, 4))


@torch.no_grad()
def check_native_network(case: Case, tensors: Tensors) -> None:
    shapes = {name: tuple(shape) for name, shape in case["state_dict_shapes"].items()}
    weights = fill_state_dict(shapes, case["salt"])
    model = from_official(weights).eval()
    back = to_official(model)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    model.to(DEVICE)
    backbone, video = getattr(model, "backbone", model), tensors["clip"].transpose(1, 2)
    encoded = backbone(video, output_hidden_states=True)
    stem, first = encoded.hidden_states[:2]
    found = {
        "conv1": over_places(stem),
        "conv2x": over_places(first),
        "conv5": encoded.last_hidden_state,
        "conv5x": encoded.last_hidden_state,
        "pooled": encoded.pooler_output[..., None, None, None],
    }
    if hasattr(model, "classifier"):
        found["logits"] = model(video).logits
    for name in tensors.keys() - {"clip"}:
        # The case's tolerance: 1e-4 relative to the largest value.
        assert_close(found[name], tensors[name], 1e-4 * float(tensors[name].abs().max()), name)
