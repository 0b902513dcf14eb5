"""Official Skeleton-Contrast checkpoints and ours, in both directions (skeleton_contrast.md, section 10)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tubelets.models.backbones.skeleton_networks.conversion_skeleton import FIRST, TABLES, encoder_fields, prefixed
from tubelets.models.common.layouts import Rename
from tubelets.models.common.official import OfficialLayout
from tubelets.models.methods.skeleton_contrast.configuration_skeleton_contrast import SkeletonContrastConfig
from tubelets.models.methods.skeleton_contrast.modeling_skeleton_contrast import SkeletonContrastForPreTraining

_KINDS = {"sequence": "bigru", "graph": "agcn", "image": "hcn"}
# Official names of query encoder, key encoder and queue of the first and the second representation.
_INTER = (("encoder_q", "encoder_k", "S1"), ("encoder_r", "encoder_l", "S2"))


def _table(model: SkeletonContrastForPreTraining) -> list[Rename]:
    names = model.config.representations
    if len(names) > 2:
        raise ValueError("the official code has no model of three representations; save the model with save_pretrained")
    table = []
    for name, (query, key, queue) in zip(names, _INTER, strict=False):
        lines = TABLES[_KINDS[name]]
        table += prefixed(lines, f"{query}.", f"encoder.{name}.")
        table += prefixed(lines, f"{key}.", f"key_encoder.{name}.")
        table += [
            Rename(f"{query}.fc.{{}}.{{leaf}}", f"projections.{name}.{{}}.{{leaf}}"),
            Rename(f"{key}.fc.{{}}.{{leaf}}", f"key_projections.{name}.{{}}.{{leaf}}"),
        ]
        keys, pointer = ("queue", "queue_ptr") if len(names) == 1 else (f"Queue_{queue}", f"queue_ptr_{queue}")
        table += [Rename(keys, f"queues.{name}.keys"), Rename(pointer, f"queues.{name}.pointer")]
    return table


def _inside(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}


def _representation(weights: Mapping[str, Tensor]) -> str | None:
    return next((name for name, kind in _KINDS.items() if FIRST[kind] in weights), None)


def _recognises(state_dict: Mapping[str, Tensor]) -> bool:
    has_queue = "Queue_S1" in state_dict or "queue" in state_dict
    return has_queue and _representation(_inside(state_dict, "encoder_q.")) is not None


def _infer(state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    if not _recognises(state_dict):
        raise ValueError("there is no skeleton encoder with a queue")
    size, length = state_dict["Queue_S1" if "Queue_S1" in state_dict else "queue"].shape
    fields: dict[str, Any] = {"projection_size": size, "queue_size": length, "representations": []}
    for query, _, _ in _INTER:
        weights = _inside(state_dict, f"{query}.")
        name = _representation(weights)
        if name is None:
            continue
        options = encoder_fields(_KINDS[name], weights)
        fields["representations"].append(name)
        # What encoders share is stated once.
        for shared in ("num_coordinates", "num_frames"):
            if shared in options:
                fields[shared] = options.pop(shared)
        fields[f"{name}_options"] = options
    return SkeletonContrastConfig, fields


LAYOUT = OfficialLayout(
    "Skeleton-Contrast", _recognises, _infer, lambda state_dict: SkeletonContrastForPreTraining, _table
)
OFFICIAL = [LAYOUT]
infer_config = LAYOUT.infer_config
from_official = LAYOUT.from_official
to_official = LAYOUT.to_official
load_official = LAYOUT.load_official
