"""Official Tubelet-Contrast checkpoints and ours, in both directions (tubelet_contrast.md, section 8)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tubelets.models.backbones.resnet3d.conversion_resnet3d import LAYOUTS
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import read_checkpoint
from tubelets.models.methods.tubelet_contrast.configuration_tubelet_contrast import TubeletContrastConfig
from tubelets.models.methods.tubelet_contrast.modeling_tubelet_contrast import TubeletContrastForPreTraining

_FIRST_KEYS = {
    "backbone.stem.conv_s.weight": "r2plus1d_18",
    "backbone.stem.conv.weight": "r3d_18",
    "backbone.conv3d_1a_7x7.conv3d.weight": "i3d",
}


def official_name(name: str, backbone: str) -> str:
    """The official name of one of our weights.

    Args:
        name: our name.
        backbone: as in the configuration.

    Example:
        >>> official_name("key_encoder.backbone.layer1.0.conv1.1.weight", "r2plus1d_18")
        'key_encoder.layer1.0.bn1.weight'
        >>> official_name("projection.2.bias", "i3d"), official_name("queue.keys", "i3d")
        ('fc.4.bias', 'queue')
    """
    first, _, rest = name.partition(".")
    if first == "queue":
        return {"keys": "queue", "pointer": "queue_ptr"}[rest]
    if first in ("projection", "key_projection"):
        number, _, leaf = rest.partition(".")
        # The head of I3D has pooling and flattening in front.
        place = int(number) + (2 if backbone == "i3d" else 0)
        return f"{'fc' if first == 'projection' else 'key_fc'}.{place}.{leaf}"
    inner = rest.removeprefix("backbone.")
    if backbone != "i3d":
        inner = LAYOUTS["backbone_3d" if backbone == "r3d_18" else "backbone_2plus1d"].official(inner)
        inner = inner.removeprefix("backbone.")
    return f"{'backbone' if first == 'encoder' else 'key_encoder'}.{inner}"


def infer_config(state_dict: Mapping[str, Tensor], **overrides: Any) -> TubeletContrastConfig:
    """Read the backbone and the sizes off official weights.

    Args:
        state_dict: official names to tensors.
        **overrides: fields of `TubeletContrastConfig` that weights cannot show.

    Returns:
        The configuration.

    Raises:
        CheckpointLayoutError: if the weights are not Tubelet-Contrast's.
    """
    found = [backbone for name, backbone in _FIRST_KEYS.items() if name in state_dict]
    if not found or "queue" not in state_dict:
        raise CheckpointLayoutError("there is no backbone with a queue; is this another method's checkpoint?")
    size, length = state_dict["queue"].shape
    return TubeletContrastConfig(**{"backbone": found[0], "projection_size": size, "queue_size": length, **overrides})


def from_official(
    state_dict: Mapping[str, Tensor], config: TubeletContrastConfig | None = None
) -> TubeletContrastForPreTraining:
    """Build our model from official weights, strictly: every weight is used and none is missing.

    Args:
        state_dict: official names to tensors.
        config: the configuration, or None to infer it.

    Returns:
        The pretraining model with its key encoder and queue.

    Raises:
        CheckpointLayoutError: if names or shapes do not fit.
    """
    weights = {name.removeprefix("module."): value for name, value in state_dict.items()}
    config = config or infer_config(weights)
    model = TubeletContrastForPreTraining(config)
    names = {official_name(name, config.backbone): name for name in model.state_dict()}
    if unknown := [name for name in weights if name not in names]:
        raise CheckpointLayoutError(f"these weights are not part of the layout: {', '.join(unknown[:5])}")
    try:
        model.load_state_dict({names[name]: value for name, value in weights.items()})
    except RuntimeError as error:
        raise CheckpointLayoutError(f"the weights do not fit Tubelet-Contrast: {error}") from error
    return model


def to_official(model: TubeletContrastForPreTraining) -> dict[str, Tensor]:
    """The official state dict of one of our models.

    Args:
        model: a pretraining model.

    Returns:
        Official names to tensors.
    """
    return {official_name(name, model.config.backbone): value for name, value in model.state_dict().items()}


def load_official(path: str | Path, **overrides: Any) -> TubeletContrastForPreTraining:
    """Read an official checkpoint file.

    Args:
        path: the file.
        **overrides: fields of `TubeletContrastConfig` that weights cannot show.

    Returns:
        The pretraining model with the file's weights.

    Raises:
        FileNotFoundError: if there is no such file.
        tubelets.models.common.errors.UnsafeCheckpointError: if the file would need unsafe loading.
        CheckpointLayoutError: if the weights are not Tubelet-Contrast's.
    """
    state_dict, _ = read_checkpoint(path)
    weights = {name.removeprefix("module."): value for name, value in state_dict.items()}
    return from_official(weights, infer_config(weights, **overrides))
