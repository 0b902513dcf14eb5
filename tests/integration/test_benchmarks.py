"""The benchmark scripts run; their numbers are nobody's test."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_pretraining_benchmark_measures_the_models_it_is_given(tmp_path: Path) -> None:
    # At the papers' sizes; the other models run in small ones in test_check_gpu.
    # float32: processors without bfloat16 instructions take minutes otherwise.
    output = tmp_path / "numbers.json"
    command = [
        sys.executable,
        str(ROOT / "scripts/benchmark_pretraining.py"),
        "--sizes",
        "small",
        "--precisions",
        "fp32",
    ]
    models = ["transformers", "pixel", "smile_clip"]
    command += ["--models", *models, "--batch-size", "2", "--rounds", "1", "--no-memory", "--json", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    measured = json.loads(output.read_text())["small/fp32"]
    assert list(measured) == models
    assert all(values["seconds"] > 0 for values in measured.values())


def test_mask_benchmark_measures_drawing_and_its_share_of_a_step(tmp_path: Path) -> None:
    output = tmp_path / "numbers.json"
    command = [sys.executable, str(ROOT / "scripts/benchmark_masks.py"), "--batch-size", "4", "--rounds", "1"]
    command += ["--step-clips", "1", "--steps", "1", "--json", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    measured = json.loads(output.read_text())
    assert all(values["ratio, batch"] > 0 for values in measured["drawing"].values())
    assert 0 < measured["step"]["share"] < 1
