"""What a run left behind: the final model, and whatever tells how it was made."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from tubelets.hub.finetuning_card import protocol_of
from tubelets.hub.results import EvaluationResult

# Files that are published beside the model when a run has them, and what a card calls them.
EXTRA_FILES = {
    "recipe.yaml": "the whole recipe of the run",
    "run.yaml": "all arguments of the run and the versions it used",
    "training_summary.json": "what the run did, and the versions it used",
    "training_log.jsonl": "losses and learning rate, one line for each logged step",
    "trainer_state.json": "losses and learning rate by step",
    "all_results.json": "metrics of training and tests",
    "test_results.json": "metrics of the final test",
    "per_class_accuracy.json": "accuracy of each class",
    "per_class_average_precision.json": "average precision of each class",
    "confusion_matrix.png": "confusion matrix of the final test",
}
METRICS = {
    "top_1": ("accuracy", "top-1 accuracy"),
    "top_5": ("top_5_accuracy", "top-5 accuracy"),
    "mean_class_accuracy": ("mean_class_accuracy", "mean per-class accuracy"),
    "mean_average_precision": ("mean_average_precision", "mean average precision"),
}
SECRET = re.compile(r"(token|password|secret|api_key)$", re.IGNORECASE)


class PublishingError(ValueError):
    """A run cannot be published as it is, or its publication was not completed."""


@dataclass(frozen=True)
class RunFolder:
    """A finished run on disk.

    Attributes:
        folder: the run's folder.
        model_folder: the folder of the final model, `folder` itself or its `final`.
        files: the run's other files that can be published, by their names.
    """

    folder: Path
    model_folder: Path
    files: Mapping[str, Path]

    @classmethod
    def find(cls, folder: str | Path) -> "RunFolder":
        """Look at a run's folder; only the final model must be there.

        Args:
            folder: output folder of a training script, or the folder of a model.

        Returns:
            The run.

        Raises:
            PublishingError: if there is no final model in it.
        """
        folder = Path(folder)
        places = [place for place in (folder / "final", folder) if (place / "config.json").is_file()]
        if not places:
            raise PublishingError(
                f"{folder} holds no final model: neither it nor its 'final' has a config.json; finish the run first"
            )
        # A model's folder that is given directly may lie in the folder of its run.
        beside = folder.parent if folder.name == "final" else folder
        files = {
            name: next(path for path in (places[0] / name, beside / name) if path.is_file())
            for name in EXTRA_FILES
            if (places[0] / name).is_file() or (beside / name).is_file()
        }
        return cls(folder, places[0], files)

    def read(self, name: str) -> dict[str, Any]:
        """The content of one of the run's YAML or JSON files, empty if the run has none.

        Args:
            name: a key of `EXTRA_FILES`.

        Returns:
            The content, without secrets and without the folders of absolute paths.

        Raises:
            PublishingError: if the file is damaged or no mapping.
        """
        if name not in self.files:
            return {}
        text = self.files[name].read_text(encoding="utf-8")
        try:
            content = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            raise PublishingError(f"{self.files[name]} is damaged ({error}); mend it or remove it") from error
        if not isinstance(content, dict):
            raise PublishingError(f"{self.files[name]} must hold a mapping; mend it or remove it")
        return without_private_values(content)

    def results(self) -> list[EvaluationResult]:
        """The results of the run's own final test, empty if it had none."""
        run = self.read("run.yaml")
        data, task = run.get("arguments", {}).get("data", {}), run.get("task", "video-classification")
        noun = task.partition("-")[0]
        metrics = {**self.read("all_results.json"), **self.read("test_results.json")}
        return [
            EvaluationResult(
                dataset=data.get("dataset_name") or {"video": "videos", "audio": "sounds"}.get(noun, noun),
                dataset_name=None if data.get("dataset_name") else f"{noun} files of the author",
                task=task,
                metric=metric,
                metric_name=name,
                value=round(float(metrics[f"test_{key}"]), 5),
                split=data.get("test_split") or data.get("validation_split"),
                protocol=protocol_of(data) if data.get("test_clips") else None,
            )
            for key, (metric, name) in METRICS.items()
            if f"test_{key}" in metrics
        ]


def without_private_values(content: Any) -> Any:
    """A copy for the public: no tokens, and of absolute paths only the last part.

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
