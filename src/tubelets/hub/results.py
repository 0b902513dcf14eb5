"""Evaluation results of a checkpoint as JSON: one schema for all evaluation scripts, cards and the Hub."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from tubelets.tasks.task import Task


class ResultsError(ValueError):
    """A file of results does not follow the schema."""


@dataclass(frozen=True)
class EvaluationResult:
    """One result. A results file is a list of JSON objects with these keys.

    Attributes:
        dataset: id of the data set on the Hub, or a short name, e.g. `ucf101`.
        metric: short name, e.g. `accuracy`.
        value: the number, on the metric's usual scale.
        task: the Hub's name of the task.
        split: split of the data set.
        dataset_name: name of the data set in tables; by default `dataset`.
        metric_name: name of the metric in tables, e.g. `top-1 accuracy`; by default `metric`.
        unit: printed after the value, e.g. `%`.
        protocol: how it was measured, e.g. `5 clips x 3 crops`.
        source: source of the number, a name or a URL; None if the run measured it.
    """

    dataset: str
    metric: str
    value: float
    task: str = "video-classification"
    split: str | None = None
    dataset_name: str | None = None
    metric_name: str | None = None
    unit: str | None = None
    protocol: str | None = None
    source: str | None = None

    @classmethod
    def from_dict(cls, entry: Any, where: str = "a result") -> "EvaluationResult":
        """Check one JSON object.

        Args:
            entry: the object.
            where: name in error messages.

        Returns:
            The result.

        Raises:
            ResultsError: if a key is unknown or missing, or a value has the wrong type or is not finite.

        Example:
            >>> EvaluationResult.from_dict({"dataset": "ucf101", "metric": "accuracy", "value": 0.5}).value
            0.5
        """
        known = {each.name: each for each in dataclasses.fields(cls)}
        if not isinstance(entry, Mapping):
            raise ResultsError(f"{where} must be an object with {', '.join(known)}, got {entry!r}")
        unknown = sorted(set(entry) - set(known))
        missing = [name for name in ("dataset", "metric", "value") if entry.get(name) is None]
        if unknown or missing:
            raise ResultsError(f"{where} has unknown keys {unknown} and lacks {missing}; known are {', '.join(known)}")
        value = entry["value"]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ResultsError(f"{where}: value must be a finite number, got {value!r}")
        wrong = [name for name, text in entry.items() if name != "value" and not isinstance(text, (str, type(None)))]
        if wrong:
            raise ResultsError(f"{where}: {wrong[0]} must be text, got {entry[wrong[0]]!r}")
        return cls(**{name: each for name, each in entry.items() if each is not None})

    @property
    def measured_here(self) -> bool:
        """Whether the run measured the number itself."""
        return self.source is None

    def for_hub(self) -> EvalResult:
        """The entry of a card's `model-index`. Only a URL is kept there as source; names appear in the table."""
        address = self.source is not None and self.source.startswith(("http://", "https://"))
        return EvalResult(
            task_type=self.task,
            dataset_type=self.dataset,
            dataset_name=self.dataset_name or self.dataset,
            dataset_split=self.split,
            metric_type=self.metric,
            metric_name=self.metric_name or self.metric,
            metric_value=self.value,
            source_name=self.source if address else None,
            source_url=self.source if address else None,
        )


def measured_results(metrics: Mapping[str, float], data: Mapping[str, Any], task: Task) -> list[EvaluationResult]:
    """The results of a run's own test.

    Args:
        metrics: metrics of the test without a prefix, as fractions; those that the task does not publish are ignored.
        data: the run's data arguments.
        task: the task, which names the metrics; its primary metric comes first.

    Returns:
        One result for each published metric.
    """
    order = sorted(task.metrics, key=lambda key: key != task.primary_metric)
    return [
        EvaluationResult(
            dataset=_hub_dataset(data.get("dataset_name")) or "local",
            dataset_name=None if _hub_dataset(data.get("dataset_name")) else "local files",
            task=task.name,
            metric=task.metrics[key].hub_name,
            metric_name=task.metrics[key].title,
            value=round(float(metrics[key]), 5),
            split=data.get("test_split") or data.get("validation_split"),
            protocol=task.protocol(data) if data.get("test_clips") else None,
        )
        for key in order
        if key in metrics
    ]


def _hub_dataset(name: str | None) -> str | None:
    """The name of a data set, if it is one of the Hub and not a local path."""
    local = name is None or Path(name).exists() or not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name)
    return None if local else name


def read_results(paths: Sequence[str | Path]) -> list[EvaluationResult]:
    """Read files of results.

    Args:
        paths: JSON files, each a list of objects with the attributes of `EvaluationResult` as keys.

    Returns:
        All results, in the order of the files, without duplicates.

    Raises:
        FileNotFoundError: if a file does not exist.
        ResultsError: if a file does not follow the schema.
    """
    found: list[EvaluationResult] = []
    for path in map(Path, paths):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: file not found; give a JSON file with a list of results")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ResultsError(f"{path} is not valid JSON ({error})") from error
        if not isinstance(content, list):
            raise ResultsError(f"{path} must hold a list of results, got {type(content).__name__}")
        found += [EvaluationResult.from_dict(entry, f"{path}, entry {n}") for n, entry in enumerate(content)]
    return list(dict.fromkeys(found))


def results_table(results: Sequence[EvaluationResult]) -> str:
    """A Markdown table of results that states the source of each number.

    Args:
        results: at least one.

    Returns:
        The table.
    """
    lines = ["| data | metric | value | source |", "|---|---|---|---|"]
    for result in results:
        data = ", ".join(
            each for each in (result.dataset_name or result.dataset, result.split, result.protocol) if each
        )
        source = "measured by this run" if result.measured_here else f"{result.source}; not measured by this run"
        value = f"{result.value:.4g}" + (f" {result.unit}" if result.unit else "")
        cells = (data, result.metric_name or result.metric, value, source)
        lines.append("| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)
