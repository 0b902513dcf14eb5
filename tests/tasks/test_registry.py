from collections.abc import Iterator
from dataclasses import replace

import pytest
from transformers import AutoConfig, BertConfig, VideoMAEConfig

from tubelets import (
    SigmaConfig,
    StructuredNoiseAudioConfig,
    StructuredNoiseAudioVideoConfig,
    VideoTextDualEncoderConfig,
)
from tubelets.models.common.auto import MODELS
from tubelets.tasks.classification.video import VIDEO_CLASSIFICATION
from tubelets.tasks.registry import all_tasks, register_task, task_for, task_named, unregister_task
from tubelets.tasks.task import Task


@pytest.fixture
def outside() -> Iterator[Task]:
    """A task of another package, which loads models that no task here loads."""
    task = replace(VIDEO_CLASSIFICATION, name="text-classification", auto_class="AutoModelForSequenceClassification")
    yield register_task(task)
    unregister_task(task.name)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (SigmaConfig(), "video-classification"),
        (VideoMAEConfig(), "video-classification"),
        (StructuredNoiseAudioConfig(), "audio-classification"),
        (StructuredNoiseAudioVideoConfig(), "audio-classification"),
        (VideoTextDualEncoderConfig(), "video-text-retrieval"),
        ("AutoModelForVideoClassification", "video-classification"),
    ],
    ids=str,
)
def test_the_task_follows_from_the_model(config: object, name: str) -> None:
    assert task_for(config).name == name  # type: ignore[arg-type]


def test_a_task_can_be_registered_from_outside(outside: Task) -> None:
    assert task_named("text-classification") is outside
    assert task_for(BertConfig()) is outside
    with pytest.raises(ValueError, match="registered already"):
        register_task(replace(outside, primary_metric="top_5"))


def test_unknown_tasks_and_models_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of 'audio-classification', 'skeleton-classification', 'video-"):
        task_named("video-captioning")
    with pytest.raises(ValueError, match="no task fine-tunes model type 'bert'"):
        task_for(BertConfig())


@pytest.mark.parametrize("task", all_tasks().values(), ids=lambda task: task.name)
def test_every_task_is_complete(task: Task) -> None:
    assert task.name == task.name.lower()
    own = [AutoConfig.for_model(name) for name, entry in MODELS.items() if task.auto_class in entry.models]
    assert own
    assert all(map(task.accepts, own))
    assert task.metrics[task.primary_metric].hub_name


def test_a_primary_metric_that_no_test_gives_is_refused() -> None:
    with pytest.raises(ValueError, match="primary_metric='f1', which is not among its metrics"):
        replace(VIDEO_CLASSIFICATION, primary_metric="f1")
