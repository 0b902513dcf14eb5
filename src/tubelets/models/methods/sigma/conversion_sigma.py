"""Official SIGMA checkpoints and ours, in both directions (sigma.md, section 10)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tubelets.models.common.layouts import Rename
from tubelets.models.methods.masked_video.conversion_masked_video import (
    PRETRAINING_TABLE,
    family_layout,
    is_pretraining,
)
from tubelets.models.methods.sigma.configuration_sigma import SigmaConfig
from tubelets.models.methods.sigma.modeling_sigma import SigmaForPreTraining, SigmaForVideoClassification

SIGMA_PRETRAINING_TABLE = [
    *PRETRAINING_TABLE,
    Rename("prototypes", "prototypes"),
    Rename("head.{}.{leaf}", "projection.{}.{leaf}"),
]


def _infer_target(
    state_dict: Mapping[str, Tensor], sizes: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """A projection network means `mlp`; prototypes without one a DINO target of the decoder's width; none, pixels."""
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


LAYOUT = family_layout(
    "SIGMA",
    SigmaConfig,
    SigmaForPreTraining,
    SigmaForVideoClassification,
    lambda state_dict: is_pretraining(state_dict) and "prototypes" in state_dict,
    _infer_target,
    SIGMA_PRETRAINING_TABLE,
)
OFFICIAL = [LAYOUT]
infer_config = LAYOUT.infer_config
from_official = LAYOUT.from_official
to_official = LAYOUT.to_official
load_official = LAYOUT.load_official
