"""Figures that compare many methods on many experiments: radar and ranks."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tubelets.visualization.figures import finish_figure, import_pyplot


def save_radar(
    scores: Mapping[str, Mapping[str, float]], path: str | Path, title: str = "", emphasised: Sequence[str] = ()
) -> Path:
    """Draw one polygon a method; each axis runs from the worst to the best value that any method has on it.

    Args:
        scores: by method, then by experiment; larger is better. A method that lacks an experiment is left out.
        path: PNG file to write.
        title: heading.
        emphasised: methods drawn in colour; all others are thin and grey, and not in the legend.

    Returns:
        The path.

    Raises:
        ValueError: if no method has every experiment, or there are fewer than three experiments.
    """
    axes = list(dict.fromkeys(name for values in scores.values() for name in values))
    complete = {method: values for method, values in scores.items() if set(axes) <= values.keys()}
    if len(axes) < 3 or not complete:
        raise ValueError(
            f"a radar plot needs at least 3 experiments that one method has all of, got {len(axes)} experiments and "
            f"{len(complete)} such methods"
        )
    pyplot = import_pyplot()
    figure, axis = pyplot.subplots(figsize=(6.5, 6), subplot_kw={"projection": "polar"})
    angles = [2 * math.pi * place / len(axes) for place in range(len(axes))]
    for method, values in complete.items():
        heights = [_share(values[name], [row[name] for row in complete.values()]) for name in axes]
        style = {"linewidth": 2.2, "label": method} if method in emphasised else {"linewidth": 0.8, "color": "0.75"}
        axis.plot([*angles, angles[0]], [*heights, heights[0]], zorder=2 + (method in emphasised), **style)
    ends = {name: [row[name] for row in complete.values()] for name in axes}
    axis.set_xticks(angles, [f"{name}\n{min(ends[name]):.3g} to {max(ends[name]):.3g}" for name in axes], fontsize=8)
    axis.set_yticks([0, 0.5, 1], ["worst", "", "best"], fontsize=7)
    if emphasised:
        axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(-0.15, -0.15))
    return finish_figure(figure, path, title)


def _share(value: float, values: Sequence[float]) -> float:
    """Where a value lies between the smallest and the largest one: 0.15 to 1, so that polygons do not collapse."""
    low, high = min(values), max(values)
    return 1.0 if high == low else 0.15 + 0.85 * (value - low) / (high - low)


def save_ranks(
    scores: Mapping[str, Mapping[str, float]], path: str | Path, title: str = "", emphasised: Sequence[str] = ()
) -> Path:
    """Draw the rank of each method on every experiment as a line: crossing lines are orders that do not agree.

    Args:
        scores: by method, then by experiment; larger is better. A method has a gap where it lacks an experiment.
        path: PNG file to write.
        title: heading.
        emphasised: methods drawn in colour; all others are grey.

    Returns:
        The path.

    Raises:
        ValueError: if the input is empty.
    """
    axes = list(dict.fromkeys(name for values in scores.values() for name in values))
    if not axes:
        raise ValueError("no scores to rank; give at least one method with one experiment")
    pyplot = import_pyplot()
    figure, axis = pyplot.subplots(figsize=(max(6.0, 1.2 * len(axes) + 2), max(3.6, 0.24 * len(scores) + 1.5)))
    places = range(len(axes))
    for method, values in scores.items():
        ranks = [
            1 + sum(row.get(name, -math.inf) > values[name] for row in scores.values()) if name in values else math.nan
            for name in axes
        ]
        shown = method in emphasised or not emphasised
        axis.plot(places, ranks, marker="o", markersize=4 if shown else 2.5, linewidth=2 if shown else 0.8,
                  color=None if shown else "0.75", zorder=2 + shown)  # fmt: skip
        last = max((place for place in places if not math.isnan(ranks[place])), default=0)
        axis.annotate(method, (last, ranks[last]), xytext=(6, -3), textcoords="offset points", fontsize=7)
    axis.set_xticks(places, axes, fontsize=8, rotation=20, ha="right")
    axis.set_ylabel("rank")
    axis.invert_yaxis()
    axis.margins(x=0.12)
    return finish_figure(figure, path, title)
