"""A fine-tuning recipe with another model than it was written for: its fields are fitted to that one."""

import argparse
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from tubelets.models.common.auto import MODELS
from tubelets.models.common.configuration import RegisteredConfig

logger = logging.getLogger("tubelets.training")

# Fields that say how a network is trained and not which network it is.
TRAINING_FIELDS = {
    "attention_probs_dropout_prob", "drop_path_rate", "frequency_mask_ratio", "head_dropout", "head_init_scale",
    "hidden_dropout_prob", "time_mask_ratio",
}  # fmt: skip


def fit_recipe(content: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Let the model that a command line names replace that of a recipe.

    A checkpoint on the command line replaces the random model of a recipe, and its sizes, with a line in the log.

    Args:
        content: fields of the recipe.
        words: words of the command line.

    Returns:
        The fields without those that are replaced.

    Example:
        >>> fit_recipe({"model_name_or_path": "runs/mine", "seed": 1}, ["--model_type", "resnet3d"])
        {'model_name_or_path': None, 'seed': 1}
    """
    given, fitted = flags_of(words), dict(content)
    if "model_type" in given and "model_name_or_path" in fitted:
        fitted["model_name_or_path"] = None
    if "model_name_or_path" not in given or fitted.get("model_type") is None:
        return fitted
    fitted["model_type"] = None
    overrides = fitted.get("config_overrides")
    if isinstance(overrides, Mapping) and (sizes := sorted(set(overrides) - TRAINING_FIELDS)):
        logger.warning("left out of the recipe, because the checkpoint has its own: %s", ", ".join(sizes))
        fitted["config_overrides"] = {name: overrides[name] for name in overrides if name in TRAINING_FIELDS}
    return fitted


def flags_of(words: Sequence[str]) -> set[str]:
    """The model's flags among the words of a command line, by the names of their fields.

    Example:
        >>> flags_of(["--model-type=sigma", "--seed", "1"])
        {'model_type'}
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for name in ("model_name_or_path", "model_type", "config_overrides"):
        parser.add_argument(f"--{name}", f"--{name.replace('_', '-')}", dest=name)
    return set(vars(parser.parse_known_args(list(words))[0]))


def fit_overrides(overrides: Mapping[str, Any], config: PreTrainedConfig) -> dict[str, Any]:
    """Leave out fields of a recipe that a model of another library does not have, with a line in the log.

    Args:
        overrides: fields of a configuration, as a recipe states them.
        config: the model's configuration.

    Returns:
        The fields that the model has, and those that no model has, which are mistakes.

    Example:
        >>> from transformers import VideoMAEConfig
        >>> fit_overrides({"drop_path_rate": 0.1, "hidden_dropout_prob": 0.1}, VideoMAEConfig())
        {'hidden_dropout_prob': 0.1}
    """
    known = {entry.name for entry in dataclasses.fields(config)}
    elsewhere = {name for entry in MODELS.values() for name in entry.load(entry.config).__dataclass_fields__}
    foreign = [name for name in overrides if name in elsewhere - known]
    if not isinstance(config, RegisteredConfig):
        foreign += [name for name in overrides if name in known and not _accepts(config, name, overrides[name])]
    if foreign:
        logger.warning("left out of the recipe, because a %s has none: %s", config.model_type, ", ".join(foreign))
    return {name: value for name, value in overrides.items() if name not in foreign}


def _accepts(config: PreTrainedConfig, name: str, value: Any) -> bool:
    """Whether a configuration of transformers takes a value; some declare rates as integers."""
    try:
        type(config)(**{name: value})
    except StrictDataclassError:
        return False
    return True
