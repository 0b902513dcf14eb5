"""A Trainer for classifiers of clips: soft targets, layer-wise learning rates, an exact resume of the data stream."""

import json
import logging
import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import EarlyStoppingCallback, PreTrainedModel, ProcessorMixin, Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_utils import TrainOutput

from tubelets.training.checkpointing import CheckpointError, list_checkpoints
from tubelets.training.finetuning_arguments import FinetuningArguments
from tubelets.training.finetuning_data import EpochBatches
from tubelets.training.optimization import Schedule, StepSchedule, layer_decay_groups

logger = logging.getLogger("tubelets.training")


def classification_loss(logits: Tensor, targets: Tensor, multi_label: bool = False) -> Tensor:
    """Cross entropy with class probabilities, or binary cross entropy with independent ones.

    The models' own losses are not used: several take every floating-point label for a multi-label one.

    Args:
        logits: floating point `(B, C)`.
        targets: floating point `(B, C)`, rows of probabilities, or any numbers in [0, 1] with `multi_label`.
        multi_label: classes are independent of each other.

    Returns:
        A float32 scalar, the mean over the batch (and over the classes with `multi_label`).

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> round(classification_loss(torch.zeros(2, 4), torch.full((2, 4), 0.25)).item(), 4)
        1.3863
    """
    if logits.shape != targets.shape:
        raise ValueError(
            f"targets must have the shape of the logits, {tuple(logits.shape)}, got {tuple(targets.shape)}"
        )
    if multi_label:
        return F.binary_cross_entropy_with_logits(logits.float(), targets.float())
    return F.cross_entropy(logits.float(), targets.float())


class StopOnSignal(TrainerCallback):
    """On SIGTERM or SIGINT, finishes the step in hand, saves a checkpoint and stops.

    Attributes:
        received: whether the process was asked to stop.
    """

    def __init__(self) -> None:
        self.received = False
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Listen from now on."""
        self._previous = {name: signal.signal(name, self._receive) for name in (signal.SIGTERM, signal.SIGINT)}

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let signals do what they did before."""
        for name, handler in self._previous.items():
            signal.signal(name, handler)

    def _receive(self, number: int, frame: Any) -> None:
        self.received = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save and stop, if asked to; several processes ask each other only every few steps, since that waits."""
        if args.world_size > 1:
            if state.global_step % max(1, int(args.logging_steps)):
                return
            flag = torch.tensor(float(self.received), device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            self.received = bool(flag.item())
        if self.received:
            control.should_save = control.should_training_stop = True


class _EpochProgress(TrainerCallback):
    """Tells the epoch from the step, also in an epoch that was entered in the middle."""

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.epoch = state.global_step / self._steps_per_epoch


class _SavedProcessor:
    """What a Trainer may do with a processor of several inputs, in which it would look for a tokenizer: save it."""

    def __init__(self, processor: ProcessorMixin) -> None:
        self.model_input_names = processor.model_input_names
        self.save_pretrained = processor.save_pretrained


class ClassificationTrainer(Trainer):
    """Fine-tunes any classifier of clips on batches that are already on the device and augmented.

    The learning rate falls from the head to the embeddings, warms up from 0 and follows a cosine. A resumed run gives
    the losses of an unbroken one: besides what a Trainer saves, each process stores where its data stream is.

    Args:
        model: the classifier.
        args: how it is trained.
        train_batches: this process's batches; None only evaluates.
        evaluate_model: scores the model and returns metrics; called on all processes.
        processing_class: processor that is saved beside the weights.
        callbacks: further callbacks.
    """

    args: FinetuningArguments  # type: ignore[assignment]
    model: PreTrainedModel

    def __init__(
        self,
        model: PreTrainedModel,
        args: FinetuningArguments,
        *,
        train_batches: EpochBatches | None = None,
        evaluate_model: Callable[[PreTrainedModel], dict[str, float]] | None = None,
        processing_class: Any = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        own: list[TrainerCallback] = [*callbacks]
        if train_batches is not None:
            own.append(_EpochProgress(train_batches.steps_per_epoch))
        if args.early_stopping_patience is not None:
            own.append(EarlyStoppingCallback(args.early_stopping_patience))
        if isinstance(processing_class, ProcessorMixin):
            processing_class = _SavedProcessor(processing_class)
        # The base class asks only whether there is something to evaluate.
        examples: Any = None if evaluate_model is None else []
        super().__init__(
            model=model, args=args, eval_dataset=examples, processing_class=processing_class, callbacks=own
        )
        # The loss below is a mean over its batch, which the base class divides by the accumulation.
        self.model_accepts_loss_kwargs = False
        self.train_batches, self.evaluate_model = train_batches, evaluate_model
        self._multi_label = model.config.problem_type == "multi_label_classification"
        self._reported = 0

    # What differs from the base class in training -------------------------------------------------------------------

    def get_train_dataloader(self) -> Any:
        """The batches themselves: they are made for this process and need no preparation."""
        if self.train_batches is None:
            raise ValueError("there are no training batches; pass train_batches")
        return self.train_batches

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch, from soft targets."""
        clips = {name: value for name, value in inputs.items() if name != "labels"}
        output = model(**clips)
        loss = classification_loss(output.logits, inputs["labels"], self._multi_label)
        return (loss, output) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The optimiser of the arguments over groups of layers."""
        if self.optimizer is None:
            model = self.model if model is None else model
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, model)
            args = self.args
            groups = layer_decay_groups(
                model, args.weight_decay, args.learning_rate, args.layer_decay, args.head_factor
            )
            self.optimizer = optimizer_class(groups, **kwargs)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Warm-up and cosine or milestones, as a factor on the rate of each group."""
        if self.lr_scheduler is None:
            args, steps_per_epoch = self.args, len(self.get_train_dataloader()) // self.args.gradient_accumulation_steps
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
        """Log, report videos that were skipped, and stop when the loss is not finite."""
        if "loss" in logs and self.train_batches is not None:
            loader = self.train_batches.loader
            for sample in loader.bad_samples[self._reported :]:
                logger.warning("skipped %s in %s: %s", sample["clip_id"], sample["shard"], sample["reason"])
            self._reported = len(loader.bad_samples)
            logs["skipped_videos"] = loader.num_skipped
        super().log(logs, start_time)
        if not math.isfinite(logs.get("loss", 0.0)):
            raise FloatingPointError(
                f"the loss became {logs['loss']} before step {self.state.global_step}; lower base_learning_rate, warm "
                "up longer, set max_grad_norm, or use bf16 instead of fp16"
            )

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the model with `evaluate_model` and log the metrics.

        Args:
            eval_dataset: a function to use instead of `evaluate_model`.
            ignore_keys: not used.
            metric_key_prefix: put before the names of the metrics.

        Returns:
            The metrics.

        Raises:
            ValueError: if there is no function.
        """
        evaluate = self.evaluate_model if eval_dataset is None else eval_dataset
        if evaluate is None:
            raise ValueError("nothing to evaluate; pass evaluate_model")
        started = time.perf_counter()
        with self.accelerator.autocast():
            found = evaluate(self.model)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        metrics[f"{metric_key_prefix}_runtime"] = round(time.perf_counter() - started, 3)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_model_card(self, text: str = "", **kwargs: Any) -> None:  # type: ignore[override]
        """Write the card, which is also what `push_to_hub(text=...)` publishes.

        Args:
            text: the card.
            **kwargs: not used; the base class's card states settings that this trainer does not have.
        """
        if self.is_world_process_zero():
            (Path(str(self.args.output_dir)) / "README.md").write_text(text, encoding="utf-8")

    def average_epochs(self) -> None:
        """Give the model the mean of the weights of the epochs that `average_epochs` names, once training is over.

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
            path = loader_state_file(resume_from_checkpoint, self.args.process_index)
            if not path.is_file():
                raise CheckpointError(f"{resume_from_checkpoint} is incomplete: {path.name} is missing; remove it")
            state = json.loads(path.read_text(encoding="utf-8"))
            try:
                self.get_train_dataloader().load_state_dict(state)
            except ValueError as error:
                raise CheckpointError(f"{resume_from_checkpoint} belongs to another run: {error}") from error
            finished = self._restore_finished(resume_from_checkpoint)
            if finished is not None:
                return finished
        return super().train(resume_from_checkpoint, **kwargs)

    def _restore_finished(self, checkpoint: str) -> TrainOutput | None:
        """The result of a run that was complete already; the base class would train one step more."""
        state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        epochs = math.ceil(self.args.num_train_epochs * self.get_train_dataloader().steps_per_epoch)
        if state.global_step < (self.args.max_steps if self.args.max_steps > 0 else epochs):
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
            # Written last: a checkpoint without it was interrupted while it was saved.
            path = loader_state_file(folder, self.args.process_index)
            aside = path.with_suffix(".incomplete")
            aside.write_text(json.dumps(self.train_batches.state_dict()), encoding="utf-8")
            aside.replace(path)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        # A pickle, which nobody should be asked to open; `run.yaml` holds the same in plain text.
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
        """Load weights as users do: stock models save some under other names than those they have in memory."""
        loaded: Any = type(self.model).from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        saved, info = loaded
        if info["missing_keys"]:
            raise CheckpointError(f"{folder} lacks weights of the model: {sorted(info['missing_keys'])[:5]}")
        self.model.load_state_dict(saved.state_dict())


def loader_state_file(checkpoint: str | Path, process: int) -> Path:
    """Where a checkpoint holds the position of a process in its data.

    Args:
        checkpoint: folder of the checkpoint.
        process: rank of the process.
    """
    return Path(checkpoint) / f"loader_{process}.json"


def find_checkpoint(output_dir: str | Path, num_processes: int) -> Path | None:
    """The newest complete checkpoint of a run.

    Args:
        output_dir: the run's folder; need not exist.
        num_processes: processes of this run.

    Returns:
        Its folder, None if there is none.

    Raises:
        CheckpointError: if the newest one was written by more processes.
    """
    for folder in reversed(list_checkpoints(output_dir)):
        if loader_state_file(folder, num_processes).is_file():
            raise CheckpointError(f"{folder} was written by more than {num_processes} processes; start as many")
        if all(loader_state_file(folder, process).is_file() for process in range(num_processes)):
            return folder
        logger.warning("%s is incomplete and not used", folder)
    return None
