"""Official SMILE checkpoints and ours, and the official teacher file, in both directions (smile.md, section 11).

Both stages have one layout, VideoMAE's. The teacher is the visual tower of OpenAI's CLIP with its patch embedding
written as a 3-D convolution of one frame; it becomes a `CLIPVisionModel` of transformers.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import Rename, Transform, convert_to_official, convert_to_ours
from tubelets.models.methods.masked_video.conversion_masked_video import (
    family_layout,
    is_pretraining,
    predicts_pixels,
)
from tubelets.models.methods.smile.configuration_smile import TEACHERS, SmileConfig
from tubelets.models.methods.smile.modeling_smile import SmileForPreTraining, SmileForVideoClassification

DEFAULT_MASK_RATIO = 0.8


def _infer_target(
    state_dict: Mapping[str, Tensor], sizes: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """The decoder is as wide as the pixels of a tube or as the features of CLIP, or of DINO where that is stated."""
    width = state_dict["decoder.head.weight"].shape[0]
    target: dict[str, Any] = {"mask_ratio": float(arguments.get("mask_ratio", DEFAULT_MASK_RATIO))}
    if width == sizes["num_channels"] * sizes["tubelet_size"] * sizes["patch_size"] ** 2:
        return target | {"target_type": "pixel"}
    kind = "dino" if "dino" in str(arguments.get("target_type", "")) or ("clip", width) not in TEACHERS else "clip"
    return target | {"target_type": kind, "teacher_hidden_size": width}


LAYOUT = family_layout(
    "SMILE",
    SmileConfig,
    SmileForPreTraining,
    SmileForVideoClassification,
    lambda found: is_pretraining(found) and "prototypes" not in found and not predicts_pixels(found),
    _infer_target,
)
OFFICIAL = [LAYOUT]
infer_config = LAYOUT.infer_config
from_official = LAYOUT.from_official
to_official = LAYOUT.to_official
load_official = LAYOUT.load_official


def _teacher_table() -> list[Rename]:
    block, layer = "transformer.resblocks.{}", "encoder.layers.{}"
    parts = [f"{layer}.self_attn.{name}_proj" for name in "qkv"]
    return [
        Rename("class_embedding", "embeddings.class_embedding"),
        Rename("positional_embedding", "embeddings.position_embedding.weight"),
        Rename("conv1.weight", "embeddings.patch_embedding.weight", ONE_FRAME),
        Rename("ln_pre.{leaf}", "pre_layrnorm.{leaf}"),
        Rename("ln_post.{leaf}", "post_layernorm.{leaf}"),
        Rename(f"{block}.attn.in_proj_weight", tuple(f"{part}.weight" for part in parts)),
        Rename(f"{block}.attn.in_proj_bias", tuple(f"{part}.bias" for part in parts)),
        Rename(f"{block}.attn.out_proj.{{leaf}}", f"{layer}.self_attn.out_proj.{{leaf}}"),
        Rename(f"{block}.ln_1.{{leaf}}", f"{layer}.layer_norm1.{{leaf}}"),
        Rename(f"{block}.ln_2.{{leaf}}", f"{layer}.layer_norm2.{{leaf}}"),
        Rename(f"{block}.mlp.c_fc.{{leaf}}", f"{layer}.mlp.fc1.{{leaf}}"),
        Rename(f"{block}.mlp.c_proj.{{leaf}}", f"{layer}.mlp.fc2.{{leaf}}"),
    ]


# The official teacher embeds one frame with a 3-D convolution, OpenAI's own file with a 2-D one.
ONE_FRAME = Transform(
    to_ours=lambda weight: weight.squeeze(2) if weight.ndim == 5 else weight,
    to_official=lambda weight: weight.unsqueeze(2),
)
TEACHER_TABLE = _teacher_table()


def teacher_from_official(state_dict: Mapping[str, Tensor], num_attention_heads: int | None = None) -> CLIPVisionModel:
    """Build the CLIP tower from the official teacher file.

    Args:
        state_dict: names of the official teacher, or OpenAI's own with a 2-D patch embedding, to tensors.
        num_attention_heads: heads of each block; None means heads of 64 channels, as every CLIP has.

    Returns:
        A vision model of transformers with quick GELU. Save it with `save_pretrained` and name the folder as
        `teacher="transformers:FOLDER"`, or give `TransformersImageEncoder(model)` to `load_teacher`.

    Raises:
        CheckpointLayoutError: if names or shapes are not those of the tower.
    """
    if "conv1.weight" not in state_dict or "positional_embedding" not in state_dict:
        raise CheckpointLayoutError(
            "there is no 'conv1.weight' or 'positional_embedding'; is this a CLIP visual tower?"
        )
    ours = convert_to_ours(state_dict, TEACHER_TABLE)
    width, channels, patch, _ = ours["embeddings.patch_embedding.weight"].shape
    try:
        config = CLIPVisionConfig(
            hidden_size=width,
            num_channels=channels,
            patch_size=patch,
            image_size=patch * round((state_dict["positional_embedding"].shape[0] - 1) ** 0.5),
            num_hidden_layers=sum(name.endswith(".ln_1.weight") for name in state_dict),
            num_attention_heads=num_attention_heads or max(width // 64, 1),
            intermediate_size=state_dict["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            hidden_act="quick_gelu",
            layer_norm_eps=1e-5,
        )
        model = CLIPVisionModel(config)
        _tower(model).load_state_dict(ours, strict=True)
    except (KeyError, RuntimeError) as error:
        raise CheckpointLayoutError(f"the weights do not fit a CLIP visual tower: {error}") from error
    return model.eval()


def teacher_to_official(model: CLIPVisionModel) -> dict[str, Tensor]:
    """The official teacher file's state dict of a CLIP tower, with its patch embedding over one frame.

    Args:
        model: a vision model of transformers.

    Returns:
        Official names to tensors.
    """
    weights = {name: value for name, value in _tower(model).state_dict().items() if not name.endswith("position_ids")}
    return convert_to_official(weights, TEACHER_TABLE)


def _tower(model: CLIPVisionModel) -> torch.nn.Module:
    """The module that holds the layers; older versions of transformers wrap it."""
    return getattr(model, "vision_model", model)
