"""Learning rates, schedules and parameter groups, each computed in one place."""

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from tubelets.training.recipe import OptimizationSection


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from 0, then a half cosine to a minimum, per optimiser step (sigma.md, section 6).

    The last warm-up step has the full rate, and so has the step after it, as in the official code.

    Args:
        learning_rate: the full rate.
        min_learning_rate: what the cosine ends at, one step after the last.
        warmup_steps: steps of the warm-up.
        total_steps: steps of the run, warm-up included.

    Example:
        >>> schedule = Schedule(1.0, 0.0, warmup_steps=3, total_steps=7)
        >>> [round(schedule(step), 3) for step in range(7)]
        [0.0, 0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """

    learning_rate: float
    min_learning_rate: float
    warmup_steps: int
    total_steps: int

    def __call__(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * step / max(self.warmup_steps - 1, 1)
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        span = self.learning_rate - self.min_learning_rate
        return self.min_learning_rate + span * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@dataclass(frozen=True)
class Plan:
    """Numbers of a run that follow from the recipe, the data and the number of processes.

    Attributes:
        steps_per_epoch: optimiser steps in an epoch; the incomplete last batch is dropped.
        total_steps: optimiser steps of the run.
        accumulation: batches of a process in an optimiser step.
        schedule: the learning rate of each step.
    """

    steps_per_epoch: int
    total_steps: int
    accumulation: int
    schedule: Schedule


def plan_run(optimization: OptimizationSection, clips_per_epoch: int, batch_size: int, num_processes: int) -> Plan:
    """Turn epochs into steps, batches into accumulation, and scale the learning rates by the global batch.

    Args:
        optimization: the recipe's section.
        clips_per_epoch: clips in an epoch, over all processes.
        batch_size: clips in a batch of one process.
        num_processes: training processes.

    Returns:
        The plan.

    Raises:
        ValueError: if the global batch is not a multiple of what the processes load at once, or exceeds the data.
    """
    at_once = batch_size * num_processes
    if optimization.global_batch_size % at_once:
        raise ValueError(
            f"optimization.global_batch_size={optimization.global_batch_size} must be a multiple of run.batch_size x "
            f"processes = {batch_size} x {num_processes} = {at_once}; change run.batch_size"
        )
    steps_per_epoch = clips_per_epoch // optimization.global_batch_size
    if steps_per_epoch == 0:
        raise ValueError(
            f"an epoch has {clips_per_epoch} clips, fewer than optimization.global_batch_size="
            f"{optimization.global_batch_size}; lower it or raise data.clips_per_video"
        )
    total_steps = optimization.max_steps or optimization.epochs * steps_per_epoch
    scale = optimization.global_batch_size / optimization.learning_rate_batch_size
    warmup_steps = min(round(optimization.warmup_epochs * steps_per_epoch), total_steps)
    schedule = Schedule(
        optimization.base_learning_rate * scale, optimization.base_min_learning_rate * scale, warmup_steps, total_steps
    )
    return Plan(steps_per_epoch, total_steps, optimization.global_batch_size // at_once, schedule)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with and without weight decay (sigma.md, section 6).

    Vectors, biases and mask tokens are not decayed; every other parameter is, prototypes included.

    Args:
        model: the model; parameters without gradient are left out.
        weight_decay: decay of the first group.

    Returns:
        Groups for an optimiser.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            exempt = parameter.ndim <= 1 or name.endswith((".bias", "mask_token"))
            (plain if exempt else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
