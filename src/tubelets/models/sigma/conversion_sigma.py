"""Official SIGMA checkpoints and ours, in both directions (sigma.md, section 10)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tubelets.models.checkpoints import (
    CheckpointLayoutError,
    Rename,
    convert_to_official,
    convert_to_ours,
    read_checkpoint,
)
from tubelets.models.sigma.configuration_sigma import SigmaConfig
from tubelets.models.sigma.modeling_sigma import SigmaForPreTraining, SigmaForVideoClassification
from tubelets.models.videomae.conversion_videomae import (
    CLASSIFIER_TABLE,
    PRETRAINING_TABLE,
    infer_sizes,
    is_pretraining,
)

SIGMA_PRETRAINING_TABLE = [
    *PRETRAINING_TABLE,
    Rename("prototypes", "prototypes"),
    Rename("head.{}.weight", "projection.{}.weight"),
    Rename("head.{}.bias", "projection.{}.bias"),
]


def infer_config(
    state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any] | None = None, **overrides: Any
) -> SigmaConfig:
    """Read the variant and the sizes off official weights.

    A projection network means `mlp`; prototypes without one mean a DINO target of the decoder's width; no prototypes
    mean the pixel baseline.

    Args:
        state_dict: official names to tensors.
        arguments: training arguments stored beside them, which give what weights cannot show.
        **overrides: fields of `SigmaConfig` that are known better.

    Returns:
        The configuration.

    Raises:
        CheckpointLayoutError: if the weights are not of this family.
    """
    arguments = arguments or {}
    try:
        fields = infer_sizes(state_dict, arguments)
        if is_pretraining(state_dict):
            fields |= _infer_target(state_dict, fields, arguments)
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, CheckpointLayoutError):
            raise
        raise CheckpointLayoutError(
            f"the sizes cannot be read off these weights ({error!r}); is this another method's checkpoint?"
        ) from error
    return SigmaConfig(**{**fields, **overrides})


def _infer_target(
    state_dict: Mapping[str, Tensor], sizes: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    width = state_dict["decoder.head.weight"].shape[0]
    target: dict[str, Any] = {}
    if "prototypes" in state_dict:
        target["num_prototypes"] = state_dict["prototypes"].shape[0]
    if "head.0.weight" in state_dict:
        depth = sum(name.startswith("head.") and name.endswith(".weight") for name in state_dict)
        hidden = [state_dict[f"head.{2 * index}.weight"].shape[0] for index in range(depth)]
        return target | {"target_type": "mlp", "projection_hidden_sizes": hidden[:-1], "projection_size": hidden[-1]}
    pixels = sizes["num_channels"] * sizes["tubelet_size"] * sizes["patch_size"] ** 2
    if "prototypes" not in state_dict and width == pixels:
        return target | {"target_type": "pixel"}
    kind = "dino_v2" if str(arguments.get("target_type", "")).startswith("dino_v2") else "dino_v1"
    loss_type = "prototypes" if "prototypes" in state_dict else "regression"
    return target | {"target_type": kind, "teacher_hidden_size": width, "loss_type": loss_type}


def from_official(
    state_dict: Mapping[str, Tensor], config: SigmaConfig | None = None, arguments: Mapping[str, Any] | None = None
) -> SigmaForPreTraining | SigmaForVideoClassification:
    """Build our model from official weights, strictly: every weight is used and none is missing.

    Args:
        state_dict: official names to tensors, of a pretraining network or of a classifier.
        config: the configuration, or None to infer it.
        arguments: training arguments, for the inference.

    Returns:
        A pretraining model or a classifier.

    Raises:
        CheckpointLayoutError: if names or shapes do not fit.
    """
    config = config or infer_config(state_dict, arguments)
    pretraining = is_pretraining(state_dict)
    model_class = SigmaForPreTraining if pretraining else SigmaForVideoClassification
    model = model_class(config)
    weights = convert_to_ours(state_dict, SIGMA_PRETRAINING_TABLE if pretraining else CLASSIFIER_TABLE)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CheckpointLayoutError(f"the weights do not fit {model_class.__name__}: {error}") from error
    return model


def to_official(model: SigmaForPreTraining | SigmaForVideoClassification) -> dict[str, Tensor]:
    """The official state dict of one of our models, with the names, shapes and values of the official code.

    Args:
        model: a pretraining model or a classifier.

    Returns:
        Official names to tensors.
    """
    pretraining = isinstance(model, SigmaForPreTraining)
    return convert_to_official(model.state_dict(), SIGMA_PRETRAINING_TABLE if pretraining else CLASSIFIER_TABLE)


def load_official(path: str | Path, **overrides: Any) -> SigmaForPreTraining | SigmaForVideoClassification:
    """Read an official SIGMA checkpoint file.

    Args:
        path: the `.pth` file.
        **overrides: fields of `SigmaConfig` that the file cannot show, e.g. `id2label` or `num_attention_heads`.

    Returns:
        A pretraining model or a classifier with the file's weights.

    Raises:
        FileNotFoundError: if there is no such file.
        tubelets.models.checkpoints.UnsafeCheckpointError: if the file would need unsafe loading.
        CheckpointLayoutError: if the weights are not SIGMA's.
    """
    state_dict, arguments = read_checkpoint(path)
    return from_official(state_dict, infer_config(state_dict, arguments, **overrides))
