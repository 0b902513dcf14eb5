"""What `pip install tubelets` gives: a wheel, built from the source distribution, without the repository around it."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tiny import TINY_RUN
from tubelets.cli.main import VERBS
from tubelets.shipped import FOLDERS, files
from videos import make_video

pytest.importorskip("setuptools", reason="a wheel is built with setuptools")

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("forked_verbs.py")
SOURCES = ("src", *FOLDERS, "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
SOURCES += ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
SCRIPT = "import sys\nfrom tubelets.cli.main import main\nsys.exit(main())\n"


def build(what: str, source: Path, output: Path) -> Path:
    """Build a distribution without a network; its file."""
    code = f"import sys, setuptools.build_meta as build; build.build_{what}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(output)], cwd=source, check=True, capture_output=True)
    return max(output.iterdir(), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, and beside it the script that pip makes from its entry point."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, folder / "repository" / name, ignore=leave)
        else:
            shutil.copy(ROOT / name, folder / "repository" / name)
    (folder / "out").mkdir()
    with tarfile.open(build("sdist", folder / "repository", folder / "out")) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (source,) = (folder / "sdist").iterdir()
    with zipfile.ZipFile(build("wheel", source, folder / "out")) as archive:
        archive.extractall(folder / "site")
    (folder / "bin").mkdir()
    (folder / "bin" / "tubelets").write_text(SCRIPT)
    for name in ("repository", "sdist"):
        shutil.rmtree(folder / name)
    return folder / "site"


def environment(wheel: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def run(wheel: Path, folder: Path, *words: str) -> Any:
    """The command as it is installed, in an interpreter of its own."""
    command = [sys.executable, str(wheel.parent / "bin" / "tubelets"), *words]
    return subprocess.run(command, cwd=folder, env=environment(wheel), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def done(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every verb, run tiny in an empty folder; results by name, and the folder."""
    folder = tmp_path_factory.mktemp("empty")
    for number, name in enumerate(("jump", "run")):
        (folder / "videos" / name).mkdir(parents=True)
        for index in range(6):
            (folder / "videos" / name / f"{index}.mp4").write_bytes(make_video(20, 40, 56, seed=number))
    sizes = {**TINY_RUN, "run.batch_size": 4, "optimization.global_batch_size": 4, "data.num_workers": 0}
    changes = [f"--{name}={value}" for name, value in (sizes | {"optimization.max_steps": 2}).items()]
    tuned = {
        "max_steps": 1, "warmup_epochs": 0, "global_batch_size": 2, "per_device_train_batch_size": 2,
        "dataloader_num_workers": 0, "test_clips": 1, "test_crops": 1,
    }  # fmt: skip
    flags = [word for name, value in tuned.items() for word in (f"--{name}", str(value))]
    model = "runs/mine/final"
    commands = {
        "shards": ["shards", "videos", "--output_dir", "shards", "--no_progress", "--splits", "train=0.5",
                   "validation=0.25", "test=0.25"],
        "pretrain": ["pretrain", "sigma_tiny_demo", "--data.path", "shards", "--output_dir", "runs/mine", *changes],
        # The README's recipe, on a machine that may have neither a GPU nor bfloat16.
        "finetune": ["finetune", "sigma_vit_b_finetune_ssv2", "--model_name_or_path", model, "--dataset_name", "shards",
                     "--output-dir", "runs/tuned", *flags],
        "evaluate": ["evaluate", model, "shards", "--output_dir", "evaluation", "--sampling", "uniform", "--shots", "1",
                     "--k", "1", "--num-workers", "0", "--draws", "1"],
        "embed": ["embed", model, "videos", "features.parquet", "--num_workers", "0"],
        "search": ["search", "features.parquet", "jump/0.mp4", "--json"],
        "list": ["list", "smile", "--json"],
        "convert": ["convert", model, "--output_dir", "again"],
        "export": ["export", "runs/tuned", "classifier.onnx"],
        "push": ["push", "runs/tuned", "you/tuned", "--license", "mit", "--dry-run"],
        "gallery": ["gallery", "motion", "--output_dir", "motion", "--size", "32", "--num_frames", "4", "--clips", "1"],
        "study": ["study", "masked_pixels", "--output_dir", "study", "--variant", "gpu"],
        "severe": ["severe", "--list"],
        "join": ["join", model, "no/text/encoder", "--output_dir", "joined"],
        "caption_motion": ["caption-motion", "videos", "--output_dir", "captioned", "--objects", "shapes", "--size",
                           "32", "--num_frames", "4", "--stride", "1"],
        "benchmarks": ["benchmarks", "camera-motio", "--output_dir", "benchmarks"],
        "masks": ["masks", "green3d", "--output_dir", "bank", "--grid", "2", "4", "4", "--mask_ratio", "0.5",
                  "--bank_size", "2", "--volume_shape", "4", "8", "8"],
        "copy": ["copy", "sigma_vit_b_k400"],
        "info": ["info", "--json"],
    }  # fmt: skip
    program = [sys.executable, str(DRIVER), str(wheel), json.dumps(commands)]
    ended = subprocess.run(program, cwd=folder, env=environment(wheel), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return {"folder": folder, **json.loads(ended.stdout.splitlines()[-1])}


def succeeded(done: dict[str, Any], verb: str) -> str:
    result = done[verb]
    assert result["code"] == 0, result["err"][-3000:]
    return result["out"]


def test_every_verb_is_run(done: dict[str, Any]) -> None:
    assert set(done) - {"folder"} == set(VERBS)


def test_a_wheel_holds_what_is_shipped(wheel: Path) -> None:
    shipped = wheel / "tubelets" / "shipped"
    for file in files().values():
        assert (shipped / file.path.relative_to(ROOT)).read_bytes() == file.path.read_bytes()
    assert len(list((shipped / "hub_configs").glob("*/config.json"))) == len(
        list(ROOT.glob("hub_configs/*/config.json"))
    )
    assert "tubelets = tubelets.cli.main:main" in next(wheel.glob("*.dist-info/entry_points.txt")).read_text()


def test_videos_become_shards_a_model_and_a_classifier(done: dict[str, Any]) -> None:
    folder = done["folder"]
    assert "train: 6 clips" in succeeded(done, "shards")
    succeeded(done, "pretrain")
    assert (folder / "runs/mine/final/model.safetensors").is_file()
    succeeded(done, "finetune")
    assert (folder / "runs/tuned/README.md").is_file()
    assert 0 <= json.loads((folder / "runs/tuned/all_results.json").read_text())["test_top_1"] <= 1


def test_a_model_is_evaluated_exported_and_ready_to_publish(done: dict[str, Any]) -> None:
    folder = done["folder"]
    assert "chance 50.0%" in succeeded(done, "evaluate")
    assert (folder / "evaluation" / "frozen.png").is_file()
    assert "nothing was pushed" in succeeded(done, "push")
    if done["export"]["code"] and "ONNX export needs" in done["export"]["err"]:
        pytest.skip("onnx is not installed")
    assert json.loads(succeeded(done, "export"))["file"] == "classifier.onnx"


def test_a_collection_is_searched(done: dict[str, Any]) -> None:
    succeeded(done, "embed")
    assert len(json.loads(succeeded(done, "search"))) == 10


def test_checkpoints_are_listed_and_told_apart(done: dict[str, Any]) -> None:
    assert len(json.loads(succeeded(done, "list"))) == 6
    assert done["convert"]["code"] == 2
    assert "is a checkpoint of this package already (sigma)" in done["convert"]["err"]


def test_motion_and_masks_are_drawn(done: dict[str, Any]) -> None:
    succeeded(done, "gallery")
    assert (done["folder"] / "motion" / "clip_0.gif").is_file()
    succeeded(done, "masks")
    assert (done["folder"] / "bank" / "mask_bank.safetensors").is_file()


def test_captions_of_motion_are_written_and_towers_are_named(done: dict[str, Any]) -> None:
    succeeded(done, "caption_motion")
    assert (done["folder"] / "captioned" / "dataset_info.json").is_file()
    assert done["join"]["code"] == 2
    assert "no/text/encoder" in done["join"]["err"]


def test_information_is_printed(done: dict[str, Any]) -> None:
    assert "sigma" in json.loads(succeeded(done, "info"))["models"]


def test_studies_and_benchmarks_are_found_by_name(done: dict[str, Any]) -> None:
    """They take minutes: a wrong name shows that the right ones are known."""
    assert done["study"]["code"] == done["benchmarks"]["code"] == 2
    assert "masked_pixels.yaml has none" in done["study"]["err"]
    assert "did you mean 'camera-motion'?" in done["benchmarks"]["err"]


def test_a_recipe_is_copied_and_not_overwritten(wheel: Path, done: dict[str, Any], tmp_path: Path) -> None:
    assert "wrote sigma_vit_b_k400.yaml" in succeeded(done, "copy")
    recipe = tmp_path / "sigma_vit_b_k400.yaml"
    recipe.write_text("mine")
    refused = run(wheel, tmp_path, "copy", "sigma_vit_b_k400")
    assert (refused.returncode, recipe.read_text()) == (2, "mine")
    assert "--force overwrites it" in refused.stderr
    assert run(wheel, tmp_path, "copy", "sigma_vit_b_k400", "--force").returncode == 0
    assert recipe.read_text() != "mine"
    assert run(wheel, tmp_path, "copy", "run_pretraining", "mine").returncode == 0
    assert (tmp_path / "mine" / "run_pretraining.py").is_file()
    listed = run(wheel, tmp_path, "copy").stdout.splitlines()
    for file in files().values():
        (line,) = [each for each in listed if each.split()[:1] == [file.name]]
        assert len(line) <= 120
        assert len(line.split()) > 3, f"{file.name} says nothing about itself"


def test_the_installed_command_registers_the_models(wheel: Path, tmp_path: Path) -> None:
    assert run(wheel, tmp_path, "--version").stdout.startswith("tubelets ")
    found = run(wheel, tmp_path, "evaluate", str(wheel / "tubelets/shipped/hub_configs/sigma-dino-vit-base-k400"), "x",
                "--output_dir", "y")  # fmt: skip
    # The configuration of a type of this package was read; weights are not shipped.
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    assert "model_type" not in found.stderr
