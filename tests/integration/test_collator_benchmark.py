"""The benchmark of the collators runs; its numbers are nobody's test."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark_collators.py"


def test_every_collator_is_measured(tmp_path: Path) -> None:
    output = tmp_path / "numbers.json"
    command = [sys.executable, str(SCRIPT), "--clips", "2", "--rounds", "1", "--json", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    results = json.loads(output.read_text())["results"]
    assert all(found["all"] > 0 for found in results.values())
    assert results["SMILE, first stage, 224"].keys() == {"all", "worker", "one by one", "ratio"}
