"""Recipes: one YAML file is one run, and any field of it can be overridden on the command line."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from transformers import AutoConfig, PreTrainedConfig


class RecipeError(ValueError):
    """A recipe or an override has an unknown field or a value of the wrong type."""


@dataclass
class ModelSection:
    """What is trained.

    Attributes:
        model_type: a model type of this package, e.g. `sigma`.
        config: fields of the model's configuration that differ from its defaults.
        init_from: a folder or Hub id whose weights training starts from; None starts from random weights.
        teacher_cache: folder in which a frozen teacher's features are kept, for data whose clips are the same in every
            epoch; None computes them anew.
    """

    model_type: str
    config: dict[str, Any] = field(default_factory=dict)
    init_from: str | None = None
    teacher_cache: str | None = None

    def build_config(self) -> PreTrainedConfig:
        """The model's configuration.

        Raises:
            RecipeError: if `config` has a field that the configuration does not have.
        """
        config_class = type(AutoConfig.for_model(self.model_type))
        known = {entry.name for entry in dataclasses.fields(config_class)}
        for name in self.config:
            check_known_field(f"model.config.{name}", name, known)
        return config_class(**self.config)


@dataclass
class DataSection:
    """Where clips come from and how they are cut.

    What is said of frames, crops and flips does not concern networks that only hear: those take one random stretch of
    each sound, as long as their spectrogram. With frames, the sound around them is taken.

    Attributes:
        path: a folder or glob of Parquet or tar shards, or a Hub data set id.
        split: the split to train on.
        name: configuration of a Hub data set.
        sampling: which frames make a clip: `dense` are `stride` apart, `jittered` up to that far, at a stride drawn for
            each clip, see `tubelets.data.modalities.frame_sampling`.
        stride: distance between the frames of a clip, in video frames; the largest one of `jittered`.
        clips_per_video: clips drawn from one decoding of a video; an epoch counts that many times as often.
        crop: `multi_scale`, or `stretched`: resized without keeping the shape, then cropped.
        crop_scales: shares of the short side for the multi-scale crop.
        horizontal_flip: probability that a clip is mirrored.
        shuffle_window: encoded videos that are shuffled together.
        split_by: how samples are divided among processes and workers: `auto`, `shards` or `samples`.
        num_workers: decoding processes for each training process.
        on_bad_sample: `skip` and report an unreadable video, or `raise`.
        backend: video decoder: `auto`, `pyav` or `torchcodec`.
        samples_per_epoch: videos in an epoch, where the source does not tell.
    """

    path: str
    split: str = "train"
    name: str | None = None
    sampling: Literal["dense", "jittered"] = "dense"
    stride: int = 4
    clips_per_video: int = 1
    crop: Literal["multi_scale", "stretched"] = "multi_scale"
    crop_scales: list[float] = field(default_factory=lambda: [1.0, 0.875, 0.75, 0.66])
    horizontal_flip: float = 0.0
    shuffle_window: int = 256
    split_by: Literal["auto", "shards", "samples"] = "auto"
    num_workers: int = 8
    on_bad_sample: Literal["skip", "raise"] = "skip"
    backend: Literal["auto", "pyav", "torchcodec"] = "auto"
    samples_per_epoch: int | None = None


@dataclass
class OptimizationSection:
    """How it is trained.

    Attributes:
        epochs: passes over the data; ignored when `max_steps` is set.
        global_batch_size: clips in an optimiser step, over all processes and accumulated batches.
        max_steps: optimiser steps of the whole run, warm-up and decay included.
        schedule_epochs: epochs that the cosine is planned over, when the run is to stop before its end; None plans it
            over the run.
        base_learning_rate: learning rate for `learning_rate_batch_size` clips; the actual one grows with the batch.
        base_min_learning_rate: what the cosine ends at, scaled likewise.
        learning_rate_batch_size: batch size the base rates are meant for.
        warmup_epochs: epochs in which the rate rises linearly from 0.
        schedule_by: the rate changes with every `step`, or once an `epoch`.
        optimizer: `adamw`, or `sgd` with momentum, whose weight decay is not decoupled.
        momentum: of SGD.
        weight_decay: decay of what `decayed` names.
        decayed: `matrices`, so that vectors, biases and mask tokens have none, or `all` parameters.
        betas: AdamW's decay rates of the two moments.
        eps: AdamW's epsilon.
        max_gradient_norm: gradients are clipped to this norm; None never clips.
    """

    epochs: int = 800
    global_batch_size: int = 640
    max_steps: int | None = None
    schedule_epochs: int | None = None
    base_learning_rate: float = 1.5e-4
    base_min_learning_rate: float = 1.0e-5
    learning_rate_batch_size: int = 256
    warmup_epochs: float = 40.0
    schedule_by: Literal["step", "epoch"] = "step"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.05
    decayed: Literal["matrices", "all"] = "matrices"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    eps: float = 1.0e-8
    max_gradient_norm: float | None = None


@dataclass
class RunSection:
    """Where and how the run takes place; changing it does not change what is learned, save for the seed.

    Attributes:
        output_dir: folder for checkpoints, the log and the final model.
        seed: seed of initial weights, data order, crops and masks.
        batch_size: clips in a batch of one process; the global batch is reached by accumulating gradients.
        precision: `fp32`, `bf16` or `fp16` (autocast).
        compile: compile the model with `torch.compile`.
        sync_batch_norm: batch norm takes its statistics from all processes; needs GPUs.
        activation_checkpointing: recompute activations in the backward pass to save memory.
        logging_steps: optimiser steps between two lines of the log.
        save_steps: optimiser steps between two checkpoints.
        keep_checkpoints: newest checkpoints that are kept.
        resume: `auto` continues from the newest checkpoint in `output_dir`, `never` refuses a folder that has one, and
            anything else is the path of a checkpoint.
        trackers: names of accelerate trackers, e.g. `tensorboard`, `trackio`, `wandb`.
        project: project name for trackers.
    """

    output_dir: str
    seed: int = 0
    batch_size: int = 8
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    compile: bool = False
    sync_batch_norm: bool = False
    activation_checkpointing: bool = False
    logging_steps: int = 20
    save_steps: int = 1000
    keep_checkpoints: int = 2
    resume: str = "auto"
    trackers: list[str] = field(default_factory=list)
    project: str = "tubelets"


@dataclass
class EvaluationSection:
    """Frozen features measured during pretraining, on labelled shards; it changes nothing in what is learned.

    Attributes:
        path: folder of labelled shards, or a Hub data set; None switches it off.
        train_split: split that neighbours and probe learn from.
        test_split: split that is scored.
        every_steps: optimiser steps between two evaluations; there is one after the last step, too.
        sampling: which frames, see `tubelets.data.stream.clip_stream.ClipSpec`: `dense_test` or `uniform`.
        stride: distance between the frames of a dense clip, in video frames.
        k: neighbours of the weighted kNN classifier.
        linear_probe: fit a linear probe, too.
        batch_size: clips in a forward pass.
        num_workers: decoding processes.
    """

    path: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    every_steps: int = 1000
    sampling: Literal["dense_test", "uniform"] = "dense_test"
    stride: int = 4
    k: int = 200
    linear_probe: bool = True
    batch_size: int = 32
    num_workers: int = 2


@dataclass
class Recipe:
    """A pretraining run.

    Attributes:
        model: what is trained.
        data: where clips come from.
        optimization: how it is trained.
        run: where and how the run takes place.
        evaluation: what is measured meanwhile.
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
        Path(path).write_text(yaml.safe_dump(self.to_dict(), sort_keys=False), encoding="utf-8")


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        path: the YAML file.
        overrides: command-line words such as `--data.path shards --model.config.mask_ratio=0.75`; values are YAML.

    Returns:
        The checked recipe.

    Raises:
        FileNotFoundError: if there is no such file.
        RecipeError: if a field is unknown, missing, or of the wrong type.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no recipe at {path}; the package's own are in training/recipes")
    content = read_yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(content, dict):
        raise RecipeError(f"{path} must hold the sections model, data, optimization, run and, if wanted, evaluation")
    for name, value in parse_overrides(overrides).items():
        *sections, leaf = name.split(".")
        target = content
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise RecipeError(f"--{name}: {section!r} is a value, not a section")
        target[leaf] = value
    return _build(Recipe, content, "")


def read_yaml(text: str, where: str) -> Any:
    """Read YAML of plain values; tags, which could name Python objects, are refused.

    Args:
        text: the YAML.
        where: what an error message calls it.

    Returns:
        Mappings, lists and plain values.

    Raises:
        RecipeError: if it is no YAML, or has tags.

    Example:
        >>> read_yaml("!!python/object/apply:os.system [ls]", "--run.seed")
        Traceback (most recent call last):
        ...
        tubelets.training.recipe.RecipeError: --run.seed is not YAML of plain values (could not determine ...
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where} is not YAML of plain values ({error})") from error


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Turn `--section.field value` and `--section.field=value` into a mapping.

    Args:
        words: words of a command line.

    Returns:
        Dotted names to values, read as YAML.

    Raises:
        RecipeError: if a word is neither.

    Example:
        >>> parse_overrides(["--run.seed", "3", "--run.trackers=[tensorboard]"])
        {'run.seed': 3, 'run.trackers': ['tensorboard']}
    """
    result, remaining = {}, list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--") or "." not in word:
            raise RecipeError(f"expected an override such as --run.seed 3, got {word!r}")
        name, separator, value = word[2:].partition("=")
        if not separator:
            if not remaining:
                raise RecipeError(f"--{name} needs a value")
            value = remaining.pop(0)
        result[name] = read_yaml(value, f"--{name}")
    return result


def check_known_field(where: str, name: str, known: set[str]) -> None:
    """Refuse an unknown field.

    Args:
        where: its full dotted name, for the message.
        name: its name.
        known: the names that exist.

    Raises:
        RecipeError: with the nearest known name, if it is not known.
    """
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(sorted(known))}"
        raise RecipeError(f"unknown field {where}; {hint}")


def _build(cls: Any, content: Any, where: str) -> Any:
    if not isinstance(content, Mapping):
        raise RecipeError(f"{where or 'a recipe'} must be a mapping of fields, got {content!r}")
    hints, fields = typing.get_type_hints(cls), {entry.name: entry for entry in dataclasses.fields(cls)}
    for name in content:
        check_known_field(f"{where}{name}", name, set(fields))
    values = {name: _convert(hints[name], value, f"{where}{name}") for name, value in content.items()}
    for name, entry in fields.items():
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and values.get(name) is None:
            raise RecipeError(f"{where}{name} is missing; set it in the recipe or with --{where}{name} VALUE")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{where}.")
    if value is None and where in ("data.path", "run.output_dir"):
        return None  # reported as missing, with the way to set it
    if not fits_type(hint, value):
        exponent = " (YAML reads 1e-3 as text: write 1.0e-3)" if isinstance(value, str) and "e" in value.lower() else ""
        raise RecipeError(f"{where} must be {describe_type(hint)}, got {value!r}{exponent}")
    return float(value) if hint is float else value


def fits_type(hint: Any, value: Any) -> bool:
    """Whether a value read from YAML has the type that a dataclass field asks for.

    Args:
        hint: a class, a union, a `Literal`, or a list or dict of those.
        value: a plain YAML value; an integer fits where a float is asked for, a bool only where a bool is.

    Example:
        >>> fits_type(float | None, 3), fits_type(int, True), fits_type(list[str], ["a", 1])
        (True, False, False)
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(fits_type(option, value) for option in arguments)
    if origin is Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(fits_type(arguments[0], entry) for entry in value)
    if origin is dict:
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def describe_type(hint: Any) -> str:
    """A type in the words of an error message.

    Example:
        >>> describe_type(Literal["a", "b"]), describe_type(int)
        ("one of 'a', 'b'", 'int')
    """
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    return getattr(hint, "__name__", str(hint)) if typing.get_origin(hint) is None else str(hint)
