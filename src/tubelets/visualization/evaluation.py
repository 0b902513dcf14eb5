"""Figures of evaluation results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tubelets.visualization.figures import finish_figure, import_pyplot


def save_scores(
    scores: Mapping[str, Mapping[str, float | tuple[float, float]]], chance: float, path: str | Path, title: str = ""
) -> Path:
    """Draw bars grouped by measure, one colour per model, with a line at chance.

    Args:
        scores: by model, then by measure: a fraction, or its mean and deviation (drawn as an error bar).
        chance: accuracy of guessing, a fraction.
        path: PNG file to write.
        title: heading.

    Returns:
        The path.

    Raises:
        ValueError: if the input is empty.
    """
    measures: list[str] = list(dict.fromkeys(name for values in scores.values() for name in values))
    if not measures:
        raise ValueError("no scores to draw; give at least one model with one measure")
    pyplot = import_pyplot()
    figure, axis = pyplot.subplots(figsize=(max(6.0, 1.3 * len(measures) + 2), 3.6))
    width = 0.8 / len(scores)
    for number, (model, values) in enumerate(scores.items()):
        pairs = [_pair(values.get(name, float("nan"))) for name in measures]
        places = [index + (number - (len(scores) - 1) / 2) * width for index in range(len(measures))]
        bars = axis.bar(
            places,
            [100 * mean for mean, _ in pairs],
            width,
            yerr=[100 * std for _, std in pairs],
            label=model,
            capsize=2,
        )
        axis.bar_label(bars, fmt="%.0f", fontsize=7)
    axis.axhline(100 * chance, color="black", linestyle=":", linewidth=1, label=f"chance {chance:.1%}")
    axis.set_xticks(range(len(measures)), measures, fontsize=8)
    axis.set_ylabel("top-1 accuracy, %")
    axis.legend(fontsize=8)
    return finish_figure(figure, path, title)


def save_curves(
    curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]],
    path: str | Path,
    labels: tuple[str, str],
    title: str = "",
) -> Path:
    """Draw several lines into one figure, on a logarithmic scale if they span more than a factor of ten.

    Args:
        curves: by name, one or more lines of points (x, y), such as one for each seed; lines of a name share a colour.
        path: PNG file to write.
        labels: what x and y are.
        title: heading.

    Returns:
        The path.

    Raises:
        ValueError: if the input is empty.
    """
    heights = [y for lines in curves.values() for points in lines for _, y in points]
    if not heights:
        raise ValueError("no curves to draw; give at least one line with one point")
    pyplot = import_pyplot()
    figure, axis = pyplot.subplots(figsize=(7, 3.6))
    for number, (name, lines) in enumerate(curves.items()):
        for place, points in enumerate(lines):
            label = name if place == 0 else None
            axis.plot([x for x, _ in points], [y for _, y in points], label=label, color=f"C{number % 10}")
    if min(heights) > 0 and max(heights) > 10 * min(heights):
        axis.set_yscale("log")
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return finish_figure(figure, path, title)


def _pair(value: float | tuple[float, float]) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, 0.0)
