"""YAML from anywhere: plain values, read without running or expanding anything."""

from typing import Any

import yaml


class _PlainLoader(yaml.SafeLoader):
    """YAML of plain values without aliases: nine lists that name each other nine times are a billion entries."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(f"aliases such as *{event.anchor} are not read; write the value out")
        return super().compose_node(parent, index)


def parse_yaml(text: str) -> Any:
    r"""The content of a YAML or JSON text of plain values.

    Args:
        text: the text; may be untrusted.

    Raises:
        yaml.YAMLError: if it is not YAML, or has tags that name Python objects, or aliases.

    Example:
        >>> parse_yaml("{a: [1, 2]}")
        {'a': [1, 2]}
        >>> parse_yaml("a: &x [1]\nb: *x")
        Traceback (most recent call last):
        ...
        yaml.error.YAMLError: aliases such as *x are not read; write the value out
    """
    try:
        return yaml.load(text, _PlainLoader)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deep") from error
