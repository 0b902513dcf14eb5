"""The draw of clips of each class that few-label subsets and shares of classes are made with."""

import pytest

from tubelets.data.sources.few_shot import first_of_each_class


def test_the_order_decides_the_draw() -> None:
    labels = [0, 1, 0, 1, 0, 2]
    assert first_of_each_class(labels, [5, 4, 3, 2, 1, 0], 1) == {0: [4], 1: [3], 2: [5]}
    fewer, more = (first_of_each_class(labels[:5], [2, 0, 4, 1, 3], count) for count in (1, 2))
    assert all(set(fewer[label]) < set(more[label]) for label in more)
    assert first_of_each_class(labels, range(6), lambda size: size // 2) == {0: [0], 1: [1], 2: []}


def test_classes_with_too_few_clips_are_named() -> None:
    with pytest.raises(ValueError, match="class 2 has 1 videos, fewer than the 2 requested"):
        first_of_each_class([0, 0, 2], [0, 1, 2], 2)
