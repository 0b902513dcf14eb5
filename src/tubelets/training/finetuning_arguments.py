"""Arguments of the fine-tuning script: three dataclasses, read from the command line and from a YAML or JSON file."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

import torch
from jsonargparse import ArgumentError
from transformers import AutoConfig, HfArgumentParser, PreTrainedConfig, TrainingArguments

from tubelets import shipped
from tubelets.models.common.safe_loading import load_config
from tubelets.ranges import (
    Count,
    Decay,
    Natural,
    NotNegative,
    Positive,
    Range,
    Seed,
    Share,
    check_length,
    check_ranges,
    described,
    ranges_of,
)
from tubelets.tasks.registry import task_for, task_named
from tubelets.tasks.task import Task
from tubelets.training.acceleration import choose_precision
from tubelets.training.command_line import unified, unknown_flag
from tubelets.training.finetuning_recipes import fit_recipe, flags_of
from tubelets.training.parsing import RecipeError, explain, read_mapping, recipe_parser

# Fields of transformers' class. Rates of steps below 1 are fractions of the run.
_INHERITED = {
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), Range("[1, inf)")),
    **dict.fromkeys(("gradient_accumulation_steps", "eval_accumulation_steps"), Range("[1, inf)")),
    **dict.fromkeys(("dataloader_prefetch_factor", "torch_empty_cache_steps", "ddp_timeout"), Range("[1, inf)")),
    **dict.fromkeys(("logging_steps", "save_steps", "eval_steps", "ddp_bucket_cap_mb"), Range("(0, inf)")),
    **dict.fromkeys(("learning_rate", "adam_epsilon", "neftune_noise_alpha"), Range("(0, inf)")),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), Range("[0, 1)")),
    "max_steps": Range("[1, inf)", also=(-1,)),
    "eval_delay": Range("[0, inf)"),
    "data_seed": Range("[0, 4294901760]"),
    "dataloader_num_workers": Range("[0, 1024]"),
}


@dataclass
class ModelArguments:
    """The model to train and its task; help texts document the fields."""

    task: str | None = described(
        None, "Name of the task, e.g. video-classification; by default the first task that loads the model."
    )
    model_name_or_path: str | None = described(None, "Folder or Hub id whose weights training starts from.")
    model_type: str | None = described(None, "Model type to train from random weights, e.g. sigma.")
    model_revision: str = described("main", "Branch, tag or commit of a model on the Hub.")
    token: str | None = described(None, "Access token of a private model or data set on the Hub.")
    config_overrides: dict | str | None = field(
        default=None,
        metadata={
            "help": "Fields of the model's configuration to change, e.g. drop_path_rate; JSON on the command line."
        },
    )
    new_head: bool = described(
        False,
        "Draw the head of a classifier anew, for the classes of the data; otherwise its own classes number the labels.",
    )
    freeze_backbone: bool = described(False, "Linear probe: train only the parameters named by `trained_parts`.")
    trained_parts: list[str] = field(
        default_factory=lambda: ["head", "fc_norm", "classifier", "pooler"],
        metadata={"help": "Substrings of the names of the parameters that a linear probe trains."},
    )
    freeze_layers: Natural | None = described(None, "Freeze the embeddings and this many blocks.")
    # Not a flag: a recipe serves many models, so that fields which one of them lacks are left out of it.
    overrides_of_recipe: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.model_name_or_path is None) == (self.model_type is None):
            raise ValueError(
                "give either model_name_or_path (weights to start from) or model_type (random weights), got "
                f"{self.model_name_or_path!r} and {self.model_type!r}"
            )
        if isinstance(self.config_overrides, str):
            self.config_overrides = json.loads(self.config_overrides)
        if not isinstance(self.config_overrides, (dict, type(None))):
            raise ValueError(f"config_overrides must be a mapping of fields, got {self.config_overrides!r}")
        if self.freeze_backbone and self.freeze_layers is not None:
            raise ValueError("freeze_backbone freezes all layers; omit freeze_layers")

    @property
    def access(self) -> dict[str, Any]:
        """Revision and token, for `from_pretrained`."""
        return {"revision": self.model_revision, "token": self.token}

    def stored_config(self) -> PreTrainedConfig:
        """The configuration stored with the weights, or the default one of the model type.

        Raises:
            OSError: if the model does not exist.
            ValueError: if the model type is unknown.
        """
        if self.model_name_or_path is None:
            return AutoConfig.for_model(str(self.model_type))
        return load_config(self.model_name_or_path, **self.access)

    def find_task(self) -> Task:
        """The task that is named, or otherwise the first one that loads the model.

        Raises:
            OSError: if the model does not exist.
            ValueError: if the task is not registered, or no task loads the model.
        """
        return task_for(self.stored_config()) if self.task is None else task_named(self.task)


@dataclass
class FinetuningArguments(TrainingArguments):
    """`transformers.TrainingArguments` with the defaults of the papers, and further fields.

    The effective rates are `base_learning_rate` and `base_min_learning_rate` times videos per step over
    `learning_rate_batch_size`; `learning_rate` is set to the first of them. The schedule is a warm-up from 0 and
    a cosine (`tubelets.training.optimization.Schedule`), or falls at milestones (`StepSchedule`).
    """

    num_train_epochs: Positive = described(100.0, "Passes over the data.")
    weight_decay: NotNegative = described(0.05, "Decoupled weight decay of matrices.")
    max_grad_norm: NotNegative = described(0.0, "Gradients are clipped to this norm; 0 never clips.")
    label_smoothing_factor: Decay = described(0.1, "Label smoothing; 0 for multi-label problems.")
    remove_unused_columns: bool = described(False, "Not used: batches contain only the model's inputs.")
    logging_nan_inf_filter: bool = described(False, "Not used: a loss that is not finite stops the run.")
    ignore_data_skip: bool = described(True, "Not used: the data stream continues where it was.")
    save_total_limit: Count | None = described(2, "Number of newest checkpoints to keep.")
    seed: Seed = described(0, "Seed of initial weights, data order and augmentations.")
    base_learning_rate: Positive | None = described(
        None, "Learning rate for `learning_rate_batch_size` videos per step."
    )
    base_min_learning_rate: NotNegative = described(1e-6, "Final rate of the cosine, for as many videos.")
    learning_rate_batch_size: Count = described(256, "Videos a step that the base rates refer to.")
    global_batch_size: Count | None = described(None, "Videos per step over all processes; sets gradient accumulation.")
    warmup_epochs: NotNegative = described(5.0, "Epochs of linear warm-up from 0.")
    milestones: list[Count] | None = field(
        default=None, metadata={"help": "Epochs after which milestone_factor multiplies the rate, instead of a cosine."}
    )
    milestone_factor: Share = described(0.3, "Factor on the rate at each milestone.")
    momentum: Decay = described(0.0, "Momentum of the optimiser sgd (optim).")
    layer_decay: Share = described(0.75, "Factor on the learning rate from one layer to the one below it.")
    head_factor: Positive = described(1.0, "Further factor on the learning rate of the classifier's head.")
    average_epochs: list[Count] | None = field(
        default=None,
        metadata={"help": "First and last epoch whose weights are averaged after training; keep those checkpoints."},
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = described(
        None,
        "Precision: auto is bf16 where the machine has instructions for it and fp32 elsewhere; sets bf16 and fp16.",
    )
    extend: bool = described(
        False,
        "Train longer than the run of the checkpoint: num_train_epochs or max_steps may be larger. From there on the "
        "learning rate is that of the longer schedule at the same step.",
    )
    early_stopping_patience: Count | None = described(None, "Stop after this many validations without improvement.")

    def __post_init__(self) -> None:
        """Check ranges; resolve device, precision, batch size, accumulation and learning rates."""
        check_ranges(self, inherited=_INHERITED)
        if self.max_steps < 0 and self.warmup_epochs > self.num_train_epochs and self.do_train:
            raise ValueError(
                f"warmup_epochs must be at most the {self.num_train_epochs:g} epochs of the run (num_train_epochs), "
                f"got {self.warmup_epochs:g}; shorten the warm-up, or train longer"
            )
        given_rate = self.learning_rate
        self._choose_precision()
        super().__post_init__()
        if self.n_gpu > 1:
            raise ValueError(f"one process has {self.n_gpu} GPUs; start one process per GPU with torchrun")
        if self.milestones is not None and self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones must be ascending epochs, got {self.milestones}")
        self._check_averaging()
        at_once = self.per_device_train_batch_size * self.world_size
        if self.global_batch_size is not None:
            if self.global_batch_size % at_once:
                raise ValueError(
                    f"global_batch_size={self.global_batch_size} must be a multiple of per_device_train_batch_size x "
                    f"processes = {self.per_device_train_batch_size} x {self.world_size} = {at_once}"
                )
            self.gradient_accumulation_steps = self.global_batch_size // at_once
        if self.base_learning_rate is not None:
            default = TrainingArguments.__dataclass_fields__["learning_rate"].default
            if given_rate not in (default, self.base_learning_rate * self.learning_rate_scale):
                raise ValueError(
                    f"learning_rate={given_rate} and base_learning_rate={self.base_learning_rate} contradict each "
                    "other; give one of them"
                )
            self.learning_rate = self.base_learning_rate * self.learning_rate_scale
        if self.early_stopping_patience is not None:
            # Otherwise a resumed run would restart the count.
            self.restore_callback_states_from_checkpoint = True
        for name in ("lr_scheduler_type", "warmup_steps"):
            value = vars(self)[name]
            if value != TrainingArguments.__dataclass_fields__[name].default:
                raise ValueError(f"{name}={value!r} is not used; set warmup_epochs, base rates, epochs or milestones")

    def _choose_precision(self) -> None:
        """Set the switches of transformers for this machine."""
        # Without an accelerator, transformers takes bfloat16 only if the CPU is asked for.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        asked: str = self.precision or "fp32"
        if self.precision in (None, "auto") and (self.bf16 or self.fp16):
            asked = "bf16" if self.bf16 else "fp16"
        chosen = choose_precision(asked)
        for name in ("bf16", "fp16"):
            if vars(self)[name] and chosen != name:
                raise ValueError(f"precision={self.precision} and {name} contradict each other; give one of them")
        self.bf16, self.fp16 = chosen == "bf16", chosen == "fp16"

    def _check_averaging(self) -> None:
        """Reject to average checkpoints that are not written or not kept."""
        if self.average_epochs is None:
            return
        check_length("average_epochs", self.average_epochs, 2, "first and last epoch")
        first, last = self.average_epochs
        if not 1 <= first <= last <= self.num_train_epochs or self.max_steps > 0:
            raise ValueError(
                f"average_epochs must be a first and a last epoch, counted from 1, of the {self.num_train_epochs:g} "
                f"(num_train_epochs, without max_steps), got {self.average_epochs}"
            )
        if self.save_strategy != "epoch" or self.save_total_limit is not None or self.load_best_model_at_end:
            raise ValueError(
                "average_epochs needs the checkpoint of every epoch: set save_strategy=epoch, save_total_limit=null "
                "and load_best_model_at_end=false"
            )

    @property
    def videos_per_step(self) -> int:
        """Videos in an optimiser step, over all processes and accumulated batches."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps * self.world_size

    @property
    def learning_rate_scale(self) -> float:
        """Factor from base rates to effective ones."""
        return self.videos_per_step / self.learning_rate_batch_size

    @property
    def min_learning_rate(self) -> float:
        """Final rate of the cosine, for the head."""
        return self.base_min_learning_rate * self.learning_rate_scale


class _Parser(HfArgumentParser):
    """transformers' parser for the flags, whose errors are exceptions of one line."""

    def error(self, message: str) -> NoReturn:
        raise RecipeError(message)


def parse_finetuning_arguments(words: Sequence[str]) -> tuple[Task, ModelArguments, Any, FinetuningArguments]:
    """Read the command line of the fine-tuning script.

    Args:
        words: a YAML or JSON file of arguments, or the name of a recipe of the package, and then flags that override
            them; or flags alone.

    Returns:
        The task, and the three groups of arguments; those of the data are an instance of `Task.arguments`.

    Raises:
        FileNotFoundError: if the file is not found.
        OSError: if the task follows from a model that does not exist.
        RecipeError: if the file or a flag has an unknown field or a value of the wrong type.
        ValueError: if arguments contradict each other, or no task uses the model.

    Example:
        >>> words = ["--model_type", "sigma", "--train_dir", "videos", "--output_dir", "runs/x", "--mixup", "0"]
        >>> task, _, data, _ = parse_finetuning_arguments(words)
        >>> task.name, data.mixup
        ('video-classification', 0.0)
    """
    words, path, content = unified(words), None, {}
    if words and not words[0].startswith("-"):
        path = shipped.resolve(words.pop(0), "recipe")
        content = fit_recipe(read_mapping(path, "file of arguments"), words)
        if {word.partition("=")[0] for word in words} & {"--bf16", "--fp16"}:
            content.pop("precision", None)  # what is said on the command line counts
    given = flags_of(words)
    task = _find_task(words, content)
    classes = (ModelArguments, task.arguments, FinetuningArguments)
    # transformers' parser for the flags: TrainingArguments state their help and their switches in its dialect.
    parser = _Parser(classes, allow_abbrev=False)  # type: ignore[arg-type]
    wrong = unknown_flag(words, parser._option_string_actions)
    if wrong is not None:
        raise RecipeError(wrong)
    if path is not None:
        try:
            found = recipe_parser(classes).parse_object(content)
        except ArgumentError as error:
            known = [entry.name for cls in classes for entry in dataclasses.fields(cls)]
            raise RecipeError(f"{path}: {explain(error, known)}") from error
        parser.set_defaults(**{name: found[name] for name in content})
    ranges = {name: each for cls in classes for name, each in ranges_of(cls, _inherited(cls)).items()}
    for action in parser._actions:
        action.required = action.required and action.dest not in content
        if action.dest in ranges:
            action.help = f"{action.help or ''} ({ranges[action.dest]})"
    model, data, args = parser.parse_args_into_dataclasses(words, look_for_args_file=False)
    model.overrides_of_recipe = "config_overrides" in content and "config_overrides" not in given
    return task, model, data, args


def _inherited(cls: type) -> dict[str, Range] | None:
    return _INHERITED if issubclass(cls, TrainingArguments) else None


def _find_task(words: Sequence[str], content: Mapping[str, Any]) -> Task:
    """The task decides which flags exist, so it is found before they are parsed."""
    known = {entry.name for entry in dataclasses.fields(ModelArguments)}
    parser = _Parser((ModelArguments,), add_help=False, allow_abbrev=False)  # type: ignore[arg-type]
    parser.set_defaults(**{name: value for name, value in content.items() if name in known})
    given = vars(parser.parse_known_args(words)[0])
    return ModelArguments(**given).find_task() if given["task"] is None else task_named(given["task"])


def run_arguments(model: ModelArguments, data: Any, args: FinetuningArguments) -> dict[str, dict[str, Any]]:
    """All arguments of a run as plain containers, including derived values and without tokens.

    Returns:
        Groups `model`, `data` and `training`.
    """
    training = {name: value for name, value in args.to_dict().items() if not name.endswith("token")}
    resolved = {"videos_per_step": args.videos_per_step, "min_learning_rate": args.min_learning_rate}
    return {
        "model": {name: value for name, value in vars(model).items() if name not in ("token", "overrides_of_recipe")},
        "data": dict(vars(data)),
        "training": {**training, **resolved},
    }
