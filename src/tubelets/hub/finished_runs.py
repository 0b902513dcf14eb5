"""A finished run on disk: the final model and the files that record how it was trained."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from tubelets.hub.results import EvaluationResult, measured_results
from tubelets.plain_yaml import parse_yaml
from tubelets.tasks.registry import task_named

EXTRA_FILES = {
    "recipe.yaml": "complete recipe of the run",
    "run.yaml": "all arguments of the run and the software versions",
    "training_summary.json": "steps, clips, time and software versions of the run",
    "training_log.jsonl": "losses and learning rate, one line per logged step",
    "trainer_state.json": "losses and learning rate by step",
    "all_results.json": "metrics of training and tests",
    "test_results.json": "metrics of the final test",
    "per_class_accuracy.json": "accuracy of each class",
    "per_class_average_precision.json": "average precision of each class",
    "confusion_matrix.png": "confusion matrix of the final test",
}
"""Optional files of a run that are published with the model, and their descriptions."""

SECRET = re.compile(r"(token|password|secret|api_key)$", re.IGNORECASE)


class PublishingError(ValueError):
    """A run is not ready for publication, or publishing was not completed."""


@dataclass(frozen=True)
class RunRecord:
    """The records of a run; every part may be missing.

    Attributes:
        recipe: the resolved recipe of a pretraining run.
        arguments: groups `model`, `data` and `training` of a fine-tuning run's arguments.
        summary: summary of the run: steps, seconds, device.
        versions: software versions by name.
        files: names of its published files, keys of `EXTRA_FILES`.
        command: the words of the command that made it.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @property
    def started_from(self) -> str | None:
        """The initial checkpoint; None for random weights or if unknown."""
        return self.recipe.get("model", {}).get("init_from") or self.arguments.get("model", {}).get(
            "model_name_or_path"
        )

    @property
    def stride(self) -> int:
        """Distance between the frames of a clip, in video frames; 4 if it is unknown."""
        return self.recipe.get("data", {}).get("stride") or self.arguments.get("data", {}).get("stride") or 4


@dataclass(frozen=True)
class RunFolder:
    """A finished run on disk.

    Attributes:
        folder: the run's folder.
        model_folder: the folder of the final model, `folder` itself or its `final`.
        files: the run's other files that can be published, by name.
    """

    folder: Path
    model_folder: Path
    files: Mapping[str, Path]

    @classmethod
    def find(cls, folder: str | Path) -> "RunFolder":
        """Find the final model and the other files of a run; only the model is required.

        Args:
            folder: output folder of a training script, or the folder of a model.

        Returns:
            The run.

        Raises:
            PublishingError: if the folder has no final model.
        """
        folder = Path(folder)
        places = [place for place in (folder / "final", folder) if (place / "config.json").is_file()]
        if not places:
            raise PublishingError(
                f"{folder} has no final model: config.json was not found in it or in its 'final'; finish the run first"
            )
        # A model folder given directly may be inside the folder of its run.
        beside = folder.parent if folder.name == "final" else folder
        files = {
            name: next(path for path in (places[0] / name, beside / name) if path.is_file())
            for name in EXTRA_FILES
            if (places[0] / name).is_file() or (beside / name).is_file()
        }
        return cls(folder, places[0], files)

    def read(self, name: str) -> dict[str, Any]:
        """Read one of the run's YAML or JSON files; empty if the run does not have it.

        Args:
            name: a key of `EXTRA_FILES`.

        Returns:
            The content, without secrets and without the directories of absolute paths.

        Raises:
            PublishingError: if the file is corrupt or not a mapping.
        """
        if name not in self.files:
            return {}
        text = self.files[name].read_text(encoding="utf-8")
        try:
            content = json.loads(text) if name.endswith(".json") else parse_yaml(text)
        except (ValueError, yaml.YAMLError) as error:
            raise PublishingError(f"{self.files[name]} is corrupt ({error}); replace it or delete it") from error
        if not isinstance(content, dict):
            raise PublishingError(
                f"{self.files[name]} contains a {type(content).__name__} instead of a mapping; replace it or delete it"
            )
        return without_private_values(content)

    def record(self) -> RunRecord:
        """Collect the records from the run's files."""
        run, summary = self.read("run.yaml"), self.read("training_summary.json")
        metrics = self.read("all_results.json")
        summary |= {
            title: metrics[key]
            for key, title in (("train_runtime", "seconds of training"), ("epoch", "epochs"))
            if key in metrics and title not in summary
        }
        return RunRecord(
            recipe=self.read("recipe.yaml"),
            arguments=run.get("arguments", {}),
            versions=summary.pop("versions", None) or run.get("versions", {}),
            summary=summary,
            files=tuple(self.files),
            command=public_command(summary.pop("command", None) or run.get("command", ())),
        )

    def results(self) -> list[EvaluationResult]:
        """The results of the run's own final test, empty if it was not tested.

        Raises:
            PublishingError: if `run.yaml` names an unknown task, or a file is corrupt.
        """
        run = self.read("run.yaml")
        metrics = {**self.read("all_results.json"), **self.read("test_results.json")}
        tested = {key.removeprefix("test_"): value for key, value in metrics.items() if key.startswith("test_")}
        try:
            task = task_named(run.get("task", "video-classification"))
        except ValueError as error:
            raise PublishingError(f"{self.files['run.yaml']}: {error}") from error
        return measured_results(tested, run.get("arguments", {}).get("data", {}), task)


def without_private_values(content: Any) -> Any:
    """Copy content for publication, without tokens and with absolute paths reduced to their last part.

    Args:
        content: nested mappings and lists of plain values.

    Returns:
        The same structure.

    Example:
        >>> without_private_values({"hub_token": "hf_x", "data": {"path": "/home/me/clips", "stride": 4}})
        {'hub_token': None, 'data': {'path': 'clips', 'stride': 4}}
    """
    if isinstance(content, Mapping):
        return {
            key: None if SECRET.search(str(key)) and isinstance(value, str) else without_private_values(value)
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [without_private_values(each) for each in content]
    if isinstance(content, str):
        path = PureWindowsPath(content) if PureWindowsPath(content).drive else PurePosixPath(content)
        return path.name if path.is_absolute() else content
    return content


def public_command(words: Sequence[Any]) -> tuple[str, ...]:
    """A recorded command for publication, with absolute paths reduced to their last part.

    Args:
        words: of the command; tokens are recorded as `***`.

    Example:
        >>> public_command(["tubelets", "pretrain", "/home/me/mine.yaml", "--data.path=/data/k400"])
        ('tubelets', 'pretrain', 'mine.yaml', '--data.path=k400')
    """
    public = []
    for word in map(str, words):
        name, equals, value = word.partition("=")
        named = bool(equals) and name.startswith("--")
        public.append(f"{name}={without_private_values(value)}" if named else without_private_values(word))
    return tuple(public)
