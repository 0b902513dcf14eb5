"""Official AudioMAE, MaskSpec and CAV-MAE checkpoints and ours, in both directions (structured_noise_masking.md, 8).

The structured-noise paper has published no checkpoint; these are the base networks whose masks it changes. All three
follow timm's names. Weight files contain neither the sampling rate nor the token order: a position table of
496 patches is assumed to be MaskSpec's, any other AudioMAE's. Every field can be overridden.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import Rename, Transform
from tubelets.models.common.official import OfficialLayout, depth_of
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
# Settings that MaskSpec's weights do not contain.
MASKSPEC = {
    "sampling_rate": 32000, "token_order": "frequency", "mask_ratio": 0.75, "spectrogram_mean": -4.5,
    "spectrogram_std": 2.5, "roll_augmentation": "none", "gain_augmentation": False,
}  # fmt: skip


def _both(official: str, ours: str) -> Rename:
    return Rename(f"{official}.{{leaf}}", f"{ours}.{{leaf}}")


def _attention(official: str, ours: str) -> Rename:
    parts = tuple(f"{ours}.{part}.{{leaf}}" for part in ("query", "key", "value"))
    return Rename(f"{official}.qkv.{{leaf}}", parts)


def _embedding(official: str, ours: str, patch: int) -> Iterator[Rename]:
    """The official patch embedding is a convolution, ours a linear layer."""
    flat = Transform(lambda weight: weight.flatten(1), lambda weight: weight.unflatten(1, (-1, patch, patch)))
    yield Rename(f"{official}.weight", f"{ours}.weight", flat)
    yield Rename(f"{official}.bias", f"{ours}.bias")


def _blocks(official: str, ours: str) -> Iterator[Rename]:
    yield _attention(f"{official}.attn", f"{ours}.attention.attention")
    yield _both(f"{official}.attn.proj", f"{ours}.attention.output.dense")
    yield _both(f"{official}.norm1", f"{ours}.layernorm_before")
    yield _both(f"{official}.norm2", f"{ours}.layernorm_after")
    yield _both(f"{official}.mlp.fc1", f"{ours}.intermediate.dense")
    yield _both(f"{official}.mlp.fc2", f"{ours}.output.dense")


def _window_blocks(official: str, ours: str) -> Iterator[Rename]:
    yield _attention(f"{official}.attn", f"{ours}.attention")
    yield _both(f"{official}.attn.proj", f"{ours}.attention.output")
    yield Rename(f"{official}.attn.tau", f"{ours}.attention.temperature")
    yield _both(f"{official}.attn.meta_mlp.fc1", f"{ours}.attention.position_hidden")
    yield _both(f"{official}.attn.meta_mlp.fc2", f"{ours}.attention.position_output")
    yield _both(f"{official}.norm1", f"{ours}.layernorm_attention")
    yield _both(f"{official}.norm2", f"{ours}.layernorm_output")
    yield _both(f"{official}.mlp.fc1", f"{ours}.intermediate")
    yield _both(f"{official}.mlp.fc2", f"{ours}.output")


DECODER_ENDS = [
    _both("decoder_embed", "encoder_to_decoder"),
    Rename("mask_token", "mask_token"),
    _both("decoder_norm", "decoder.norm"),
]
AUDIO_DECODER = [
    *DECODER_ENDS,
    _both("norm", "audio.layernorm"),
    Rename("decoder_pos_embed", "decoder_positions.position_embeddings"),
    _both("decoder_pred", "prediction"),
]


def _audio_table(model: Any) -> list[Rename]:
    config = model.config
    encoder = [
        Rename("cls_token", "audio.embeddings.cls_token"),
        Rename("pos_embed", "audio.embeddings.positions.position_embeddings"),
        *_embedding("patch_embed.proj", "audio.embeddings.patch_embeddings", config.patch_size),
        *_blocks("blocks.{}", "audio.encoder.layer.{}"),
    ]
    if not isinstance(model, StructuredNoiseAudioForPreTraining):
        return [*encoder, _both("fc_norm", "fc_norm"), _both("head", "classifier")]
    blocks = _window_blocks if config.decoder_type == "window" else _blocks
    return [*encoder, *AUDIO_DECODER, *blocks("decoder_blocks.{}", "decoder.layers.{}")]


def _modality(letter: str, name: str, patch: int) -> Iterator[Rename]:
    encoder, shared = "audio_video", "audio_video.shared_layers.{}"
    yield from _embedding(f"patch_embed_{letter}.proj", f"{encoder}.{name}_embeddings.patch_embeddings", patch)
    yield Rename(f"modality_{letter}", f"{encoder}.{name}_embeddings.modality")
    yield Rename(f"pos_embed_{letter}", f"{encoder}.{name}_embeddings.positions.position_embeddings")
    yield from _blocks(f"blocks_{letter}.{{}}", f"{encoder}.{name}_layers.{{}}")
    yield _both(f"blocks_u.{{}}.norm1_{letter}", f"{shared}.layernorm_before_{name}")
    yield _both(f"blocks_u.{{}}.norm2_{letter}", f"{shared}.layernorm_after_{name}")
    yield _both(f"norm_{letter}", f"{encoder}.{name}_norm")


def _audio_video_table(model: Any) -> list[Rename]:
    encoder = [
        *_modality("a", "audio", model.config.patch_size),
        *_modality("v", "video", model.config.patch_size),
        *_blocks("blocks_u.{}", "audio_video.shared_layers.{}"),
        _both("norm", "audio_video.joint_norm"),
        # Norms of single modalities that the official blocks outside of the shared ones have and never use.
        *(
            Rename(f"{blocks}.{{}}.{norm}_{letter}.{{leaf}}", None)
            for blocks in ("blocks_a", "blocks_v", "decoder_blocks")
            for norm in ("norm1", "norm2")
            for letter in "av"
        ),
    ]
    if not isinstance(model, StructuredNoiseAudioVideoForPreTraining):
        return [*encoder, _both("mlp_head.0", "fc_norm"), _both("mlp_head.1", "classifier")]
    lines = [*encoder, *DECODER_ENDS, *_blocks("decoder_blocks.{}", "decoder.layers.{}")]
    for letter, name in (("a", "audio"), ("v", "video")):
        lines += [
            Rename(f"decoder_modality_{letter}", f"decoder_modality_{name}"),
            Rename(f"decoder_pos_embed_{letter}", f"{name}_decoder_positions.position_embeddings"),
            _both(f"decoder_pred_{letter}", f"{name}_prediction"),
        ]
    return lines


def _with_unused_norms(model: Any, official: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add CAV-MAE's unused norms as they are initialised."""
    unused = re.compile(r"(blocks_[av]|decoder_blocks)\.\d+\.norm[12]\..*")
    for name in [name for name in official if unused.fullmatch(name)]:
        stem, _, leaf = name.rpartition(".")
        fill = torch.ones_like if leaf == "weight" else torch.zeros_like
        official |= {f"{stem}_{letter}.{leaf}": fill(official[name]) for letter in "av"}
    return official


def _is_audio_video(state_dict: Mapping[str, Tensor]) -> bool:
    return "patch_embed_a.proj.weight" in state_dict


def _is_pretraining(state_dict: Mapping[str, Tensor]) -> bool:
    return "decoder_embed.weight" in state_dict


def _is_audio(state_dict: Mapping[str, Tensor]) -> bool:
    embedding = state_dict.get("patch_embed.proj.weight")
    return embedding is not None and embedding.ndim == 4 and "pos_embed" in state_dict


def _infer(state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    """The network and its sizes; masks are the official random ones, and `mask_ratio` is read off the arguments."""
    joint = _is_audio_video(state_dict)
    fields = _audio_video_sizes(state_dict) if joint else _audio_sizes(state_dict)
    if _is_pretraining(state_dict):
        fields |= _decoder_sizes(state_dict)
        if "mask_ratio" in arguments:
            fields["mask_ratio"] = float(arguments["mask_ratio"])
    return StructuredNoiseAudioVideoConfig if joint else StructuredNoiseAudioConfig, fields


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
        # A classifier has no decoder, so the decoder must not restrict its grid.
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
        "num_shared_layers": depth_of(state_dict, "blocks_u."),
    }
    if not _is_pretraining(state_dict):
        # The official fine-tuning trains the position tables.
        sizes |= {"num_labels": state_dict["mlp_head.1.weight"].shape[0], "learned_positions": True}
    return sizes


def _encoder_sizes(state_dict: Mapping[str, Tensor], blocks: str, width: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": depth_of(state_dict, blocks),
        # Heads have 64 channels in every published encoder; the weights do not show this.
        "num_attention_heads": max(width // 64, 1),
        "intermediate_size": state_dict[f"{blocks}0.mlp.fc1.weight"].shape[0],
    }


def _decoder_sizes(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    width = state_dict["decoder_embed.weight"].shape[0]
    windows = "decoder_blocks.0.attn.tau" in state_dict
    sizes = {
        "decoder_type": "window" if windows else "plain",
        "decoder_hidden_size": width,
        "decoder_num_hidden_layers": depth_of(state_dict, "decoder_blocks."),
        # Heads have 32 channels in every published decoder.
        "decoder_num_attention_heads": max(width // 32, 1),
        "decoder_intermediate_size": state_dict["decoder_blocks.0.mlp.fc1.weight"].shape[0],
    }
    if windows:
        sizes["decoder_num_attention_heads"] = len(state_dict["decoder_blocks.0.attn.tau"])
        sizes["decoder_position_hidden_size"] = state_dict["decoder_blocks.0.attn.meta_mlp.fc1.weight"].shape[0]
    return sizes


def _model_class(state_dict: Mapping[str, Tensor]) -> type:
    return {
        (False, True): StructuredNoiseAudioForPreTraining,
        (False, False): StructuredNoiseAudioForAudioClassification,
        (True, True): StructuredNoiseAudioVideoForPreTraining,
        (True, False): StructuredNoiseAudioVideoForVideoClassification,
    }[_is_audio_video(state_dict), _is_pretraining(state_dict)]


def _table(model: Any) -> list[Rename]:
    joint = isinstance(model.config, StructuredNoiseAudioVideoConfig)
    return _audio_video_table(model) if joint else _audio_table(model)


def _complete(model: Any, official: dict[str, Tensor]) -> dict[str, Tensor]:
    joint = isinstance(model.config, StructuredNoiseAudioVideoConfig)
    return _with_unused_norms(model, official) if joint else official


LAYOUT = OfficialLayout(
    "AudioMAE, MaskSpec and CAV-MAE",
    lambda state_dict: _is_audio_video(state_dict) or _is_audio(state_dict),
    _infer,
    _model_class,
    _table,
    complete=_complete,
)
OFFICIAL = [LAYOUT]
infer_config = LAYOUT.infer_config
from_official = LAYOUT.from_official
to_official = LAYOUT.to_official
load_official = LAYOUT.load_official
