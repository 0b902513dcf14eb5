"""Recipes: one YAML file is one run, and any field of it can be overridden on the command line."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import yaml
from docstring_parser import parse

from tubelets import shipped
from tubelets.data.atomic import write_atomically
from tubelets.ranges import (
    Count,
    Decay,
    Fraction,
    Natural,
    NotNegative,
    Positive,
    RangeError,
    Seed,
    Share,
    Workers,
    check_length,
    check_ranges,
)
from tubelets.training.command_line import Section, dataclass_fields, render_sections, unified
from tubelets.training.parsing import RecipeError, check_known_field, explain, read_mapping, recipe_parser

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass
class ModelSection:
    """The model to train.

    Attributes:
        model_type: a model type of this package, e.g. `sigma`.
        config: fields of the model's configuration that differ from its defaults.
        init_from: a folder or Hub id whose weights training starts from; None starts from random weights.
        teacher_cache: folder that caches a frozen teacher's features, for data whose clips are the same in every epoch;
            None computes them in every epoch.
    """

    model_type: str
    config: dict[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    teacher_cache: str | None = None

    def build_config(self) -> "PreTrainedConfig":
        """The model's configuration.

        Raises:
            RecipeError: if `config` has a field that the configuration does not have.
        """
        # Imported here, because the fields of a recipe are shown without it in no time.
        from transformers import AutoConfig

        config_class = type(AutoConfig.for_model(self.model_type))
        known = {entry.name for entry in dataclasses.fields(config_class)}
        for name in self.config:
            check_known_field(f"model.config.{name}", name, known)
        return config_class(**self.config)


@dataclass
class DataSection:
    """Training data, clip sampling and cropping.

    Fields about frames, crops and flips do not apply to audio models, which read one random excerpt of each sound, as
    long as their spectrogram. Audio-visual models read the sound around the frames.

    Attributes:
        path: a folder or glob of shards, a folder of files or class folders, a csv or list of files, or a Hub data set
            id.
        split: the split to train on.
        name: configuration of a Hub data set.
        sampling: which frames make a clip: `dense` are `stride` apart, `jittered` up to that far, at a stride drawn for
            each clip, `interval` are one of each of as many equal parts of the video, see
            `tubelets.data.modalities.frame_sampling` and `interval_sampling`.
        stride: distance between the frames of a clip, in video frames; the largest one of `jittered`.
        clips_per_video: clips drawn each time a video is decoded; an epoch has that many clips per video.
        crop: `multi_scale`; `stretched`: resized without keeping the shape, then cropped; or `random_resized`: of a
            random area and shape.
        crop_scales: shares of the short side for the multi-scale crop; the smallest and the largest share of the area
            for the random one.
        horizontal_flip: probability that a clip is mirrored.
        shuffle_window: encoded videos that are shuffled together.
        split_by: how samples are divided among processes and workers: `auto`, `shards` or `samples`.
        num_workers: decoding processes for each training process. Where they divide shards (`split_by`), their number
            changes the order of the clips, and a run resumes with the same number; with `samples` it changes nothing.
        on_bad_sample: `skip` and report an unreadable video, or `raise` an error.
        backend: video decoder: `auto`, `pyav` or `torchcodec`.
        samples_per_epoch: videos per epoch, if the source does not state its length.
    """

    path: str
    split: str = "train"
    name: str | None = None
    sampling: Literal["dense", "jittered", "interval"] = "dense"
    stride: Count = 4
    clips_per_video: Count = 1
    crop: Literal["multi_scale", "stretched", "random_resized"] = "multi_scale"
    crop_scales: list[Share] = field(default_factory=lambda: [1.0, 0.875, 0.75, 0.66])
    horizontal_flip: Fraction = 0.0
    shuffle_window: Natural = 256
    split_by: Literal["auto", "shards", "samples"] = "auto"
    num_workers: Workers = 8
    on_bad_sample: Literal["skip", "raise"] = "skip"
    backend: Literal["auto", "pyav", "torchcodec"] = "auto"
    samples_per_epoch: Count | None = None

    def __post_init__(self) -> None:
        check_ranges(self, "data.")
        if not self.crop_scales:
            raise RangeError("data.crop_scales must list at least one share of the short side, got []")
        if self.crop == "random_resized":
            check_length("data.crop_scales", self.crop_scales, 2, "shares of the area")


@dataclass
class OptimizationSection:
    """Optimisation and schedules.

    Attributes:
        epochs: passes over the data; ignored when `max_steps` is set.
        global_batch_size: clips in an optimiser step, over all processes and accumulated batches.
        max_steps: optimiser steps of the whole run, warm-up and decay included.
        schedule_epochs: length of the cosine in epochs, if the run stops before its end; None is the length of the run.
        base_learning_rate: learning rate for `learning_rate_batch_size` clips; the actual one grows with the batch.
        base_min_learning_rate: final rate of the cosine, scaled likewise.
        learning_rate_batch_size: batch size the base rates are meant for.
        warmup_epochs: epochs in which the rate rises linearly from 0.
        schedule_by: the rate changes with every `step`, or once an `epoch`.
        milestones: epochs after which the rate falls by `milestone_factor`, instead of along a cosine.
        milestone_factor: multiplies the rate at each milestone.
        optimizer: `adamw`, or `sgd` with momentum, whose weight decay is not decoupled.
        momentum: of SGD.
        weight_decay: decay of what `decayed` names.
        decayed: `matrices` (no decay of vectors, biases and mask tokens) or `all` parameters.
        betas: AdamW's decay rates of the two moments.
        eps: AdamW's epsilon.
        max_gradient_norm: gradients are clipped to this norm; None never clips.
    """

    epochs: Count = 800
    global_batch_size: Count = 640
    max_steps: Count | None = None
    schedule_epochs: Count | None = None
    base_learning_rate: Positive = 1.5e-4
    base_min_learning_rate: NotNegative = 1.0e-5
    learning_rate_batch_size: Count = 256
    warmup_epochs: NotNegative = 40.0
    schedule_by: Literal["step", "epoch"] = "step"
    milestones: list[NotNegative] = field(default_factory=list)
    milestone_factor: Share = 0.1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: Decay = 0.9
    weight_decay: NotNegative = 0.05
    decayed: Literal["matrices", "all"] = "matrices"
    betas: list[Decay] = field(default_factory=lambda: [0.9, 0.95])
    eps: Positive = 1.0e-8
    max_gradient_norm: Positive | None = None

    def __post_init__(self) -> None:
        check_ranges(self, "optimization.")
        check_length("optimization.betas", self.betas, 2, "decay rates of the two moments")
        planned = self.epochs if self.schedule_epochs is None else self.schedule_epochs
        # With max_steps the length in epochs depends on the data, see `plan_run`.
        if self.max_steps is None and self.warmup_epochs > planned:
            raise RangeError(
                f"optimization.warmup_epochs must be at most the {planned} epochs of the schedule, got "
                f"{self.warmup_epochs:g}; shorten the warm-up, or train longer"
            )


@dataclass
class RunSection:
    """Execution of the run; apart from the seed, it does not affect what is learned, with the exceptions stated below.

    Attributes:
        output_dir: folder for checkpoints, the log and the final model.
        seed: seed of initial weights, data order, crops and masks.
        batch_size: clips in a batch of one process; the global batch is reached by accumulating gradients. It matters
            where clips meet within a batch: batch norm takes its statistics there, and Tubelet-Contrast its pairs, and
            it moves its queue after each; there, do not accumulate.
        precision: `fp32`, `bf16` or `fp16` (autocast); `auto` is `bf16` where the machine has instructions for it, and
            `fp32` elsewhere, see `tubelets.training.acceleration.choose_precision`. `fp32` keeps PyTorch's settings: on
            NVIDIA GPUs convolutions compute in TF32 (off with `torch.backends.cudnn.allow_tf32 = False`), matrix
            products in float32 (in TF32 with `torch.set_float32_matmul_precision("high")`).
        compile: compile the model with `torch.compile`: as a whole in one process, block by block in several.
        sync_batch_norm: compute the statistics of batch norm over all processes; needs GPUs.
        channels_last: keep the channels of a convolutional model last in memory, for GPUs; measure which is faster.
        augment_on: where a method pastes patches and changes colours: in the `workers`, or, if they cannot keep up, on
            the model's `device`. Seeds decide the same, and so does resuming; grey levels may differ by rounding.
        activation_checkpointing: recompute activations in the backward pass to save memory.
        logging_steps: optimiser steps between two lines of the log.
        save_steps: optimiser steps between two checkpoints.
        keep_checkpoints: newest checkpoints that are kept.
        resume: `auto` resumes from the newest checkpoint in `output_dir`, `never` refuses a folder that has one;
            anything else is the path of a checkpoint.
        extend: train longer than the checkpoint's recipe says (`--extend`): `optimization.epochs`, `max_steps` and
            `schedule_epochs` may be larger. From there on the learning rate is that of the longer schedule at the same
            step, so that a cosine that had ended rises again; with a `schedule_epochs` that both runs fit into it does
            not change, and the run equals one that was longer from the start.
        trackers: names of accelerate trackers, e.g. `tensorboard`, `trackio`, `wandb`.
        project: project name for trackers.
    """

    output_dir: str
    seed: Seed = 0
    batch_size: Count = 8
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    sync_batch_norm: bool = False
    channels_last: bool = False
    augment_on: Literal["workers", "device"] = "workers"
    activation_checkpointing: bool = False
    logging_steps: Count = 20
    save_steps: Count = 1000
    keep_checkpoints: Count = 2
    resume: str = "auto"
    extend: bool = False
    trackers: list[str] = field(default_factory=list)
    project: str = "tubelets"

    def __post_init__(self) -> None:
        check_ranges(self, "run.")


@dataclass
class EvaluationSection:
    """Evaluation of frozen features during pretraining, on labelled shards; it does not affect training.

    Attributes:
        path: labelled shards, class folders, a csv or list of files, or a Hub data set; None switches it off.
        train_split: split that neighbours and probe learn from.
        test_split: split that is scored.
        every_steps: optimiser steps between evaluations; the model is also evaluated after the last step.
        sampling: which frames, see `tubelets.data.stream.clip_stream.ClipSpec`: `dense_test` or `uniform`.
        stride: distance between the frames of a dense clip, in video frames.
        k: neighbours of the weighted kNN classifier.
        linear_probe: also fit a linear probe.
        batch_size: clips in a forward pass.
        num_workers: decoding processes.
    """

    path: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    every_steps: Count = 1000
    sampling: Literal["dense_test", "uniform"] = "dense_test"
    stride: Count = 4
    k: Count = 200
    linear_probe: bool = True
    batch_size: Count = 32
    num_workers: Workers = 2

    def __post_init__(self) -> None:
        check_ranges(self, "evaluation.")


@dataclass
class Recipe:
    """A pretraining run.

    Attributes:
        model: the model to train.
        data: training data.
        optimization: optimisation and schedules.
        run: execution of the run.
        evaluation: evaluation during training.
    """

    model: ModelSection
    data: DataSection
    optimization: OptimizationSection
    run: RunSection
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain containers, every default spelled out."""
        return dataclasses.asdict(self)

    def save(self, path: str | Path) -> None:
        """Write the resolved recipe as YAML."""
        text = yaml.safe_dump(self.to_dict(), sort_keys=False)
        write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        path: the YAML file, or the name of a recipe of the package such as `sigma_vit_b_k400`.
        overrides: command-line words such as `--data.path shards --model.config.mask_ratio=0.75`; values are YAML.
            `--output_dir` is short for `--run.output_dir`, `--extend` for `--run.extend=true`.

    Returns:
        The checked recipe.

    Raises:
        FileNotFoundError: if the file is not found.
        RecipeError: if a field is unknown, missing, of the wrong type, or a number out of its range.
    """
    from jsonargparse import ArgumentError

    path = shipped.resolve(path, "recipe")
    read_mapping(path, "recipe")
    overrides = [_in_full(word) for word in unified(overrides)]
    sections = get_type_hints(Recipe)
    known = [f"{name}.{entry.name}" for name, cls in sections.items() for entry in dataclasses.fields(cls)]
    parser = recipe_parser(sections)
    try:
        found = parser.instantiate(parser.parse_args(["--config", str(path), *overrides]))
    except ArgumentError as error:
        flags = f" with {' '.join(overrides)}" if overrides else ""
        raise RecipeError(f"{path}{flags}: {explain(error, known)}") from error
    except RangeError as error:
        raise RecipeError(f"{path}: {error}") from error
    return Recipe(**{name: found[name] for name in sections})


def _in_full(word: str) -> str:
    """The output folder has the same short name in every verb; `extend` is a switch."""
    if word == "--extend":
        return "--run.extend=true"
    return f"--run.{word[2:]}" if word.partition("=")[0] == "--output_dir" else word


def recipe_sections() -> list[Section]:
    """The sections of a recipe, for the help.

    Example:
        >>> [section.name for section in recipe_sections()]
        ['model', 'data', 'optimization', 'run', 'evaluation']
    """
    summaries = {each.arg_name: str(each.description).rstrip(".") for each in parse(str(Recipe.__doc__)).params}
    return [
        Section(name, summaries[name], lambda name=name, cls=cls: dataclass_fields(cls, f"{name}."))  # type: ignore[misc]
        for name, cls in get_type_hints(Recipe).items()
    ]


def recipe_help(section: str | None = None) -> str:
    """The sections of a recipe, or the fields of one with types, defaults and meaning.

    Args:
        section: name of a section, such as "optimization", or "all".

    Raises:
        ValueError: with the nearest name, if no section has that name.
    """
    return render_sections(recipe_sections(), section)
