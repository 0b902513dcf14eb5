"""Ranges of numeric fields, stated in their annotations and checked before anything is built."""

import functools
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Annotated, Any, get_type_hints


class RangeError(ValueError):
    """A number is out of the range of its field, or a list has another length."""


@dataclass(frozen=True)
class Range:
    """Numbers that a field may have: finite ones in an interval, and listed exceptions.

    Attributes:
        interval: in the usual notation, such as "[0, 1)"; the bounds may be infinite.
        also: values outside of the interval with a meaning of their own.
        whole: only integers.

    Example:
        >>> Range("[0, 1)").contains(0), Range("[0, 1)").contains(1), Range("[0, inf)").contains(float("nan"))
        (True, False, False)
        >>> Range("[1, inf)", also=(-1,))
        at least 1, or -1
    """

    interval: str
    also: tuple[float, ...] = ()
    whole: bool = False

    def contains(self, value: Any) -> bool:
        """Whether a value is a finite number in the range."""
        kind = Integral if self.whole else Real
        if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
            return False
        low, high = self._bounds
        value = float(value)
        above = value > low or (value == low and self.interval[0] == "[")
        below = value < high or (value == high and self.interval[-1] == "]")
        return (above and below) or value in self.also

    @property
    def _bounds(self) -> tuple[float, float]:
        low, high = self.interval[1:-1].split(",")
        return float(low), float(high)

    def __repr__(self) -> str:
        low, high = self._bounds
        if math.isinf(low) and math.isinf(high):
            return "finite"
        text = f"in {self.interval}" if math.isfinite(high) else f"at least {low:g}"
        if self.interval.startswith("(") and not math.isfinite(high):
            text = "positive" if low == 0 else f"above {low:g}"
        return text + "".join(f", or {value:g}" for value in self.also)


Count = Annotated[int, Range("[1, inf)", whole=True)]
Natural = Annotated[int, Range("[0, inf)", whole=True)]
Workers = Annotated[int, Range("[0, 1024]", whole=True)]
# What NumPy accepts, with room for the number of the process that is added to it.
Seed = Annotated[int, Range("[0, 4294901760]", whole=True)]
Finite = Annotated[float, Range("(-inf, inf)")]
Positive = Annotated[float, Range("(0, inf)")]
NotNegative = Annotated[float, Range("[0, inf)")]
Fraction = Annotated[float, Range("[0, 1]")]
Share = Annotated[float, Range("(0, 1]")]
Decay = Annotated[float, Range("[0, 1)")]


def described(default: Any, text: str) -> Any:
    """A field of a dataclass with a default and a help text, as parsers of flags read it.

    Args:
        default: an immutable default.
        text: shown by `--help`.

    Example:
        >>> @dataclass
        ... class Options:
        ...     k: Count = described(1, "Neighbours.")
        >>> fields(Options)[0].metadata["help"]
        'Neighbours.'
    """
    return field(default=default, metadata={"help": text})


def ranges_of(cls: type, inherited: Mapping[str, Range] | None = None) -> dict[str, Range]:
    """The ranges of a dataclass's fields by name; those of lists hold for each element.

    Args:
        cls: the dataclass.
        inherited: ranges of fields that a class outside of this package declares.

    Example:
        >>> @dataclass
        ... class Options:
        ...     k: Count = 1
        ...     scales: list[Share] | None = None
        ...     name: str = ""
        >>> ranges_of(Options)
        {'k': at least 1, 'scales': in (0, 1]}
    """
    return {**(inherited or {}), **_own_ranges(cls)}


@functools.cache
def _own_ranges(cls: type) -> dict[str, Range]:
    hints = get_type_hints(cls, include_extras=True)
    return {entry.name: each for entry in fields(cls) for each in _ranges_in(hints[entry.name])}


def _ranges_in(annotation: Any) -> Iterator[Range]:
    if typing.get_origin(annotation) is Annotated:
        yield from (each for each in annotation.__metadata__ if isinstance(each, Range))
    for part in typing.get_args(annotation):
        yield from _ranges_in(part)


def check_ranges(options: Any, where: str = "", inherited: Mapping[str, Range] | None = None) -> None:
    """Refuse a dataclass with a number out of its range; None is left to the field's type.

    Args:
        options: the instance.
        where: what precedes the names of its fields in messages, such as "run.".
        inherited: see `ranges_of`.

    Raises:
        RangeError: naming field, value and range.

    Example:
        >>> @dataclass
        ... class Options:
        ...     k: Count = 1
        >>> check_ranges(Options(k=0), "evaluation.")
        Traceback (most recent call last):
        tubelets.ranges.RangeError: evaluation.k must be at least 1, got 0
    """
    for name, allowed in ranges_of(type(options), inherited).items():
        value = getattr(options, name)
        several = isinstance(value, (list, tuple))
        for index, each in enumerate(value if several else [value]):
            if each is not None and not allowed.contains(each):
                place = f"[{index}]" if several else ""
                kind = "an integer, " if allowed.whole and isinstance(each, float) else ""
                raise RangeError(f"{where}{name}{place} must be {kind}{allowed}, got {each!r}")


def check_length(name: str, values: Any, length: int, what: str) -> None:
    """Refuse a list of another length.

    Args:
        name: of the field.
        values: the list.
        length: its length.
        what: the elements in words.

    Raises:
        RangeError: naming field, value and what is expected.
    """
    if len(values) != length:
        raise RangeError(f"{name} must be {length} numbers ({what}), got {values}")
