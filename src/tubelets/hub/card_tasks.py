"""What cards need of a task: its name on the Hub, its Auto class, and how its test metrics are published."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import PreTrainedConfig

from tubelets.models.common.inputs import model_inputs
from tubelets.tasks.task import Task


class Metric(NamedTuple):
    """How a metric is published.

    Attributes:
        title: its name in tables, e.g. "top-1 accuracy".
        hub_name: its type in the Hub's `model-index`, e.g. "accuracy".
    """

    title: str
    hub_name: str


@dataclass(frozen=True)
class CardTask(Task):
    """A task and its published metrics.

    Attributes:
        metrics: name in a run's test metrics to what is published.
    """

    metrics: Mapping[str, Metric] = ()  # type: ignore[assignment]

    def protocol(self, data: Mapping[str, Any]) -> str:
        """How a run tests, from its data arguments, e.g. "5 clips x 3 crops"."""
        if "test_crops" in data:
            return f"{data['test_clips']} clips x {data['test_crops']} crops"
        return "one clip from the middle" if data["test_clips"] == 1 else f"{data['test_clips']} clips"


_METRICS = {
    "top_1": Metric("top-1 accuracy", "accuracy"),
    "top_5": Metric("top-5 accuracy", "top_5_accuracy"),
    "mean_class_accuracy": Metric("mean per-class accuracy", "mean_class_accuracy"),
    "mean_average_precision": Metric("mean average precision", "mean_average_precision"),
}
_TASKS = (
    CardTask("video-classification", "AutoModelForVideoClassification", "top_1", metrics=_METRICS),
    CardTask("audio-classification", "AutoModelForAudioClassification", "top_1", metrics=_METRICS),
)


def task_named(name: str) -> CardTask:
    """The task with this name on the Hub.

    Raises:
        ValueError: if no task has it.

    Example:
        >>> task_named("audio-classification").auto_class
        'AutoModelForAudioClassification'
    """
    for task in _TASKS:
        if task.name == name:
            return task
    raise ValueError(f"got task {name!r}; choose one of {', '.join(task.name for task in _TASKS)}")


def classification_task(config: PreTrainedConfig) -> CardTask:
    """The task of a classifier with these inputs: audio classification if they are audio alone."""
    modalities = {spec.modality for spec in model_inputs(config).values()}
    return task_named("audio-classification" if modalities == {"audio"} else "video-classification")


def task_of(config: PreTrainedConfig) -> CardTask | None:
    """The task of the model that a `config.json` names, None for an encoder or a pretraining network.

    Args:
        config: a configuration with `architectures`.

    Example:
        >>> from tubelets import SigmaConfig
        >>> task_of(SigmaConfig(architectures=["SigmaForVideoClassification"])).name
        'video-classification'
        >>> task_of(SigmaConfig(architectures=["SigmaForPreTraining"]))
    """
    name = str((config.architectures or [""])[0])
    return classification_task(config) if name.endswith("Classification") else None
