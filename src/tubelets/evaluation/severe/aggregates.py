"""Mean and rank over the eight experiments of the benchmark (severe_benchmark.md, section 1)."""

from collections.abc import Mapping

from tubelets.evaluation.severe.experiments import BENCHMARK, EXPERIMENTS

_ERRORS = {name for name in BENCHMARK if not EXPERIMENTS[name].higher_is_better}


def benchmark_mean(values: Mapping[str, float]) -> float | None:
    """Mean of the eight experiments; repetition counting enters as 100 (1 - error).

    Args:
        values: experiment name to percent, or to the error of counts.

    Returns:
        The mean, or None if one of the eight is missing.

    Example:
        >>> benchmark_mean({**dict.fromkeys(BENCHMARK, 50.0), "ucf-rc": 0.5})
        50.0
    """
    if not set(BENCHMARK) <= values.keys():
        return None
    entries = [100 * (1 - values[name]) if name in _ERRORS else values[name] for name in BENCHMARK]
    return sum(entries) / len(entries)


def benchmark_ranks(table: Mapping[str, Mapping[str, float]], rank_as_published: bool = False) -> dict[str, float]:
    """Mean rank of every method over the eight experiments; ties share the best rank.

    Ranks depend on the methods that are compared: store both together.

    Args:
        table: method to experiment name to number; methods with a missing one are not ranked.
        rank_as_published: rank repetition counting in the wrong direction, largest error first, as the ranks printed
            in the Tubelet-Contrast paper do.

    Returns:
        Mean rank by method, in the order of the table.

    Example:
        >>> good = {**dict.fromkeys(BENCHMARK, 9.0), "ucf-rc": 0.1}
        >>> bad = {**dict.fromkeys(BENCHMARK, 1.0), "ucf-rc": 0.2}
        >>> benchmark_ranks({"good": good, "bad": bad})
        {'good': 1.0, 'bad': 2.0}
        >>> benchmark_ranks({"good": good, "bad": bad}, rank_as_published=True)
        {'good': 1.125, 'bad': 1.875}
    """
    complete = {method: values for method, values in table.items() if set(BENCHMARK) <= values.keys()}
    ranks = dict.fromkeys(complete, 0.0)
    for name in BENCHMARK:
        lower_first = name in _ERRORS and not rank_as_published
        column = {method: values[name] * (1 if lower_first else -1) for method, values in complete.items()}
        for method, value in column.items():
            ranks[method] += 1 + sum(other < value for other in column.values())
    return {method: total / len(BENCHMARK) for method, total in ranks.items()}
