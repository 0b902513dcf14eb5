"""The task contract: one record ties head, batches, loss, metrics, plots and card section together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What fine-tuning, evaluation and the Hub code need to know of a task.

    Attributes:
        name: the Hub's name of the task, which cards state as `pipeline_tag`, e.g. "video-classification".
        auto_class: the Auto class of transformers that loads its models.
        primary_metric: the metric that chooses the best checkpoint and heads the card.
        greater_is_better: whether a larger value of it is better.
    """

    name: str
    auto_class: str
    primary_metric: str
    greater_is_better: bool = True
