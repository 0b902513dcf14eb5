"""Experiments, published numbers and aggregates of SEVERE (severe_benchmark.md, sections 1, 2.4 and 10)."""

import csv
from pathlib import Path

import pytest

from tubelets.evaluation.severe.aggregates import benchmark_mean, benchmark_ranks
from tubelets.evaluation.severe.experiments import (
    BENCHMARK,
    DATA_SETS,
    EXPERIMENTS,
    select_experiments,
)
from tubelets.evaluation.severe.protocols import CNN_LINEAR, finetuning_words
from tubelets.evaluation.severe.published import FILE, SEVERE_PLUS_PLUS, benchmark_table, published_results
from tubelets.evaluation.severe.subsets import few_sample_subset

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
PAPERS = sorted({result.paper for result in published_results()})
TUBELET_CONTRAST = next(paper for paper in PAPERS if paper.startswith("Tubelet-Contrast"))
# The paper prints 58.1 for VideoMAE, its eight columns give 58.8.
SLIPS = {(TUBELET_CONTRAST, "VideoMAE")}


@pytest.mark.parametrize("paper", PAPERS)
def test_means_are_those_that_papers_print(paper: str) -> None:
    table = benchmark_table(paper) if paper != "SEVERE 2022, code" else {}
    printed = {
        (result.method, result.family): result.value
        for result in published_results()
        if result.paper == paper and result.setting == "mean of 8"
    }
    for method, mean in printed.items():
        if (paper, method[0]) not in SLIPS:
            assert benchmark_mean(table[method]) == pytest.approx(mean, abs=0.11), method


def test_printed_ranks_need_the_wrong_direction() -> None:
    table = {f"{method} {family}": row for (method, family), row in benchmark_table(TUBELET_CONTRAST).items()}
    printed = {
        f"{result.method} {result.family}": result.value
        for result in published_results()
        if result.paper == TUBELET_CONTRAST and result.setting == "rank of 8"
    }
    assert len(printed) == 15
    assert benchmark_ranks(table, rank_as_published=True) == pytest.approx(printed, abs=0.051)
    right = benchmark_ranks(table)
    assert right["Supervised cnn"] == pytest.approx(2.4, abs=0.05)
    assert right["GDT cnn"] == pytest.approx(6.9, abs=0.05)


def test_an_incomplete_row_has_no_mean_and_no_rank() -> None:
    table = {f"{method} {family}": row for (method, family), row in benchmark_table().items()}
    assert benchmark_mean(table["MGM video-only"]) is None
    assert "MGM video-only" not in benchmark_ranks(table)


def test_doubtful_and_recalled_numbers_are_not_shown() -> None:
    shown = {(result.paper, result.method, result.column, result.value) for result in published_results()}
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    hidden = [row for row in rows if row["source"] == "recalled" or row["note"].startswith(("doubtful", "suspect"))]
    assert hidden
    for row in hidden:
        column = (row["dataset"], row["setting"], row["metric"])
        assert (row["paper"], row["method"], column, float(row["value"])) not in shown
    assert set(benchmark_table()["UMT", "video-text"]) == set(BENCHMARK) - {"ucf101-1000", "gym99-1000"}


def test_the_benchmark_has_two_experiments_a_factor() -> None:
    factors = [EXPERIMENTS[name].factor for name in BENCHMARK]
    assert all(factors.count(factor) == 2 for factor in factors)
    assert len(benchmark_table(SEVERE_PLUS_PLUS)) == 24
    for experiment in EXPERIMENTS.values():
        assert experiment.data_set in DATA_SETS
        if experiment.data_set != "charades" and experiment.task == "video-classification":
            recipe, fields = finetuning_words(experiment, "cnn-32x112")
            assert (RECIPES / f"{recipe}.yaml").is_file()
            assert fields["milestones"][-1] <= fields["num_train_epochs"]
            assert ("freeze_backbone" in fields) == (experiment.protocol == "linear")
            assert (RECIPES / f"{finetuning_words(experiment, 'vit-16x224')[0]}.yaml").is_file()


def test_schedules_count_passes_over_the_videos() -> None:
    ucf, ntu, ssv2 = (finetuning_words(EXPERIMENTS[name], "cnn-32x112")[1] for name in ("ucf101", "ntu60", "ssv2"))
    assert (ucf["num_train_epochs"], ucf["milestones"]) == (160, [60, 100, 140])
    assert (ntu["num_train_epochs"], ntu["milestones"], ntu["per_device_train_batch_size"]) == (180, [90, 140, 160], 64)
    assert ssv2["num_train_epochs"] == 44
    assert CNN_LINEAR["kinetics400"].learning_rate == 1e-2


@pytest.mark.parametrize(
    ("data_set", "size", "clips"), [("ucf101", 1000, 1010), ("gym99", 1000, 1089), ("ntu60", 1000, 1020)]
)
def test_a_subset_of_1000_has_a_few_more(data_set: str, size: int, clips: int) -> None:
    classes = DATA_SETS[data_set].num_classes
    labels = [number % classes for number in range(20 * classes)]
    subset = few_sample_subset(labels, size)
    assert len(set(subset)) == len(subset) == clips


def test_experiments_are_chosen_by_name_or_factor() -> None:
    assert [experiment.name for experiment in select_experiments(["benchmark"])] == list(BENCHMARK)
    assert {experiment.factor for experiment in select_experiments(["domain-shift"])} == {"domain shift"}
    with pytest.raises(ValueError, match="got gym98"):
        select_experiments(["fx-s1", "gym98"])
