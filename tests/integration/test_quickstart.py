"""The main job on the real footage, shortened; needs what `scripts/quickstart.sh` fetches."""

import subprocess
import sys
from pathlib import Path

import pytest

from tubelets.data.assets.fetching import AssetError, fetch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.assets
@pytest.mark.slow
def test_quickstart_runs_twice(tmp_path: Path) -> None:
    try:
        fetch(progress=False)
    except AssetError as error:
        pytest.skip(f"the footage cannot be fetched: {error}")
    command = [sys.executable, str(ROOT / "scripts/quickstart.py"), "--steps", "4", "--output", str(tmp_path)]
    command += ["--finetuning-steps", "2", "--contrast-steps", "2", "2", "--clips", "48"]
    for _ in range(2):
        subprocess.run(command, check=True)
    made = {path.name for path in tmp_path.iterdir()}
    assert {"index.html", "curves.png", "masks.png", "assignments.png", "scores.png"} <= made
