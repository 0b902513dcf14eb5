"""Small fine-tuning runs in this process, shared by the tests of the fine-tuning script."""

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from videos import make_video

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "training" / "run_finetuning.py"
RECIPES = ROOT / "training" / "recipes"
DEMO = RECIPES / "sigma_tiny_finetune_demo.yaml"
CLASSES = ["jump", "run", "walk"]


def make_class_folders(folder: Path, per_class: int) -> Path:
    """A folder with a folder of tiny videos for each class, of different lengths; their colour tells the class."""
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            (folder / name / f"{index}.mp4").write_bytes(make_video(20 + index, 40, 56, seed=number))
    return folder


@cache
def script() -> ModuleType:
    """The fine-tuning script as a module."""
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(output: Path, data: Path | None = None, recipe: Path | None = DEMO, **changes: Any) -> list[str]:
    """Words of a run on `data/train` and `data/validation`; `changes` are flags, None leaves one out."""
    options: dict[str, Any] = {"output_dir": output, "disable_tqdm": True}
    if data is not None:
        options |= {"train_dir": data / "train", "validation_dir": data / "validation"}
    flags = []
    for name, value in {**options, **changes}.items():
        if value is not None:
            flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return [*([] if recipe is None else [str(recipe)]), *flags]


def run(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """Run the script in this process."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    script().main()


def log_of(output: Path) -> list[dict[str, Any]]:
    """Lines of a finished run's log."""
    return json.loads((output / "trainer_state.json").read_text())["log_history"]


def losses(output: Path) -> list[float]:
    """Losses of a finished run, by step."""
    lines = [line for line in log_of(output) if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def final_metrics(output: Path) -> dict[str, float]:
    """Metrics of the final test."""
    return json.loads((output / "test_results.json").read_text())
