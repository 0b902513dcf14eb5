"""The model that fine-tuning starts from: configuration, weights, processor, frozen parts."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.safe_loading import load_model, load_processor
from tubelets.tasks.classification.labels import is_unnamed
from tubelets.tasks.task import Task
from tubelets.training.finetuning_arguments import ModelArguments
from tubelets.training.finetuning_recipes import fit_overrides
from tubelets.training.optimization import freeze_backbone, freeze_layers
from tubelets.training.parsing import RecipeError, check_known_field


class WrongCheckpointError(ValueError):
    """A checkpoint does not hold the encoder that its configuration describes, or the task cannot use its model."""


@runtime_checkable
class SpectrogramResizing(Protocol):
    """Models whose positions can be cut or extended to spectrograms of another length."""

    def resize_spectrograms(self, max_length: int) -> None:
        """Fit the model to spectrograms of `max_length` time frames."""


def build_config(arguments: ModelArguments, fields: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration of the model.

    Args:
        arguments: which model, and fields to change.
        fields: fields that follow from the data, see `TaskData.config_fields`.

    Raises:
        RecipeError: if a field to change does not exist, or follows from the data.
        OSError: if the model does not exist.
        ValueError: if the model type is unknown.
    """
    config = arguments.stored_config()
    changes = dict(arguments.config_overrides or {})  # type: ignore[arg-type]
    if arguments.overrides_of_recipe:
        changes = fit_overrides(changes, config)
    known = {entry.name for entry in dataclasses.fields(config)}
    for name in changes:
        check_known_field(f"config_overrides.{name}", name, known)
    reserved = {"num_labels", *fields} & set(changes)
    if reserved:
        raise RecipeError(f"config_overrides sets {sorted(reserved)}, which follow from the data; leave them out")
    # A new object, so that the configuration checks all fields together.
    content = {name: value for name, value in config.to_dict().items() if name in known} | changes | dict(fields)
    content.pop("architectures", None)
    return type(config)(**content)


def stored_class_names(arguments: ModelArguments, task: Task, *, trains: bool) -> list[str] | None:
    """Names of the classes of the checkpoint, in label order, if its head is kept.

    Args:
        arguments: which model, and whether its head is new.
        task: what it is trained for.
        trains: whether the run trains; a new head that is only tested gives random scores.

    Returns:
        The names, `LABEL_0`, `LABEL_1`, ... for classes without one; None if the head is new or gives numbers
        (`problem_type="regression"`), or the task has no classes.

    Raises:
        WrongCheckpointError: if the run only tests, and the checkpoint has no head or `new_head` is set.
        OSError: if the model does not exist.
    """
    if arguments.model_name_or_path is None or not task.has_classes:
        return None
    config = arguments.stored_config()
    if _is_classifier(config) and not arguments.new_head:
        return None if config.problem_type == "regression" else _names_of(config)
    if not trains:
        raise WrongCheckpointError(
            f"{arguments.model_name_or_path} would be tested with a head of random weights, because "
            + ("new_head is set" if arguments.new_head else f"it is a {_class_of(config)}, which has none")
            + "; test a fine-tuned classifier without --new_head, or train with --do_train"
        )
    return None


def _is_classifier(config: PreTrainedConfig) -> bool:
    """Whether a checkpoint has a head, by the class that saved it, or without one by the names of its classes."""
    if config.architectures:
        return any(name.endswith("Classification") for name in config.architectures)
    return not is_unnamed(_names_of(config))


def _names_of(config: Any) -> list[str]:
    return [config.id2label[number] for number in sorted(config.id2label)]


def _class_of(config: PreTrainedConfig) -> str:
    return (config.architectures or [f"{config.model_type} without the name of its class"])[0]


def build_model(arguments: ModelArguments, task: Task, fields: Mapping[str, Any]) -> PreTrainedModel:
    """A model for a task with float32 weights, partly frozen if asked for.

    A classifier keeps its head unless `new_head` asks for another. New heads, and those that a pretraining checkpoint
    does not have, start from random weights, drawn from torch's global generator. Everything else must be in the
    checkpoint; only the length of spectrograms may differ, for models that can be resized.

    Args:
        arguments: which model.
        task: what it is trained for.
        fields: fields of the configuration that follow from the data.

    Returns:
        The model, in training mode.

    Raises:
        WrongCheckpointError: if the task cannot use the model type, or the checkpoint lacks parts of the encoder or has
            them in other sizes.
        RecipeError: if a field to change does not exist.
        OSError: if the model does not exist.
    """
    config = build_config(arguments, fields)
    where = arguments.model_name_or_path
    if not task.accepts(config):
        raise WrongCheckpointError(
            f"{where or arguments.model_type} is of type {config.model_type!r}, which {task.auto_class} does not load; "
            f"choose a model for {task.name}"
        )
    if where is None:
        model = task.model_class.from_config(config, dtype=torch.float32)
    else:
        model = _load_weights(arguments, where, config, task.model_class)
    if arguments.freeze_backbone:
        freeze_backbone(model, arguments.trained_parts)
    if arguments.freeze_layers is not None:
        freeze_layers(model, arguments.freeze_layers)
    return model.train()


def build_processor(arguments: ModelArguments, task: Task, config: PreTrainedConfig) -> Any:
    """The processor that is saved beside the model, see `Task.processor`."""

    def stored(auto_class: Any) -> Any:
        if arguments.model_name_or_path is None:
            return None
        try:
            return load_processor(arguments.model_name_or_path, auto_class, **arguments.access)
        except OSError:
            return None

    return task.processor(config, stored)


def _load_weights(arguments: ModelArguments, where: str, config: Any, auto_class: Any) -> PreTrainedModel:
    """The model with the weights of a checkpoint, whose spectrograms may have another length."""
    wanted = None
    if issubclass(auto_class._model_mapping[type(config)], SpectrogramResizing):
        stored: Any = arguments.stored_config()
        if stored.max_length != config.max_length:
            wanted, config = config.max_length, copy.deepcopy(config)
            config.max_length = stored.max_length
    options = {"config": config, "dtype": torch.float32, "use_safetensors": True, **arguments.access}
    stored_head = _is_classifier(arguments.stored_config())
    try:
        keeps = stored_head and not arguments.new_head
        model = load_model(auto_class, where, fresh="nothing" if keeps else "head", **options)
    except CheckpointLayoutError as error:
        raise WrongCheckpointError(f"{error} (config_overrides changes the sizes of the model)") from error
    if stored_head and arguments.new_head:
        # A head for as many classes would have been loaded.
        drawn = auto_class.from_config(config, dtype=torch.float32)
        drawn.base_model.load_state_dict(model.base_model.state_dict())
        model = drawn
    if wanted is not None:
        model.resize_spectrograms(wanted)
    return model
