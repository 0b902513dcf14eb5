"""Checkpoints of the base frameworks and ours, both directions; BEiT and BERT to start from (locomotion.md, section 5).

Singularity and VindLU name their weights alike: VindLU has attention over time in each layer of BEiT, Singularity
layers over time behind it. Retrieval checkpoints lack the head of masked words, and one level in the names of the text
encoder.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import Rename, Transform, convert_to_ours
from tubelets.models.common.official import OfficialLayout, depth_of
from tubelets.models.common.safe_loading import load_model
from tubelets.models.methods.locomotion.configuration_locomotion import LocoMotionConfig
from tubelets.models.methods.locomotion.frame_encoder import relative_positions
from tubelets.models.methods.locomotion.modeling_locomotion import (
    LocoMotionForPreTraining,
    LocoMotionForVideoTextRetrieval,
)

logger = logging.getLogger("tubelets.models")

VIDEO = "locomotion.video_model"
FRAMES = "vision_encoder.encoder.layer.{}"
LAYERS = f"{VIDEO}.encoder.layers.{{}}"
# Buffers that old versions of transformers stored.
COMPUTED = r".*\.(relative_position_index|position_ids)"

# A scalar there, a vector here, because FSDP2 cannot shard scalars.
SCALAR = Transform(lambda value: value.reshape(1), lambda value: value.reshape(()))

BEIT = [
    *(
        Rename(f"{FRAMES}.attention.attention.{theirs}.{{leaf}}", f"{LAYERS}.attention.{ours}.{{leaf}}")
        for theirs, ours in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
    ),
    Rename(f"{FRAMES}.attention.output.dense.{{leaf}}", f"{LAYERS}.attention.o_proj.{{leaf}}"),
    Rename(
        f"{FRAMES}.attention.attention.relative_position_bias.relative_position_bias_table",
        f"{LAYERS}.relative_position_bias.relative_position_bias_table",
    ),
    Rename(f"{FRAMES}.intermediate.dense.{{leaf}}", f"{LAYERS}.mlp.fc1.{{leaf}}"),
    Rename(f"{FRAMES}.output.dense.{{leaf}}", f"{LAYERS}.mlp.fc2.{{leaf}}"),
    Rename(f"{FRAMES}.temp_model.scale", f"{LAYERS}.temporal.scale", SCALAR),
    Rename(f"{FRAMES}.temp_model.{{rest}}", f"{LAYERS}.temporal.{{rest}}"),
    Rename(f"{FRAMES}.{{rest}}", f"{LAYERS}.{{rest}}"),
    Rename(
        "vision_encoder.embeddings.patch_embeddings.projection.{leaf}",
        f"{VIDEO}.encoder.embeddings.patch_embeddings.{{leaf}}",
    ),
    Rename("vision_encoder.embeddings.{rest}", f"{VIDEO}.encoder.embeddings.{{rest}}"),
    Rename("vision_encoder.pooler.layernorm.{leaf}", f"{VIDEO}.pooler.{{leaf}}"),
]
HEADS = [
    Rename("vision_layernorm.{leaf}", f"{VIDEO}.layernorm.{{leaf}}"),
    Rename("temporal_embeddings", f"{VIDEO}.temporal_embeddings"),
    Rename("temporal_vision_encoder.layer.{}.{rest}", f"{VIDEO}.temporal_layers.{{}}.{{rest}}"),
    Rename("vision_proj.{leaf}", "locomotion.video_projection.{leaf}"),
    Rename("text_proj.{leaf}", "locomotion.text_projection.{leaf}"),
    Rename("temp", "locomotion.temperature", SCALAR),
    Rename("itm_head.{leaf}", "matching_head.{leaf}"),
    # The decoder is the table of words, and its bias the head's.
    Rename("text_encoder.cls.predictions.decoder.{leaf}", None),
    Rename("text_encoder.cls.predictions.{rest}", "language_head.{rest}"),
]


def _table(model: Any) -> list[Rename]:
    level = "text_encoder.bert" if isinstance(model, LocoMotionForPreTraining) else "text_encoder"
    return [*BEIT, *HEADS, *_bert(level, model.config.text_config.num_hidden_layers, _depth(model))]


def _depth(model: Any) -> int:
    return model.config.text_config.num_hidden_layers + model.config.fusion_encoder_config.num_hidden_layers


def _bert(level: str, text_layers: int, depth: int) -> list[Rename]:
    """Lines of BERT, whose layers are divided among two towers."""
    lines = [Rename(f"{level}.embeddings.{{rest}}", "locomotion.text_model.embeddings.{rest}")]
    for layer in range(depth):
        tower, place = ("text_model", layer) if layer < text_layers else ("fusion_model", layer - text_layers)
        lines.append(Rename(f"{level}.encoder.layer.{layer}.{{rest}}", f"locomotion.{tower}.layer.{place}.{{rest}}"))
    return lines


def _recognises(state_dict: Mapping[str, Tensor]) -> bool:
    return {"temp", "vision_proj.weight", "text_proj.weight"} <= state_dict.keys()


def _pretrains(state_dict: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("text_encoder.bert.") for name in state_dict)


def _model_class(state_dict: Mapping[str, Tensor]) -> type:
    return LocoMotionForPreTraining if _pretrains(state_dict) else LocoMotionForVideoTextRetrieval


def _prepare(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state_dict.items() if not re.fullmatch(COMPUTED, name)}


def _complete(model: Any, official: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add what the base frameworks store twice or compute."""
    text, video = model.config.text_config, model.config.video_config
    for layer in range(video.num_hidden_layers):
        name = f"vision_encoder.encoder.layer.{layer}.attention.attention.relative_position_bias"
        official[f"{name}.relative_position_index"] = relative_positions(video.rows)
    level = "text_encoder.bert" if isinstance(model, LocoMotionForPreTraining) else "text_encoder"
    official[f"{level}.embeddings.position_ids"] = torch.arange(text.max_position_embeddings)[None]
    if isinstance(model, LocoMotionForPreTraining):
        head = "text_encoder.cls.predictions"
        official[f"{head}.decoder.weight"] = official[f"{level}.embeddings.word_embeddings.weight"]
        official[f"{head}.decoder.bias"] = official[f"{head}.bias"]
    return official


def _infer(state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    if not _recognises(state_dict):
        raise ValueError("there are no projections of videos and texts with a temperature")
    video = _infer_video(state_dict)
    level = "text_encoder.bert" if _pretrains(state_dict) else "text_encoder"
    vocabulary, width = state_dict[f"{level}.embeddings.word_embeddings.weight"].shape
    depth = depth_of(state_dict, f"{level}.encoder.layer.")
    joins = [f"{level}.encoder.layer.{layer}.crossattention.self.query.weight" in state_dict for layer in range(depth)]
    first = joins.index(True) if True in joins else depth
    layers = {
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": state_dict[f"{level}.encoder.layer.0.intermediate.dense.weight"].shape[0],
    }
    text = {
        **layers,
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": first,
        "max_position_embeddings": state_dict[f"{level}.embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state_dict[f"{level}.embeddings.token_type_embeddings.weight"].shape[0],
    }
    if text["max_position_embeddings"] < 48:
        text["max_length"] = text["max_position_embeddings"]
    return LocoMotionConfig, {
        "video_config": video,
        "text_config": text,
        "fusion_encoder_config": {**layers, "num_hidden_layers": depth - first},
        "projection_size": state_dict["vision_proj.weight"].shape[0],
    }


def _infer_video(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fields of the video tower."""
    width, channels, patch, _ = state_dict["vision_encoder.embeddings.patch_embeddings.projection.weight"].shape
    layer = "vision_encoder.encoder.layer.0"
    rows, heads = state_dict[f"{layer}.attention.attention.relative_position_bias.relative_position_bias_table"].shape
    # The table has (2 rows - 1)^2 + 3 rows.
    side = (round((rows - 3) ** 0.5) + 1) // 2
    divided = "vision_encoder.embeddings.temporal_position_embeddings"
    kind = "divided" if divided in state_dict else "stacked" if "temporal_embeddings" in state_dict else "none"
    table = {"divided": divided, "stacked": "temporal_embeddings"}.get(kind)
    fields = {
        "hidden_size": width,
        "num_channels": channels,
        "patch_size": patch,
        "image_size": side * patch,
        "num_attention_heads": heads,
        "num_hidden_layers": depth_of(state_dict, "vision_encoder.encoder.layer."),
        "intermediate_size": state_dict[f"{layer}.intermediate.dense.weight"].shape[0],
        "temporal_attention": kind,
        "num_frames": 1 if table is None else state_dict[table].shape[1],
        # The base frameworks' default, which no weight shows.
        "pool_after_time": False,
    }
    if kind == "stacked":
        fields["temporal_num_layers"] = depth_of(state_dict, "temporal_vision_encoder.layer.")
    return fields


LAYOUT = OfficialLayout(
    "Singularity or VindLU", _recognises, _infer, _model_class, _table, prepare=_prepare, complete=_complete
)
OFFICIAL = [LAYOUT]
infer_config = LAYOUT.infer_config
from_official = LAYOUT.from_official
to_official = LAYOUT.to_official
load_official = LAYOUT.load_official


def load_beit(model: Any, where: Any, **kwargs: Any) -> list[str]:
    """Start the video tower from a BEiT checkpoint of transformers.

    Biases of relative positions are interpolated if the frames have another size.

    Args:
        model: any LocoMotion model, changed in place.
        where: a folder or Hub id, such as `microsoft/beit-base-patch16-224-pt22k-ft22k`.
        **kwargs: further arguments of `from_pretrained`, such as `revision`.

    Returns:
        Names of the tower's weights that the checkpoint does not have: those of attention over time, and the norm
        behind BEiT.

    Raises:
        CheckpointLayoutError: if a weight of the checkpoint's encoder has no place in the tower, or another shape.
    """
    from transformers import BeitModel

    beit = load_model(BeitModel, where, **kwargs)
    config, size = model.config.video_config, beit.config.image_size
    if not beit.config.use_relative_position_bias or beit.config.use_absolute_position_embeddings:
        raise CheckpointLayoutError(f"{where} has no biases of relative positions in each layer; choose another BEiT")
    wanted = config.image_size
    if size != wanted:
        model.resize_images(size)
    weights: dict[str, Tensor] = {}
    for name, value in beit.state_dict().items():
        if name.startswith("pooler."):
            weights[name.replace("pooler.layernorm.", "pooler.")] = value
        elif not name.startswith(("layernorm.", "embeddings.mask_token")):
            weights["encoder." + name.replace("patch_embeddings.projection.", "patch_embeddings.")] = value
    tower = model.base_model.video_model
    if tower.pooler is None:
        weights = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    missing = _load(tower, weights, where, r"(.*temporal.*|layernorm\..*|pooler\..*)")
    if size != wanted:
        model.resize_images(wanted)
    return [f"video_model.{name}" for name in missing]


def load_bert(model: Any, where: Any, **kwargs: Any) -> list[str]:
    """Start the text tower, the fusion layers and the head of masked words from a BERT checkpoint of transformers.

    Args:
        model: a LocoMotion model with a text tower, changed in place.
        where: a folder or Hub id, such as `google-bert/bert-base-uncased`.
        **kwargs: further arguments of `from_pretrained`, such as `revision`.

    Returns:
        Names of weights that the checkpoint does not have: those of attention to videos.

    Raises:
        CheckpointLayoutError: if the checkpoint has other layers or sizes than the towers.
    """
    from transformers import BertForMaskedLM

    bert, depth = load_model(BertForMaskedLM, where, **kwargs), _depth(model)
    if bert.config.num_hidden_layers != depth:
        raise CheckpointLayoutError(
            f"{where} has {bert.config.num_hidden_layers} layers, and text and fusion layers are {depth} together; set "
            "num_hidden_layers of text_config and fusion_encoder_config"
        )
    found = bert.state_dict()
    text_layers = model.config.text_config.num_hidden_layers
    body = {name: value for name, value in found.items() if name.startswith("bert.")}
    weights = {
        name.removeprefix("locomotion."): value
        for name, value in convert_to_ours(body, _bert("bert", text_layers, depth), "BERT").items()
    }
    encoder = model.base_model
    # Both towers are parts of the encoder, whose other parts BERT does not have.
    others = r"(video_model|video_projection|text_projection)\..*|temperature"
    missing = _load(encoder, weights, where, rf"fusion_model\.layer\.\d+\.crossattention\..*|{others}")
    if isinstance(model, LocoMotionForPreTraining):
        head = {
            name.removeprefix("cls.predictions."): value
            for name, value in found.items()
            if name.startswith("cls.predictions.") and ".decoder." not in name
        }
        _load(model.language_head, head, where, "")
    return [name for name in missing if not re.fullmatch(others, name)]


def load_parts(model: Any) -> None:
    """Start the towers of a new model from the checkpoints that its configuration names, if it names any.

    Args:
        model: changed in place.
    """
    for where, load in ((model.config.video_init, load_beit), (model.config.text_init, load_bert)):
        if where is not None:
            new = load(model, where)
            logger.info("started from %s; %d weights are new: %s", where, len(new), ", ".join(new[:3]))


def _load(module: torch.nn.Module, weights: Mapping[str, Tensor], where: Any, new: str) -> list[str]:
    """Load weights strictly, apart from names that match `new`; the names that are missing."""
    try:
        report = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise CheckpointLayoutError(f"{where} does not fit the model's sizes: {error}") from error
    unexplained = [*report.unexpected_keys, *(name for name in report.missing_keys if not re.fullmatch(new, name))]
    if unexplained:
        raise CheckpointLayoutError(
            f"{where} and the model differ in {len(unexplained)} weights: {', '.join(unexplained[:3])}; is it a "
            "checkpoint of another kind or size?"
        )
    return list(report.missing_keys)
