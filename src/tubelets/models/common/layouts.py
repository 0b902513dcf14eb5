"""Reading official checkpoints safely, and renaming their weights by a table that works in both directions."""

import argparse
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.safe_loading import read_torch_file


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights of an official checkpoint without running anything in it.

    Args:
        path: a `.safetensors` file, or a `.pth` / `.pt` file: a state dict, or a training checkpoint that holds one
            under `model` or `module`, with an argparse namespace under `args`.

    Returns:
        The state dict, and the training arguments (empty if the file has none).

    Raises:
        FileNotFoundError: if there is no such file.
        UnsafeCheckpointError: if the file would need unsafe loading.
        CheckpointLayoutError: if no state dict is found in it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: file not found; give the path of a .pth, .pt or .safetensors file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path), {}
        except SafetensorError as error:
            raise CheckpointLayoutError(f"{path} is damaged or no safetensors file ({error})") from error
    content = read_torch_file(path, [argparse.Namespace])
    return _state_dict(content, path), _training_arguments(content)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for key in ("model", "module", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise CheckpointLayoutError(f"{path} holds no state dict, neither itself nor under 'model' or 'module'")
    wrong = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if wrong:
        raise CheckpointLayoutError(f"{path} holds entries that are not tensors: {', '.join(map(str, wrong[:5]))}")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _training_arguments(content: Any) -> dict[str, Any]:
    arguments = content.get("args") if isinstance(content, Mapping) else None
    return dict(vars(arguments)) if isinstance(arguments, argparse.Namespace) else {}


@dataclass(frozen=True)
class Rename:
    """One line of a conversion table; `{}` stands for a number and is kept.

    Attributes:
        official: the official name, or the names joined by one.
        ours: our name, or several that are the equal parts of the official tensor along its first dimension.
    """

    official: str
    ours: str | tuple[str, ...]

    def to_ours(self, name: str, tensor: Tensor) -> dict[str, Tensor] | None:
        """Our tensors for an official one, or None if the name is not this line's."""
        numbers = _match(self.official, name)
        if numbers is None:
            return None
        if isinstance(self.ours, str):
            return {self.ours.format(*numbers): tensor}
        if tensor.shape[0] % len(self.ours):
            raise CheckpointLayoutError(f"{name} has {tensor.shape[0]} rows, not a multiple of {len(self.ours)}")
        parts = tensor.chunk(len(self.ours), dim=0)
        return {ours.format(*numbers): part.contiguous() for ours, part in zip(self.ours, parts, strict=True)}

    def to_official(self, name: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The official tensor for ours (made at the first of several parts), or None if the name is not this line's."""
        ours = (self.ours,) if isinstance(self.ours, str) else self.ours
        for position, pattern in enumerate(ours):
            numbers = _match(pattern, name)
            if numbers is None:
                continue
            if position:
                return {}
            parts = [state_dict[part.format(*numbers)] for part in ours]
            return {self.official.format(*numbers): torch.cat(parts) if len(parts) > 1 else parts[0]}
        return None


def _match(pattern: str, name: str) -> tuple[str, ...] | None:
    found = re.fullmatch(re.escape(pattern).replace(r"\{\}", r"(\d+)"), name)
    return found.groups() if found else None


def convert_to_ours(state_dict: Mapping[str, Tensor], table: Iterable[Rename]) -> dict[str, Tensor]:
    """Rename official weights to ours.

    Args:
        state_dict: official names to tensors.
        table: the layout.

    Returns:
        Our names to tensors.

    Raises:
        CheckpointLayoutError: if a name is in no line of the table.
    """
    table, result, unknown = list(table), {}, []
    for name, tensor in state_dict.items():
        renamed = next((found for line in table if (found := line.to_ours(name, tensor)) is not None), None)
        if renamed is None:
            unknown.append(name)
        else:
            result.update(renamed)
    _refuse_unknown(unknown)
    return result


def convert_to_official(state_dict: Mapping[str, Tensor], table: Iterable[Rename]) -> dict[str, Tensor]:
    """Rename our weights to the official layout.

    Args:
        state_dict: our names to tensors.
        table: the layout.

    Returns:
        Official names to tensors.

    Raises:
        CheckpointLayoutError: if a name is in no line of the table.
    """
    table, result, unknown = list(table), {}, []
    for name in state_dict:
        renamed = next((found for line in table if (found := line.to_official(name, state_dict)) is not None), None)
        if renamed is None:
            unknown.append(name)
        else:
            result.update(renamed)
    _refuse_unknown(unknown)
    return result


def _refuse_unknown(names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise CheckpointLayoutError(
            f"these weights are not part of the layout: {', '.join(names[:5])}{more}; "
            "is this another method's checkpoint?"
        )
