"""Official AudioMAE, MaskSpec and CAV-MAE checkpoints and ours, in both directions (structured_noise_masking.md, 8).

The structured-noise paper has published no checkpoint; these are the base networks whose masks it changes. All three
follow timm's names. A weight file shows neither the sampling rate nor the order of the tokens: a position table of 496
patches is taken for MaskSpec's, any other one for AudioMAE's, and every field can be stated instead.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import Rename, convert_to_official, convert_to_ours, read_checkpoint
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio import StructuredNoiseAudioConfig
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio_video import (
    StructuredNoiseAudioVideoConfig,
)
from tubelets.models.methods.structured_noise.modeling_structured_noise_audio import (
    StructuredNoiseAudioForAudioClassification,
    StructuredNoiseAudioForPreTraining,
)
from tubelets.models.methods.structured_noise.modeling_structured_noise_audio_video import (
    StructuredNoiseAudioVideoForPreTraining,
    StructuredNoiseAudioVideoForVideoClassification,
)

NUM_MEL_BINS = 128
MASKSPEC_TOKENS = 496
# What MaskSpec's weights do not show.
MASKSPEC = {
    "sampling_rate": 32000, "token_order": "frequency", "mask_ratio": 0.75, "spectrogram_mean": -4.5,
    "spectrogram_std": 2.5, "roll_augmentation": "none", "gain_augmentation": False,
}  # fmt: skip

# Norms that CAV-MAE's blocks have and never use: those of single modalities outside of the shared blocks.
UNUSED = re.compile(r"(?:blocks_[av]|decoder_blocks)\.\d+\.norm[12]_[av]\.(weight|bias)")
EMBEDDINGS = re.compile(r"patch_embed(?:_[av])?\.proj\.weight")


def _both(official: str, ours: str) -> Iterator[Rename]:
    for leaf in ("weight", "bias"):
        yield Rename(f"{official}.{leaf}", f"{ours}.{leaf}")


def _attention(official: str, ours: str) -> Iterator[Rename]:
    for leaf in ("weight", "bias"):
        parts = tuple(f"{ours}.{part}.{leaf}" for part in ("query", "key", "value"))
        yield Rename(f"{official}.qkv.{leaf}", parts)


def _blocks(official: str, ours: str) -> Iterator[Rename]:
    yield from _attention(f"{official}.attn", f"{ours}.attention.attention")
    yield from _both(f"{official}.attn.proj", f"{ours}.attention.output.dense")
    yield from _both(f"{official}.norm1", f"{ours}.layernorm_before")
    yield from _both(f"{official}.norm2", f"{ours}.layernorm_after")
    yield from _both(f"{official}.mlp.fc1", f"{ours}.intermediate.dense")
    yield from _both(f"{official}.mlp.fc2", f"{ours}.output.dense")


def _window_blocks(official: str, ours: str) -> Iterator[Rename]:
    yield from _attention(f"{official}.attn", f"{ours}.attention")
    yield from _both(f"{official}.attn.proj", f"{ours}.attention.output")
    yield Rename(f"{official}.attn.tau", f"{ours}.attention.temperature")
    yield from _both(f"{official}.attn.meta_mlp.fc1", f"{ours}.attention.position_hidden")
    yield from _both(f"{official}.attn.meta_mlp.fc2", f"{ours}.attention.position_output")
    yield from _both(f"{official}.norm1", f"{ours}.layernorm_attention")
    yield from _both(f"{official}.norm2", f"{ours}.layernorm_output")
    yield from _both(f"{official}.mlp.fc1", f"{ours}.intermediate")
    yield from _both(f"{official}.mlp.fc2", f"{ours}.output")


AUDIO_ENCODER = [
    Rename("cls_token", "audio.embeddings.cls_token"),
    Rename("pos_embed", "audio.embeddings.positions.position_embeddings"),
    *_both("patch_embed.proj", "audio.embeddings.patch_embeddings"),
    *_blocks("blocks.{}", "audio.encoder.layer.{}"),
]
DECODER_ENDS = [
    *_both("decoder_embed", "encoder_to_decoder"),
    Rename("mask_token", "mask_token"),
    *_both("decoder_norm", "decoder.norm"),
]
AUDIO_TABLE = [
    *AUDIO_ENCODER,
    *_both("norm", "audio.layernorm"),
    *DECODER_ENDS,
    Rename("decoder_pos_embed", "decoder_positions.position_embeddings"),
    *_both("decoder_pred", "prediction"),
]
PLAIN_TABLE = [*AUDIO_TABLE, *_blocks("decoder_blocks.{}", "decoder.layers.{}")]
WINDOW_TABLE = [*AUDIO_TABLE, *_window_blocks("decoder_blocks.{}", "decoder.layers.{}")]
AUDIO_CLASSIFIER_TABLE = [*AUDIO_ENCODER, *_both("fc_norm", "fc_norm"), *_both("head", "classifier")]


def _modality(letter: str, name: str) -> Iterator[Rename]:
    encoder, shared = "audio_video", "audio_video.shared_layers.{}"
    yield from _both(f"patch_embed_{letter}.proj", f"{encoder}.{name}_embeddings.patch_embeddings")
    yield Rename(f"modality_{letter}", f"{encoder}.{name}_embeddings.modality")
    yield Rename(f"pos_embed_{letter}", f"{encoder}.{name}_embeddings.positions.position_embeddings")
    yield from _blocks(f"blocks_{letter}.{{}}", f"{encoder}.{name}_layers.{{}}")
    yield from _both(f"blocks_u.{{}}.norm1_{letter}", f"{shared}.layernorm_before_{name}")
    yield from _both(f"blocks_u.{{}}.norm2_{letter}", f"{shared}.layernorm_after_{name}")
    yield from _both(f"norm_{letter}", f"{encoder}.{name}_norm")


AUDIO_VIDEO_ENCODER = [
    *_modality("a", "audio"),
    *_modality("v", "video"),
    *_blocks("blocks_u.{}", "audio_video.shared_layers.{}"),
    *_both("norm", "audio_video.joint_norm"),
]
AUDIO_VIDEO_TABLE = [
    *AUDIO_VIDEO_ENCODER,
    *DECODER_ENDS,
    *_blocks("decoder_blocks.{}", "decoder.layers.{}"),
    *(
        line
        for letter, name in (("a", "audio"), ("v", "video"))
        for line in (
            Rename(f"decoder_modality_{letter}", f"decoder_modality_{name}"),
            Rename(f"decoder_pos_embed_{letter}", f"{name}_decoder_positions.position_embeddings"),
            *_both(f"decoder_pred_{letter}", f"{name}_prediction"),
        )
    ),
]
AUDIO_VIDEO_CLASSIFIER_TABLE = [
    *AUDIO_VIDEO_ENCODER,
    *_both("mlp_head.0", "fc_norm"),
    *_both("mlp_head.1", "classifier"),
]


def _is_audio_video(state_dict: Mapping[str, Tensor]) -> bool:
    return "patch_embed_a.proj.weight" in state_dict


def _is_pretraining(state_dict: Mapping[str, Tensor]) -> bool:
    return "decoder_embed.weight" in state_dict


def _table(is_audio_video: bool, is_pretraining: bool, windows: bool) -> list[Rename]:
    if is_audio_video:
        return AUDIO_VIDEO_TABLE if is_pretraining else AUDIO_VIDEO_CLASSIFIER_TABLE
    if not is_pretraining:
        return AUDIO_CLASSIFIER_TABLE
    return WINDOW_TABLE if windows else PLAIN_TABLE


def infer_config(state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any] | None = None, **overrides: Any) -> Any:
    """Read the network and its sizes off official weights.

    Args:
        state_dict: official names to tensors.
        arguments: training arguments stored beside them; `mask_ratio` is read.
        **overrides: fields of the configuration that are known better.

    Returns:
        A `StructuredNoiseAudioConfig` or a `StructuredNoiseAudioVideoConfig`; masks are the official random ones.

    Raises:
        CheckpointLayoutError: if the weights are of none of the three.
    """
    joint = _is_audio_video(state_dict)
    try:
        fields = _audio_video_sizes(state_dict) if joint else _audio_sizes(state_dict)
        if _is_pretraining(state_dict):
            fields |= _decoder_sizes(state_dict)
            if "mask_ratio" in (arguments or {}):
                fields["mask_ratio"] = float((arguments or {})["mask_ratio"])
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, CheckpointLayoutError):
            raise
        raise CheckpointLayoutError(
            f"the sizes cannot be read off these weights ({error!r}); is this another method's checkpoint?"
        ) from error
    config_class = StructuredNoiseAudioVideoConfig if joint else StructuredNoiseAudioConfig
    return config_class(**{**fields, **overrides})


def _audio_sizes(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    if "patch_embed.proj.weight" not in state_dict or "pos_embed" not in state_dict:
        raise CheckpointLayoutError("there is no 'patch_embed.proj.weight' and 'pos_embed'; is this an audio network?")
    width, channels, patch, _ = state_dict["patch_embed.proj.weight"].shape
    tokens, bands = state_dict["pos_embed"].shape[1] - 1, NUM_MEL_BINS // patch
    if channels != 1 or tokens % bands:
        raise CheckpointLayoutError(
            f"patches of {channels} channels and {tokens} positions are no grid of {bands} bands of one spectrogram; "
            "overlapping patches are not covered"
        )
    sizes = _encoder_sizes(state_dict, "blocks.", width) | {"mask_type": "random"}
    sizes |= {"patch_size": patch, "max_length": tokens // bands * patch, "num_mel_bins": NUM_MEL_BINS}
    if tokens == MASKSPEC_TOKENS:
        sizes |= MASKSPEC
    if not _is_pretraining(state_dict):
        # The decoder that a classifier has no longer is not a reason to refuse its grid.
        sizes |= {"num_labels": state_dict["head.weight"].shape[0], "use_mean_pooling": True, "decoder_type": "plain"}
    return sizes


def _audio_video_sizes(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    width, channels, patch, _ = state_dict["patch_embed_v.proj.weight"].shape
    bands = NUM_MEL_BINS // patch
    sizes = _encoder_sizes(state_dict, "blocks_a.", width) | {"mask_type": "random", "video_mask_type": "random"}
    sizes |= {
        "patch_size": patch,
        "num_channels": channels,
        "image_size": patch * round(state_dict["pos_embed_v"].shape[1] ** 0.5),
        "max_length": state_dict["pos_embed_a"].shape[1] // bands * patch,
        "num_mel_bins": NUM_MEL_BINS,
        "num_shared_layers": _depth(state_dict, "blocks_u."),
    }
    if not _is_pretraining(state_dict):
        # The official fine-tuning trains the position tables.
        sizes |= {"num_labels": state_dict["mlp_head.1.weight"].shape[0], "learned_positions": True}
    return sizes


def _encoder_sizes(state_dict: Mapping[str, Tensor], blocks: str, width: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": _depth(state_dict, blocks),
        # Heads are 64 wide in every published encoder and cannot be seen in the weights.
        "num_attention_heads": max(width // 64, 1),
        "intermediate_size": state_dict[f"{blocks}0.mlp.fc1.weight"].shape[0],
    }


def _decoder_sizes(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    width = state_dict["decoder_embed.weight"].shape[0]
    windows = "decoder_blocks.0.attn.tau" in state_dict
    sizes = {
        "decoder_type": "window" if windows else "plain",
        "decoder_hidden_size": width,
        "decoder_num_hidden_layers": _depth(state_dict, "decoder_blocks."),
        # 32 wide in every published decoder.
        "decoder_num_attention_heads": max(width // 32, 1),
        "decoder_intermediate_size": state_dict["decoder_blocks.0.mlp.fc1.weight"].shape[0],
    }
    if windows:
        sizes["decoder_num_attention_heads"] = len(state_dict["decoder_blocks.0.attn.tau"])
        sizes["decoder_position_hidden_size"] = state_dict["decoder_blocks.0.attn.meta_mlp.fc1.weight"].shape[0]
    return sizes


def _depth(state_dict: Mapping[str, Tensor], prefix: str) -> int:
    numbers = [int(name[len(prefix) :].split(".")[0]) for name in state_dict if name.startswith(prefix)]
    if not numbers:
        raise CheckpointLayoutError(f"there is no weight {prefix}0; is this another method's checkpoint?")
    return 1 + max(numbers)


def from_official(
    state_dict: Mapping[str, Tensor], config: Any = None, arguments: Mapping[str, Any] | None = None
) -> Any:
    """Build our model from official weights, strictly: every weight that the official code uses is used.

    Args:
        state_dict: official names to tensors, of a pretraining network or of a classifier.
        config: the configuration, or None to infer it.
        arguments: training arguments, for the inference.

    Returns:
        A pretraining model or a classifier.

    Raises:
        CheckpointLayoutError: if names or shapes do not fit.
    """
    pretraining, joint = _is_pretraining(state_dict), _is_audio_video(state_dict)
    model_class: Any = {
        (False, True): StructuredNoiseAudioForPreTraining,
        (False, False): StructuredNoiseAudioForAudioClassification,
        (True, True): StructuredNoiseAudioVideoForPreTraining,
        (True, False): StructuredNoiseAudioVideoForVideoClassification,
    }[joint, pretraining]
    model = model_class(config or infer_config(state_dict, arguments))
    used = {
        name: tensor.flatten(1) if EMBEDDINGS.fullmatch(name) else tensor
        for name, tensor in state_dict.items()
        if not (joint and UNUSED.fullmatch(name))
    }
    weights = convert_to_ours(used, _table(joint, pretraining, "decoder_blocks.0.attn.tau" in state_dict))
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CheckpointLayoutError(f"the weights do not fit {model_class.__name__}: {error}") from error
    return model


def to_official(model: Any) -> dict[str, Tensor]:
    """The official state dict of one of our models, with the names and shapes of the official code.

    Args:
        model: a pretraining model or a classifier. CAV-MAE's unused norms are written as they are initialised.

    Returns:
        Official names to tensors.
    """
    config, joint = model.config, isinstance(model.config, StructuredNoiseAudioVideoConfig)
    pretraining = isinstance(model, (StructuredNoiseAudioForPreTraining, StructuredNoiseAudioVideoForPreTraining))
    table = _table(joint, pretraining, config.decoder_type == "window")
    official = convert_to_official(model.state_dict(), table)
    for name in [name for name in official if EMBEDDINGS.fullmatch(name)]:
        official[name] = official[name].unflatten(1, (-1, config.patch_size, config.patch_size))
    if joint:
        for name in [
            name for name in official if re.fullmatch(r"(blocks_[av]|decoder_blocks)\.\d+\.norm[12]\..*", name)
        ]:
            stem, _, leaf = name.rpartition(".")
            fill = torch.ones_like if leaf == "weight" else torch.zeros_like
            official |= {f"{stem}_{letter}.{leaf}": fill(official[name]) for letter in "av"}
    return official


def load_official(path: str | Path, **overrides: Any) -> Any:
    """Read an official checkpoint file.

    Args:
        path: the `.pth` file.
        **overrides: fields of the configuration that the file cannot show, e.g. `id2label`, or `modality`.

    Returns:
        A pretraining model or a classifier with the file's weights.

    Raises:
        FileNotFoundError: if there is no such file.
        tubelets.models.common.errors.UnsafeCheckpointError: if the file would need unsafe loading.
        CheckpointLayoutError: if the weights are of none of the three networks.
    """
    state_dict, arguments = read_checkpoint(path)
    return from_official(state_dict, infer_config(state_dict, arguments, **overrides))
