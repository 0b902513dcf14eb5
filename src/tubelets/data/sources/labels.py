"""Labels of shards as class numbers: numbers with names, plain numbers, or names as text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, List, Value

from tubelets.data.sources.records import sorted_names


@dataclass(frozen=True)
class Labels:
    """How the cells of a label column become class numbers.

    Attributes:
        multi_label: Whether cells are lists.
        class_names: Names in label order, None if unknown.
        as_text: Whether cells are names.
        numbered: Whether cells are numbers of names that the data state, so that others are damage.

    Example:
        >>> labels = Labels.of(Value("string"), ["jump", "run"])
        >>> labels.number("run"), Labels.of(ClassLabel(names=["jump", "run"])).number(1)
        (1, 1)
    """

    multi_label: bool
    class_names: tuple[str, ...] | None
    as_text: bool
    numbered: bool = False

    @classmethod
    def of(cls, feature: Any, class_names: Sequence[str] | None = None) -> "Labels":
        """Labels of a column.

        Args:
            feature: Its type.
            class_names: Names in label order, for text and for numbers without names.
        """
        several = isinstance(feature, List)
        single = feature.feature if isinstance(feature, List) else feature
        names = single.names if isinstance(single, ClassLabel) else class_names
        as_text = isinstance(single, Value) and single.dtype in ("string", "large_string")
        return cls(several, None if names is None else tuple(names), as_text, isinstance(single, ClassLabel))

    def number(self, cell: Any) -> Any:
        """Class number of a cell, or a list of numbers; None for a missing label.

        Args:
            cell: The value of the column.

        Raises:
            ValueError: The label is not one of the classes.
        """
        if cell is None:
            return None
        if isinstance(cell, (list, tuple)):
            return [self._number(each) for each in cell]
        return self._number(cell)

    def _number(self, cell: Any) -> Any:
        names = self.class_names
        if self.as_text:
            if names is None or str(cell) not in names:
                raise ValueError(f"label {cell!r} is not one of the {len(names or ())} classes")
            return names.index(str(cell))
        # The Hub marks clips whose label is not published with -1.
        if self.numbered and names is not None and not (type(cell) is int and -1 <= cell < len(names)):
            raise ValueError(f"label {cell!r} is not a number of one of the {len(names)} classes")
        return cell


def names_of(cells: Iterable[Any]) -> list[str]:
    """Class names of text labels, in label order.

    Args:
        cells: Cells of a label column: names, lists of names, or None.

    Example:
        >>> names_of(["run", ["jump", "run"], None])
        ['jump', 'run']
    """
    found: set[str] = set()
    for cell in cells:
        found.update(str(each) for each in (cell if isinstance(cell, (list, tuple)) else [cell]) if each is not None)
    return sorted_names(found)
