"""The main job on the real footage, shortened; needs what `scripts/quickstart.sh` fetches."""

import re
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
    command = [sys.executable, str(ROOT / "scripts/quickstart.py"), "--steps", "2", "2", "--output_dir", str(tmp_path)]
    command += ["--finetuning_steps", "2", "--clips", "64"]
    for _ in range(2):
        subprocess.run(command, check=True)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<img") == 7
    for picture in re.findall(r"src='([^']+)'", page):
        assert (tmp_path / picture).is_file()
    assert {"cameramotion-8.png", "movingobjects.png", "tubelets.gif", "losses.png", "masks.gif"} <= {
        path.name for path in (tmp_path / "pictures").iterdir()
    }
