"""The benchmark scripts run; their numbers are nobody's test."""

import json
from pathlib import Path

from preloaded import run_script

ROOT = Path(__file__).resolve().parents[2]


def test_pretraining_benchmark_measures_the_models_it_is_given(tmp_path: Path) -> None:
    # At the papers' sizes; the other models run in small ones in test_check_gpu.
    # float32: processors without bfloat16 instructions take minutes otherwise.
    output = tmp_path / "numbers.json"
    models = ["transformers", "pixel", "smile_clip"]
    words = ["--sizes", "small", "--precisions", "fp32", "--batch-size", "2", "--rounds", "1", "--no-memory"]
    result = run_script(ROOT / "scripts/benchmark_pretraining.py", *words, "--models", *models, "--json", output)
    assert result.returncode == 0, result.stderr
    measured = json.loads(output.read_text())["small/fp32"]
    assert list(measured) == models
    assert all(values["seconds"] > 0 for values in measured.values())


def test_mask_benchmark_measures_drawing_and_its_share_of_a_step(tmp_path: Path) -> None:
    output = tmp_path / "numbers.json"
    words = ["--batch-size", "4", "--rounds", "1", "--step-clips", "1", "--steps", "1", "--json", output]
    result = run_script(ROOT / "scripts/benchmark_masks.py", *words)
    assert result.returncode == 0, result.stderr
    measured = json.loads(output.read_text())
    assert all(values["ratio, batch"] > 0 for values in measured["drawing"].values())
    assert 0 < measured["step"]["share"] < 1


def test_retrieval_benchmark_measures_ranks_and_memory(tmp_path: Path) -> None:
    output = tmp_path / "numbers.json"
    words = ["--size", "50", "--rounds", "1", "--items", "500", "--queries", "20", "--width", "8", "--json", output]
    result = run_script(ROOT / "scripts/benchmark_retrieval.py", *words)
    assert result.returncode == 0, result.stderr
    measured = json.loads(output.read_text())
    assert measured["ranks"]["ratio"] > 0
    assert measured["memory"].keys() == {"similarities", "dual softmax"}
