"""The report of the benchmark: tables, radar and rank plots beside published methods, and results for a model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tubelets.evaluation.severe.aggregates import benchmark_mean, benchmark_ranks
from tubelets.evaluation.severe.experiments import BENCHMARK, EXPERIMENTS, SevereExperiment
from tubelets.evaluation.severe.published import SEVERE_PLUS_PLUS, published_table
from tubelets.evaluation.severe.results import SevereResult, Summary, summarize
from tubelets.visualization.comparisons import save_radar, save_ranks
from tubelets.visualization.page import Page

FAMILIES = {"cnn-32x112": ("cnn",), "vit-16x224": ("video-only", "video-text")}
"""Published families whose input a preset has: numbers at 32 x 112 and at 16 x 224 are not shown side by side."""


def write_severe_report(
    results: Sequence[SevereResult],
    folder: Path,
    *,
    paper: str | None = SEVERE_PLUS_PLUS,
    rank_as_published: bool = False,
) -> Path:
    """Write `index.html`, `severe.md`, `radar.png` and `ranks.png`.

    Args:
        results: of one preset, at least one.
        folder: of the report.
        paper: whose published numbers of the same input are shown beside the results, or None for none. One paper, as
            papers disagree about the same method.
        rank_as_published: see `benchmark_ranks`.

    Returns:
        The page.

    Raises:
        ValueError: if there are no results, presets are mixed, or the paper is unknown.
    """
    if not results:
        raise ValueError("there are no results to report; run an experiment first")
    summaries = summarize(results)
    measured = {name for row in summaries.values() for name in row}
    order = dict.fromkeys((*BENCHMARK, *EXPERIMENTS))
    experiments = [EXPERIMENTS[name] for name in order if name in measured]
    preset = results[0].preset
    published = {} if paper is None else published_table(experiments, paper)
    beside = {f"{method} [{family}]": row for (method, family), row in published.items() if family in FAMILIES[preset]}
    ours = {model: {name: summary.mean for name, summary in row.items()} for model, row in summaries.items()}
    table = {**ours, **beside}
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown_table(summaries, beside, experiments, rank_as_published)
    (folder / "severe.md").write_text(text, encoding="utf-8")
    page = _page(summaries, table, experiments, preset, paper, rank_as_published)
    upwards = {model: _upwards(row) for model, row in table.items()}
    if len(experiments) >= 3 and any(len(row) == len(experiments) for row in ours.values()):
        page.picture(save_radar(upwards, folder / "radar.png", emphasised=list(ours)), "every axis from worst to best")
    if len(table) > 1:
        caption = "ranks; crossing lines are experiments that order the methods differently"
        page.picture(save_ranks(upwards, folder / "ranks.png", emphasised=list(ours)), caption)
    _explain(page, results, summaries)
    return page.save(folder / "index.html")


def _upwards(row: Mapping[str, float]) -> dict[str, float]:
    """Numbers of which larger is better: errors of counts as 100 (1 - error)."""
    return {name: value if EXPERIMENTS[name].higher_is_better else 100 * (1 - value) for name, value in row.items()}


def _cell(summary: Summary | None, experiment: SevereExperiment) -> str:
    if summary is None:
        return ""
    digits = 1 if experiment.higher_is_better else 3
    spread = f" ± {summary.deviation:.{digits}f}" if len(summary.values) > 1 else ""
    return f"{summary.mean:.{digits}f}{spread}"


def _rows(
    summaries: Mapping[str, Mapping[str, Summary]],
    beside: Mapping[str, Mapping[str, float]],
    experiments: Sequence[SevereExperiment],
    rank_as_published: bool,
) -> tuple[list[str], list[list[str]]]:
    """Heads and cells: measured models first, then published ones; mean and rank if all eight columns are there."""
    printed = {name: {key: Summary(x, 0.0, {0: x}) for key, x in row.items()} for name, row in beside.items()}
    shown = {**summaries, **printed}
    means = {name: {key: summary.mean for key, summary in row.items()} for name, row in shown.items()}
    ranks = benchmark_ranks(means, rank_as_published)
    whole = {experiment.name for experiment in experiments} >= set(BENCHMARK)
    heads = [_head(experiment) for experiment in experiments] + (["mean of 8", "rank"] if whole else [])
    rows = []
    for name, row in shown.items():
        cells = [name, *(_cell(row.get(experiment.name), experiment) for experiment in experiments)]
        if whole:
            mean = benchmark_mean(means[name])
            cells += ["" if mean is None else f"{mean:.1f}", f"{ranks[name]:.1f}" if name in ranks else ""]
        rows.append(cells)
    return heads, rows


def _head(experiment: SevereExperiment) -> str:
    return experiment.name + ("" if experiment.higher_is_better else " (error)")


def markdown_table(
    summaries: Mapping[str, Mapping[str, Summary]],
    published: Mapping[str, Mapping[str, float]],
    experiments: Sequence[SevereExperiment],
    rank_as_published: bool = False,
) -> str:
    """The results as a Markdown table, published rows below the measured ones.

    Args:
        summaries: of `summarize`.
        published: method to experiment name to number.
        experiments: the columns.
        rank_as_published: see `benchmark_ranks`.

    Returns:
        The table, with a line that says what is in it.
    """
    heads, rows = _rows(summaries, published, experiments, rank_as_published)
    lines = [f"| model | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    seeds = sorted({seed for row in summaries.values() for summary in row.values() for seed in summary.values})
    note = f"Percent, mean and standard deviation over the seeds {', '.join(map(str, seeds))}."
    if published:
        note += " Rows with a family in brackets are published numbers."
    return "\n".join([*lines, "", note]) + "\n"


def _page(
    summaries: Mapping[str, Mapping[str, Summary]],
    table: Mapping[str, Mapping[str, float]],
    experiments: Sequence[SevereExperiment],
    preset: str,
    paper: str | None,
    rank_as_published: bool,
) -> Page:
    source = f" Rows in brackets are numbers of {paper} with the same kind of input." if paper else ""
    page = Page(
        "SEVERE: how well do they generalise?",
        f"{len(summaries)} models on {len(experiments)} experiments, preset {preset}.{source}",
    )
    for factor in dict.fromkeys(experiment.factor for experiment in experiments):
        chosen = [experiment for experiment in experiments if experiment.factor == factor]
        names = {experiment.name for experiment in chosen}
        beside = {name: row for name, row in table.items() if name not in summaries and names & row.keys()}
        page.heading(factor.capitalize())
        heads, rows = _rows(summaries, beside, chosen, rank_as_published)
        page.table(["model", *heads], rows)
    if {experiment.name for experiment in experiments} >= set(BENCHMARK):
        page.heading("The eight experiments of the benchmark")
        eight = [EXPERIMENTS[name] for name in BENCHMARK]
        beside = {name: row for name, row in table.items() if name not in summaries}
        heads, rows = _rows(summaries, beside, eight, rank_as_published)
        page.table(["model", *heads], rows)
    return page


def _explain(page: Page, results: Sequence[SevereResult], summaries: Mapping[str, Mapping[str, Summary]]) -> None:
    """How the numbers were made, and in what they differ from the published protocol."""
    page.heading("How this was measured")
    warnings = {text for row in summaries.values() for summary in row.values() for text in summary.warnings}
    for text in sorted(warnings):
        page.text(f"Not the published split: {text}.")
    if any(result.preset == "vit-16x224" for result in results):
        page.text("The protocol of transformers is ours: the papers do not publish theirs.")
    subset_seeds = sorted({str(result.subset_seed) for result in results if result.subset_seed is not None})
    if subset_seeds:
        page.text(f"Training subsets were drawn with the seed {', '.join(subset_seeds)}.")
    details: dict[str, dict[str, object]] = {result.model: result.details for result in results}
    names = sorted({name for row in details.values() for name in row})
    if names:
        rows = [[model, *(str(row.get(name, "")) for name in names)] for model, row in details.items()]
        page.table(["model", *names], rows)
