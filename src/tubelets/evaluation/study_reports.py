"""Tables and figures of a study."""

import json
import statistics
from pathlib import Path
from typing import Any

from tubelets.evaluation.studies import Study
from tubelets.info import package_versions
from tubelets.visualization.evaluation import save_curves, save_scores


def summarize(results: list[dict[str, Any]], benchmark: str) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and standard deviation over seeds of every score on a benchmark, by model.

    Example:
        >>> def scores(x):
        ...     return {"b": {"scores": {"kNN": x}}}
        >>> runs = [{"method": "m", "seed": 0, "random": scores(x), "pretrained": scores(1.0)} for x in (0.0, 0.5)]
        >>> summarize(runs, "b")["m, not pretrained"]["kNN"]
        (0.25, 0.3535533905932738)
    """
    rows: dict[str, dict[str, list[float]]] = {}
    twins = [
        {r["seed"]: r["random"][benchmark] for r in results if r["method"] == method} for method in _methods(results)
    ]
    shared = len(twins) > 1 and all(twin == twins[0] for twin in twins)
    for result in results:
        for kind, title in (("random", f"{result['method']}, not pretrained"), ("pretrained", result["method"])):
            if kind == "random" and shared:
                if result["method"] != results[0]["method"]:
                    continue
                title = "not pretrained"
            row = rows.setdefault(title, {})
            for measure, value in result[kind][benchmark]["scores"].items():
                row.setdefault(measure, []).append(value)
    return {
        model: {name: (statistics.fmean(x), statistics.stdev(x) if len(x) > 1 else 0.0) for name, x in row.items()}
        for model, row in rows.items()
    }


def _methods(results: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(result["method"] for result in results))


def table(study: Study, results: list[dict[str, Any]], benchmark: str) -> str:
    """Markdown table of a benchmark, with its settings."""
    rows = summarize(results, benchmark)
    measures = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| top-1 on {benchmark}, % | {' | '.join(measures)} |", "|---" * (len(measures) + 1) + "|"]
    for model, row in rows.items():
        cells = [f"{100 * row[name][0]:.1f} ± {100 * row[name][1]:.1f}" if name in row else "" for name in measures]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    frozen = results[0]["random"][benchmark]["frozen"]
    lines += [
        "",
        f"{study.title}. Mean and standard deviation over {len(study.seeds)} seeds (initial weights, data order, "
        f"masks, labelled clips). {frozen['num_train']} training and {frozen['num_test']} test clips from other source "
        f"videos; chance {frozen['chance']:.1%}.",
    ]
    return "\n".join(lines) + "\n"


def write_report(study: Study, results: list[dict[str, Any]], output: Path) -> str:
    """Write tables, figures and raw results.

    Args:
        study: the study.
        results: of `Runner.measure`, for every method and seed.
        output: folder of the report.

    Returns:
        The tables, as in `study.md`.
    """
    report = {"title": study.title, "results": results, "versions": package_versions()}
    (output / "study.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    seconds = sum(result["pretraining"]["seconds"] for result in results)
    device = results[0]["pretraining"]["device"]
    text = "\n".join(table(study, results, benchmark) for benchmark in study.benchmarks)
    text += f"\nTotal pretraining time: {seconds / 60:.0f} minutes on {device}.\n"
    (output / "study.md").write_text(text, encoding="utf-8")
    for benchmark in study.benchmarks:
        chance = results[0]["random"][benchmark]["frozen"]["chance"]
        path, title = output / f"{benchmark}.png", f"{study.title}: {benchmark}"
        save_scores(summarize(results, benchmark), chance, path, title)
    losses = {
        method: [[(line["step"], line["loss"]) for line in r["log"]] for r in results if r["method"] == method]
        for method in _methods(results)
    }
    save_curves(losses, output / "losses.png", ("step", "pretraining loss"), study.title)
    return text
