"""Learning rates, schedules and parameter groups, each computed in one place.

Schedules and layer decay are our own because the libraries' differ from the papers': warm-up in transformers and timm
reaches the full rate one step later than the official code, transformers' cosine lacks a minimum that scales with the
batch, and timm's layer decay needs groups declared by each model, while ours are derived from its blocks.
"""

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tubelets.training.recipe import OptimizationSection

logger = logging.getLogger("tubelets.training")

# Parts of the names of parameters that start fresh when a pretrained encoder becomes a classifier.
HEAD_NAMES = ("fc_norm", "classifier", "pooler", "head")
# Parameters that are not weights of a layer: never decayed, for any shape.
EXEMPT_NAMES = ("mask_token", "mask_tokens", "cls_token", "query_tokens", "position_embeddings", "time_embeddings")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from 0, then a half cosine to a minimum, per optimiser step (sigma.md, section 6).

    The last warm-up step has the full rate, and so has the step after it, as in the official code.

    Args:
        learning_rate: the full rate.
        min_learning_rate: end of the cosine, one step after the last.
        warmup_steps: steps of the warm-up.
        total_steps: steps of the run, warm-up included.
        hold: interval in steps at which the rate changes; the length of an epoch for a schedule by epochs
            (tubelet_contrast.md, section 7).

    Example:
        >>> schedule = Schedule(1.0, 0.0, warmup_steps=3, total_steps=7)
        >>> [round(schedule(step), 3) for step in range(7)]
        [0.0, 0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
        >>> [round(Schedule(1.0, 0.0, 0, total_steps=4, hold=2)(step), 3) for step in range(4)]
        [1.0, 1.0, 0.5, 0.5]
    """

    learning_rate: float
    min_learning_rate: float
    warmup_steps: int
    total_steps: int
    hold: int = 1

    def __call__(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        step -= step % self.hold
        if step < self.warmup_steps:
            return self.learning_rate * step / max(self.warmup_steps - 1, 1)
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        span = self.learning_rate - self.min_learning_rate
        return self.min_learning_rate + span * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@dataclass(frozen=True)
class StepSchedule:
    """Linear warm-up from 0, then a rate that falls by a factor at milestones (severe_benchmark.md, section 2.2).

    Args:
        learning_rate: the full rate.
        factor: multiplies the rate at each milestone.
        milestones: first steps of the lower rates, ascending.
        warmup_steps: steps of the warm-up.

    Example:
        >>> schedule = StepSchedule(1.0, 0.5, milestones=(2, 4))
        >>> [schedule(step) for step in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    learning_rate: float
    factor: float
    milestones: tuple[int, ...]
    warmup_steps: int = 0

    def __call__(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * step / max(self.warmup_steps - 1, 1)
        return self.learning_rate * self.factor ** sum(step >= milestone for milestone in self.milestones)


@dataclass(frozen=True)
class Plan:
    """Numbers of a run that follow from the recipe, the data and the number of processes.

    Attributes:
        steps_per_epoch: optimiser steps per epoch; the incomplete last batch is dropped.
        total_steps: optimiser steps of the run.
        accumulation: batches of a process in an optimiser step.
        schedule: the learning rate of each step.
    """

    steps_per_epoch: int
    total_steps: int
    accumulation: int
    schedule: Schedule | StepSchedule


def plan_run(optimization: OptimizationSection, clips_per_epoch: int, batch_size: int, num_processes: int) -> Plan:
    """Turn epochs into steps, batches into accumulation, and scale the learning rates by the global batch.

    Args:
        optimization: the recipe's section.
        clips_per_epoch: clips per epoch, over all processes.
        batch_size: clips in a batch of one process.
        num_processes: training processes.

    Returns:
        The plan.

    Raises:
        ValueError: if the global batch is not a multiple of the batches of all processes, or exceeds the data, or the
            schedule ends before the run.
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
    planned = optimization.schedule_epochs
    if planned is not None and planned * steps_per_epoch < total_steps:
        raise ValueError(
            f"optimization.schedule_epochs={planned} are {planned * steps_per_epoch} steps, fewer than the "
            f"{total_steps} of the run; raise it, or omit it"
        )
    planned_steps = total_steps if planned is None else planned * steps_per_epoch
    warmup_steps = round(optimization.warmup_epochs * steps_per_epoch)
    if warmup_steps > planned_steps:
        logger.warning(
            "the warm-up of optimization.warmup_epochs=%g has %d steps, and the run %d: it is shortened to the run, "
            "which then ends at the full learning rate; set a shorter one",
            optimization.warmup_epochs,
            warmup_steps,
            planned_steps,
        )
        warmup_steps = planned_steps
    schedule: Schedule | StepSchedule
    if optimization.milestones:
        milestones = tuple(round(epoch * steps_per_epoch) for epoch in sorted(optimization.milestones))
        rate = optimization.base_learning_rate * scale
        schedule = StepSchedule(rate, optimization.milestone_factor, milestones, warmup_steps)
    else:
        schedule = Schedule(
            optimization.base_learning_rate * scale,
            optimization.base_min_learning_rate * scale,
            warmup_steps,
            planned_steps,
            steps_per_epoch if optimization.schedule_by == "epoch" else 1,
        )
    return Plan(steps_per_epoch, total_steps, optimization.global_batch_size // at_once, schedule)


def is_head(name: str) -> bool:
    """Whether a parameter belongs to a classifier's head, by its name.

    Example:
        >>> is_head("classifier.weight"), is_head("videomae.encoder.layer.0.output.dense.weight")
        (True, False)
    """
    return any(word in name for word in HEAD_NAMES)


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: not to vectors, biases, mask and class tokens and learned positions."""
    return parameter.ndim > 1 and not name.endswith((".bias", *EXEMPT_NAMES))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with and without weight decay (sigma.md, section 6).

    Vectors, biases and mask tokens are not decayed; every other parameter is, prototypes included.

    Args:
        model: the model; frozen parameters are excluded.
        weight_decay: decay of the first group.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if is_decayed(name, parameter) else plain).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def build_optimizer(
    model: nn.Module, optimization: OptimizationSection, learning_rate: float, sharded: bool = False
) -> torch.optim.Optimizer:
    """The optimiser of a recipe over the parameters that are trained.

    Args:
        model: the model.
        optimization: the recipe's section.
        learning_rate: of the first step.
        sharded: whether FSDP shards the parameters, for which PyTorch has no fused SGD.

    Returns:
        AdamW or SGD with momentum, with one kernel for all parameters, or one for each operation of sharded SGD.

    Example:
        >>> optimizer = build_optimizer(nn.Linear(2, 1), OptimizationSection(optimizer="sgd", decayed="all"), 0.1)
        >>> [len(group["params"]) for group in optimizer.param_groups]
        [2]
    """
    if optimization.decayed == "all":
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [{"params": trained, "weight_decay": optimization.weight_decay}]
    else:
        groups = parameter_groups(model, optimization.weight_decay)
    if optimization.optimizer == "sgd":
        kernels = {"foreach": True} if sharded else {"fused": True}
        return torch.optim.SGD(groups, lr=learning_rate, momentum=optimization.momentum, **kernels)
    first, second = optimization.betas
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(first, second), eps=optimization.eps, fused=True)


def find_blocks(model: nn.Module) -> tuple[dict[str, int], int] | None:
    """The stacks of blocks of a transformer.

    These are the longest `nn.ModuleList` and its siblings with the same block class. Siblings of equal length are
    parallel stacks (one per modality); others follow after them.

    Args:
        model: a transformer, with or without a head.

    Returns:
        The name of each stack with the depth of its first block, counted from 1, and the depth of the last block; None
        if the model has no list of at least two blocks.

    Example:
        >>> blocks = lambda count: nn.ModuleList(nn.Linear(1, 1) for _ in range(count))
        >>> find_blocks(nn.ModuleDict({"heard": blocks(3), "seen": blocks(3), "shared": blocks(2)}))
        ({'heard': 1, 'seen': 1, 'shared': 4}, 5)
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    longest = max(lists, key=lambda found: len(lists[found]), default=None)
    if longest is None or len(lists[longest]) < 2:
        return None
    parent, kind, depth = longest.rpartition(".")[0], type(lists[longest][0]), len(lists[longest])
    stacks, last, after = {longest: 1}, depth, False
    for name, blocks in lists.items():
        if name == longest:
            after = True
        elif after and name.rpartition(".")[0] == parent and blocks and isinstance(blocks[0], kind):
            beside = len(blocks) == depth and type(blocks[0]) is kind
            stacks[name] = 1 if beside else last + 1
            last += 0 if beside else len(blocks)
    return stacks, last


def layer_numbers(model: nn.Module) -> dict[str, int] | None:
    """The depth of every parameter: 0 for the embeddings, i + 1 for block i, L + 1 for everything after L blocks.

    Parameters before the blocks (see `find_blocks`) are embeddings. Parallel stacks have the same depths.

    Args:
        model: a transformer, with or without a head.

    Returns:
        Names of all parameters to numbers, None if the model has no blocks.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 1), nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)]), nn.Linear(1, 1))
        >>> [number for name, number in layer_numbers(model).items() if name.endswith("weight")]
        [0, 1, 2, 3]
    """
    blocks = find_blocks(model)
    if blocks is None:
        return None
    stacks, last = blocks
    block = re.compile(rf"({'|'.join(map(re.escape, stacks))})\.(\d+)\.")
    numbers, before = {}, True
    for name, _ in model.named_parameters():
        found = block.match(name)
        before = before and found is None
        numbers[name] = stacks[found[1]] + int(found[2]) if found else 0 if before else last + 1
    return numbers


def layer_decay_groups(
    model: nn.Module, weight_decay: float, learning_rate: float, layer_decay: float = 1.0, head_factor: float = 1.0
) -> list[dict[str, Any]]:
    """Groups whose learning rate decreases from the head to the embeddings (sigma.md, section 7.2).

    Layer i of L blocks has the rate `learning_rate * layer_decay ** (L + 1 - i)`, see `layer_numbers`. A model without
    a list of blocks gets one rate for all, with a warning.

    Args:
        model: the model; frozen parameters are excluded.
        weight_decay: decay of matrices, see `is_decayed`.
        learning_rate: rate after the blocks.
        layer_decay: factor from one layer to the one before it, in (0, 1].
        head_factor: further factor for the classifier, see `is_head` (structured_noise_masking.md, section 8).

    Returns:
        Groups for an optimiser, the head's first, each with `lr`, `lr_scale`, `weight_decay` and `layer`.

    Raises:
        ValueError: if `layer_decay` or `head_factor` is out of range or nothing is trained.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 1), nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)]), nn.Linear(1, 1))
        >>> [group["lr_scale"] for group in layer_decay_groups(model, 0.05, 1.0, layer_decay=0.5)[::2]]
        [1.0, 0.5, 0.25, 0.125]
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must lie in (0, 1], got {layer_decay}")
    if not 0 < head_factor < math.inf:
        raise ValueError(f"head_factor must be positive, got {head_factor}")
    blocks, numbers = find_blocks(model), layer_numbers(model)
    if blocks is None and layer_decay != 1:
        logger.warning(
            "%s has no list of blocks: layer_decay=%g is not used, all layers learn at the same rate",
            type(model).__name__,
            layer_decay,
        )
    groups: dict[tuple[bool, int, bool], dict[str, Any]] = {}
    last = 0 if blocks is None else blocks[1] + 1
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        number, decayed = 0 if numbers is None else numbers[name], is_decayed(name, parameter)
        raised = head_factor != 1 and is_head(name)
        scale = layer_decay ** (last - number) * (head_factor if raised else 1)
        group = {"lr": learning_rate * scale, "lr_scale": scale, "weight_decay": weight_decay if decayed else 0.0}
        key = (not raised, -number, not decayed)
        groups.setdefault(key, {"params": [], "layer": number, **group})["params"].append(parameter)
    if not groups:
        raise ValueError("no parameter of the model is trained; freeze less")
    return [groups[key] for key in sorted(groups)]


def freeze_backbone(model: nn.Module, trained: Sequence[str] = ("head", "fc_norm", "classifier", "pooler")) -> None:
    """Train only the parameters whose name contains one of these words: the linear probe (sigma.md, section 7.3).

    The model's mode does not change: in training mode the frozen backbone keeps its stochastic depth, as in the
    official recipe.

    Args:
        model: a classifier.
        trained: parts of names.

    Raises:
        ValueError: if no parameter has such a name.

    Example:
        >>> model = nn.ModuleDict({"backbone": nn.Linear(1, 1), "fc_norm": nn.LayerNorm(1)})
        >>> freeze_backbone(model)
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['fc_norm.weight', 'fc_norm.bias']
    """
    chosen = [any(word in name for word in trained) for name, _ in model.named_parameters()]
    if not any(chosen):
        raise ValueError(f"no parameter's name contains any of {list(trained)}; say what the head is called")
    for parameter, train in zip(model.parameters(), chosen, strict=True):
        parameter.requires_grad_(train)


def freeze_layers(model: nn.Module, count: int) -> None:
    """Freeze the embeddings and the first blocks of a model.

    Args:
        model: a transformer.
        count: blocks to freeze besides the embeddings, at least 0.

    Raises:
        ValueError: if the model has no list of blocks, or fewer blocks.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 1), nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)]))
        >>> freeze_layers(model, 1)
        >>> [parameter.requires_grad for parameter in model.parameters()]
        [False, False, False, False, True, True]
    """
    blocks, numbers = find_blocks(model), layer_numbers(model)
    depth = 0 if blocks is None else blocks[1]
    if numbers is None or not 0 <= count <= depth:
        raise ValueError(f"{count} blocks of {type(model).__name__} cannot be frozen: it has {depth}")
    for name, parameter in model.named_parameters():
        if numbers[name] <= count:
            parameter.requires_grad_(False)
