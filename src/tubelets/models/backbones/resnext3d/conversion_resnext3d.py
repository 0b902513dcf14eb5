"""Public weights of the 3D-ResNets family, in both directions (feature_supervised_transfer.md, section 3)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tubelets.models.backbones.resnext3d.configuration_resnext3d import (
    EXPANSION,
    FLOW_MEAN,
    RGB_MEAN,
    UNIT,
    ResNeXt3DConfig,
)
from tubelets.models.backbones.resnext3d.modeling_resnext3d import ResNeXt3DForVideoClassification
from tubelets.models.common.layouts import Rename
from tubelets.models.common.official import OfficialLayout, without_wrapper

TABLE = (
    Rename("conv1.{leaf}", "backbone.stem.0.{leaf}"),
    Rename("bn1.{leaf}", "backbone.stem.1.{leaf}"),
    Rename("layer{}.{rest}", "backbone.layer{}.{rest}"),
    Rename("fc.{leaf}", "classifier.{leaf}"),
)


def _infer(state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    """Sizes of the network; two input channels are flow.

    Files of ResNet-18 and 34 that lack weights of shortcuts have strided ones, type A.
    """
    stem = state_dict["conv1.weight"]
    depths: list[int] = []
    sizes: list[int] = []
    has_third = "layer1.0.conv3.weight" in state_dict
    grouped = has_third and state_dict["layer1.0.conv2.weight"].shape[1] != state_dict["layer1.0.conv2.weight"].shape[0]
    block = "resnext" if grouped else "bottleneck" if has_third else "basic"
    while (name := f"layer{len(depths) + 1}.0.conv{3 if has_third else 2}.weight") in state_dict:
        stage = f"layer{len(depths) + 1}."
        depths.append(sum(key.startswith(stage) and key.endswith(".conv2.weight") for key in state_dict))
        sizes.append(state_dict[name].shape[0] // EXPANSION[block])
    second = state_dict["layer1.0.conv2.weight"]
    channels = stem.shape[1]
    fields: dict[str, Any] = {
        "block": block,
        "depths": depths,
        "hidden_sizes": sizes,
        "stem_size": stem.shape[0],
        "num_channels": channels,
        "cardinality": second.shape[0] // second.shape[1] if grouped else 32,
        "shortcut": "B" if any(".downsample." in key for key in state_dict) else "A",
        "input_media": "flow" if channels == 2 else "video",
        "image_mean": FLOW_MEAN if channels == 2 else RGB_MEAN if channels == 3 else (0.0,) * channels,
        "image_std": (UNIT,) * channels,
        "num_labels": state_dict["fc.weight"].shape[0],
    }
    return ResNeXt3DConfig, fields


def _recognises(state_dict: Mapping[str, Tensor]) -> bool:
    stem = state_dict.get("conv1.weight")
    return (
        stem is not None and stem.ndim == 5 and {"bn1.weight", "layer1.0.bn2.weight", "fc.weight"} <= state_dict.keys()
    )


LAYOUT = OfficialLayout(
    "3D-ResNets", _recognises, _infer, lambda found: ResNeXt3DForVideoClassification, lambda model: TABLE
)
OFFICIAL = [LAYOUT]


def infer_config(state_dict: Mapping[str, Tensor], **overrides: Any) -> ResNeXt3DConfig:
    """Read the sizes off public weights; see `OfficialLayout.infer_config`."""
    config: ResNeXt3DConfig = LAYOUT.infer_config(state_dict, **overrides)
    return config


def from_official(state_dict: Mapping[str, Tensor], **overrides: Any) -> ResNeXt3DForVideoClassification:
    """Build our classifier from public weights, strictly; see `OfficialLayout.from_official`.

    Args:
        state_dict: official names, with or without `module.`, to tensors.
        **overrides: fields of `ResNeXt3DConfig` that weights cannot show.

    Returns:
        The classifier.

    Raises:
        CheckpointLayoutError: if names or shapes do not fit.
    """
    return LAYOUT.from_official(without_wrapper(state_dict), **overrides)


def to_official(model: ResNeXt3DForVideoClassification) -> dict[str, Tensor]:
    """The weights of a classifier in the official names, without `module.`."""
    return LAYOUT.to_official(model)
