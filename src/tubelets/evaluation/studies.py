"""Studies: does pretraining help? Several seeds, each beside random weights, on held-out footage.

A study is a YAML file with benchmarks, pretraining recipes, seeds and evaluation settings. Every method is pretrained
on the unlabelled clips of the first benchmark. On every benchmark its frozen features are evaluated, and it is tuned
with few labels per class. Each method is paired with its random twin: the same network without pretraining, evaluated
on the same labelled clips; methods with identical twins share one.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from tubelets import shipped
from tubelets.benchmarks.camera_motion import build_camera_motion
from tubelets.benchmarks.game_sounds import build_game_sounds
from tubelets.benchmarks.moving_objects import build_moving_objects
from tubelets.evaluation.checkpoints import evaluate_checkpoint, save_random_twin
from tubelets.evaluation.features import model_fingerprint
from tubelets.evaluation.frozen import headline
from tubelets.models.common.safe_loading import load_model
from tubelets.training.acceleration import computes_bfloat16
from tubelets.training.parsing import check_known_field, read_mapping
from tubelets.training.recipe import load_recipe
from tubelets.training.run_log import read_log

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
        methods: title to `recipe` (a name or a path) and `overrides` (fields of the recipe), or to `stages`, a list of
            such mappings: each stage starts from the weights of the one before it.
        seeds: seeds of pretraining, random twins and fine-tuning.
        pretraining: `recipe` and `overrides` that all methods share; those of a method or stage count more.
        frozen: arguments of `evaluate_frozen`.
        finetuning: `recipe` and `overrides` for `tubelets finetune`; and `rates`, base learning rates of which each
            model chooses the best on a quarter of its training labels, since random weights need another than
            pretrained ones.
        shots: labelled clips per class for fine-tuning.
        variants: by name, fields that replace those above, mapping by mapping; chosen with `--variant`.
    """

    title: str
    benchmarks: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    seeds: list[int]
    pretraining: dict[str, Any] = field(default_factory=dict)
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


def run_verb(verb: str, words: list[str], done: Path) -> None:
    """Run a verb of the command in a process of its own, unless its output exists.

    Args:
        verb: e.g. "pretrain".
        words: its command line.
        done: a file that it writes last.

    Raises:
        ValueError: if the verb fails.
    """
    if done.exists():
        return
    print(f"$ tubelets {verb} {' '.join(words)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "tubelets", verb, *words], check=False).returncode
    if code:
        raise ValueError(f"`tubelets {verb}` ended with exit code {code}; its messages are above, {done} is missing")


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
            words = [str(stage["recipe"]), *flags(overrides)]
            run_verb("pretrain", words, folder / "final" / "training_summary.json")
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
                precision=torch.bfloat16 if computes_bfloat16() else torch.float32,
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result, indent=2), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    def finetune(
        self, model_folder: Path, name: str, benchmark: str, shots: int, seed: int
    ) -> tuple[float, float | None]:
        """Top-1 test accuracy after fine-tuning with few labels, drawn from the seed; and the rate that was chosen."""
        folder = self.output / "finetuning" / benchmark / f"{name}-{shots}-shot"
        rates = self.study.finetuning.get("rates")
        base = {
            "model_name_or_path": model_folder,
            "dataset_name": self.shards[benchmark],
            "seed": seed,
            "shots_seed": seed,
            **self.study.finetuning.get("overrides", {}),
        }
        if not rates:
            return self._tuned(folder, {**base, "shots_per_class": shots}), None
        held_back = max(1, shots // 4)
        choice = {**base, "shots_per_class": shots - held_back, "held_back_shots": held_back}
        scores = {
            rate: self._tuned(folder / f"rate-{rate:g}", {**choice, "base_learning_rate": rate}) for rate in rates
        }
        best = max(scores, key=scores.__getitem__)
        return self._tuned(folder, {**base, "shots_per_class": shots, "base_learning_rate": best}), best

    def _tuned(self, folder: Path, overrides: Mapping[str, Any]) -> float:
        """Top-1 accuracy of a fine-tuning run on what it tests on."""
        words = [str(self.study.finetuning["recipe"]), *flags({**overrides, "output_dir": folder})]
        run_verb("finetune", words, folder / "all_results.json")
        return json.loads((folder / "all_results.json").read_text(encoding="utf-8"))["test_top_1"]

    def scores(self, model_folder: Path, name: str, seed: int) -> dict[str, Any]:
        """All scores of one model, by benchmark."""
        result = {}
        for benchmark in self.study.benchmarks:
            frozen = self.measure_frozen(model_folder, name, benchmark, seed)
            scores, rates = headline(frozen), {}
            for shots in self.study.shots:
                measure = f"{shots}-shot fine-tuning"
                scores[measure], rates[measure] = self.finetune(model_folder, name, benchmark, shots, seed)
            result[benchmark] = {"frozen": frozen, "scores": scores, "rates": rates}
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


def load_study(name: str | Path, variant: str | None = None) -> Study:
    """Read a study, or one of its variants, and check the recipes it names.

    Args:
        name: a file, or the name of a study of the package.
        variant: one of its variants.

    Returns:
        The study.

    Raises:
        FileNotFoundError: if the study or one of its recipes is not found.
        ValueError: if the variant does not exist, or a field of the study or of a recipe is not as it must be.

    Example:
        >>> load_study("masked_pixels").seeds
        [0, 1, 2]
    """
    path = shipped.resolve(name, "study")
    content = read_mapping(path, "study")
    if variant is not None:
        variants = content.get("variants", {})
        if variant not in variants:
            raise ValueError(f"--variant is {variant!r}, and {path} has {', '.join(variants) or 'none'}; choose one")
        content = merged(content, variants[variant])
    known = {entry.name: entry for entry in fields(Study)}
    for field_name in content:
        check_known_field(field_name, field_name, known)
    for field_name, entry in known.items():
        if entry.default is MISSING and entry.default_factory is MISSING and field_name not in content:
            raise ValueError(f"{path} must have the field {field_name}")
    study = Study(**content)
    for title, method in study.methods.items():
        shared = [merged(study.pretraining, stage) for stage in stages(method)]
        study.methods[title] = {"stages": shared} if "stages" in method else shared[0]
    for stage in (stage for method in study.methods.values() for stage in stages(method)):
        words = flags({"data.path": "shards", "run.output_dir": "runs", **stage.get("overrides", {})})
        load_recipe(stage["recipe"], words)
    return study
