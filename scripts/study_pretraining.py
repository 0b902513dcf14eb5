"""Measure whether pretraining helps: several seeds, compared with random weights on held-out footage.

A study is a YAML file with benchmarks, pretraining recipes, seeds and evaluation settings. For every method and seed,
the script pretrains (`training/run_pretraining.py`) on the unlabelled clips of the first benchmark. On every benchmark
it then evaluates frozen features and fine-tunes with few labels per class (`training/run_finetuning.py`). Each method
is paired with its random twin: the same network without pretraining, evaluated on the same labelled clips; methods with
identical twins share one. The script writes OUTPUT/`study.json`, `study.md` (one table per benchmark), one figure per
benchmark and `losses.png`. Run the same command again to resume an interrupted study; completed steps are kept.

Examples:
  python scripts/study_pretraining.py training/studies/masked_pixels.yaml runs/study
  python scripts/study_pretraining.py training/studies/masked_pixels.yaml runs/quick --seeds 0 --max-steps 200
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModel

import tubelets  # noqa: F401  (registers the package's models with the Auto classes)
from tubelets.benchmarks.camera_motion import build_camera_motion
from tubelets.benchmarks.game_sounds import build_game_sounds
from tubelets.benchmarks.moving_objects import build_moving_objects
from tubelets.data.assets.fetching import AssetError
from tubelets.evaluation.checkpoints import evaluate_checkpoint, save_random_twin
from tubelets.evaluation.features import model_fingerprint
from tubelets.evaluation.frozen import headline
from tubelets.info import package_versions
from tubelets.models.common.safe_loading import load_model
from tubelets.training.parsing import RecipeError
from tubelets.training.recipe import load_recipe
from tubelets.training.run_log import read_log
from tubelets.visualization.evaluation import save_curves, save_scores

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS: dict[str, Callable[..., Any]] = {
    "camera_motion": build_camera_motion,
    "moving_objects": build_moving_objects,
    "game_sounds": build_game_sounds,
}


@dataclass
class Study:
    """The contents of a study file.

    Attributes:
        title: heading of tables and figures.
        benchmarks: name in `BENCHMARKS` to builder arguments; pretraining uses the clips of the first one.
        methods: title to `recipe` (a path from the repository root) and `overrides` (fields of the recipe), or to
            `stages`, a list of such mappings: each stage starts from the weights of the one before it.
        seeds: seeds of pretraining, random twins and fine-tuning.
        frozen: arguments of `evaluate_frozen`.
        finetuning: `recipe` and `overrides` for `training/run_finetuning.py`.
        shots: labelled clips per class for fine-tuning.
        variants: by name, fields that replace those above, mapping by mapping; chosen with `--variant`.
    """

    title: str
    benchmarks: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    seeds: list[int]
    frozen: dict[str, Any] = field(default_factory=dict)
    finetuning: dict[str, Any] = field(default_factory=dict)
    shots: list[int] = field(default_factory=list)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.benchmarks:
            if name not in BENCHMARKS:
                raise ValueError(f"benchmarks must be some of {', '.join(BENCHMARKS)}, got {name!r}")
        if not self.benchmarks or not self.methods or not self.seeds:
            raise ValueError("a study needs at least one benchmark, one method and one seed")
        if self.shots and "recipe" not in self.finetuning:
            raise ValueError("shots are given but finetuning.recipe is not; set it to a fine-tuning recipe")


def run(words: list[str], done: Path) -> None:
    """Run a script of this repository unless its output exists."""
    if done.exists():
        return
    print(f"$ python {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, *words], check=True, cwd=ROOT)


def flags(overrides: Mapping[str, Any]) -> list[str]:
    """Command-line flags, one per field.

    Example:
        >>> flags({"run.seed": 1, "optimization.weight_decay": 0.00001})
        ['--run.seed=1', '--optimization.weight_decay=1e-05']
    """
    return [f"--{name}={value}" for name, value in overrides.items()]


def stages(method: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Pretraining stages of a method, in order."""
    return method.get("stages", [method])


def slug(title: str) -> str:
    """Turn a title into a folder name."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


class Runner:
    """Runs the steps of a study that are not complete.

    Args:
        study: the study.
        output: output folder.
        max_steps: replaces the length of every pretraining run, for a quick check.
    """

    def __init__(self, study: Study, output: Path, max_steps: int | None) -> None:
        self.study, self.output, self.max_steps = study, output, max_steps
        self.shards = {name: output / "benchmarks" / name for name in study.benchmarks}

    def build_benchmarks(self) -> None:
        """Build the labelled shards; pretraining reads the training split and ignores its labels."""
        for name, options in self.study.benchmarks.items():
            BENCHMARKS[name](self.shards[name], **options)

    def pretrain(self, method: str, seed: int) -> list[Path]:
        """Run the stages of a method; return the folders of their models."""
        shards = next(iter(self.shards.values()))
        models: list[Path] = []
        for number, stage in enumerate(stages(self.study.methods[method]), start=1):
            folder = self.output / "pretraining" / f"{slug(method)}-{seed}{f'-stage{number}' if number > 1 else ''}"
            overrides = {"data.path": shards, "run.output_dir": folder, "run.seed": seed}
            if models:
                overrides["model.init_from"] = models[-1]
            overrides |= stage.get("overrides", {})
            if self.max_steps is not None:
                overrides["optimization.max_steps"] = self.max_steps
            run(
                ["training/run_pretraining.py", stage["recipe"], *flags(overrides)],
                folder / "final" / "training_summary.json",
            )
            models.append(folder / "final")
        return models

    def measure_frozen(self, model_folder: Path, name: str, benchmark: str, seed: int) -> dict[str, Any]:
        """Results of `evaluate_frozen`, with an attentive probe on the tokens."""
        path = self.output / "frozen" / benchmark / f"{name}.json"
        if not path.exists():
            result = evaluate_checkpoint(
                model_folder,
                self.shards[benchmark],
                frozen={"seed": seed, **self.study.frozen},
                sampling="uniform",
                pooling="tokens",
                batch_size=64,
                num_workers=1,
                precision=torch.bfloat16,
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result, indent=2), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    def finetune(self, model_folder: Path, name: str, benchmark: str, shots: int, seed: int) -> float:
        """Top-1 test accuracy after fine-tuning with few labels, drawn from the seed."""
        folder = self.output / "finetuning" / benchmark / f"{name}-{shots}-shot"
        overrides = {
            "model_name_or_path": model_folder,
            "dataset_name": self.shards[benchmark],
            "output_dir": folder,
            "seed": seed,
            "shots_per_class": shots,
            "shots_seed": seed,
            **self.study.finetuning.get("overrides", {}),
        }
        words = ["training/run_finetuning.py", self.study.finetuning["recipe"], *flags(overrides)]
        run(words, folder / "all_results.json")
        return json.loads((folder / "all_results.json").read_text(encoding="utf-8"))["test_top_1"]

    def scores(self, model_folder: Path, name: str, seed: int) -> dict[str, Any]:
        """All scores of one model, by benchmark."""
        result = {}
        for benchmark in self.study.benchmarks:
            frozen = self.measure_frozen(model_folder, name, benchmark, seed)
            tuned = {
                f"{shots}-shot fine-tuning": self.finetune(model_folder, name, benchmark, shots, seed)
                for shots in self.study.shots
            }
            result[benchmark] = {"frozen": frozen, "scores": headline(frozen) | tuned}
        return result

    def measure(self, method: str, seed: int) -> dict[str, Any]:
        """Evaluate one method with one seed, pretrained and as a random twin."""
        started = time.perf_counter()
        name = f"{slug(method)}-{seed}"
        models = self.pretrain(method, seed)
        pretrained = models[-1]
        twin = save_random_twin(pretrained, self.output / "random" / name, seed)
        weights = model_fingerprint(load_model(AutoModel, twin))
        result: dict[str, Any] = {
            "method": method,
            "seed": seed,
            "pretrained": self.scores(pretrained, name, seed),
            "random": self.scores(twin, f"random-{weights[:12]}-{seed}", seed),
        }
        result["log"], result["pretraining"] = join_logs(models)
        print(f"{method}, seed {seed}: {time.perf_counter() - started:.0f} s now", flush=True)
        return result


def join_logs(models: list[Path]) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Losses and length of a pretraining run, with its stages concatenated."""
    losses: list[dict[str, float]] = []
    total: dict[str, Any] = {"steps": 0, "clips_seen": 0, "seconds": 0.0}
    for model in models:
        lines = read_log(model.parent / "training_log.jsonl")
        losses += [{"step": total["steps"] + line["step"], "loss": line["loss"]} for line in lines if "loss" in line]
        summary = json.loads((model / "training_summary.json").read_text(encoding="utf-8"))
        total = {name: total[name] + summary[name] for name in ("steps", "clips_seen", "seconds")}
        total["device"] = summary["device"]
    return losses, total


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


def write_report(study: Study, results: list[dict[str, Any]], output: Path) -> None:
    """Write tables, figures and raw results."""
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
    print(text)


def merged(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace values, mapping by mapping.

    Example:
        >>> merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}})
        {'a': {'b': 4, 'c': 2}, 'd': 3}
    """
    result = dict(content)
    for name, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else value
    return result


def load_study(path: str, variant: str | None = None) -> Study:
    """Read a study file, or one of its variants, and check the recipes it names."""
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if variant is not None:
        variants = content.get("variants", {})
        if variant not in variants:
            raise ValueError(f"--variant is {variant!r}, and {path} has {', '.join(variants) or 'none'}; choose one")
        content = merged(content, variants[variant])
    study = Study(**content)
    for stage in (stage for method in study.methods.values() for stage in stages(method)):
        words = flags({"data.path": "shards", "run.output_dir": "runs", **stage.get("overrides", {})})
        load_recipe(ROOT / stage["recipe"], words)
    return study


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="YAML file, see training/studies")
    parser.add_argument("output", type=Path, help="output folder")
    parser.add_argument("--variant", help="the variant of the study, such as a smaller one")
    parser.add_argument("--seeds", type=int, nargs="+", help="replace the seeds of the study")
    parser.add_argument("--max-steps", type=int, help="replace the length of each pretraining run, for a quick check")
    options = parser.parse_args(arguments)
    try:
        study = load_study(options.study, options.variant)
        study.seeds = options.seeds or study.seeds
        runner = Runner(study, options.output.resolve(), options.max_steps)
        runner.build_benchmarks()
    except (AssetError, FileNotFoundError, RecipeError, TypeError, ValueError) as error:
        print(f"study_pretraining: {error}", file=sys.stderr)
        return 2
    results = [runner.measure(method, seed) for seed in study.seeds for method in study.methods]
    write_report(study, results, runner.output)
    print(f"wrote study.json, study.md and figures to {runner.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
