"""Learning: the study `training/studies/gpu_footage.yaml` on this machine, with as many steps as the time allows.

Each method first trains for a few steps, which shows whether its loss falls and how fast its steps are. If there is
time for the study, its steps are set accordingly, and its models are probed and fine-tuned beside random weights.
"""

import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gpu_checks.models import ROOT
from gpu_checks.session import Finding, NotApplicableError, OutOfTimeError, Session
from tubelets.data.assets.fetching import AssetError
from tubelets.evaluation.studies import Runner, Study, flags, load_study, merged, slug
from tubelets.shipped import find
from tubelets.training.run_log import read_log

_STUDY = ROOT / "training" / "studies" / "gpu_footage.yaml"
# Seconds for the study as a whole, and the share of it that is pretraining; the rest is probes and fine-tuning.
_STUDY_NEEDS, _PRETRAINING = 900.0, 0.6
_FIRST_STEPS = 200
# Fields that make networks and runs so small that a CPU trains them in seconds.
_TINY: dict[str, Any] = {
    "model.config.hidden_size": 32, "model.config.num_attention_heads": 2, "model.config.num_hidden_layers": 1,
    "model.config.intermediate_size": 32, "model.config.decoder_hidden_size": 32,
    "model.config.decoder_num_attention_heads": 2, "model.config.decoder_num_hidden_layers": 1,
    "model.config.decoder_intermediate_size": 32, "data.num_workers": 0, "run.precision": "fp32", "run.batch_size": 8,
    "optimization.global_batch_size": 8,
}  # fmt: skip


def run(session: Session) -> None:
    """Train every method for a while; run the study if there is time for it."""
    study, content = _choose(session)
    runner = Runner(study, session.output / "learning", None)
    session.check("footage", functools.partial(_footage, runner), needs=60)
    if session.results[-1].status not in ("passed", "measured"):
        return
    rates: dict[str, float] = {}
    for method in study.methods:
        session.check(f"loss of {method}", functools.partial(_first_steps, session, runner, method, rates), needs=25)
    check = functools.partial(_whole_study, session, content, rates)
    session.check("study beside random weights", check, needs=0.0 if session.tiny else _STUDY_NEEDS)


def _choose(session: Session) -> tuple[Study, dict[str, Any]]:
    """The study, as an object and as the content of a file."""
    content = yaml.safe_load(_STUDY.read_text(encoding="utf-8"))
    if not session.on_gpu:
        content = merged(content, content["variants"]["cpu"])
    if session.tiny:
        content["methods"] = {
            name: merged(method, {"overrides": _TINY}) for name, method in list(content["methods"].items())[:2]
        }
        content |= {"frozen": {"shots": [2], "draws": 1}, "shots": []}
    # Clips of the benchmarks are encoded one by one, which a short run cannot wait for.
    count = 32 if session.tiny else 512 if session.left() < _STUDY_NEEDS else 2048
    sizes = {"num_clips": {"train": count, "test": count // 2}}
    content["benchmarks"] = {name: merged(options, sizes) for name, options in content["benchmarks"].items()}
    if session.left() < _STUDY_NEEDS:
        content["benchmarks"] = dict(list(content["benchmarks"].items())[:1])
    content.pop("variants")
    path = session.output / "learning.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return load_study(str(path)), content


def _footage(runner: Runner) -> Finding:
    try:
        runner.build_benchmarks()
    except AssetError as error:
        raise NotApplicableError(f"the footage is not here and cannot be fetched: {error}") from error
    return Finding(f"{', '.join(runner.shards)} from real footage", met=None)


def _first_steps(session: Session, runner: Runner, method: str, rates: dict[str, float]) -> Finding:
    """Steps per second of a method, and whether its loss falls."""
    folder = session.output / "learning" / "first_steps" / slug(method)
    shutil.rmtree(folder, ignore_errors=True)
    steps = 6 if session.tiny else _FIRST_STEPS
    given = runner.study.methods[method]
    fields = {"data.path": next(iter(runner.shards.values())), "run.output_dir": folder}
    # The learning rate of a long run, which warms up for an epoch and hardly decays within these steps.
    fields |= {**given.get("overrides", {}), "optimization.max_steps": steps}
    fields |= {"run.logging_steps": 1 if session.tiny else 10, "run.save_steps": steps}
    _script(session, ["training/run_pretraining.py", given["recipe"], *flags(fields)], method)
    return judge_log(read_log(folder / "training_log.jsonl"), rates, method, session)


def judge_log(log: list[Mapping[str, Any]], rates: dict[str, float], method: str, session: Session) -> Finding:
    """Read the first steps of a method from its log."""
    losses = [line["loss"] for line in log]
    quarter = max(1, len(losses) // 4)
    first, last = statistics.fmean(losses[:quarter]), statistics.fmean(losses[-quarter:])
    if not last == last or last > 1e6:
        raise AssertionError(f"the loss is {last}")
    # Workers and kernels start in the first lines.
    clips = statistics.median(line["clips_per_second"] for line in log[len(log) // 2 :])
    rates[method] = clips
    words = f"{first:.4f} to {last:.4f} in {log[-1]['step']} steps, {clips:.1f} clips/s with the loader"
    values = {"losses": losses, "clips/s": clips}
    return Finding(words, values, met=None if session.tiny else last < first)


def _script(session: Session, words: list[str], name: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    if not session.on_gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    try:
        ended = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True,
            timeout=max(session.left(), 1.0) + 30,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise OutOfTimeError(f"{name} did not end in time; raise --minutes") from None
    if ended.returncode:
        raise RuntimeError(f"{name} ended with code {ended.returncode}:\n{ended.stderr[-3000:]}")


def set_steps(content: Mapping[str, Any], rates: Mapping[str, float], seconds: float) -> dict[str, Any]:
    """A study whose methods train for the same time.

    Args:
        content: of a study file; every method has one stage.
        rates: measured clips per second of each method.
        seconds: pretraining of each.

    Example:
        >>> study = {"methods": {"a": {"recipe": "study_gpu_smile"}}}
        >>> set_steps(study, {"a": 320.0}, 100.0)["methods"]["a"]["overrides"]
        {'optimization.max_steps': 1000}
    """
    methods = {}
    for name, method in content["methods"].items():
        recipe = yaml.safe_load(find(method["recipe"], "recipe").path.read_text(encoding="utf-8"))
        batch = method.get("overrides", {}).get(
            "optimization.global_batch_size", recipe["optimization"]["global_batch_size"]
        )
        steps = max(1, round(seconds * rates[name] / batch))
        methods[name] = merged(method, {"overrides": {"optimization.max_steps": steps}})
    return {**content, "methods": methods}


def _whole_study(session: Session, content: dict[str, Any], rates: dict[str, float]) -> Finding:
    missing = [name for name in content["methods"] if name not in rates]
    if missing:
        raise OutOfTimeError(f"the steps of {', '.join(missing)} were not measured")
    each = 1.0 if session.tiny else _PRETRAINING * session.left() / len(rates)
    path = session.output / "learning.yaml"
    timed = set_steps(content, rates, each)
    if session.tiny:
        timed = set_steps(content, dict.fromkeys(rates, 16.0), 1.0)
    path.write_text(yaml.safe_dump(timed, sort_keys=False), encoding="utf-8")
    output = session.output / "learning"
    shutil.rmtree(output / "pretraining", ignore_errors=True)
    for old in ("frozen", "finetuning", "random"):
        shutil.rmtree(output / old, ignore_errors=True)
    _script(session, ["-m", "tubelets", "study", str(path), "--output_dir", str(output)], "the study")
    return read_study(json.loads((output / "study.json").read_text(encoding="utf-8")), output)


def read_study(report: Mapping[str, Any], output: Path) -> Finding:
    """The largest gain of each method over its random twin, and where the tables are.

    Example:
        >>> def scores(x):
        ...     return {"b": {"scores": {"kNN": x}}}
        >>> result = {"method": "m", "pretrained": scores(0.75), "random": scores(0.5), "pretraining": {"steps": 9}}
        >>> read_study({"results": [result]}, Path("runs")).detail
        'm +25.0 points (kNN on b); one seed; tables and figures are in runs'
    """
    words, values = [], {}
    for result in report["results"]:
        gains = {
            f"{measure} on {benchmark}": 100 * (value - result["random"][benchmark]["scores"][measure])
            for benchmark, found in result["pretrained"].items()
            for measure, value in found["scores"].items()
        }
        best = max(gains, key=lambda name: gains[name])
        words.append(f"{result['method']} {gains[best]:+.1f} points ({best})")
        values[result["method"]] = {"gains": gains, "pretraining": result["pretraining"]}
    return Finding(f"{', '.join(words)}; one seed; tables and figures are in {output}", values, met=None)
