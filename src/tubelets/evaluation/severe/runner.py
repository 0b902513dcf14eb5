"""Run experiments of the benchmark for several models; finished ones are kept, so that a run can be continued."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tubelets.data.atomic import write_atomically
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.source import Source
from tubelets.evaluation.severe.experiments import DATA_SETS, MAP, PresetName, SevereExperiment
from tubelets.evaluation.severe.protocols import finetuning_words, preset_of
from tubelets.evaluation.severe.results import SevereResult
from tubelets.evaluation.severe.subsets import SUBSET_SEED, few_sample_subset
from tubelets.evaluation.studies import run_verb, slug
from tubelets.models.common.safe_loading import load_config

ORDER_FILE = "annotation_order.txt"
"""Ids of the training clips in the order of the data set's annotation file, beside its shards: the published subsets
are drawn in this order. Without the file, ids are sorted, and the subset is not the published one."""


class OutOfTimeError(RuntimeError):
    """The budget ended between two experiments.

    Example:
        >>> issubclass(OutOfTimeError, RuntimeError)
        True
    """


@dataclass
class SevereRunner:
    """Fine-tunes or probes models and collects their test results.

    Attributes:
        models: name to folder or Hub id.
        data: folder with a folder of shards for each data set, named as in `DATA_SETS`.
        output: folder of all runs and results.
        subset_seed: of the draw of N-sample subsets.
        overrides: fields of the fine-tuning recipes to change in every run.
        minutes: no experiment begins after this many minutes; None for no limit.
    """

    models: Mapping[str, str]
    data: Path
    output: Path
    subset_seed: int = SUBSET_SEED
    overrides: Mapping[str, Any] = field(default_factory=dict)
    minutes: float | None = None

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self.presets: dict[str, PresetName] = {
            name: preset_of(load_config(where)) for name, where in self.models.items()
        }

    def check(self, experiments: Sequence[SevereExperiment]) -> None:
        """Refuse what cannot be run before anything is.

        Args:
            experiments: to be run.

        Raises:
            ValueError: if models need different presets, or an experiment needs a task that is not there.
            FileNotFoundError: if data are missing.
        """
        if len(set(self.presets.values())) > 1:
            pairs = ", ".join(f"{name}: {preset}" for name, preset in self.presets.items())
            raise ValueError(f"models of one report need one preset, got {pairs}; compare them in separate runs")
        for experiment in experiments:
            if experiment.task != "video-classification" or experiment.metric == MAP:
                raise ValueError(
                    f"{experiment.name} needs the task {experiment.task} with the metric {experiment.metric}, which "
                    "this version cannot run; choose other experiments"
                )
            for name in self.models:
                finetuning_words(experiment, self.presets[name])
            if not (self.data / experiment.data_set).is_dir():
                raise FileNotFoundError(
                    f"{experiment.name} needs shards of {DATA_SETS[experiment.data_set].name} in "
                    f"{self.data / experiment.data_set}; build them with `tubelets shards`, or choose other experiments"
                )

    def run(self, experiment: SevereExperiment, model: str, seed: int) -> SevereResult:
        """Train and test one model, unless its result exists.

        Args:
            experiment: which.
            model: name of the model.
            seed: of this run.

        Returns:
            The result, which is also written to the output folder.

        Raises:
            OutOfTimeError: if the budget is used up.
            ValueError: if training ends with an error.
        """
        folder = self.output / "runs" / slug(model) / experiment.name / f"seed-{seed}"
        path = folder / f"severe-{experiment.name}-{seed}.json"
        if not path.exists():
            if self.minutes is not None and time.monotonic() - self._started > 60 * self.minutes:
                raise OutOfTimeError(f"{self.minutes:g} minutes are over; run the command again to continue")
            self._measure(experiment, model, seed, folder).save(path)
        return SevereResult(**json.loads(path.read_text(encoding="utf-8")))

    def _measure(self, experiment: SevereExperiment, model: str, seed: int, folder: Path) -> SevereResult:
        data, preset, started = self.data / experiment.data_set, self.presets[model], time.monotonic()
        recipe, fields = finetuning_words(experiment, preset)
        subset = None if experiment.subset is None else self._subset(experiment)
        given = {
            **fields,
            **({} if subset is None else {"train_ids": subset}),
            "model_name_or_path": self.models[model],
            "dataset_name": data,
            "output_dir": folder / "training",
            "seed": seed,
            **self.overrides,
        }
        words = [recipe, *(word for name, value in given.items() for word in _words(name, value))]
        run_verb("finetune", words, folder / "training" / "all_results.json")
        measured = json.loads((folder / "training" / "all_results.json").read_text(encoding="utf-8"))
        config = json.loads((folder / "training" / "config.json").read_text(encoding="utf-8"))
        kept = ("model_type", "num_frames", "image_size", "image_mean", "image_std")
        return SevereResult(
            model=model,
            experiment=experiment.name,
            seed=seed,
            value=100 * measured[f"test_{experiment.metric}"],
            preset=preset,
            subset_seed=None if subset is None else self.subset_seed,
            num_train=len(_lines(subset)) if subset else _open(data, "train").num_samples,
            num_test=round(measured["test_num_videos"]),
            details={
                **{name: config[name] for name in kept if name in config},
                "recipe": recipe,
                **({} if subset is None else {"subset_order": self._order_of(experiment)}),
                "overrides": dict(self.overrides),
                "seconds": round(time.monotonic() - started),
            },
        )

    def _order_of(self, experiment: SevereExperiment) -> str:
        """What a subset was drawn from: only the order of the annotation file gives the published one."""
        listed = (self.data / experiment.data_set / ORDER_FILE).is_file()
        return "annotation file" if listed else "sorted ids, not the published subset"

    def _subset(self, experiment: SevereExperiment) -> Path:
        """The list of the clips of an N-sample subset, written once."""
        path = self.output / "subsets" / f"{experiment.data_set}-{experiment.subset}-{self.subset_seed}.txt"
        if not path.exists():
            source = _open(self.data / experiment.data_set, "train").with_media(())
            labels = {
                sample.clip_id: sample.label
                for index in range(source.num_shards)
                for sample in source.iterate_shard(index)
                if sample.problem is None
            }
            order_file = self.data / experiment.data_set / ORDER_FILE
            listed = _lines(order_file) if order_file.is_file() else sorted(labels)
            order = [clip for clip in listed if clip in labels]
            drawn = few_sample_subset([labels[clip] for clip in order], experiment.subset or 0, self.subset_seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(f"{order[place]}\n" for place in drawn)
            write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))
        return path


def _open(data: Path, split: str) -> Source:
    return open_source(str(data), split)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line]


def _words(name: str, value: Any) -> list[str]:
    """A field as the command line of `tubelets finetune` takes it.

    Example:
        >>> _words("milestones", [60, 100]), _words("config_overrides", {"num_frames": 16})
        (['--milestones', '60', '100'], ['--config_overrides', '{"num_frames": 16}'])
    """
    values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
    return [f"--{name}", *map(str, values)]
