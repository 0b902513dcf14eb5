"""AVID-CMA's and RSPNet's own checkpoints and ours, in both directions (severe_benchmark.md, section 4)."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tubelets.models.backbones.r2plus1d_native.configuration_r2plus1d_native import R2Plus1DNativeConfig
from tubelets.models.backbones.r2plus1d_native.modeling_r2plus1d_native import (
    R2Plus1DNativeForVideoClassification,
    R2Plus1DNativeModel,
)
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import Rename
from tubelets.models.common.official import OfficialLayout

AVID_PARTS = {
    "spatial1": "spt_conv1", "spatial_norm1": "spt_bn1", "temporal1": "tmp_conv1", "temporal_norm1": "tmp_bn1",
    "spatial2": "spt_conv2", "spatial_norm2": "spt_bn2", "temporal2": "tmp_conv2", "norm": "out_bn",
    "shortcut": "res_conv",
}  # fmt: skip
RSPNET_FACTORS = {"spatial": "spatial_conv", "norm": "bn", "temporal": "temporal_conv"}
RSPNET_CONVOLUTIONS = {"conv1": "conv1", "conv2": "conv2", "shortcut.0": "downsampleconv"}
RSPNET_NORMS = {"norm1": "bn1", "norm2": "bn2", "shortcut.1": "downsamplebn"}
FIRST = {"avid_cma": "conv1.0.weight", "rspnet": "conv1.spatial_conv.weight"}


def _avid_table(depths: list[int]) -> list[Rename]:
    lines = [Rename("conv1.{rest}", "stem.{rest}")]
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            # A network of single blocks has no lists of them.
            place = f"conv{stage + 1}x." + (f"{block}." if max(depths) > 1 else "")
            lines += [
                Rename(f"{place}{theirs}.{{leaf}}", f"layer{stage}.{block}.{part}.{{leaf}}")
                for part, theirs in AVID_PARTS.items()
            ]
    return lines


def _rspnet_table(depths: list[int]) -> list[Rename]:
    lines = [Rename("bn1.{leaf}", "stem.1.{leaf}"), *_rspnet_factors("conv1", "stem.0")]
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            theirs = f"conv{stage + 1}." + ("block1" if block == 0 else f"blocks.{block - 1}")
            ours = f"layer{stage}.{block}"
            for part, name in RSPNET_CONVOLUTIONS.items():
                lines += _rspnet_factors(f"{theirs}.{name}", f"{ours}.{part}")
            lines += [
                Rename(f"{theirs}.{name}.{{leaf}}", f"{ours}.{part}.{{leaf}}") for part, name in RSPNET_NORMS.items()
            ]
    return lines


def _rspnet_factors(theirs: str, ours: str) -> list[Rename]:
    return [Rename(f"{theirs}.{name}.{{leaf}}", f"{ours}.{factor}.{{leaf}}") for factor, name in RSPNET_FACTORS.items()]


TABLES = {"avid_cma": _avid_table, "rspnet": _rspnet_table}


def _table(model: R2Plus1DNativeModel | R2Plus1DNativeForVideoClassification) -> list[Rename]:
    table = TABLES[model.config.variant](list(model.config.depths))
    if not isinstance(model, R2Plus1DNativeForVideoClassification):
        return table
    if model.config.variant == "avid_cma":
        raise CheckpointLayoutError("AVID-CMA's network has no classifier; convert model.backbone instead")
    backbone = [Rename(line.official, f"backbone.{line.ours}") for line in table]
    return [*backbone, Rename("linear.{leaf}", "classifier.{leaf}")]


def _find(state_dict: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The variant and the prefix of the video network, or None."""
    for variant, first in FIRST.items():
        prefixes = [name.removesuffix(first) for name in state_dict if re.search(rf"(^|\.){re.escape(first)}$", name)]
        # Audio networks and key encoders may have a first layer of that name too.
        video = [prefix for prefix in prefixes if state_dict[prefix + first].ndim == 5]
        if video:
            return variant, min(video, key=lambda found: ("_k." in found or "key" in found, len(found)))
    return None


def _found(state_dict: Mapping[str, Tensor]) -> tuple[str, str]:
    found = _find(state_dict)
    if found is None:
        seen = sorted({name.split(".")[0] for name in state_dict})[:8]
        raise CheckpointLayoutError(
            f"this is neither AVID-CMA's nor RSPNet's own network: none of {', '.join(FIRST.values())} is under the "
            f"names {seen}; for the common R(2+1)D-18 use tubelets.models.backbones.resnet3d.conversion_resnet3d"
        )
    return found


def _own_network(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the video network and its linear layer, without the prefix."""
    _, prefix = _found(state_dict)
    own = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
    return {name: value for name, value in own.items() if re.match(r"(conv\d|bn1\.|linear\.(weight|bias)$)", name)}


def _infer(state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    variant, _ = _found(state_dict)
    weights = _own_network(state_dict)
    last, norm = {"avid_cma": ("x", "out_bn.weight"), "rspnet": ("", "bn2.weight")}[variant]
    depths: list[int] = []
    sizes: list[int] = []
    while found := [
        name for name in weights if name.startswith(f"conv{len(depths) + 2}{last}.") and name.endswith(norm)
    ]:
        depths.append(len(found))
        sizes.append(len(weights[found[0]]))
    fields: dict[str, Any] = {
        "variant": variant,
        "depths": depths,
        "hidden_sizes": sizes,
        "num_channels": weights[FIRST[variant]].shape[1],
    }
    if "linear.weight" in weights:
        fields["num_labels"] = len(weights["linear.weight"])
    return R2Plus1DNativeConfig, fields


def _model_class(state_dict: Mapping[str, Tensor]) -> type:
    has_head = "linear.weight" in _own_network(state_dict)
    return R2Plus1DNativeForVideoClassification if has_head else R2Plus1DNativeModel


LAYOUT = OfficialLayout(
    "AVID-CMA and RSPNet",
    lambda state_dict: _find(state_dict) is not None,
    _infer,
    _model_class,
    _table,
    prepare=_own_network,
)
OFFICIAL = [LAYOUT]
infer_config = LAYOUT.infer_config
from_official = LAYOUT.from_official
to_official = LAYOUT.to_official
load_official = LAYOUT.load_official
