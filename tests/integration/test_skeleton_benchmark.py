"""The benchmark of skeletons runs, and both of its readings of BiGRU agree; its times are nobody's test."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark_skeletons.py"


def test_every_ratio_is_measured(tmp_path: Path) -> None:
    output = tmp_path / "numbers.json"
    command = [sys.executable, str(SCRIPT), "--batch_size", "2", "--rounds", "1", "--json", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    numbers = json.loads(output.read_text())
    assert numbers["ratios"].keys() == {"views", "step", "BiGRU", "BiGRU with gradient"}
    assert all(value > 0 for value in numbers["times"].values())
    assert numbers["difference"] < 1e-6
