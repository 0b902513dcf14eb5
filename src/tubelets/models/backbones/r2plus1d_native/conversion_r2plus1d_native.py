"""AVID-CMA's and RSPNet's own checkpoints and ours, in both directions (severe_benchmark.md, section 4)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tubelets.models.backbones.r2plus1d_native.configuration_r2plus1d_native import R2Plus1DNativeConfig
from tubelets.models.backbones.r2plus1d_native.modeling_r2plus1d_native import (
    R2Plus1DNativeForVideoClassification,
    R2Plus1DNativeModel,
)
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import read_checkpoint

AVID_PARTS = {
    "spatial1": "spt_conv1", "spatial_norm1": "spt_bn1", "temporal1": "tmp_conv1", "temporal_norm1": "tmp_bn1",
    "spatial2": "spt_conv2", "spatial_norm2": "spt_bn2", "temporal2": "tmp_conv2", "norm": "out_bn",
    "shortcut": "res_conv",
}  # fmt: skip
RSPNET_PARTS = {
    "norm1": "bn1", "norm2": "bn2", "shortcut.0": "downsampleconv", "shortcut.1": "downsamplebn",
}  # fmt: skip
RSPNET_FACTORS = {"spatial": "spatial_conv", "norm": "bn", "temporal": "temporal_conv"}
FIRST = {"avid_cma": "conv1.0.weight", "rspnet": "conv1.spatial_conv.weight"}


def _avid_name(ours: str, depths: list[int]) -> str:
    if ours.startswith("stem."):
        return "conv1." + ours.removeprefix("stem.")
    stage, block, part, leaf = re.fullmatch(r"layer(\d+)\.(\d+)\.(\w+)\.(\w+)", ours).groups()
    # A network of single blocks has no lists of them.
    index = "" if max(depths) == 1 else f"{block}."
    return f"conv{int(stage) + 1}x.{index}{AVID_PARTS[part]}.{leaf}"


def _rspnet_name(ours: str, depths: list[int]) -> str:
    ours = re.sub(r"\.(spatial|norm|temporal)\.(\w+)$", lambda found: f".{RSPNET_FACTORS[found[1]]}.{found[2]}", ours)
    if ours.startswith("stem."):
        return re.sub(r"^stem\.(\d)", lambda found: ("conv1", "bn1")[int(found[1])], ours)
    stage, block, rest = re.fullmatch(r"layer(\d+)\.(\d+)\.(.+)", ours).groups()
    for part, theirs in RSPNET_PARTS.items():
        rest = re.sub(rf"^{re.escape(part)}\.", f"{theirs}.", rest)
    place = "block1" if block == "0" else f"blocks.{int(block) - 1}"
    return f"conv{int(stage) + 1}.{place}.{rest}"


NAMES = {"avid_cma": _avid_name, "rspnet": _rspnet_name}


def _backbone(state_dict: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor], dict[str, Tensor]]:
    """The variant, the backbone's weights without their prefix, and the weights of a linear head."""
    for variant, first in FIRST.items():
        prefixes = [name.removesuffix(first) for name in state_dict if re.search(rf"(^|\.){re.escape(first)}$", name)]
        # Audio networks and key encoders may have a first layer of that name too.
        video = [prefix for prefix in prefixes if state_dict[prefix + first].ndim == 5]
        if video:
            prefix = min(video, key=lambda found: ("_k." in found or "key" in found, len(found)))
            own = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
            backbone = {name: value for name, value in own.items() if re.match(r"(conv\d|bn1\.)", name)}
            head = {name[7:]: value for name, value in own.items() if re.fullmatch(r"linear\.(weight|bias)", name)}
            return variant, backbone, head
    seen = sorted({name.split(".")[0] for name in state_dict})[:8]
    raise CheckpointLayoutError(
        f"this is neither AVID-CMA's nor RSPNet's own network: none of {', '.join(FIRST.values())} is under the names "
        f"{seen}; for the common R(2+1)D-18 use tubelets.models.backbones.resnet3d.conversion_resnet3d"
    )


def _depths_and_sizes(variant: str, weights: Mapping[str, Tensor]) -> tuple[list[int], list[int]]:
    depths: list[int] = []
    sizes: list[int] = []
    last = "x" if variant == "avid_cma" else ""
    norm = "out_bn.weight" if variant == "avid_cma" else "bn2.weight"
    while found := [
        name for name in weights if name.startswith(f"conv{len(depths) + 2}{last}.") and name.endswith(norm)
    ]:
        depths.append(len(found))
        sizes.append(len(weights[found[0]]))
    return depths, sizes


def infer_config(state_dict: Mapping[str, Tensor], **overrides: Any) -> R2Plus1DNativeConfig:
    """Read variant and sizes off official weights.

    Args:
        state_dict: official names to tensors.
        **overrides: fields of the configuration that weights cannot show.

    Returns:
        The configuration.

    Raises:
        CheckpointLayoutError: if the weights are of neither network.
    """
    variant, weights, head = _backbone(state_dict)
    depths, sizes = _depths_and_sizes(variant, weights)
    fields: dict[str, Any] = {
        "variant": variant,
        "depths": depths,
        "hidden_sizes": sizes,
        "num_channels": weights[FIRST[variant]].shape[1],
    }
    if head:
        fields["num_labels"] = len(head["weight"])
    return R2Plus1DNativeConfig(**{**fields, **overrides})


def from_official(
    state_dict: Mapping[str, Tensor], **overrides: Any
) -> R2Plus1DNativeModel | R2Plus1DNativeForVideoClassification:
    """Build our network from official weights, strictly: every weight of the backbone is used and none is missing.

    Args:
        state_dict: official names to tensors; what does not belong to the video network is left out.
        **overrides: fields of the configuration that weights cannot show.

    Returns:
        The backbone, or a classifier if the weights have its linear layer.

    Raises:
        CheckpointLayoutError: if names or shapes do not fit.
    """
    variant, weights, head = _backbone(state_dict)
    config = infer_config(state_dict, **overrides)
    model = R2Plus1DNativeForVideoClassification(config) if head else R2Plus1DNativeModel(config)
    backbone = model.backbone if head else model
    ours = {NAMES[variant](name, config.depths): name for name in backbone.state_dict()}
    unknown = [name for name in weights if name not in ours]
    if unknown:
        raise CheckpointLayoutError(f"{', '.join(unknown[:5])} are not part of the network of {variant}")
    try:
        backbone.load_state_dict({ours[name]: value for name, value in weights.items()}, strict=True)
        if head:
            model.classifier.load_state_dict(head, strict=True)
    except RuntimeError as error:
        raise CheckpointLayoutError(f"the weights do not fit the network of {variant}: {error}") from error
    return model


def to_official(model: R2Plus1DNativeModel | R2Plus1DNativeForVideoClassification) -> dict[str, Tensor]:
    """The official state dict of one of our networks, without the prefix that a training wrapper adds.

    Args:
        model: a backbone, or a classifier of the RSPNet variant.

    Returns:
        Official names to tensors.

    Raises:
        CheckpointLayoutError: if the official network has no such classifier.
    """
    classifier = isinstance(model, R2Plus1DNativeForVideoClassification)
    if classifier and model.config.variant == "avid_cma":
        raise CheckpointLayoutError("AVID-CMA's network has no classifier; convert model.backbone instead")
    name_of, backbone = NAMES[model.config.variant], model.backbone if classifier else model
    result = {name_of(name, model.config.depths): value for name, value in backbone.state_dict().items()}
    if classifier:
        result |= {f"linear.{name}": value for name, value in model.classifier.state_dict().items()}
    return result


def load_official(path: str | Path, **overrides: Any) -> R2Plus1DNativeModel | R2Plus1DNativeForVideoClassification:
    """Read an official checkpoint file.

    Args:
        path: the file.
        **overrides: fields of the configuration that the file cannot show.

    Returns:
        The network with the file's weights.

    Raises:
        FileNotFoundError: if there is no such file.
        tubelets.models.common.errors.UnsafeCheckpointError: if the file would need unsafe loading.
        CheckpointLayoutError: if it holds neither network.
    """
    state_dict, _ = read_checkpoint(path)
    return from_official(state_dict, **overrides)
