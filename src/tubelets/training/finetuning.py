"""A Trainer for all tasks: layer-wise learning rates, the task's loss and scores, exact resume of the data stream."""

import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import EarlyStoppingCallback, PreTrainedModel, ProcessorMixin, Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import TrainOutput

from tubelets.data.atomic import write_atomically
from tubelets.models.common.safe_loading import load_model
from tubelets.tasks.metrics import NaNScoresError
from tubelets.tasks.task import Part, Scores, Task, TaskData
from tubelets.training.acceleration import choose_convolutions, enable_checkpointing, take_over_checkpointing
from tubelets.training.checkpointing import (
    CheckpointError,
    check_files,
    check_readable,
    describe_files,
    loader_state_file,
    read_json,
)
from tubelets.training.epochs import EpochBatches
from tubelets.training.finetuning_arguments import FinetuningArguments
from tubelets.training.optimization import Schedule, StepSchedule, layer_decay_groups
from tubelets.training.resuming import check_length, check_same_files
from tubelets.training.run_log import BatchProgress

_WHERE_IT_DIVERGES = "lower base_learning_rate, warm up longer, set max_grad_norm, or use bf16 instead of fp16"

logger = logging.getLogger("tubelets.training")


class _EpochProgress(TrainerCallback):
    """Derives the epoch from the step; the base class restarts counting in an epoch resumed midway."""

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.epoch = state.global_step / self._steps_per_epoch


class _StepProgress(TrainerCallback):
    """Shows the batches of an accumulated step on the bar of steps, see `BatchProgress`."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._progress: BatchProgress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        callbacks = self._trainer.callback_handler.callbacks
        bars: list[Any] = [each.training_bar for each in callbacks if isinstance(each, ProgressCallback)]
        shown = [bar for bar in bars if bar is not None]
        self._progress = BatchProgress(shown[0], args.gradient_accumulation_steps) if shown else None

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._progress is not None:
            self._progress.batch()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._progress is not None:
            self._progress.step()


class _SavedProcessor:
    """A processor of several inputs, reduced to what a Trainer does with it: it would look for a tokenizer inside."""

    def __init__(self, processor: ProcessorMixin) -> None:
        self.model_input_names = processor.model_input_names
        self.save_pretrained = processor.save_pretrained


class FinetuningTrainer(Trainer):
    """Fine-tunes a model for a task, on batches that are already on the device and augmented.

    The learning rate decreases from the head to the embeddings, warms up from 0 and follows a cosine or milestones. A
    resumed run reproduces the losses of an uninterrupted one: besides what a Trainer saves, each process stores the
    position of its data stream.

    Args:
        model: the model.
        args: how it is trained.
        task: its loss, and which metric values are better.
        data: the task's data, bound to the model.
        processing_class: processor to save with the weights.
        callbacks: further callbacks.

    Attributes:
        train_batches: this process's batches, None if the run only tests.
        scores: the result of the last evaluation.
    """

    args: FinetuningArguments  # type: ignore[assignment]
    model: PreTrainedModel

    def __init__(
        self,
        model: PreTrainedModel,
        args: FinetuningArguments,
        task: Task,
        data: TaskData,
        processing_class: Any = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        own: list[TrainerCallback] = [*callbacks]
        self.train_batches: EpochBatches | None = None
        if args.do_train:
            self.train_batches = EpochBatches(data.train_loader(), data.prepare, data.samples_per_epoch, args)
            own.append(_EpochProgress(self.train_batches.steps_per_epoch))
        if args.early_stopping_patience is not None:
            own.append(EarlyStoppingCallback(args.early_stopping_patience))
        if args.metric_for_best_model == "loss":
            # Overrides transformers' default metric for the best model, the loss, which evaluation does not compute
            # here.
            args.metric_for_best_model, args.greater_is_better = data.primary_metric, task.greater_is_better
        if isinstance(processing_class, ProcessorMixin):
            processing_class = _SavedProcessor(processing_class)
        # The base class only checks whether an evaluation set is given.
        examples: Any = [] if args.do_eval or args.eval_strategy != "no" else None
        super().__init__(
            model=model, args=args, eval_dataset=examples, processing_class=processing_class, callbacks=own
        )
        self.add_callback(_StepProgress(self))
        if take_over_checkpointing(self.accelerator):
            enable_checkpointing(self.model)
        if self.accelerator.ddp_handler is not None:
            # Not an argument of the base class; it keeps its broadcast of batch-norm statistics, which evaluation uses.
            self.accelerator.ddp_handler.gradient_as_bucket_view = True
        choose_convolutions(self.model, self.accelerator.device)
        # The loss below is a mean over its batch, which the base class then divides by the accumulation.
        self.model_accepts_loss_kwargs = False
        self.task, self.data = task, data
        self.scores: Scores | None = None
        self._reported = 0
        self._checked: Path | None = None
        self._fingerprints: dict[str, str] | None = None

    # Training -------------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> Any:
        """Return the batches unchanged: they are already per process and on the device."""
        if self.train_batches is None:
            raise ValueError("no training batches; give --do_train")
        return self.train_batches

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The task's loss of a batch."""
        output = model(**{name: value for name, value in inputs.items() if name not in self.task.targets})
        loss = self.task.loss(self.model.config, output, inputs)
        return (loss, output) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The optimiser of the arguments over groups of layers."""
        if self.optimizer is None:
            model = self.model if model is None else model
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, model)
            if optimizer_class is torch.optim.SGD:
                kwargs["momentum"] = self.args.momentum
            args = self.args
            groups = layer_decay_groups(
                model, args.weight_decay, args.learning_rate, args.layer_decay, args.head_factor
            )
            self.optimizer = optimizer_class(groups, **kwargs)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Warm-up and cosine or milestones, as a factor on the rate of each group."""
        if self.lr_scheduler is None:
            args, steps_per_epoch = self.args, self.get_train_dataloader().steps_per_epoch
            warmup = min(round(args.warmup_epochs * steps_per_epoch), num_training_steps)
            schedule: Callable[[int], float] = Schedule(
                args.learning_rate, args.min_learning_rate, warmup, num_training_steps
            )
            if args.milestones is not None:
                steps = tuple(epoch * steps_per_epoch for epoch in args.milestones)
                schedule = StepSchedule(args.learning_rate, args.milestone_factor, steps, warmup)
            optimizer = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = LambdaLR(optimizer, lambda step: schedule(step) / args.learning_rate)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, report skipped videos, and stop when the loss is not finite."""
        if "loss" in logs and self.train_batches is not None:
            loader = self.train_batches.loader
            for sample in loader.bad_samples[self._reported :]:
                logger.warning("skipped %s in %s: %s", sample["clip_id"], sample["shard"], sample["reason"])
            self._reported = len(loader.bad_samples)
            logs["skipped_videos"] = loader.num_skipped
        super().log(logs, start_time)
        if not math.isfinite(logs.get("loss", 0.0)):
            raise FloatingPointError(
                f"the loss became {logs['loss']} before step {self.state.global_step}; {_WHERE_IT_DIVERGES}"
            )

    def evaluate(  # type: ignore[override]
        self, part: Part | None = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score a part of the data and log the metrics.

        Args:
            part: "validation" (with one view, the default) or "test" (with all views).
            ignore_keys: not used.
            metric_key_prefix: prefix of the metrics' names.

        Returns:
            The metrics.

        Raises:
            FloatingPointError: if the scores are not numbers.
        """
        started = time.perf_counter()
        with self.accelerator.autocast():
            self.scores = self.data.score(self.model, part or "validation")
        try:
            found = self.scores.metrics()
        except NaNScoresError as error:
            raise FloatingPointError(f"{error}; {_WHERE_IT_DIVERGES}") from error
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        metrics[f"{metric_key_prefix}_runtime"] = round(time.perf_counter() - started, 3)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_model_card(self, text: str = "", **kwargs: Any) -> None:  # type: ignore[override]
        """Write the card, which is also what `push_to_hub(text=...)` publishes.

        Args:
            text: the card.
            **kwargs: not used; the card of the base class lists settings that this trainer does not have.
        """
        if self.is_world_process_zero():
            (Path(str(self.args.output_dir)) / "README.md").write_text(text, encoding="utf-8")

    def average_epochs(self) -> None:
        """Replace the weights by their mean over the epochs of the argument `average_epochs`, after training.

        Raises:
            CheckpointError: if the checkpoint of one of them is missing.
        """
        if self.args.average_epochs is None or self.train_batches is None:
            return
        first, last = self.args.average_epochs
        steps = [epoch * self.train_batches.steps_per_epoch for epoch in range(first, last + 1)]
        folders = [Path(str(self.args.output_dir)) / f"checkpoint-{step}" for step in steps]
        missing = [folder.name for folder in folders if not folder.is_dir()]
        if missing:
            raise CheckpointError(
                f"average_epochs={self.args.average_epochs} needs {', '.join(missing)} in {self.args.output_dir}; "
                "train again with save_total_limit=null"
            )
        self.accelerator.wait_for_everyone()
        mean: dict[str, Tensor] = {}
        for folder in folders:
            self._read_weights(str(folder))
            for name, value in self.model.state_dict().items():
                part = value.double() / len(folders) if value.is_floating_point() else value
                mean[name] = mean[name] + part if name in mean and value.is_floating_point() else part
        self.model.load_state_dict(mean)
        logger.info("averaged the weights after epochs %d to %d", first, last)

    # Exact resume ---------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> TrainOutput:  # type: ignore[override]
        """Train, from the beginning or from a checkpoint.

        Args:
            resume_from_checkpoint: folder of a checkpoint.
            **kwargs: as for the base class.

        Raises:
            CheckpointError: if the checkpoint is incomplete, or belongs to another run.
        """
        if resume_from_checkpoint is not None:
            if Path(resume_from_checkpoint) != self._checked:
                self.check_resume(Path(resume_from_checkpoint))
            finished = self._restore_finished(resume_from_checkpoint)
            if finished is not None:
                return finished
        return super().train(resume_from_checkpoint, **kwargs)

    def check_resume(self, checkpoint: Path) -> None:
        """Read the position of a checkpoint, and refuse one that is damaged or belongs to another run.

        Args:
            checkpoint: its folder.

        Raises:
            CheckpointError: naming the file or what differs.
        """
        path = loader_state_file(checkpoint, self.args.process_index)
        if not path.is_file():
            raise CheckpointError(f"{checkpoint} is incomplete: {path.name} is missing; remove it")
        check_readable(checkpoint)
        state = read_json(path)
        check_files(checkpoint, state.pop("files", {}))
        batches = self.get_train_dataloader()
        check_same_files(state.pop("data", {}), batches.loader.stream.source.fingerprints())
        try:
            batches.load_state_dict(state)
        except ValueError as error:
            raise CheckpointError(f"{checkpoint} belongs to another run: {error}") from error
        self._check_length(checkpoint)
        self._checked = checkpoint

    @property
    def _total_steps(self) -> int:
        epochs = math.ceil(self.args.num_train_epochs * self.get_train_dataloader().steps_per_epoch)
        return self.args.max_steps if self.args.max_steps > 0 else epochs

    def _check_length(self, checkpoint: Path) -> None:
        """Refuse a run of another length, unless it is to be extended."""
        saved = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        if saved.max_steps != self._total_steps and not self.args.extend:
            raise CheckpointError(
                f"{checkpoint} belongs to another run: of {saved.max_steps} steps, and this one has "
                f"{self._total_steps}; use its num_train_epochs or max_steps, another output_dir, or --extend to train "
                "longer"
            )
        check_length(saved.global_step, self._total_steps, self.args.extend)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _named(checkpoint, "optimizer.pt or scheduler.pt"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        several = self.args.world_size > 1
        with _named(checkpoint, f"rng_state_{self.args.process_index}.pth" if several else "rng_state.pth"):
            super()._load_rng_state(checkpoint)

    def _restore_finished(self, checkpoint: str) -> TrainOutput | None:
        """Return the result of a finished run, for which the base class would train another step."""
        state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        if state.global_step < self._total_steps:
            return None
        logger.info("%s is the end of the run; nothing is trained", checkpoint)
        self.state = state
        self._read_weights(checkpoint)
        if self.args.load_best_model_at_end:
            self._load_best_model()
        losses = [line["loss"] for line in state.log_history if "loss" in line]
        return TrainOutput(state.global_step, losses[-1] if losses else math.nan, {"epoch": state.epoch or 0.0})

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.train_batches is not None:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            state = self.train_batches.state_dict() | {"files": describe_files(folder, self._written(folder))}
            if self.is_world_process_zero():
                self._fingerprints = self._fingerprints or self.train_batches.loader.stream.source.fingerprints()
                state["data"] = self._fingerprints
            # Written last: a checkpoint without it was interrupted while it was saved.
            content = json.dumps(state)
            write_atomically(loader_state_file(folder, self.args.process_index), lambda path: path.write_text(content))

    def _written(self, folder: Path) -> list[Path]:
        """Files of a checkpoint that this process has written; parts of sharded ones are left out."""
        own = f"rng_state_{self.args.process_index}.pth"
        if not self.is_world_process_zero():
            return [path for path in [folder / own] if path.is_file()]
        others = re.compile(r"loader_\d+\.json|rng_state_\d+\.pth")
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
        return [path for path in files if path.name == own or not others.fullmatch(path.name)]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        # A pickle; `run.yaml` has the same content as plain text.
        (Path(output_dir or str(self.args.output_dir)) / TRAINING_ARGS_NAME).unlink(missing_ok=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._read_weights(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
        elif self.state.best_model_checkpoint is not None:
            logger.info("best model: %s (%s)", self.state.best_model_checkpoint, self.state.best_metric)
            self._read_weights(self.state.best_model_checkpoint)

    def _read_weights(self, folder: str) -> None:
        """Load weights as users do: stock models save some under other names than in memory."""
        saved = load_model(type(self.model), folder, fresh="nothing", dtype=torch.float32)
        self.model.load_state_dict(saved.state_dict())


@contextmanager
def _named(checkpoint: str | None, name: str) -> Iterator[None]:
    """Name the file of a checkpoint in the errors of libraries."""
    try:
        yield
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint}/{name} does not fit this run ({type(error).__name__}: {error}); resume with the arguments "
            f"that wrote it, or remove {checkpoint} to resume from the one before"
        ) from error
