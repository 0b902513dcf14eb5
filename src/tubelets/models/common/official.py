"""Convert the authors' official checkpoints to models of this package and back, with one mechanism for all methods.

A `conversion_<method>.py` states its layouts as `OfficialLayout` objects, which its folder's entry names as `official`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import Rename, convert_to_official, convert_to_ours, read_checkpoint

Weights = Mapping[str, Tensor]
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class OfficialLayout:
    """Conversion between a method's official checkpoints and our models.

    Attributes:
        name: named in errors.
        recognises: whether official weights, by their names, are in this layout.
        infer: fields of the configuration, and `config_class` of it, from official weights and training arguments.
        model_class: class of the model, from official weights.
        table: conversion table, from a model.
        prepare: official weights as the table has them: without other networks of the file.
        complete: official weights with what the official code stores and ours does not.
    """

    name: str
    recognises: Callable[[Weights], bool]
    infer: Callable[[Weights, Arguments], tuple[type, dict[str, Any]]]
    model_class: Callable[[Weights], type]
    table: Callable[[Any], Sequence[Rename]]
    prepare: Callable[[Weights], Weights] = dict
    complete: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]] = lambda model, official: official

    def infer_config(self, state_dict: Weights, arguments: Arguments | None = None, **overrides: Any) -> Any:
        """Read the variant and the sizes off official weights.

        Args:
            state_dict: official names to tensors.
            arguments: training arguments stored with them, which supply what weights do not show.
            **overrides: fields of the configuration to override.

        Returns:
            The configuration.

        Raises:
            CheckpointLayoutError: if the weights are in another layout.
        """
        try:
            config_class, fields = self.infer(without_wrapper(state_dict), arguments or {})
        except CheckpointLayoutError:
            raise
        except (KeyError, IndexError, ValueError) as error:
            raise CheckpointLayoutError(
                f"the sizes cannot be read off these weights ({error!r}); is this another method's checkpoint?"
            ) from error
        return config_class(**{**fields, **overrides})

    def from_official(
        self, state_dict: Weights, config: Any = None, arguments: Arguments | None = None, **overrides: Any
    ) -> Any:
        """Build our model from official weights, strictly: every weight is used and none is missing.

        Args:
            state_dict: official names to tensors.
            config: the configuration, or None to infer it.
            arguments: training arguments, for the inference.
            **overrides: fields of the inferred configuration to override.

        Returns:
            The model with these weights.

        Raises:
            CheckpointLayoutError: if names or shapes do not fit.
        """
        state_dict = without_wrapper(state_dict)
        config = config or self.infer_config(state_dict, arguments, **overrides)
        model_class = self.model_class(state_dict)
        model = model_class(config)
        try:
            weights = convert_to_ours(self.prepare(state_dict), self.table(model), self.name)
            model.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise CheckpointLayoutError(
                f"the weights do not fit {model_class.__name__} ({self.name}): {error}"
            ) from error
        return model

    def to_official(self, model: Any) -> dict[str, Tensor]:
        """The official state dict of one of our models, with the names, shapes and values of the official code.

        Args:
            model: a model of a class that `from_official` returns.

        Returns:
            Official names to tensors.
        """
        return self.complete(model, convert_to_official(model.state_dict(), self.table(model), self.name))

    def check_round_trip(self, model: Any, state_dict: Weights) -> int:
        """Convert a model back and compare it with the official weights that it came from, bit by bit.

        Args:
            model: what `from_official` returned.
            state_dict: the official weights.

        Returns:
            Number of official weights that the model does not have, such as those of a momentum encoder.

        Raises:
            CheckpointLayoutError: if a weight that goes back differs in name, shape or value.
        """
        official, back = without_wrapper(state_dict), self.to_official(model)
        for name, value in back.items():
            if name not in official:
                continue
            # Buffers of counters may have been stored in another type.
            if official[name].shape != value.shape or not torch.equal(official[name].to(value.dtype), value):
                raise CheckpointLayoutError(f"{name} is not the same after conversion and back ({self.name})")
        unknown = sorted(back.keys() - official.keys())
        if unknown:
            raise CheckpointLayoutError(f"converting back makes {unknown[0]}, which the official weights do not have")
        return len(official.keys() - back.keys())

    def load_official(self, path: str | Path, **overrides: Any) -> Any:
        """Read an official checkpoint file.

        Args:
            path: the `.pth`, `.pt` or `.safetensors` file.
            **overrides: fields of the configuration that the file cannot show, such as `id2label`.

        Returns:
            The model with the file's weights.

        Raises:
            FileNotFoundError: if the file is missing.
            tubelets.models.common.errors.UnsafeCheckpointError: if the file would need unsafe loading.
            CheckpointLayoutError: if the weights are in another layout.
        """
        state_dict, arguments = read_checkpoint(path)
        return self.from_official(state_dict, arguments=arguments, **overrides)


def without_wrapper(state_dict: Weights) -> dict[str, Tensor]:
    """Weights without the prefix `module.` of a distributed wrapper."""
    return {name.removeprefix("module."): value for name, value in state_dict.items()}


def depth_of(state_dict: Weights, prefix: str) -> int:
    """Number of blocks whose names start with a prefix and their number.

    Args:
        state_dict: official names to tensors.
        prefix: such as `encoder.blocks.`.

    Returns:
        One more than the largest number.

    Raises:
        CheckpointLayoutError: if no block has this prefix.
    """
    numbers = [int(name[len(prefix) :].split(".")[0]) for name in state_dict if name.startswith(prefix)]
    if not numbers:
        raise CheckpointLayoutError(f"there is no weight {prefix}0; is this another method's checkpoint?")
    return 1 + max(numbers)


def official_layouts() -> list[OfficialLayout]:
    """The layouts of every registered model type."""
    from tubelets.models.common.auto import MODELS

    return [layout for entry in MODELS.values() if entry.official for layout in entry.load(entry.official)]


def load_official(path: str | Path, **overrides: Any) -> Any:
    """Read the checkpoint file of any method whose layout is registered.

    Classifiers of SIGMA, SMILE and VideoMAE are the same network under the same names: they are read as VideoMAE here.
    For the method's own configuration call `load_official` of its conversion module.

    Args:
        path: the `.pth`, `.pt` or `.safetensors` file.
        **overrides: fields of the configuration that the file cannot show, such as `id2label`.

    Returns:
        The model with the file's weights.

    Raises:
        FileNotFoundError: if the file is missing.
        tubelets.models.common.errors.UnsafeCheckpointError: if the file would need unsafe loading.
        CheckpointLayoutError: if no layout, or more than one, fits.
    """
    state_dict, arguments = read_checkpoint(path)
    layout = find_layout(state_dict, str(path))
    return layout.from_official(state_dict, arguments=arguments, **overrides)


def find_layout(state_dict: Weights, where: str, model_type: str | None = None) -> OfficialLayout:
    """The layout of official weights, by their names.

    Args:
        state_dict: official names to tensors.
        where: what the user named, for messages.
        model_type: only consider layouts of this type; a type with a single layout is not searched further.

    Raises:
        CheckpointLayoutError: if no layout, or more than one, fits.
    """
    from tubelets.models.common.auto import MODELS

    weights = without_wrapper(state_dict)
    known = official_layouts()
    if model_type is not None:
        entry = MODELS[model_type]
        known = entry.load(entry.official) if entry.official else []
        if len(known) == 1:
            return known[0]
    found = [layout for layout in known if layout.recognises(weights)]
    if len(found) != 1:
        seen = sorted({name.split(".")[0] for name in weights})[:8]
        fits = f"the layouts {', '.join(layout.name for layout in found)} fit" if found else "no known layout fits"
        raise CheckpointLayoutError(
            f"{where}: {fits} the names {seen}; call load_official of the method's conversion module (known are "
            f"{', '.join(layout.name for layout in known)})"
        )
    return found[0]
