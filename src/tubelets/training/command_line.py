"""What every command line shares: the spelling of flags, hints at near names, help with types and defaults."""

import dataclasses
import difflib
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from docstring_parser import parse

from tubelets.ranges import Range, ranges_of

WIDTH = 118
_SECRET = re.compile(r"(token|password|secret|api_key)$", re.IGNORECASE)


@dataclass(frozen=True)
class Field:
    """One flag or positional word of a command line.

    Attributes:
        name: as it is typed, e.g. `--data.path`.
        type: what kind of value it takes; empty for a switch.
        default: the value without it; None if it must be given, empty if there is nothing to say.
        text: its meaning.
    """

    name: str
    type: str
    default: str | None
    text: str


@dataclass(frozen=True)
class Section:
    """Fields that belong together.

    Attributes:
        name: as in `--help NAME`.
        summary: what they are about, in one line.
        fields: returns the fields; called only if they are shown, because finding them may import much.
        details: what `--help NAME` prints above the fields.
    """

    name: str
    summary: str
    fields: Callable[[], Sequence[Field]]
    details: str = ""


def unified(words: Sequence[str]) -> list[str]:
    """Flags in their one spelling: `-` and `_` are the same in their names.

    Args:
        words: of a command line; those after `--` stay as they are.

    Example:
        >>> unified(["a-b", "--short-side", "8", "--run.output-dir=runs/a-b"])
        ['a-b', '--short_side', '8', '--run.output_dir=runs/a-b']
    """
    result = list(words)
    for index, word in enumerate(result):
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            result[index] = f"--{name[2:].replace('-', '_')}{equals}{value}"
    return result


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is nearest to an unknown one; empty if none is near.

    Example:
        >>> nearest("pretrian", ["pretrain", "push"])
        "; did you mean 'pretrain'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_flag(words: Sequence[str], known: Iterable[str]) -> str | None:
    """What is wrong with the first flag that does not exist.

    Args:
        words: of a command line, as `unified` returns them.
        known: flags that exist, with their dashes.

    Returns:
        A message with the nearest flag; None if all are known.

    Example:
        >>> unknown_flag(["--sead=1"], ["--seed"])
        "unknown flag --sead; did you mean '--seed'?"
    """
    known = list(known)
    for word in words:
        flag = word.partition("=")[0]
        if word == "--":
            return None
        if flag.startswith("--") and flag not in known:
            return f"unknown flag {flag}{nearest(flag, known)}"
    return None


def asked_for_help(words: Sequence[str]) -> tuple[bool, str | None]:
    """Whether words ask for help, and for which section.

    Args:
        words: of a command line.

    Example:
        >>> asked_for_help(["recipe", "--help", "run"]), asked_for_help(["-h"]), asked_for_help(["recipe"])
        ((True, 'run'), (True, None), (False, None))
    """
    for index, word in enumerate(words):
        if word in ("-h", "--help"):
            following = words[index + 1 : index + 2]
            return True, following[0] if following and not following[0].startswith("-") else None
    return False, None


def render_sections(sections: Sequence[Section], name: str | None = None) -> str:
    """The help of one section, of all of them, or a list of them.

    Args:
        sections: the sections that exist.
        name: name of one, "all", or None for the list.

    Returns:
        The text, without a line break at its end.

    Raises:
        ValueError: with the nearest name, if no section has that name.
    """
    known = {section.name: section for section in sections}
    if name is None:
        width = max(map(len, known))
        return "\n".join(["sections:", *(f"  {each.name:{width}}  {each.summary}" for each in sections)])
    if name != "all" and name not in known:
        names = [*known, "all"]
        raise ValueError(f"no section {name!r}{nearest(name, names)}; choose from {', '.join(names)}")
    return "\n\n".join(render_section(section) for section in (sections if name == "all" else [known[name]]))


def render_section(section: Section, brief: bool = False) -> str:
    """The fields of a section.

    Args:
        section: what to show.
        brief: leave out its details.
    """
    parts = [f"{section.name}: {section.summary}"]
    if section.details and not brief:
        parts.append(section.details.strip("\n"))
    separator = "\n\n" if len(parts) > 1 else "\n"
    return "\n".join(parts) + separator + render_fields(section.fields())


def render_fields(fields: Sequence[Field], width: int = WIDTH) -> str:
    """Lines with name, type, meaning and default of each field.

    Args:
        fields: what to show.
        width: length of a line.

    Returns:
        The text, without a line break at its end.

    Example:
        >>> print(render_fields([Field("--run.seed", "int", "0", "Seed of weights and data.")]))
          --run.seed INT  Seed of weights and data (default: 0)
    """
    heads = [f"{field.name} {_shown(field.type)}".strip() for field in fields]
    indent = min(max(map(len, heads), default=0), 34) + 4
    lines: list[str] = []
    for head, field in zip(heads, fields, strict=True):
        text = field.text.rstrip(".")
        if field.default is None:
            text += " (required)"
        elif field.default:
            text += f" (default: {field.default})"
        body = textwrap.wrap(text, width - indent) or [""]
        if len(head) + 4 > indent:
            lines.append(f"  {head}")
        else:
            lines.append(f"  {head:{indent - 4}}  {body.pop(0)}".rstrip())
        lines += [" " * indent + line for line in body]
    return "\n".join(lines)


def _shown(kind: str) -> str:
    """A single word stands in capitals for its value; choices and nested types stay as they are."""
    return kind.upper() if kind.removesuffix(" ...").isalpha() else kind


def dataclass_fields(cls: type, prefix: str = "") -> list[Field]:
    """The fields of a dataclass, with their meaning from its docstring or from their `help` metadata.

    Args:
        cls: the dataclass.
        prefix: put before each name, e.g. `run.`.

    Returns:
        One field for each of the dataclass, in its order.

    Example:
        >>> @dataclass
        ... class Shape:
        ...     '''A shape.
        ...
        ...     Attributes:
        ...         size: side in pixels.
        ...     '''
        ...
        ...     size: int = 8
        >>> dataclass_fields(Shape, "shape.")
        [Field(name='--shape.size', type='int', default='8', text='side in pixels.')]
    """
    documented = {each.arg_name: each.description or "" for each in parse(cls.__doc__ or "").params}
    hints, ranges = get_type_hints(cls), ranges_of(cls)
    return [
        Field(
            f"--{prefix}{entry.name}",
            type_name(hints[entry.name]),
            _default(entry),
            _meaning(str(entry.metadata.get("help") or documented.get(entry.name, "")), ranges.get(entry.name)),
        )
        for entry in dataclasses.fields(cls)
        if entry.init
    ]


def _meaning(text: str, allowed: Range | None) -> str:
    """The meaning of a field, and which numbers it takes."""
    words = " ".join(text.replace("`", "").split())
    return words if allowed is None else f"{words.removesuffix('.')}; {allowed}"


def type_name(hint: Any) -> str:
    """A type as users write it.

    Example:
        >>> from typing import Literal
        >>> type_name(int | None), type_name(list[float]), type_name(Literal["a", "b"])
        ('int|null', 'list[float]', '{a,b}')
    """
    text = hint.__name__ if isinstance(hint, type) and not getattr(hint, "__args__", ()) else str(hint)
    text = re.sub(r"(\w+\.)+", "", text).replace("Optional[", "[").replace("NoneType", "None")
    text = re.sub(r"Literal\[(.*?)\]", lambda found: "{" + found[1].replace("'", "").replace(", ", ",") + "}", text)
    return text.replace("None", "null").replace(" | ", "|").replace("Any", "any")


def _default(entry: "dataclasses.Field[Any]") -> str | None:
    if entry.default is not dataclasses.MISSING:
        value = entry.default
    elif entry.default_factory is not dataclasses.MISSING:
        value = entry.default_factory()
    else:
        return None
    return "null" if value is None else str(value) if value != "" else "''"


def recorded(verb: str, words: Sequence[str]) -> list[str]:
    """A command as a run records it, so that its card can say how it was made.

    Args:
        verb: of the command `tubelets`.
        words: after the verb.

    Returns:
        All words, with `***` for the values of tokens and passwords.

    Example:
        >>> recorded("finetune", ["mine.yaml", "--hub-token", "hf_x", "--seed=1"])
        ['tubelets', 'finetune', 'mine.yaml', '--hub_token', '***', '--seed=1']
    """
    result = ["tubelets", verb]
    for word in unified(words):
        name, equals, _ = word.partition("=")
        if _SECRET.search(result[-1]) and result[-1].startswith("--"):
            word = "***"
        elif equals and name.startswith("--") and _SECRET.search(name):
            word = f"{name}=***"
        result.append(word)
    return result
