"""Results of the benchmark: one JSON file for each model, experiment and seed, and their summary."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tubelets.data.atomic import write_atomically
from tubelets.evaluation.severe.experiments import DATA_SETS, EXPERIMENTS, SevereExperiment


class SevereResultError(ValueError):
    """A file does not hold results of the benchmark.

    Example:
        >>> issubclass(SevereResultError, ValueError)
        True
    """


@dataclass(frozen=True)
class SevereResult:
    """One measured number.

    Attributes:
        model: name of the model.
        experiment: key of `EXPERIMENTS`.
        seed: of initial weights of the head, data order and augmentations.
        value: percent; for repetition counting the error, a fraction.
        preset: "cnn-32x112" or "vit-16x224"; numbers of different presets are never compared without saying so.
        subset_seed: of the draw of an N-sample subset; None if all clips train.
        num_train: training clips that were found.
        num_test: test clips that were found.
        details: how the number was made: model type, frames, size, mean and deviation of the input, recipe, seconds.
    """

    model: str
    experiment: str
    seed: int
    value: float
    preset: str
    subset_seed: int | None = None
    num_train: int | None = None
    num_test: int | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.experiment not in EXPERIMENTS:
            raise SevereResultError(f"experiment must be one of {', '.join(EXPERIMENTS)}, got {self.experiment!r}")
        if not isinstance(self.value, (int, float)) or not 0 <= self.value <= 100:
            raise SevereResultError(f"{self.experiment} of {self.model}: value must be in [0, 100], got {self.value!r}")

    def save(self, path: Path) -> None:
        """Write the result as JSON; a file is whole or absent."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(asdict(self), indent=2) + "\n"
        write_atomically(path, lambda file: file.write_text(content, encoding="utf-8"))


@dataclass(frozen=True)
class Summary:
    """A number over its seeds.

    Attributes:
        mean: over seeds.
        deviation: standard deviation over seeds; 0 for one seed.
        values: by seed.
        warnings: what makes it differ from a published number, such as missing clips.
    """

    mean: float
    deviation: float
    values: dict[int, float]
    warnings: tuple[str, ...] = ()


def read_severe_results(paths: Iterable[str | Path]) -> list[SevereResult]:
    """Read results.

    Args:
        paths: JSON files, or folders that hold them at any depth.

    Returns:
        The results, sorted by model, experiment and seed.

    Raises:
        SevereResultError: naming the file, if one holds something else.
        FileNotFoundError: if a path does not exist.
    """
    found = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; give folders that `tubelets severe` has written")
        found += [_read(file) for file in (sorted(path.rglob("severe-*.json")) if path.is_dir() else [path])]
    order = list(EXPERIMENTS)
    return sorted(found, key=lambda result: (result.model, order.index(result.experiment), result.seed))


def _read(path: Path) -> SevereResult:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {entry.name for entry in fields(SevereResult)}
        if not isinstance(content, dict) or not content.keys() <= names:
            raise SevereResultError(f"its fields must be some of {', '.join(sorted(names))}")
        return SevereResult(**content)
    except (ValueError, TypeError) as error:
        raise SevereResultError(f"{path} is no result of this benchmark ({error}); remove it") from error


def summarize(results: Sequence[SevereResult]) -> dict[str, dict[str, Summary]]:
    """Mean and deviation over seeds.

    Args:
        results: of one preset.

    Returns:
        Model to experiment name to its summary.

    Raises:
        SevereResultError: if presets are mixed: numbers at 32 x 112 and at 16 x 224 are not comparable.

    Example:
        >>> runs = [SevereResult("mine", "fx-s1", seed, value, "cnn-32x112") for seed, value in enumerate((78.0, 80.0))]
        >>> summarize(runs)["mine"]["fx-s1"].mean
        79.0
    """
    presets = sorted({result.preset for result in results})
    if len(presets) > 1:
        raise SevereResultError(f"results of {' and '.join(presets)} are not comparable; report one preset at a time")
    groups: dict[str, dict[str, list[SevereResult]]] = {}
    for result in results:
        groups.setdefault(result.model, {}).setdefault(result.experiment, []).append(result)
    return {
        model: {name: _summary(EXPERIMENTS[name], runs) for name, runs in experiments.items()}
        for model, experiments in groups.items()
    }


def _summary(experiment: SevereExperiment, runs: Sequence[SevereResult]) -> Summary:
    values = {run.seed: run.value for run in runs}
    deviation = statistics.stdev(values.values()) if len(values) > 1 else 0.0
    return Summary(statistics.fmean(values.values()), deviation, values, tuple(_differences(experiment, runs)))


def _differences(experiment: SevereExperiment, runs: Sequence[SevereResult]) -> Iterable[str]:
    """Counts that are not those of the published split."""
    published = DATA_SETS[experiment.data_set]
    pairs = [("test", published.num_test, {run.num_test for run in runs})]
    if experiment.subset is None:
        pairs.append(("training", published.num_train, {run.num_train for run in runs}))
    for part, expected, found in pairs:
        known = {number for number in found if number is not None and expected is not None}
        for count in sorted(known - {expected}):
            yield f"{published.name}: {count} {part} clips instead of {expected}"
