"""Results and reports of SEVERE: seeds, counts, presets that are never mixed, pages and pictures."""

from pathlib import Path

import pytest

from tubelets.evaluation.severe.experiments import BENCHMARK
from tubelets.evaluation.severe.report import write_severe_report
from tubelets.evaluation.severe.results import SevereResult, SevereResultError, read_severe_results, summarize


def result(model: str, experiment: str, seed: int, value: float, **rest: object) -> SevereResult:
    return SevereResult(model, experiment, seed, value, **{"preset": "cnn-32x112", **rest})


def benchmark_of(model: str, seeds: int = 2) -> list[SevereResult]:
    values = dict(zip(BENCHMARK, (60.0, 92.0, 67.0, 45.0, 80.0, 91.0, 0.15, 10.0), strict=True))
    return [
        result(model, name, seed, value + (0 if name == "ucf-rc" else seed))
        for name, value in values.items()
        for seed in range(seeds)
    ]


def test_results_are_read_back_and_summarised(tmp_path: Path) -> None:
    runs = [result("mine", "fx-s1", 0, 78.0, num_train=1800, num_test=777), result("mine", "fx-s1", 1, 80.0)]
    for run in runs:
        run.save(tmp_path / "mine" / f"severe-{run.experiment}-{run.seed}.json")
    read = read_severe_results([tmp_path])
    assert read == runs
    summary = summarize(read)["mine"]["fx-s1"]
    assert (summary.mean, round(summary.deviation, 3), summary.values) == (79.0, 1.414, {0: 78.0, 1: 80.0})
    assert summary.warnings == ("FineGym set FX-S1: 1800 training clips instead of 1882",)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": "m"}', '{"model": "m", "speed": 3}'])
def test_a_file_without_a_result_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "severe-fx-s1-0.json").write_text(content)
    with pytest.raises(SevereResultError, match=r"severe-fx-s1-0\.json is no result"):
        read_severe_results([tmp_path])


@pytest.mark.parametrize("value", [float("nan"), -1.0, 101.0, "12"])
def test_values_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(SevereResultError, match=r"value must be in \[0, 100\]"):
        result("mine", "fx-s1", 0, value)


def test_presets_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(SevereResultError, match="cnn-32x112 and vit-16x224 are not comparable"):
        write_severe_report([result("a", "fx-s1", 0, 1.0), result("b", "fx-s1", 0, 1.0, preset="vit-16x224")], tmp_path)


def test_the_report_shows_one_family_of_one_paper(tmp_path: Path) -> None:
    page = write_severe_report(benchmark_of("mine"), tmp_path).read_text(encoding="utf-8")
    text = (tmp_path / "severe.md").read_text(encoding="utf-8")
    assert "| mine | 60.5 ± 0.7 |" in text
    assert "| Tubelet-Contrast [cnn] | 60.2 |" in text
    assert "0.150 ± 0.000" in text
    assert "SIGMA [" not in text + page, "numbers at 16 x 224 are not shown beside those at 32 x 112"
    for name in ("radar.png", "ranks.png"):
        assert (tmp_path / name).stat().st_size > 10_000
        assert f"src='{name}'" in page
    assert "Domain shift" in page
    assert "mean of 8" in page
    # Mean 66.6 and 67.5 less 0.9: of (60.5, 92.5, 67.5, 45.5, 80.5, 91.5, 85, 10.5).
    assert "66.7" in text.splitlines()[2]


def test_a_report_of_few_experiments_has_no_mean(tmp_path: Path) -> None:
    runs = [result("mine", "fx-s1", 0, 50.0), result("yours", "fx-s1", 0, 60.0)]
    page = write_severe_report(runs, tmp_path, paper=None).read_text(encoding="utf-8")
    assert "mean of 8" not in page
    assert not (tmp_path / "radar.png").exists()
    assert (tmp_path / "ranks.png").exists()
