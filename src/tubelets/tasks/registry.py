"""The tasks that fine-tuning, evaluation and cards handle; every folder of this package registers its own."""

import importlib
import pkgutil
from functools import cache

from transformers import PreTrainedConfig

import tubelets.tasks
from tubelets.tasks.task import Task

_TASKS: dict[str, Task] = {}


def register_task(task: Task) -> Task:
    """Make a task available to `tubelets finetune` and everything else that loops over tasks.

    A folder of this package calls it when it is imported; other packages call it before the script runs. Of several
    tasks that accept a model, the one registered first handles it unless `--task` says otherwise.

    Args:
        task: the record.

    Returns:
        The record.

    Raises:
        ValueError: if another task has the same name.
    """
    if _TASKS.setdefault(task.name, task) is not task:
        raise ValueError(f"a task named {task.name!r} is registered already; choose another name")
    return task


def unregister_task(name: str) -> None:
    """Unregister a task, e.g. at the end of a test."""
    _TASKS.pop(name)


def all_tasks() -> dict[str, Task]:
    """The registered tasks by name.

    Example:
        >>> sorted(all_tasks())
        ['audio-classification', 'skeleton-classification', 'video-classification', 'video-text-retrieval']
    """
    _import_folders()
    return dict(_TASKS)


def task_named(name: str) -> Task:
    """The task with a name.

    Raises:
        ValueError: if the task is not registered.

    Example:
        >>> task_named("video-classification").auto_class
        'AutoModelForVideoClassification'
    """
    tasks = all_tasks()
    if name not in tasks:
        raise ValueError(f"task {name!r} is not registered; choose one of {', '.join(map(repr, sorted(tasks)))}")
    return tasks[name]


def task_for(model: PreTrainedConfig | str) -> Task:
    """The task of a model.

    Args:
        model: a configuration, or the name of an Auto class.

    Returns:
        The first registered task whose Auto class has that name or loads that configuration.

    Raises:
        ValueError: if no task accepts the model.

    Example:
        >>> from tubelets import SigmaConfig, StructuredNoiseAudioConfig
        >>> task_for(SigmaConfig()).name, task_for(StructuredNoiseAudioConfig()).name
        ('video-classification', 'audio-classification')
    """
    for task in all_tasks().values():
        if task.auto_class == model if isinstance(model, str) else task.accepts(model):
            return task
    what = f"Auto class {model!r}" if isinstance(model, str) else f"model type {model.model_type!r}"
    classes = ", ".join(sorted({task.auto_class for task in all_tasks().values()}))
    raise ValueError(f"no task fine-tunes {what}; its classifier must be loaded by one of {classes}")


@cache
def _import_folders() -> None:
    for module in pkgutil.iter_modules(tubelets.tasks.__path__):
        if module.ispkg:
            importlib.import_module(f"tubelets.tasks.{module.name}")
