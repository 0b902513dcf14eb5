"""How a model is trained and tested in an experiment: two presets (severe_benchmark.md, sections 2, 5 and 12).

`cnn-32x112` is the papers' protocol for R(2+1)D-18. `vit-16x224` is ours: the papers do not publish theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from tubelets.evaluation.severe.experiments import PresetName, SevereExperiment
from tubelets.models.backbones.convolutional.configuration_convolutional import ConvolutionalConfig


@dataclass(frozen=True)
class Schedule:
    """A training schedule of the common CNN protocol, in passes over the videos.

    Attributes:
        epochs: passes; one of the reference's epochs is several of them.
        milestones: passes after which the rate falls.
        learning_rate: of the batch below.
        batch_size: clips.
        weight_decay: coupled, as Adam has it.
        factor: the rate is multiplied by it at a milestone.
    """

    epochs: int
    milestones: tuple[int, ...]
    learning_rate: float = 1e-4
    batch_size: int = 32
    weight_decay: float = 0.0
    factor: float = 0.3


def _passes(times: int, epochs: int, milestones: Sequence[int], **rest: Any) -> Schedule:
    return Schedule(times * epochs, tuple(times * milestone for milestone in milestones), **rest)


CNN_FINETUNING: Mapping[str, Schedule] = {
    **dict.fromkeys(("ucf101", "hmdb51", "gym99", "gym288"), _passes(10, 16, (6, 10, 14))),
    **dict.fromkeys(("gym_vault", "gym_floor", "fx_s1", "ub_s1"), _passes(10, 18, (7, 12, 16))),
    "ssv2": _passes(2, 22, (12, 17, 20)),
    "ntu60": _passes(10, 18, (9, 14, 16), batch_size=64),
}
"""Full fine-tuning of a pretrained CNN, by data set."""

CNN_LINEAR: Mapping[str, Schedule] = {
    "ucf101": _passes(10, 10, (4, 8, 10), learning_rate=1e-2, batch_size=128),
    "ntu60": _passes(10, 12, (4, 8, 10), learning_rate=1e-2, batch_size=128),
    "gym99": _passes(10, 12, (4, 8, 10), learning_rate=1e-2, batch_size=64),
    "ssv2": _passes(1, 40, (20, 30), learning_rate=1e-2, batch_size=64),
    "kinetics400": _passes(1, 40, (10, 20, 30), learning_rate=1e-2, batch_size=64),
}
"""Linear probes; those of Gym-99 and Something-Something are recalled, not read in a configuration."""

SHORT_CLIPS = {("ntu60", "finetune"), ("ucf101", "linear"), ("ntu60", "linear"), ("kinetics400", "linear")}
"""Data sets and protocols whose clips have 16 frames instead of 32."""

VIT_FRAMES: Mapping[str, dict[str, Any]] = {
    "ssv2": {"num_train_epochs": 40, "train_sampling": "segment", "test_sampling": "segment_test", "test_clips": 2},
    **{name: {"stride": 2} for name in ("gym99", "gym288", "gym_vault", "gym_floor", "fx_s1", "ub_s1")},
}
"""What data sets change in the recipe of UCF-101 for transformers."""


def preset_of(config: PreTrainedConfig) -> PresetName:
    """The preset of a model: the papers' protocol for CNNs, ours for everything else.

    Example:
        >>> from tubelets import I3DConfig, SigmaConfig
        >>> preset_of(I3DConfig()), preset_of(SigmaConfig())
        ('cnn-32x112', 'vit-16x224')
    """
    return "cnn-32x112" if isinstance(config, ConvolutionalConfig) else "vit-16x224"


def finetuning_words(experiment: SevereExperiment, preset: PresetName) -> tuple[str, dict[str, Any]]:
    """Recipe of `tubelets finetune` for an experiment, and the fields that the experiment changes in it.

    Args:
        experiment: a classification experiment.
        preset: see `preset_of`.

    Returns:
        Name of a recipe, and field to value.

    Raises:
        ValueError: if the preset has no schedule for the experiment.

    Example:
        >>> from tubelets.evaluation.severe.experiments import EXPERIMENTS
        >>> recipe, fields = finetuning_words(EXPERIMENTS["fx-s1"], "cnn-32x112")
        >>> fields["num_train_epochs"], fields["milestones"]
        (180, [70, 120, 160])
    """
    words = _cnn_words if preset == "cnn-32x112" else _vit_words
    return words(experiment)


def _cnn_words(experiment: SevereExperiment) -> tuple[str, dict[str, Any]]:
    linear = experiment.protocol == "linear"
    schedules = CNN_LINEAR if linear else CNN_FINETUNING
    if experiment.data_set not in schedules:
        raise ValueError(f"{experiment.name}: the protocol of CNNs has no schedule for {experiment.data_set}")
    schedule = schedules[experiment.data_set]
    fields = {
        "num_train_epochs": schedule.epochs,
        "milestones": list(schedule.milestones),
        "milestone_factor": schedule.factor,
        "base_learning_rate": schedule.learning_rate,
        "learning_rate_batch_size": schedule.batch_size,
        "per_device_train_batch_size": schedule.batch_size,
    }
    if (experiment.data_set, experiment.protocol) in SHORT_CLIPS:
        fields["config_overrides"] = {"num_frames": 16}
    if linear:
        # In training mode, so that the statistics of the frozen batch norms follow the new data, as in the reference.
        fields["freeze_backbone"] = True
    return "tubelet_contrast_r2plus1d_18_finetune_ucf101", fields


def _vit_words(experiment: SevereExperiment) -> tuple[str, dict[str, Any]]:
    if experiment.protocol == "linear":
        samples_uniformly = experiment.data_set == "ssv2"
        fields: dict[str, Any] = (
            {} if samples_uniformly else {"train_sampling": "finetune", "test_sampling": "dense_test"}
        )
        return "sigma_vit_b_linear_probe_ssv2", {**fields, **VIT_FRAMES.get(experiment.data_set, {})}
    drop_path = 0.2 if experiment.subset else 0.1
    fields = {"config_overrides": {"drop_path_rate": drop_path}, "metric_for_best_model": f"eval_{experiment.metric}"}
    return "sigma_vit_b_finetune_ucf101", {**fields, **VIT_FRAMES.get(experiment.data_set, {})}
