"""Making a classifier of any kind ready for training: weights, labels, input sizes, processor."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES

from tubelets.models.common.auto import MODELS, inference_processor
from tubelets.models.common.safe_loading import load_auto
from tubelets.training.finetuning_arguments import ModelArguments
from tubelets.training.optimization import freeze_backbone, freeze_layers, is_head
from tubelets.training.recipe import RecipeError, check_known_field


class WrongCheckpointError(ValueError):
    """A checkpoint does not hold the encoder that its configuration describes, or no classifier at all."""


@dataclass(frozen=True)
class ClipShape:
    """What a classifier takes.

    Attributes:
        num_frames: frames.
        size: height and width in pixels.
    """

    num_frames: int
    size: int


def clip_shape(config: PreTrainedConfig) -> ClipShape:
    """Frames and pixels of a model's input.

    Args:
        config: the configuration of a video model of this package or of transformers.

    Returns:
        Its clip shape.

    Raises:
        ValueError: if the configuration does not tell, or the frames are not square.

    Example:
        >>> clip_shape(transformers.VJEPA2Config())
        ClipShape(num_frames=64, size=256)
    """
    fields = config.to_dict()
    frames = next((fields[name] for name in ("num_frames", "frames_per_clip") if name in fields), None)
    size = next((fields[name] for name in ("image_size", "crop_size") if name in fields), None)
    if frames is None or size is None:
        raise ValueError(
            f"model type {config.model_type!r} does not tell how many frames and pixels it takes; it must have "
            "num_frames or frames_per_clip, and image_size or crop_size"
        )
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if sides[0] != sides[1]:
        raise ValueError(f"the crops of fine-tuning are square, and the model takes {sides[0]} x {sides[1]} pixels")
    return ClipShape(frames, sides[0])


def build_config(arguments: ModelArguments, class_names: Sequence[str], multi_label: bool) -> PreTrainedConfig:
    """The configuration of the classifier.

    Args:
        arguments: which model, and fields to change.
        class_names: names of the classes.
        multi_label: clips have any number of classes.

    Returns:
        A configuration with labels and problem type.

    Raises:
        RecipeError: if a field to change does not exist.
        OSError: if there is no such model.
        ValueError: if the model type is unknown, or there is one class only.
    """
    if len(class_names) < (1 if multi_label else 2):
        raise ValueError(f"a classifier needs two or more classes, got {list(class_names)}; check the class names")
    changes = dict(arguments.config_overrides or {})  # type: ignore[arg-type]
    if arguments.model_name_or_path is None:
        config = AutoConfig.for_model(str(arguments.model_type))
    else:
        config = load_auto(
            AutoConfig, arguments.model_name_or_path, revision=arguments.model_revision, token=arguments.token
        )
    known = {entry.name for entry in dataclasses.fields(config)}
    for name in changes:
        check_known_field(f"config_overrides.{name}", name, known)
    reserved = {"id2label", "label2id", "problem_type", "num_labels"} & set(changes)
    if reserved:
        raise RecipeError(f"config_overrides sets {sorted(reserved)}, which follow from the data; leave them out")
    # Built anew, so that the configuration checks all fields together.
    content = {name: value for name, value in config.to_dict().items() if name in known} | changes
    content |= {
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: number for number, name in enumerate(class_names)},
        "problem_type": "multi_label_classification" if multi_label else "single_label_classification",
    }
    content.pop("architectures", None)
    return type(config)(**content)


def build_classifier(
    arguments: ModelArguments,
    class_names: Sequence[str],
    multi_label: bool = False,
    auto_class: Any = AutoModelForVideoClassification,
) -> PreTrainedModel:
    """A classifier with float32 weights, partly frozen if asked for; new parts are drawn from torch's global generator.

    A head that has another number of classes than the data starts fresh, and so do heads that a pretraining checkpoint
    does not have. Everything else must be in the checkpoint; only the length of spectrograms may differ, for models
    that can be resized.

    Args:
        arguments: which model.
        class_names: names of the classes.
        multi_label: clips have any number of classes.
        auto_class: Auto class of the task.

    Returns:
        The model, in training mode.

    Raises:
        WrongCheckpointError: if the model type has no such classifier, or the checkpoint lacks parts of the encoder
            or has them in other sizes.
        RecipeError: if a field to change does not exist.
        OSError: if there is no such model.
    """
    config = build_config(arguments, class_names, multi_label)
    where = arguments.model_name_or_path
    if type(config) not in auto_class._model_mapping:
        task = auto_class.__name__.removeprefix("AutoModelFor").removesuffix("Classification").lower()
        raise WrongCheckpointError(
            f"{where or arguments.model_type} is of type {config.model_type!r}, which has no {task} classifier; choose "
            f"a {task} model of this package or one that {auto_class.__name__} knows"
        )
    if where is None:
        model = auto_class.from_config(config, dtype=torch.float32)
    else:
        model = _load_classifier(arguments, where, config, auto_class)
    if arguments.freeze_backbone:
        freeze_backbone(model, arguments.trained_parts)
    if arguments.freeze_layers is not None:
        freeze_layers(model, arguments.freeze_layers)
    return model.train()


def _load_classifier(arguments: ModelArguments, where: str, config: Any, auto_class: Any) -> PreTrainedModel:
    """The classifier with the weights of a checkpoint, which was perhaps trained on spectrograms of another length."""
    access = {"revision": arguments.model_revision, "token": arguments.token}
    wanted = None
    if hasattr(auto_class._model_mapping[type(config)], "resize_spectrograms"):
        stored = load_auto(AutoConfig, where, **access)
        if stored.max_length != config.max_length:
            wanted, config = config.max_length, copy.deepcopy(config)
            config.max_length = stored.max_length
    model, info = load_auto(
        auto_class,
        where,
        config=config,
        **access,
        dtype=torch.float32,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    _check_loaded(where, config.model_type, info)
    if wanted is not None:
        model.resize_spectrograms(wanted)
    return model


def _check_loaded(where: str, model_type: str, info: Mapping[str, Any]) -> None:
    """Refuse weights that leave a part of the encoder random."""
    missing = sorted(name for name in info["missing_keys"] if not is_head(name))
    wrong = sorted(entry for entry in info["mismatched_keys"] if not is_head(entry[0]))
    if wrong:
        name, found, expected = wrong[0]
        raise WrongCheckpointError(
            f"{where}: {name} has shape {tuple(found)} and the model needs {tuple(expected)} ({len(wrong)} such "
            "weights); is this another method's or another size's checkpoint? See config_overrides"
        )
    if missing:
        raise WrongCheckpointError(
            f"{where} does not hold {len(missing)} weights of a {model_type!r} encoder, for example {missing[0]}; is "
            "this another method's checkpoint?"
        )


def classification_processor(arguments: ModelArguments, config: PreTrainedConfig) -> Any:
    """The processor that belongs to a classifier and is saved beside it.

    Args:
        arguments: which model.
        config: its configuration.

    Returns:
        The processor that is stored with the weights, for our own types one made from the configuration, otherwise the
        stock processor of the type at the model's input size. It has `image_mean` and `image_std`.

    Raises:
        ValueError: if there is none.
    """
    if config.model_type in MODELS:
        return inference_processor(config)
    stored = _stored_processor(arguments, AutoVideoProcessor)
    if stored is not None:
        return stored
    # Some versions of transformers give the name alone, others one for each backend.
    found: Any = VIDEO_PROCESSOR_MAPPING_NAMES.get(config.model_type)
    name: str | None = found.get("torchvision") if isinstance(found, Mapping) else found
    if name is None:
        raise ValueError(f"no video processor is known for model type {config.model_type!r}; save one beside the model")
    size = clip_shape(config).size
    square = {"height": size, "width": size}
    return getattr(transformers, name)(size={"shortest_edge": size}, crop_size=square)


def audio_processor(arguments: ModelArguments, config: PreTrainedConfig) -> Any:
    """The processor that belongs to a classifier of sounds and is saved beside it.

    Args:
        arguments: which model.
        config: its configuration.

    Returns:
        For our own types one made from the configuration, for the Audio Spectrogram Transformer the one stored with
        the weights, or the stock one at the model's input size.

    Raises:
        ValueError: if the model does not take spectrograms.
    """
    if config.model_type in MODELS:
        return inference_processor(config)
    stored = _stored_processor(arguments, AutoFeatureExtractor)
    if stored is not None:
        return stored
    fields = config.to_dict()
    if config.model_type != "audio-spectrogram-transformer":
        raise ValueError(
            f"model type {config.model_type!r} takes no spectrograms that this package makes; choose an audio model of "
            "this package or an Audio Spectrogram Transformer"
        )
    return transformers.ASTFeatureExtractor(num_mel_bins=fields["num_mel_bins"], max_length=fields["max_length"])


def _stored_processor(arguments: ModelArguments, auto_class: Any) -> Any:
    """The processor that came with a checkpoint, None if it came without one."""
    where, access = arguments.model_name_or_path, {"revision": arguments.model_revision, "token": arguments.token}
    if where is None:
        return None
    try:
        return load_auto(auto_class, where, **access)
    except OSError:
        return None
