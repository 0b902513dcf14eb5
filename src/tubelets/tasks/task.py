"""The task contract: one record ties head, data, loss, metrics, plots and card section of a task together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, TrainingArguments

from tubelets.data.stream.loader import ClipLoader
from tubelets.models.common.auto_classes import auto_class_named

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Metric:
    """How a test metric is published.

    Attributes:
        title: its name in tables, e.g. "top-1 accuracy".
        hub_name: its type in the Hub's `model-index`, e.g. "accuracy".
    """

    title: str
    hub_name: str


class Scores(ABC):
    """The result of one pass over a part of the data."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Numbers by name, fractions in [0, 1]; `num_videos`, `num_views` and `skipped_videos` are counts."""

    @abstractmethod
    def save_report(self, folder: Path, title: str) -> None:
        """Write the tables and plots of a final test into a folder."""


class TaskData(ABC):
    """The data of one fine-tuning run; opened before the model is built, because labels determine its head.

    Args:
        data: the task's own arguments, an instance of `Task.arguments`.
        args: batch sizes, workers, seed, rank, and whether the run trains and tests.
        token: access token of a private data set.
        class_names: names of the classes of a checkpoint whose head is kept, in label order: they number the labels of
            the data. None if the head is new, so that the data number their own labels.
    """

    @abstractmethod
    def __init__(
        self,
        data: Any,
        args: TrainingArguments,
        token: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None: ...

    @property
    @abstractmethod
    def config_fields(self) -> dict[str, Any]:
        """Fields of the model's configuration that follow from the data, such as `id2label`."""

    @property
    @abstractmethod
    def primary_metric(self) -> str:
        """The metric that selects the best checkpoint of this run."""

    @property
    @abstractmethod
    def samples_per_epoch(self) -> int:
        """Training samples per epoch, over all processes."""

    @abstractmethod
    def bind(self, config: PreTrainedConfig, processor: Any) -> None:
        """Fit the loaders to a model's inputs; call before the methods below."""

    @property
    @abstractmethod
    def pipeline_tag(self) -> str:
        """The Hub's pipeline tag of the bound model, which can differ from the name of the task."""

    @abstractmethod
    def train_loader(self) -> ClipLoader:
        """This process's endless stream of training batches."""

    @abstractmethod
    def prepare(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Augment a training batch on the model's device; returns the model's arguments and the loss targets."""

    @abstractmethod
    def score(self, model: PreTrainedModel, part: Part) -> Scores:
        """Score the validation part with one view, or the test part with all of them; all processes call it."""


@dataclass(frozen=True)
class Task:
    """Everything that fine-tuning, evaluation and publishing need to know about a task.

    Attributes:
        name: the Hub's pipeline tag if it has one, e.g. "video-classification".
        auto_class: name of the Auto class that loads its models, see `tubelets.models.common.auto_classes`.
        primary_metric: the metric that selects the best checkpoint and heads the card.
        arguments: dataclass of the data arguments, whose fields are flags of `tubelets finetune`.
        data: opens the data of a run.
        processor: returns the processor to save with the model, from its configuration and a function that loads the
            processor stored with the weights by an Auto class (None if absent).
        loss: a scalar from the configuration, the model's output and a batch that `TaskData.prepare` returned.
        protocol: describes the final test in a few words, from the data arguments as a mapping.
        metrics: the results of a test by name, in the order of the card.
        targets: entries of a batch that only the loss reads; the others are arguments of the model.
        greater_is_better: whether a larger value of the primary metric is better.
        has_classes: whether its models have a head for the classes of the data, which a checkpoint may lack.
        hub_tag: the Hub's pipeline tag if the name is none.
    """

    name: str
    auto_class: str
    primary_metric: str
    arguments: type
    data: type[TaskData]
    processor: Callable[[PreTrainedConfig, Callable[[Any], Any]], Any]
    loss: Callable[[PreTrainedConfig, Any, Mapping[str, Tensor]], Tensor]
    protocol: Callable[[Mapping[str, Any]], str]
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    targets: tuple[str, ...] = ("labels",)
    greater_is_better: bool = True
    has_classes: bool = True
    hub_tag: str | None = None

    def __post_init__(self) -> None:
        if self.primary_metric not in self.metrics:
            raise ValueError(
                f"task {self.name!r} has primary_metric={self.primary_metric!r}, which is not among its metrics "
                f"{sorted(self.metrics)}; add it"
            )

    @property
    def model_class(self) -> Any:
        """The Auto class itself."""
        return auto_class_named(self.auto_class)

    def accepts(self, config: PreTrainedConfig) -> bool:
        """Whether the Auto class can load models of this configuration."""
        return type(config) in self.model_class._model_mapping
