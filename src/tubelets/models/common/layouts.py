"""Reading official checkpoints safely, and renaming their weights by a table that works in both directions."""

import argparse
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.safe_loading import read_torch_file


class Ignored(dict):
    """Takes the place of an object of a settings library in a file; holds nothing and runs nothing of it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Forget the state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget the entry."""

    def append(self, value: Any) -> None:
        """Forget the entry."""

    def extend(self, values: Any) -> None:
        """Forget the entries."""


# Settings that training code saved beside the weights: Singularity's with OmegaConf, VindLU's in a class of its own.
SETTINGS = (
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig", "omegaconf.base.ContainerMetadata"),
    *("omegaconf.base.Metadata", "omegaconf.nodes.AnyNode", "collections.defaultdict", "typing.Any"),
    *("builtins.dict", "builtins.list", "builtins.int", "utils.easydict.EasyDict"),
)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights of an official checkpoint without running anything in it.

    Args:
        path: a `.safetensors` file, or a `.pth` / `.pt` file: a state dict, or a training checkpoint that holds one
            under `model` or `module`, with an argparse namespace under `args`. Objects of `SETTINGS` beside them are
            not read.

    Returns:
        The state dict, and the training arguments (empty if the file has none).

    Raises:
        FileNotFoundError: if the file is missing.
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
            raise CheckpointLayoutError(f"{path} is corrupt or not a safetensors file ({error})") from error
    content = read_torch_file(path, [argparse.Namespace, *((Ignored, name) for name in SETTINGS)])
    return _state_dict(content, path), _training_arguments(content)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for key in ("model", "module", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise CheckpointLayoutError(
            f"{path} contains no state dict, neither at top level nor under 'model' or 'module'"
        )
    wrong = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if wrong:
        raise CheckpointLayoutError(f"{path} contains entries that are not tensors: {', '.join(map(str, wrong[:5]))}")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _training_arguments(content: Any) -> dict[str, Any]:
    arguments = content.get("args") if isinstance(content, Mapping) else None
    return dict(vars(arguments)) if isinstance(arguments, argparse.Namespace) else {}


@dataclass(frozen=True)
class Transform:
    """Conversion of a tensor's values between the two layouts.

    Attributes:
        to_ours: from the official tensor to ours.
        to_official: from ours to the official tensor.
    """

    to_ours: Callable[[Tensor], Tensor]
    to_official: Callable[[Tensor], Tensor]


# Patterns of placeholders: `{}` a number, `{leaf}` one component of a name, `{rest}` the remainder.
PLACEHOLDERS = {"{}": r"(\d+)", "{leaf}": r"(\w+)", "{rest}": r"(.+)"}
_TOKEN = re.compile(r"\{(?:leaf|rest)?\}")


@dataclass(frozen=True)
class Rename:
    """One line of a conversion table.

    Names are patterns whose placeholders keep their text, in order: `{}` is a number, `{leaf}` one component, such as
    `weight`, and `{rest}` all that follows.

    Attributes:
        official: the official name.
        ours: our name; several names are the equal parts of the official tensor along its first dimension; None means
            that the official tensor is dropped, and never written.
        transform: how the values differ, for one name.

    Example:
        >>> line = Rename("blocks.{}.attn.qkv.{leaf}", ("layer.{}.query.{leaf}", "layer.{}.value.{leaf}"))
        >>> sorted(line.to_ours("blocks.3.attn.qkv.weight", torch.zeros(8, 2)))
        ['layer.3.query.weight', 'layer.3.value.weight']
    """

    official: str
    ours: str | tuple[str, ...] | None
    transform: Transform | None = None

    def official_name(self, name: str) -> str | None:
        """The official name of one of our weights, or None if the line is for other names."""
        found = _match(self.ours, name) if isinstance(self.ours, str) else None
        return None if found is None else _fill(self.official, found)

    def to_ours(self, name: str, tensor: Tensor) -> dict[str, Tensor] | None:
        """Our tensors for an official one, or None if the line is for other names.

        Raises:
            CheckpointLayoutError: if the tensor cannot be divided into equal parts.
        """
        found = _match(self.official, name)
        if found is None:
            return None
        if self.ours is None:
            return {}
        if isinstance(self.ours, str):
            return {_fill(self.ours, found): tensor if self.transform is None else self.transform.to_ours(tensor)}
        if tensor.shape[0] % len(self.ours):
            raise CheckpointLayoutError(f"{name} has {tensor.shape[0]} rows, not a multiple of {len(self.ours)}")
        parts = tensor.chunk(len(self.ours), dim=0)
        return {_fill(ours, found): part.contiguous() for ours, part in zip(self.ours, parts, strict=True)}

    def to_official(self, name: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The official tensor for ours (returned for the first of several parts), or None without a match."""
        ours = (self.ours,) if isinstance(self.ours, str) else self.ours or ()
        for position, pattern in enumerate(ours):
            found = _match(pattern, name)
            if found is None:
                continue
            if position:
                return {}
            parts = [state_dict[_fill(part, found)] for part in ours]
            tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
            return {
                _fill(self.official, found): tensor if self.transform is None else self.transform.to_official(tensor)
            }
        return None


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    fixed = [re.escape(part) for part in _TOKEN.split(pattern)]
    kinds = [PLACEHOLDERS[token] for token in _TOKEN.findall(pattern)]
    return re.compile("".join(part + kind for part, kind in itertools.zip_longest(fixed, kinds, fillvalue="")))


def _match(pattern: str, name: str) -> tuple[str, ...] | None:
    found = _compiled(pattern).fullmatch(name)
    return found.groups() if found else None


def _fill(pattern: str, found: Sequence[str]) -> str:
    values = iter(found)
    return _TOKEN.sub(lambda _: next(values), pattern)


def convert_to_ours(
    state_dict: Mapping[str, Tensor], table: Iterable[Rename], layout: str = "of the table"
) -> dict[str, Tensor]:
    """Rename official weights to ours.

    Args:
        state_dict: official names to tensors.
        table: the lines; the first match is used.
        layout: name of the layout for errors.

    Returns:
        Our names to tensors.

    Raises:
        CheckpointLayoutError: if a name is in no line of the table.
    """
    lines = list(table)
    return _convert(state_dict, lambda name, line: line.to_ours(name, state_dict[name]), lines, layout)


def convert_to_official(
    state_dict: Mapping[str, Tensor], table: Iterable[Rename], layout: str = "of the table"
) -> dict[str, Tensor]:
    """Rename our weights to the official layout.

    Args:
        state_dict: our names to tensors.
        table: the lines; the first match is used.
        layout: name of the layout for errors.

    Returns:
        Official names to tensors.

    Raises:
        CheckpointLayoutError: if a name is in no line of the table.
    """
    lines = list(table)
    return _convert(state_dict, lambda name, line: line.to_official(name, state_dict), lines, layout)


def _convert(
    names: Iterable[str],
    rename: Callable[[str, Rename], dict[str, Tensor] | None],
    table: Sequence[Rename],
    layout: str,
) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    unknown = []
    for name in names:
        renamed = next((found for line in table if (found := rename(name, line)) is not None), None)
        if renamed is None:
            unknown.append(name)
        else:
            result.update(renamed)
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise CheckpointLayoutError(
            f"these weights are not part of the layout {layout}: {', '.join(unknown[:5])}{more}; "
            "is this another method's checkpoint?"
        )
    return result
