"""Dataclasses from YAML files and flags, by jsonargparse; errors name file, field and what was expected."""

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

from tubelets.plain_yaml import parse_yaml


class RecipeError(ValueError):
    """A file or a flag has an unknown field, a value of the wrong type, or lacks a field."""


def recipe_parser(classes: Mapping[str, type] | Collection[type]) -> "ArgumentParser":
    """A parser of the fields of dataclasses, with their docstrings as help.

    Args:
        classes: a mapping from sections to dataclasses for fields `section.name`; a collection for fields `name`.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, usage="RECIPE [--field VALUE ...]")
    parser.add_argument("--config", action="config", help="a further file whose fields override the recipe's")
    sections = classes.items() if isinstance(classes, Mapping) else ((None, cls) for cls in classes)
    for section, cls in sections:
        parser.add_class_arguments(cls, section)
    return parser


def read_mapping(path: str | Path, what: str) -> dict[str, Any]:
    """Read a YAML or JSON file of plain values; tags, which could name Python objects, are refused.

    Args:
        path: the file.
        what: description of the file, for messages.

    Raises:
        FileNotFoundError: if the file is not found.
        RecipeError: if it is not a mapping of plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}; `tubelets copy` lists the package's own")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not YAML of plain values ({error})") from error
    if not isinstance(content, Mapping):
        raise RecipeError(f"{path} must be a mapping of fields, got {type(content).__name__}")
    return dict(content)


def explain(error: Exception, known: Collection[str]) -> str:
    """The message of a parser in one line, with the nearest known name for each unknown one.

    Example:
        >>> explain(ValueError("unrecognized arguments: --run.sead=1"), ["run.seed", "run.trackers"])
        "unrecognized arguments: --run.sead=1; did you mean 'seed'?"
    """
    message = " ".join(str(error).split())
    # jsonargparse's words for a type that does not fit, shortened.
    union = r"Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors: .* Given value: "
    message = re.sub(union, r"Expected one of \1. Got value: ", message)
    # A range is not part of the type; it has messages of its own.
    message = re.sub(r"(?:typing\.)?Annotated\[(?:<class ')?(\w+)(?:'>)?, [^,]*?\]", r"\1", message)
    message = re.sub(r"<class '(\w+)'>", r"\1", message).replace("Parser key ", "").replace("typing.", "")
    if not re.search(r"unrecognized|not accept|not expected", message):
        return message
    names = sorted({part for name in known for part in name.split(".")})
    words = [part for flag, quoted in re.findall(r"--([\w.]+)|['\"]([\w.]+)['\"]", message)
             for part in (flag or quoted).split(".")]  # fmt: skip
    close = [match for word in words if word not in names for match in difflib.get_close_matches(word, names, n=1)]
    return message + "".join(f"; did you mean {match!r}?" for match in close)


def check_known_field(where: str, name: str, known: Collection[str]) -> None:
    """Reject an unknown field of a configuration.

    Args:
        where: its full dotted name, for the message.
        name: its name.
        known: the names that exist.

    Raises:
        RecipeError: with the nearest known name, if it is not known.
    """
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(sorted(known))}"
        raise RecipeError(f"unknown field {where}; {hint}")
