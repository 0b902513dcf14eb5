"""Official VideoMAE-family checkpoints and ours, in both directions (sigma.md, sections 7.1 and 10)."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from tubelets.models.checkpoints import CheckpointLayoutError, Rename

BLOCK = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def _weight_and_bias(official: str, ours: str) -> Iterator[Rename]:
    for leaf in ("weight", "bias"):
        yield Rename(f"{official}.{leaf}", f"{ours}.{leaf}")


def _blocks(official: str, ours: str) -> Iterator[Rename]:
    attention = f"{ours}.attention.attention"
    yield Rename(
        f"{official}.attn.qkv.weight", tuple(f"{attention}.{part}.weight" for part in ("query", "key", "value"))
    )
    yield Rename(f"{official}.attn.q_bias", f"{attention}.query.bias")
    yield Rename(f"{official}.attn.v_bias", f"{attention}.value.bias")
    for theirs, mine in BLOCK.items():
        yield from _weight_and_bias(f"{official}.{theirs}", f"{ours}.{mine}")


def encoder_table(prefix: str) -> list[Rename]:
    """Lines for the encoder, whose official names start with `prefix` (`encoder.` or nothing)."""
    return [
        *_weight_and_bias(f"{prefix}patch_embed.proj", "videomae.embeddings.patch_embeddings.projection"),
        *_blocks(f"{prefix}blocks.{{}}", "videomae.encoder.layer.{}"),
        *_weight_and_bias(f"{prefix}norm", "videomae.layernorm"),
    ]


PRETRAINING_TABLE = [
    *encoder_table("encoder."),
    *_blocks("decoder.blocks.{}", "decoder.decoder_layers.{}"),
    *_weight_and_bias("decoder.norm", "decoder.norm"),
    *_weight_and_bias("decoder.head", "decoder.head"),
    Rename("encoder_to_decoder.weight", "encoder_to_decoder.weight"),
    Rename("mask_token", "mask_token"),
]

CLASSIFIER_TABLE = [
    *encoder_table(""),
    *_weight_and_bias("fc_norm", "fc_norm"),
    *_weight_and_bias("head", "classifier"),
]


def is_pretraining(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether official weights are a pretraining network's, not a classifier's."""
    return "encoder.patch_embed.proj.weight" in state_dict


def infer_sizes(state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read a configuration's sizes off official weights.

    Heads are 64 wide in every published model and cannot be seen in the weights; frames, pixels, ratio and mask come
    from the training arguments where a file has them.

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
        "num_hidden_layers": _depth(state_dict, f"{prefix}blocks."),
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
            "decoder_num_hidden_layers": _depth(state_dict, "decoder.blocks."),
            "decoder_num_attention_heads": max(decoder_width // 64, 1),
            "decoder_intermediate_size": state_dict["decoder.blocks.0.mlp.fc1.weight"].shape[0],
            "mask_ratio": float(arguments.get("mask_ratio", 0.9)),
        }
    else:
        sizes |= {"num_labels": state_dict["head.weight"].shape[0], "use_mean_pooling": True}
    return sizes


def _depth(state_dict: Mapping[str, Tensor], prefix: str) -> int:
    numbers = [int(name[len(prefix) :].split(".")[0]) for name in state_dict if name.startswith(prefix)]
    if not numbers:
        raise CheckpointLayoutError(f"there is no weight {prefix}0; is this another method's checkpoint?")
    return 1 + max(numbers)
