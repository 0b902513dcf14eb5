"""Arguments of the fine-tuning scripts: three dataclasses, read from the command line and from a YAML or JSON file."""

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from transformers import HfArgumentParser, TrainingArguments

from tubelets.data.transforms.augmentations import RandAugment
from tubelets.data.transforms.sound import SoundAugmentation
from tubelets.training.recipe import RecipeError, check_known_field, describe_type, fits_type


def _field(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class ModelArguments:
    """Which classifier is trained; the fields are explained by their help texts."""

    model_name_or_path: str | None = _field(None, "Folder or Hub id whose weights training starts from.")
    model_type: str | None = _field(None, "Model type that is trained from random weights, e.g. sigma.")
    model_revision: str = _field("main", "Branch, tag or commit of a model on the Hub.")
    token: str | None = _field(None, "Access token of a private model or data set on the Hub.")
    config_overrides: dict | str | None = field(
        default=None,
        metadata={
            "help": "Fields of the model's configuration to change, e.g. drop_path_rate; JSON on the command line."
        },
    )
    freeze_backbone: bool = _field(False, "Linear probe: train only parameters named by `trained_parts`.")
    trained_parts: list[str] = field(
        default_factory=lambda: ["head", "fc_norm", "classifier", "pooler"],
        metadata={"help": "Parts of the names of the parameters that a linear probe trains."},
    )
    freeze_layers: int | None = _field(None, "Freeze the embeddings and this many blocks.")

    def __post_init__(self) -> None:
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
            raise ValueError("freeze_backbone freezes all layers; leave out freeze_layers")


@dataclass
class LabelledDataArguments:
    """Which labelled clips, of whatever kind; the data arguments of each script add what becomes of a clip."""

    dataset_name: str | None = _field(None, "Folder or glob of Parquet or tar shards, or a Hub data set id.")
    dataset_config_name: str | None = _field(None, "Configuration of a Hub data set.")
    train_split: str = _field("train", "Split of the data set to train on.")
    validation_split: str = _field("validation", "Split that is scored during training.")
    test_split: str | None = _field(None, "Split of the final test; by default the validation split.")
    train_dir: str | None = _field(None, "Instead of a data set: folder of class folders, or a csv or list of files.")
    validation_dir: str | None = _field(None, "As train_dir, scored during training.")
    test_dir: str | None = _field(None, "As train_dir, for the final test; by default the validation files.")
    class_names: str | None = _field(None, "File with one class name a line; by default the data set tells.")
    multi_label: bool = _field(False, "Clips have any number of classes; in lists they are separated by ';'.")
    shots_per_class: int | None = _field(None, "Learn from so many clips of each class, drawn from the training part.")
    shots_seed: int = _field(0, "Seed of that draw; more shots with the same seed contain the fewer.")
    mixup: float = _field(0.0, "Parameter of mixup; 0 turns it off.")
    mix_probability: float = _field(1.0, "Share of the batches that are mixed.")
    shuffle_window: int = _field(256, "Encoded clips of shards that are shuffled together.")
    split_by: Literal["auto", "shards", "samples"] = _field(
        "samples", "How workers share shards; only samples makes batches independent of the number of workers."
    )
    on_bad_sample: Literal["skip", "raise"] = _field("skip", "What an unreadable clip does; skipped ones are counted.")
    backend: Literal["auto", "pyav", "torchcodec"] = _field("auto", "Decoder of frames.")
    samples_per_epoch: int | None = _field(None, "Clips in an epoch, where the data set does not tell.")

    def __post_init__(self) -> None:
        if (self.dataset_name is None) == (self.train_dir is None and self.validation_dir is None):
            raise ValueError(
                "give either dataset_name (shards or a Hub data set) or train_dir and validation_dir (files), "
                f"got dataset_name={self.dataset_name!r}, train_dir={self.train_dir!r}, "
                f"validation_dir={self.validation_dir!r}"
            )


@dataclass
class DataArguments(LabelledDataArguments):
    """Which videos, which clips of them, and how they are augmented (sigma.md, section 7.2)."""

    train_sampling: Literal["dense", "finetune", "segment", "uniform"] = _field(
        "finetune", "Frames of a training clip: finetune (Kinetics) or segment (Something-Something)."
    )
    test_sampling: Literal["dense_test", "segment_test", "uniform"] = _field(
        "dense_test", "Frames of the test clips: dense_test (Kinetics) or segment_test (Something-Something)."
    )
    stride: int = _field(4, "Distance between the frames of a clip; segment and uniform sampling do not use it.")
    test_clips: int = _field(5, "Clips of a video in the final test; validation during training uses one.")
    test_crops: int = _field(3, "Crops of a test clip, 1 or 3; validation during training uses one.")
    test_short_side: int | None = _field(None, "Shorter side before the central test crop; by default the crop's side.")
    repeated_augmentation: int = _field(1, "Times a clip is augmented in the same batch; batch sizes count videos.")
    random_augment: str | None = _field("rand-m7-n4-mstd0.5-inc1", "RandAugment; an empty word turns it off.")
    crop_scale: list[float] = field(
        default_factory=lambda: [0.25, 1.0], metadata={"help": "Bounds of the crop's share of the frame."}
    )
    color_jitter: list[float] | None = field(
        default=None, metadata={"help": "Largest changes of brightness, contrast, saturation and hue; none by default."}
    )
    horizontal_flip: float = _field(0.5, "Probability of mirroring; 0 where left and right are labels.")
    random_erasing: float = _field(0.25, "Probability of erasing a box.")
    mixup: float = _field(0.8, "Parameter of mixup; 0 turns it off.")
    cutmix: float = _field(1.0, "Parameter of cutmix; 0 turns it off.")
    cutmix_share: float = _field(0.5, "Share of the mixed batches that get cutmix, where both are on.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.random_augment:
            RandAugment.parse(self.random_augment)
        else:
            self.random_augment = None
        if len(self.crop_scale) != 2:
            raise ValueError(f"crop_scale must be two numbers, low and high, got {self.crop_scale}")
        if self.color_jitter is not None and len(self.color_jitter) != 4:
            raise ValueError(
                f"color_jitter must be four numbers (brightness, contrast, saturation, hue), got {self.color_jitter}"
            )
        if self.repeated_augmentation < 1:
            raise ValueError(f"repeated_augmentation must be at least 1, got {self.repeated_augmentation}")


@dataclass
class AudioDataArguments(LabelledDataArguments):
    """Which sounds, or videos with sound, and how they are augmented (structured_noise_masking.md, section 8).

    A training clip is a random stretch of its sound, a test clip the middle. What is said of frames concerns networks
    that see.
    """

    roll: Literal["waveform", "spectrogram", "none"] = _field(
        "waveform", "What is rolled in time by a random amount in training."
    )
    gain: int = _field(10, "c of the factor Beta(c, c) + 0.5 on training sounds; 0 leaves them as loud as they are.")
    noise: float = _field(0.0, "Largest amplitude of uniform noise on training spectrograms.")
    time_mask: int = _field(0, "Widest stretch of time, in frames of the spectrogram, that is blanked in training.")
    frequency_mask: int = _field(0, "Widest band, in mel bins, that is blanked in training.")
    class_balanced: bool = _field(
        False, "Draw training clips with replacement, those of rare classes more often; from local Parquet or files."
    )
    stride: int = _field(1, "Distance between the frames of a clip.")
    test_clips: int = _field(1, "Clips of a video in the final test, spread over it; a sound alone has one.")

    def __post_init__(self) -> None:
        super().__post_init__()
        SoundAugmentation(self.roll, self.gain, self.noise, self.time_mask, self.frequency_mask)
        if self.class_balanced and self.shots_per_class is not None:
            raise ValueError("shots_per_class already takes as many clips of each class; leave out class_balanced")


@dataclass
class FinetuningArguments(TrainingArguments):
    """`transformers.TrainingArguments` with the defaults of the paper, and what it does not have.

    The effective rates are `base_learning_rate` and `base_min_learning_rate` times videos a step over
    `learning_rate_batch_size`; `learning_rate` holds the first of them afterwards. The schedule is a warm-up from 0 and
    a cosine (`tubelets.training.optimization.Schedule`), or falls at milestones (`StepSchedule`).
    """

    num_train_epochs: float = _field(100.0, "Passes over the data.")
    weight_decay: float = _field(0.05, "Decoupled weight decay of matrices.")
    max_grad_norm: float = _field(0.0, "Gradients are clipped to this norm; 0 never clips.")
    label_smoothing_factor: float = _field(0.1, "Label smoothing; 0 for multi-label problems.")
    remove_unused_columns: bool = _field(False, "Not used: batches are made for the model.")
    logging_nan_inf_filter: bool = _field(False, "Not used: a loss that is not finite stops the run.")
    ignore_data_skip: bool = _field(True, "Not used: the data stream continues where it was.")
    save_total_limit: int | None = _field(2, "Newest checkpoints that are kept.")
    seed: int = _field(0, "Seed of initial weights, data order and augmentations.")
    base_learning_rate: float | None = _field(None, "Learning rate for `learning_rate_batch_size` videos a step.")
    base_min_learning_rate: float = _field(1e-6, "What the cosine ends at, for as many videos.")
    learning_rate_batch_size: int = _field(256, "Videos a step that the base rates are meant for.")
    global_batch_size: int | None = _field(None, "Videos a step over all processes; sets the accumulation.")
    warmup_epochs: float = _field(5.0, "Epochs in which the rate rises linearly from 0.")
    milestones: list[int] | None = field(
        default=None, metadata={"help": "Epochs after which milestone_factor multiplies the rate, instead of a cosine."}
    )
    milestone_factor: float = _field(0.3, "Factor on the rate at each milestone.")
    layer_decay: float = _field(0.75, "Factor on the learning rate from one layer to the one below it.")
    head_factor: float = _field(1.0, "Further factor on the learning rate of the classifier's head.")
    average_epochs: list[int] | None = field(
        default=None,
        metadata={"help": "First and last epoch whose weights are averaged after training; keep those checkpoints."},
    )
    early_stopping_patience: int | None = _field(None, "Stop after so many validations without improvement.")

    def __post_init__(self) -> None:
        """Resolve batch size, accumulation and learning rates."""
        given_rate = self.learning_rate
        super().__post_init__()
        if self.n_gpu > 1:
            raise ValueError(f"one process sees {self.n_gpu} GPUs; start one process a GPU with torchrun")
        if self.milestones is not None and self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones must be ascending epochs, got {self.milestones}")
        self._check_averaging()
        for name in ("learning_rate", "learning_rate_batch_size", "base_learning_rate", "head_factor"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
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
            # Otherwise an interrupted run would count its patience anew.
            self.restore_callback_states_from_checkpoint = True
        for name in ("lr_scheduler_type", "warmup_steps"):
            if getattr(self, name) != TrainingArguments.__dataclass_fields__[name].default:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not used; set warmup_epochs, base rates, epochs or milestones"
                )

    def _check_averaging(self) -> None:
        """Refuse to average checkpoints that are not written, or not kept."""
        if self.average_epochs is None:
            return
        first, last = self.average_epochs if len(self.average_epochs) == 2 else (0, 0)
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
        """What the cosine ends at, for the head."""
        return self.base_min_learning_rate * self.learning_rate_scale


Data = TypeVar("Data", bound=LabelledDataArguments)


def parse_finetuning_arguments(
    words: Sequence[str],
    data_class: type[Data] = DataArguments,  # type: ignore[assignment]
) -> tuple[ModelArguments, Data, FinetuningArguments]:
    """Read the command line of a fine-tuning script.

    Args:
        words: a YAML or JSON file of arguments and then flags that override them, or flags alone.
        data_class: the data arguments of the script.

    Returns:
        The three groups of arguments.

    Raises:
        FileNotFoundError: if there is no such file.
        RecipeError: if the file has an unknown field or a value of the wrong type.
        ValueError: if arguments contradict each other.

    Example:
        >>> words = ["--model_type", "sigma", "--train_dir", "videos", "--output_dir", "runs/x", "--mixup", "0"]
        >>> parse_finetuning_arguments(words)[1].mixup
        0.0
    """
    classes = (ModelArguments, data_class, FinetuningArguments)
    parser = HfArgumentParser(classes)  # type: ignore[arg-type]
    words = list(words)
    if words and not words[0].startswith("-"):
        content = _read_file(Path(words.pop(0)))
        _check_types(content, classes)
        parser.set_defaults(**content)
        for action in parser._actions:
            action.required = action.required and action.dest not in content
    return parser.parse_args_into_dataclasses(words, look_for_args_file=False)  # type: ignore[return-value]


def run_arguments(
    model: ModelArguments, data: LabelledDataArguments, args: FinetuningArguments
) -> dict[str, dict[str, Any]]:
    """All arguments of a run as plain containers, without tokens; what they resolved to included.

    Args:
        model: which classifier.
        data: which clips.
        args: how it is trained.

    Returns:
        Groups `model`, `data` and `training`.
    """
    training = {name: value for name, value in args.to_dict().items() if not name.endswith("token")}
    resolved = {"videos_per_step": args.videos_per_step, "min_learning_rate": args.min_learning_rate}
    return {
        "model": {name: value for name, value in vars(model).items() if name != "token"},
        "data": dict(vars(data)),
        "training": {**training, **resolved},
    }


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no file of arguments at {path}; the package's own are in training/recipes")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, Mapping):
        raise RecipeError(f"{path} must be a mapping of arguments")
    return dict(content)


def _check_types(content: Mapping[str, Any], classes: Sequence[Any]) -> None:
    hints: dict[str, Any] = {}
    for cls in classes:
        known = {entry.name for entry in dataclasses.fields(cls)}
        hints |= {name: hint for name, hint in typing.get_type_hints(cls).items() if name in known}
    for name, value in content.items():
        check_known_field(name, name, set(hints))
        if not fits_type(hints[name], value):
            text = (
                isinstance(value, str)
                and "e" in value.lower()
                and float in (hints[name], *typing.get_args(hints[name]))
            )
            exponent = " (YAML reads 1e-3 as text: write 1.0e-3)" if text else ""
            raise RecipeError(f"{name} must be {describe_type(hints[name])}, got {value!r}{exponent}")
