"""Published numbers of SEVERE and of the papers that followed it (severe_benchmark.md, sections 10 and 11)."""

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tubelets.evaluation.severe.experiments import BENCHMARK, EXPERIMENTS, SevereExperiment

FILE = Path(__file__).with_name("published.csv")

SEVERE_PLUS_PLUS = "SEVERE++ 2025"


@dataclass(frozen=True)
class PublishedResult:
    """A number of a paper.

    Attributes:
        paper: the paper that printed it.
        table: the table, as far as it is known.
        method: the method's name.
        family: "cnn", "video-only" or "video-text".
        backbone: its network.
        dataset: as in `DataSet.name`.
        setting: protocol.
        metric: as the paper names it.
        value: percent, or a fraction where the metric says so.
        source: how the number was read: a figure, a log, a readme, or a transcription of the table.
    """

    paper: str
    table: str
    method: str
    family: str
    backbone: str
    dataset: str
    setting: str
    metric: str
    value: float
    source: str

    @property
    def column(self) -> tuple[str, str, str]:
        """Data set, setting and metric."""
        return self.dataset, self.setting, self.metric


@functools.cache
def published_results() -> tuple[PublishedResult, ...]:
    """All published numbers that can be shown: recalled, superseded, doubtful and suspect ones are left out.

    Returns:
        The numbers, in the order of the papers' tables.

    Example:
        >>> len(published_results()) > 500
        True
    """
    words = PublishedResult.__dataclass_fields__.keys() - {"value"}
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] != "recalled" and _is_certain(row["note"])]
    return tuple(PublishedResult(value=float(row["value"]), **{name: row[name] for name in words}) for row in rows)


def _is_certain(note: str) -> bool:
    return not note.startswith(("doubtful", "suspect", "single-run", "one of several"))


def published_table(
    experiments: Sequence[SevereExperiment], paper: str = SEVERE_PLUS_PLUS
) -> dict[tuple[str, str], dict[str, float]]:
    """Numbers of one paper; numbers of different papers are never mixed.

    Args:
        experiments: the columns.
        paper: as in `PublishedResult.paper`.

    Returns:
        Method and family to experiment name to number; methods without any number of these experiments are left out.

    Raises:
        ValueError: if the paper is unknown.

    Example:
        >>> table = published_table([EXPERIMENTS["fx-s1"]])
        >>> table["Tubelet-Contrast", "cnn"]
        {'fx-s1': 80.1}
    """
    papers = sorted({result.paper for result in published_results()})
    if paper not in papers:
        raise ValueError(f"paper must be one of {', '.join(papers)}, got {paper!r}")
    names: Mapping[tuple[str, str, str], str] = {experiment.column: experiment.name for experiment in experiments}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for result in published_results():
        if result.paper == paper and result.column in names:
            found.setdefault((result.method, result.family), {})[names[result.column]] = result.value
    return found


def benchmark_table(paper: str = SEVERE_PLUS_PLUS) -> dict[tuple[str, str], dict[str, float]]:
    """The eight experiments of the SEVERE benchmark as one paper printed them; see `published_table`."""
    return published_table([EXPERIMENTS[name] for name in BENCHMARK], paper)
