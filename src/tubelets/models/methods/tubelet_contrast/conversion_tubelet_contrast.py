"""Official Tubelet-Contrast checkpoints and ours, in both directions (tubelet_contrast.md, section 8)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tubelets.models.backbones.resnet3d.conversion_resnet3d import FACTORISED, FULL
from tubelets.models.common.layouts import Rename
from tubelets.models.common.official import OfficialLayout
from tubelets.models.methods.tubelet_contrast.configuration_tubelet_contrast import TubeletContrastConfig
from tubelets.models.methods.tubelet_contrast.modeling_tubelet_contrast import TubeletContrastForPreTraining

_FIRST_KEYS = {
    "backbone.stem.conv_s.weight": "r2plus1d_18",
    "backbone.stem.conv.weight": "r3d_18",
    "backbone.conv3d_1a_7x7.conv3d.weight": "i3d",
}
# I3D has the same names here and there.
_BACKBONES = {"r2plus1d_18": FACTORISED, "r3d_18": FULL, "i3d": [Rename("backbone.{rest}", "{rest}")]}


def _table(model: TubeletContrastForPreTraining) -> list[Rename]:
    backbone = model.config.backbone
    # The head of I3D has pooling and flattening in front.
    shift = 2 if backbone == "i3d" else 0
    table = [Rename("queue", "queue.keys"), Rename("queue_ptr", "queue.pointer")]
    for line in _BACKBONES[backbone]:
        name = line.official.removeprefix("backbone.")
        table.append(Rename(f"backbone.{name}", f"encoder.backbone.{line.ours}"))
        table.append(Rename(f"key_encoder.{name}", f"key_encoder.backbone.{line.ours}"))
    for official, ours in (("fc", "projection"), ("key_fc", "key_projection")):
        table += [Rename(f"{official}.{place + shift}.{{leaf}}", f"{ours}.{place}.{{leaf}}") for place in (0, 2)]
    return table


def _recognises(state_dict: Mapping[str, Tensor]) -> bool:
    return "queue" in state_dict and not _FIRST_KEYS.keys().isdisjoint(state_dict)


def _infer(state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    if not _recognises(state_dict):
        raise ValueError("there is no backbone with a queue")
    size, length = state_dict["queue"].shape
    backbone = next(backbone for name, backbone in _FIRST_KEYS.items() if name in state_dict)
    return TubeletContrastConfig, {"backbone": backbone, "projection_size": size, "queue_size": length}


LAYOUT = OfficialLayout(
    "Tubelet-Contrast", _recognises, _infer, lambda state_dict: TubeletContrastForPreTraining, _table
)
OFFICIAL = [LAYOUT]
infer_config = LAYOUT.infer_config
from_official = LAYOUT.from_official
to_official = LAYOUT.to_official
load_official = LAYOUT.load_official
