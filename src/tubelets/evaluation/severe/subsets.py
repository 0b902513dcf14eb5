"""The training subsets of the benchmark's sample-efficiency experiments (severe_benchmark.md, section 2.4)."""

import math
from collections.abc import Sequence

import numpy as np

SUBSET_SEED = 99999
"""Seed of the published subsets; 12345 and 19 give two further ones."""


def few_sample_subset(labels: Sequence[int] | np.ndarray, size: int, seed: int = SUBSET_SEED) -> list[int]:
    """The clips of an N-sample subset: as many of each class, or all where a class has fewer.

    Args:
        labels: class of every training clip, in the order of the annotation file.
        size: N; the subset has ceil(N / classes) clips of each class, so that it can be a little larger.
        seed: of the draw.

    Returns:
        Places in `labels`, class after class, in the order drawn.

    Raises:
        ValueError: if there is no label, or the size is below 1.

    Example:
        >>> few_sample_subset([0, 1, 0, 1, 0], 2)
        [2, 1]
    """
    classes = np.asarray(labels)
    if size < 1 or not classes.size:
        raise ValueError(f"a subset needs a size of at least 1 and labels, got {size} of {classes.size} clips")
    present = np.unique(classes)
    per_class = math.ceil(size / len(present))
    draw = np.random.RandomState(seed)
    chosen = []
    for label in present:
        places = np.flatnonzero(classes == label)
        chosen.extend(places[draw.choice(len(places), min(per_class, len(places)), replace=False)].tolist())
    return chosen
