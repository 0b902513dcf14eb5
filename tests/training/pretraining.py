"""Small pretraining runs in processes of their own, shared by the tests of the training script."""

from pathlib import Path
from typing import Any

from preloaded import run_script
from tiny import TINY_RUN as TINY
from tubelets.data.build.shards import build_shards
from tubelets.data.sources.records import VideoRecord
from tubelets.training.run_log import read_log
from videos import make_video

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "training" / "run_pretraining.py"
DEMO = ROOT / "training" / "recipes" / "sigma_tiny_demo.yaml"


def make_clip_shards(folder: Path, num_videos: int = 16, clips_per_shard: int = 4) -> Path:
    """Shards of tiny synthetic videos."""
    (folder / "videos").mkdir(parents=True)
    records = []
    for index in range(num_videos):
        path = folder / "videos" / f"{index}.mp4"
        path.write_bytes(make_video(20, 48, 64, seed=index))
        records.append(VideoRecord(path, label=None, caption=None, clip_id=f"clip-{index}"))
    build_shards(records, folder / "shards", clips_per_shard=clips_per_shard, progress=False)
    return folder / "shards"


def command(shards: Path, output: Path, recipe: Path = DEMO, **changes: Any) -> list[str]:
    """Words of a run; `changes` replace entries of `TINY` (dots written as two underscores; None removes)."""
    options = {**TINY, **{name.replace("__", "."): value for name, value in changes.items()}}
    options |= {"data.path": shards, "run.output_dir": output}
    return [str(SCRIPT), str(recipe), *(f"--{name}={value}" for name, value in options.items() if value is not None)]


def train(*words: str, world_size: int = 1) -> str:
    """Run a command to its end, in one or several processes; its standard error."""
    result = run_script(*words, world_size=world_size)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stderr


def losses(output: Path) -> list[float]:
    """Losses of a run, by step."""
    lines = read_log(output / "training_log.jsonl")
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]
