"""Sections of the fine-tuning arguments, for the help; nothing is imported before a section is shown."""

import dataclasses
import itertools
from collections.abc import Sequence

from tubelets.training.command_line import Field, Section, dataclass_fields, unified

COMMON = (
    "output_dir", "do_train", "do_eval", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "per_device_eval_batch_size", "learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm",
    "label_smoothing_factor", "optim", "activation_checkpointing", "gradient_checkpointing", "torch_compile", "bf16",
    "fp16", "use_cpu", "seed", "dataloader_num_workers", "eval_strategy", "eval_steps", "logging_steps",
    "save_strategy", "save_steps", "save_total_limit", "load_best_model_at_end", "metric_for_best_model",
    "resume_from_checkpoint", "report_to", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_token",
)  # fmt: skip
"""Fields of `transformers.TrainingArguments` that matter here; the others are in a section of their own."""


def finetuning_sections(words: Sequence[str] = ()) -> list[Section]:
    """The sections of the fine-tuning arguments.

    Args:
        words: of the command line; `--task` decides which data arguments there are.

    Example:
        >>> [section.name for section in finetuning_sections()]
        ['model', 'data', 'training', 'transformers']
    """
    task = task_in(words)
    return [
        Section("model", "the model, its task, and which of its parts are trained", _model),
        Section("data", f"data of {task or 'the task (video-classification without --task)'}", lambda: _data(task)),
        Section("training", "output folder, rates, batches, checkpoints, precision", _training),
        Section("transformers", "all other fields of transformers' TrainingArguments", _transformers),
    ]


def task_in(words: Sequence[str]) -> str | None:
    """The value of `--task`.

    Args:
        words: of the command line.

    Example:
        >>> task_in(["--task=audio-classification"]), task_in(["--task", "x"]), task_in(["--seed", "1"])
        ('audio-classification', 'x', None)
    """
    for word, following in itertools.zip_longest(unified(words), words[1:]):
        name, equals, value = word.partition("=")
        if name == "--task":
            return value if equals else following
    return None


def _model() -> list[Field]:
    from tubelets.training.finetuning_arguments import ModelArguments

    return dataclass_fields(ModelArguments)


def _data(task: str | None) -> list[Field]:
    from tubelets.tasks.registry import task_named

    return dataclass_fields(task_named(task or "video-classification").arguments)


def _training() -> list[Field]:
    return [field for field, matters in _arguments() if matters]


def _transformers() -> list[Field]:
    return [field for field, matters in _arguments() if not matters]


def _arguments() -> list[tuple[Field, bool]]:
    from transformers import TrainingArguments

    from tubelets.training.finetuning_arguments import FinetuningArguments

    theirs = {entry.name for entry in dataclasses.fields(TrainingArguments)}
    fields = {field.name.removeprefix("--"): field for field in dataclass_fields(FinetuningArguments)}
    # The older of the supported versions of transformers have only the name that the newer ones deprecate.
    common = [name for name in COMMON if name in fields and not fields[name].text.startswith("Deprecated")]
    own = [name for name in fields if name not in theirs]
    others = [name for name in fields if name in theirs and name not in common]
    return [*((fields[name], True) for name in (*common, *own)), *((fields[name], False) for name in others)]
