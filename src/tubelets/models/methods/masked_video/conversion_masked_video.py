"""Official checkpoints of the VideoMAE family and ours, in both directions (sigma.md, sections 7.1 and 10)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig
from tubelets.models.backbones.video_vit.modeling_video_vit import TubeletsVideoMAEForVideoClassification
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import Rename
from tubelets.models.common.official import OfficialLayout, depth_of
from tubelets.models.methods.masked_video.modeling_masked_video import TubeletsVideoMAEForPreTraining


def _blocks(official: str, ours: str) -> list[Rename]:
    attention = f"{ours}.attention.attention"
    return [
        Rename(
            f"{official}.attn.qkv.weight", tuple(f"{attention}.{part}.weight" for part in ("query", "key", "value"))
        ),
        Rename(f"{official}.attn.q_bias", f"{attention}.query.bias"),
        Rename(f"{official}.attn.v_bias", f"{attention}.value.bias"),
        Rename(f"{official}.attn.proj.{{leaf}}", f"{ours}.attention.output.dense.{{leaf}}"),
        Rename(f"{official}.norm1.{{leaf}}", f"{ours}.layernorm_before.{{leaf}}"),
        Rename(f"{official}.norm2.{{leaf}}", f"{ours}.layernorm_after.{{leaf}}"),
        Rename(f"{official}.mlp.fc1.{{leaf}}", f"{ours}.intermediate.dense.{{leaf}}"),
        Rename(f"{official}.mlp.fc2.{{leaf}}", f"{ours}.output.dense.{{leaf}}"),
    ]


def encoder_table(prefix: str) -> list[Rename]:
    """Lines for the encoder, whose official names start with `prefix` (`encoder.` or nothing)."""
    return [
        Rename(f"{prefix}patch_embed.proj.{{leaf}}", "videomae.embeddings.patch_embeddings.projection.{leaf}"),
        *_blocks(f"{prefix}blocks.{{}}", "videomae.encoder.layer.{}"),
        Rename(f"{prefix}norm.{{leaf}}", "videomae.layernorm.{leaf}"),
    ]


PRETRAINING_TABLE = [
    *encoder_table("encoder."),
    *_blocks("decoder.blocks.{}", "decoder.decoder_layers.{}"),
    Rename("decoder.norm.{leaf}", "decoder.norm.{leaf}"),
    Rename("decoder.head.{leaf}", "decoder.head.{leaf}"),
    Rename("encoder_to_decoder.weight", "encoder_to_decoder.weight"),
    Rename("mask_token", "mask_token"),
]

CLASSIFIER_TABLE = [
    *encoder_table(""),
    Rename("fc_norm.{leaf}", "fc_norm.{leaf}"),
    Rename("head.{leaf}", "classifier.{leaf}"),
]


def is_pretraining(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether official weights are a pretraining network's, not a classifier's."""
    return "encoder.patch_embed.proj.weight" in state_dict


def is_video_classifier(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether official weights are a classifier's of this family."""
    embedding = state_dict.get("patch_embed.proj.weight")
    return embedding is not None and embedding.ndim == 5


def predicts_pixels(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the decoder of an official pretraining network is as wide as the pixels of a tube."""
    return len(state_dict["decoder.head.weight"]) == state_dict["encoder.patch_embed.proj.weight"][0].numel()


def infer_sizes(state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read a configuration's sizes off official weights.

    Heads have 64 channels in every published model, which the weights do not show. Frames, pixels, ratio and mask are
    read from the training arguments, if stored.

    Args:
        state_dict: official names to tensors.
        arguments: the training arguments stored beside them.

    Returns:
        Fields of `TubeletsVideoMAEConfig`.

    Raises:
        CheckpointLayoutError: if the weights are not of this family.
    """
    arguments = arguments or {}
    prefix = "encoder." if is_pretraining(state_dict) else ""
    if f"{prefix}patch_embed.proj.weight" not in state_dict:
        raise CheckpointLayoutError("there is no 'patch_embed.proj.weight'; is this another method's checkpoint?")
    embedding = state_dict[f"{prefix}patch_embed.proj.weight"]
    if embedding.ndim != 5:
        raise CheckpointLayoutError(
            f"{prefix}patch_embed.proj.weight has shape {tuple(embedding.shape)}, not a video model's five dimensions"
        )
    width, channels, tubelet, patch, _ = embedding.shape
    sizes: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": depth_of(state_dict, f"{prefix}blocks."),
        "num_attention_heads": max(width // 64, 1),
        "intermediate_size": state_dict[f"{prefix}blocks.0.mlp.fc1.weight"].shape[0],
        "num_channels": channels,
        "tubelet_size": tubelet,
        "patch_size": patch,
        "num_frames": int(arguments.get("num_frames", 16)),
        "image_size": int(arguments.get("input_size", 224)),
    }
    if prefix:
        decoder_width = state_dict["encoder_to_decoder.weight"].shape[0]
        sizes |= {
            "decoder_hidden_size": decoder_width,
            "decoder_num_hidden_layers": depth_of(state_dict, "decoder.blocks."),
            "decoder_num_attention_heads": max(decoder_width // 64, 1),
            "decoder_intermediate_size": state_dict["decoder.blocks.0.mlp.fc1.weight"].shape[0],
            "mask_ratio": float(arguments.get("mask_ratio", 0.9)),
        }
    else:
        sizes |= {"num_labels": state_dict["head.weight"].shape[0], "use_mean_pooling": True}
    return sizes


def family_layout(
    name: str,
    config_class: type,
    pretraining_class: type,
    classifier_class: type,
    recognises: Callable[[Mapping[str, Tensor]], bool],
    infer_target: Callable[[Mapping[str, Tensor], Mapping[str, Any], Mapping[str, Any]], dict[str, Any]],
    pretraining_table: Sequence[Rename] = tuple(PRETRAINING_TABLE),
) -> OfficialLayout:
    """The official layout of a method of the family.

    Args:
        name: of the method.
        config_class: configuration of the method.
        pretraining_class: its pretraining model.
        classifier_class: its classifier.
        recognises: whether official weights are this method's rather than another's of the family.
        infer_target: fields that say what the decoder predicts, from the state dict, the fields of `infer_sizes` and
            the training arguments.
        pretraining_table: names of a pretraining network.

    Returns:
        The layout.
    """

    def infer(state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
        fields = infer_sizes(state_dict, arguments)
        if is_pretraining(state_dict):
            fields |= infer_target(state_dict, fields, arguments)
        return config_class, fields

    return OfficialLayout(
        name,
        recognises,
        infer,
        model_class=lambda state_dict: pretraining_class if is_pretraining(state_dict) else classifier_class,
        table=lambda model: pretraining_table if isinstance(model, pretraining_class) else CLASSIFIER_TABLE,
    )


def _is_plain(state_dict: Mapping[str, Tensor]) -> bool:
    if is_pretraining(state_dict):
        return "prototypes" not in state_dict and predicts_pixels(state_dict)
    return is_video_classifier(state_dict)


LAYOUT = family_layout(
    "VideoMAE",
    TubeletsVideoMAEConfig,
    TubeletsVideoMAEForPreTraining,
    TubeletsVideoMAEForVideoClassification,
    _is_plain,
    lambda state_dict, sizes, arguments: {},
)
OFFICIAL = [LAYOUT]
infer_config = LAYOUT.infer_config
from_official = LAYOUT.from_official
to_official = LAYOUT.to_official
load_official = LAYOUT.load_official
