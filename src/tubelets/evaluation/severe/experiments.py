"""The experiments of SEVERE and SEVERE++ as data (severe_benchmark.md, sections 1, 2 and 12)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Factor = Literal["domain shift", "sample efficiency", "action granularity", "task diversity"]
Protocol = Literal["finetune", "linear"]
PresetName = Literal["cnn-32x112", "vit-16x224"]

TOP_1, MEAN_CLASS, MAP, COUNT_ERROR = "top_1", "mean_class_accuracy", "mean_average_precision", "mae"


@dataclass(frozen=True)
class DataSet:
    """A data set of the benchmark.

    Attributes:
        name: as the papers write it.
        num_classes: classes that occur.
        num_train: training clips of the published split; None if the specification does not state them exactly.
        num_test: test clips of it; None likewise.
        split: which split that is.
    """

    name: str
    num_classes: int
    num_train: int | None
    num_test: int | None
    split: str


@dataclass(frozen=True)
class SevereExperiment:
    """One number of the benchmark.

    Attributes:
        name: of the experiment, as `tubelets severe --experiments` takes it.
        factor: what it varies.
        data_set: key of `DATA_SETS`, and the folder of its shards.
        task: name of a registered task.
        metric: of that task.
        protocol: all weights are trained, or a linear layer on frozen features.
        subset: N of an N-sample training subset; all clips if None.
        higher_is_better: direction of the metric.
        column: the published column that it compares with: data set, setting and metric of `published_results`.
    """

    name: str
    factor: Factor
    data_set: str
    task: str
    metric: str
    protocol: Protocol = "finetune"
    subset: int | None = None
    higher_is_better: bool = True
    column: tuple[str, str, str] = ("", "", "")


DATA_SETS: Mapping[str, DataSet] = {
    "ucf101": DataSet("UCF-101", 101, 9537, 3783, "fold 1"),
    "hmdb51": DataSet("HMDB-51", 51, 3570, 1530, "fold 1"),
    "ntu60": DataSet("NTU-60", 60, 40320, 16560, "cross-subject"),
    "gym99": DataSet("FineGym Gym-99", 99, 20484, 8521, "FineGym v1.0"),
    "gym288": DataSet("FineGym Gym-288", 287, 22671, 9646, "FineGym v1.0"),
    "gym_vault": DataSet("FineGym event vault", 6, 1074, 446, "Gym-99 labels 0 to 5"),
    "gym_floor": DataSet("FineGym event floor exercise", 35, 5385, 2226, "Gym-99 labels 6 to 40"),
    "fx_s1": DataSet("FineGym set FX-S1", 11, 1882, 777, "Gym-99 labels 6 to 16"),
    "ub_s1": DataSet("FineGym set UB-S1", 15, 3511, 1471, "Gym-99 labels 74 to 88"),
    "ssv2": DataSet("Something-Something v2", 174, 168913, 24777, "train and validation"),
    "kinetics400": DataSet("Kinetics-400", 400, None, 19327, "train and validation"),
    "ucfrep": DataSet("UCFRep", 23, 421, 105, "train and val"),
    "charades": DataSet("Charades", 157, None, None, "train and test"),
}
"""Data sets that the experiments below use."""


def _classification(name: str, factor: Factor, data_set: str, metric: str = TOP_1, **rest: Any) -> SevereExperiment:
    protocol, subset = rest.get("protocol", "finetune"), rest.get("subset")
    setting = {"linear": "linear"}.get(protocol, "fine-tuning" + (f", {subset} samples" if subset else ""))
    published = {TOP_1: "top-1", MEAN_CLASS: "mean-class top-1"}[metric]
    column = (DATA_SETS[data_set].name, setting, published)
    return SevereExperiment(name, factor, data_set, "video-classification", metric, column=column, **rest)


_SAMPLES = {"ucf101": (1000, 2000, 4000, 8000), "ntu60": (1000, 2000, 4000, 8000, 16000, 32000),
            "gym99": (1000, 2000, 4000, 8000, 16000), "ssv2": (1000, 2000, 4000, 8000, 16000, 32000)}  # fmt: skip
_TARGETS = ("ucf101", "ntu60", "gym99", "ssv2")

EXPERIMENTS: Mapping[str, SevereExperiment] = {
    experiment.name: experiment
    for experiment in (
        *(_classification(target, "domain shift", target) for target in _TARGETS),
        *(
            _classification(f"{target}-linear", "domain shift", target, protocol="linear")
            for target in (*_TARGETS, "kinetics400")
        ),
        *(
            _classification(f"{target}-{size}", "sample efficiency", target, subset=size)
            for target, sizes in _SAMPLES.items()
            for size in sizes
        ),
        *(
            _classification(name, "action granularity", data_set, MEAN_CLASS)
            for name, data_set in (
                ("gym99-mean-class", "gym99"),
                ("gym288", "gym288"),
                ("vault", "gym_vault"),
                ("floor", "gym_floor"),
                ("fx-s1", "fx_s1"),
                ("ub-s1", "ub_s1"),
            )
        ),
        SevereExperiment(
            "ucf-rc",
            "task diversity",
            "ucfrep",
            "repetition-counting",
            COUNT_ERROR,
            higher_is_better=False,
            column=("UCFRep", "in-domain: repetition counting", "count error ratio (MAE)"),
        ),
        SevereExperiment(
            "charades",
            "task diversity",
            "charades",
            "video-classification",
            MAP,
            column=("Charades", "out-of-domain: multi-label classification", "mAP"),
        ),
    )
}
"""Every experiment that can be run, by name."""

BENCHMARK = ("ssv2", "gym99", "ucf101-1000", "gym99-1000", "fx-s1", "ub-s1", "ucf-rc", "charades")
"""The eight experiments of the SEVERE benchmark, two for each factor."""


def select_experiments(names: Sequence[str]) -> list[SevereExperiment]:
    """Experiments by name or factor.

    Args:
        names: names of `EXPERIMENTS`, factors such as "domain-shift", "benchmark" for the eight of the SEVERE
            benchmark, or "all".

    Returns:
        The experiments, each once, in the order given.

    Raises:
        ValueError: if a name is unknown.

    Example:
        >>> [experiment.name for experiment in select_experiments(["fx-s1", "benchmark"])][:3]
        ['fx-s1', 'ssv2', 'gym99']
    """
    groups: dict[str, Sequence[str]] = {"benchmark": BENCHMARK, "all": tuple(EXPERIMENTS)}
    for experiment in EXPERIMENTS.values():
        factor = experiment.factor.replace(" ", "-")
        groups[factor] = (*groups.get(factor, ()), experiment.name)
    unknown = [name for name in names if name not in groups and name not in EXPERIMENTS]
    if unknown or not names:
        raise ValueError(
            f"experiments must be some of {', '.join((*groups, *EXPERIMENTS))}; got {', '.join(unknown) or 'none'}"
        )
    chosen = [single for name in names for single in groups.get(name, (name,))]
    return [EXPERIMENTS[name] for name in dict.fromkeys(chosen)]
