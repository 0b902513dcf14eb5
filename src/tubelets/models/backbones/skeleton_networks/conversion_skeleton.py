"""Official files of networks of skeletons and ours, in both directions (skeleton_contrast.md, sections 3 and 10)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from tubelets.models.backbones.agcn.configuration_agcn import AgcnConfig
from tubelets.models.backbones.agcn.modeling_agcn import AgcnForSkeletonClassification
from tubelets.models.backbones.bigru.configuration_bigru import BiGruConfig
from tubelets.models.backbones.bigru.modeling_bigru import BiGruForSkeletonClassification
from tubelets.models.backbones.hcn.configuration_hcn import HcnConfig
from tubelets.models.backbones.hcn.modeling_hcn import HcnForSkeletonClassification
from tubelets.models.backbones.stgcn.configuration_stgcn import StgcnConfig
from tubelets.models.backbones.stgcn.modeling_stgcn import StgcnForSkeletonClassification
from tubelets.models.common.layouts import Rename, Transform
from tubelets.models.common.official import OfficialLayout, depth_of

Weights = Mapping[str, Tensor]

# Names of the encoders; graph and image networks have the official ones.
TABLES: Mapping[str, Sequence[Rename]] = {
    "bigru": [Rename("encoder.gru.{rest}", "gru.{rest}")],
    "agcn": [Rename(name, name) for name in ("data_bn.{rest}", "l{}.{rest}")],
    "hcn": [Rename(name, name) for name in ("conv{rest}", "fc7.{rest}")],
    "stgcn": [
        Rename(name, name) for name in ("A", "data_bn.{rest}", "st_gcn_networks.{rest}", "edge_importance.{rest}")
    ],
}


def prefixed(table: Sequence[Rename], official: str, ours: str) -> list[Rename]:
    """A table with a prefix in front of all names.

    Args:
        table: its lines.
        official: prefix of the official names, such as `encoder_q.`.
        ours: prefix of our names.

    Example:
        >>> prefixed(TABLES["bigru"], "encoder_q.", "encoder.")[0].official
        'encoder_q.encoder.gru.{rest}'
    """
    return [replace(line, official=f"{official}{line.official}", ours=f"{ours}{line.ours}") for line in table]


def encoder_fields(kind: str, weights: Weights) -> dict[str, Any]:
    """Sizes of an encoder from its official weights.

    Args:
        kind: `bigru`, `agcn`, `hcn` or `stgcn`.
        weights: official names to tensors, without a prefix.

    Returns:
        Fields of its configuration; those that weights do not show, such as the layout, are left out.

    Raises:
        KeyError: if a weight is missing.
    """
    return _FIELDS[kind](weights)


def _bigru_fields(weights: Weights) -> dict[str, Any]:
    layers = depth_of({name.replace("_reverse", ""): value for name, value in weights.items()}, "encoder.gru.bias_ih_l")
    return {"hidden_size": weights["encoder.gru.weight_hh_l0"].shape[1], "num_layers": layers}


def _agcn_fields(weights: Weights) -> dict[str, Any]:
    depth = max(int(name.split(".")[0][1:]) for name in weights if name.endswith(".gcn1.PA"))
    sizes = [weights[f"l{number}.tcn1.conv.weight"].shape[0] for number in range(1, depth + 1)]
    return {"hidden_sizes": sizes, "num_coordinates": weights["l1.gcn1.conv_a.0.weight"].shape[1]}


def _hcn_fields(weights: Weights) -> dict[str, Any]:
    fields = {
        "width": weights["conv1.0.weight"].shape[0],
        "num_coordinates": weights["conv1.0.weight"].shape[1],
        "num_frames": weights["conv2.weight"].shape[0],
    }
    return fields | ({"hidden_size": weights["fc7.0.bias"].shape[0]} if "fc7.0.bias" in weights else {})


def _stgcn_fields(weights: Weights) -> dict[str, Any]:
    depth = depth_of(weights, "st_gcn_networks.")
    sizes = [weights[f"st_gcn_networks.{number}.tcn.2.weight"].shape[0] for number in range(depth)]
    return {"hidden_sizes": sizes}


_FIELDS: Mapping[str, Callable[[Weights], dict[str, Any]]] = {
    "bigru": _bigru_fields, "agcn": _agcn_fields, "hcn": _hcn_fields, "stgcn": _stgcn_fields,
}  # fmt: skip
# A name that only this network has.
FIRST = {
    "bigru": "encoder.gru.weight_ih_l0", "agcn": "l1.gcn1.PA", "hcn": "conv1m.0.weight",
    "stgcn": "st_gcn_networks.0.gcn.conv.weight",
}  # fmt: skip


# ST-GCN's last layer is a convolution of one pixel.
_PIXEL = Transform(lambda tensor: tensor.flatten(1), lambda tensor: tensor[:, :, None, None])


def _classifier(kind: str, config_class: type, model_class: type, head: str, name: str) -> OfficialLayout:
    lines = [Rename(f"{head}.bias", "classifier.bias")]
    lines.append(Rename(f"{head}.weight", "classifier.weight", _PIXEL if kind == "stgcn" else None))

    def recognises(weights: Weights) -> bool:
        return FIRST[kind] in weights and f"{head}.weight" in weights

    def infer(weights: Weights, arguments: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
        return config_class, {**encoder_fields(kind, weights), "num_labels": weights[f"{head}.bias"].shape[0]}

    table = [*prefixed(TABLES[kind], "", "backbone."), *lines]
    return OfficialLayout(name, recognises, infer, lambda weights: model_class, lambda model: table)


BIGRU = [_classifier("bigru", BiGruConfig, BiGruForSkeletonClassification, "fc", "BiGRU")]
AGCN = [_classifier("agcn", AgcnConfig, AgcnForSkeletonClassification, "fc", "AGCN")]
HCN = [
    _classifier("hcn", HcnConfig, HcnForSkeletonClassification, "fc", "HCN of Skeleton-Contrast"),
    _classifier("hcn", HcnConfig, HcnForSkeletonClassification, "fc8", "HCN"),
]
STGCN = [_classifier("stgcn", StgcnConfig, StgcnForSkeletonClassification, "fcn", "ST-GCN")]
