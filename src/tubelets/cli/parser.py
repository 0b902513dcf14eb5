"""The command line of a verb: one dialect, errors of one line with the nearest name, help that fits a screen."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from tubelets.training.command_line import (
    Field,
    Section,
    nearest,
    render_fields,
    render_section,
    render_sections,
    unified,
    unknown_flag,
)

SCREEN = 50
"""Lines that the help of a verb may take."""


class UsageError(Exception):
    """The command line names something that does not exist, or lacks something."""


class Verb:
    """The command line of one verb.

    A module of a verb declares it in `add_arguments(verb)`: `verb.add` for words and flags, `verb.section` for flags
    that belong together, as in argparse. Flags are spelled with `_`; users may write `-` instead. A verb that reads its
    words itself, from dataclasses, calls `verb.take_words` and declares its sections for the help.

    Args:
        name: as typed after `tubelets`.
        description: its first line is the summary; the rest are a few lines with examples.
        given: the words of the command line, from which sections may follow.

    Example:
        >>> verb = Verb("resize", "Make videos smaller.")
        >>> verb.add("video", metavar="VIDEO", help="a file")
        >>> add = verb.section("size", "how small")
        >>> action = add("--short_side", type=int, default=256, help="pixels of the shorter side")
        >>> verb.parse(["clip.mp4", "--short-side", "128"]).short_side
        128
        >>> print(verb.help("size"), end="")
        size: how small
          --short_side INT  pixels of the shorter side (default: 256)
    """

    def __init__(self, name: str, description: str, given: Sequence[str] = ()) -> None:
        self.name, self.description, self.given = name, description.strip(), given
        self.words_usage: str | None = None
        self.parser = _Parser(prog=f"tubelets {name}", add_help=False, allow_abbrev=False)
        self.sections: list[Section] = []

    def add(self, *names: str, **settings: Any) -> None:
        """Declare a positional word or a flag that belongs to no section; arguments as in argparse."""
        self.parser.add_argument(*names, **settings)

    def section(self, name: str, summary: str, details: str = "") -> Callable[..., Any]:
        """Declare a section.

        Args:
            name: one word, for `--help NAME`.
            summary: one line.
            details: further lines for `--help NAME`.

        Returns:
            A function that declares a flag of the section, with arguments as in argparse.
        """
        group = self.parser.add_argument_group(name)
        actions = group._group_actions
        self.sections.append(Section(name, summary, lambda: [_field(action) for action in actions], details))
        return group.add_argument

    def take_words(self, usage: str, sections: Iterable[Section]) -> None:
        """Leave the words to the verb, which finds them as `options.words`.

        Args:
            usage: what follows the verb, for the help.
            sections: fields that the words may set, for the help.
        """
        self.words_usage = usage
        self.sections += sections

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Read the words after the verb.

        Args:
            words: with flags in any spelling.

        Raises:
            UsageError: with the nearest name, if they do not fit.
        """
        words = unified(words)
        if self.words_usage is not None:
            return argparse.Namespace(words=words)
        # Before argparse, which complains first about what is missing, and so hides a typo in a required flag.
        known = [name for action in self.parser._actions for name in action.option_strings]
        wrong = unknown_flag(words, known)
        if wrong is not None:
            raise UsageError(wrong)
        return self.parser.parse_args(words)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            UsageError: always.
        """
        raise UsageError(message)

    def help(self, section: str | None = None) -> str:
        """The help of the verb, at most `SCREEN` lines, or that of one section.

        Args:
            section: name of a section, or "all".

        Raises:
            UsageError: with the nearest name, if no section has that name.
        """
        if section is None:
            full = self._overview(in_full=self.words_usage is None)
            return full if full.count("\n") < SCREEN else self._overview(in_full=False)
        try:
            return render_sections(self.sections, section) + "\n"
        except ValueError as error:
            raise UsageError(str(error)) from error

    def _overview(self, in_full: bool) -> str:
        words = self.parser._positionals._group_actions
        flags = self.parser._optionals._group_actions
        usage = self.words_usage or " ".join([*map(_usage, words), "[--flag VALUE ...]"])
        parts = [f"usage: tubelets {self.name} {usage}", self.description]
        if words or flags:
            parts.append(render_fields([_field(action) for action in [*words, *flags]]))
        if in_full:
            parts += [render_section(section, brief=True) for section in self.sections]
        elif self.sections:
            parts.append(render_sections(self.sections))
            parts.append(
                f"`tubelets {self.name} --help SECTION` shows the flags of a section, `--help all` every flag."
            )
        return "\n\n".join(parts) + "\n"


class _Parser(argparse.ArgumentParser):
    """argparse that raises, and whose errors name the nearest choice."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(known)}{nearest(str(value), known)}")


def _usage(word: argparse.Action) -> str:
    name = str(word.metavar or word.dest)
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} ..."}.get(str(word.nargs), name)


def _field(action: argparse.Action) -> Field:
    name = action.option_strings[0] if action.option_strings else str(action.metavar or action.dest)
    if not action.option_strings:  # that a word must be given is seen in the usage
        return Field(name, "", "", str(action.help or ""))
    return Field(name, _type(action), None if action.required else _shown(action.default), str(action.help or ""))


def _shown(default: Any) -> str:
    if default is None or default is False:
        return ""
    return " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)


def _type(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.metavar:
        name = str(action.metavar)
    elif action.choices is not None:
        name = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        name = getattr(action.type, "__name__", "text").lower().replace("str", "text")
    return f"{name} ..." if action.nargs in ("*", "+") else f"[{name}]" if action.nargs == "?" else name
