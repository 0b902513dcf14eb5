"""`tubelets severe`: fine-tunes, keeps results, stops and continues, and reports."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tubelets import ResNet3DConfig, ResNet3DModel
from tubelets.cli.main import main
from tubelets.models.backbones.video_vit.processing_video_vit import video_processor
from videos import make_video


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = ResNet3DConfig(hidden_sizes=(8, 16), depths=(1, 1), stem_size=6, image_size=32)
    ResNet3DModel(config).save_pretrained(folder)
    video_processor(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a miniature Gym-99: two classes, six training clips and two of the test."""
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 6), ("validation", 2)):
        for number in range(count):
            path = folder / "videos" / split / f"kind{number % 2}" / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(make_video(34, 32, 32, seed=number))
    assert main(["shards", str(folder / "videos"), "--output_dir", str(folder / "gym99")]) == 0
    return folder


def test_a_subset_is_trained_on_reported_and_kept(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    words = ["severe", f"tiny={model}", "--data", str(data), "--output_dir", str(output), "--seeds", "0"]
    words += ["--experiments", "gym99-1000", "--finetune", "max_steps=1", "dataloader_num_workers=0"]
    words += ["per_device_train_batch_size=2", 'config_overrides={"num_frames": 4}', "test_clips=2", "use_cpu=true"]
    listed = sorted(path.name for path in (data / "videos" / "train").rglob("*.mp4"))
    assert len(listed) == 6
    # The budget ends before the first experiment; nothing is measured, so there is nothing to report.
    assert main([*words, "--minutes", "0"]) == 2
    assert "out/runs does not exist" in capsys.readouterr().err
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "1/1 gym99-1000, tiny, seed 0" in printed
    (path,) = output.rglob("severe-gym99-1000-0.json")
    result = json.loads(path.read_text())
    assert result["preset"] == "cnn-32x112"
    assert result["subset_seed"] == 99999
    assert result["details"]["subset_order"] == "sorted ids, not the published subset"
    assert (result["num_train"], result["num_test"]) == (6, 2)
    assert result["details"]["num_frames"] == 4
    assert (
        "Not the published split: FineGym Gym-99: 2 test clips instead of 8521" in (output / "index.html").read_text()
    )
    shutil.rmtree(path.parent / "training")  # a result is enough: nothing runs again
    assert main(words) == 0
    assert main(["severe", "--output_dir", str(output), "--report_only", "--paper", "none"]) == 0
    assert "| tiny |" in (output / "severe.md").read_text()


def test_what_cannot_be_run_is_said_first(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["severe", str(model), "--data", str(data), "--output_dir", str(tmp_path / "out"), "--experiments"]
    for experiment, problem in (
        ("gym98", "got gym98"),
        ("fx-s1", "needs shards of FineGym set FX-S1"),
        ("ucf-rc", "needs the task repetition-counting"),
    ):
        assert main([*words, experiment]) == 2
        assert problem in capsys.readouterr().err
    assert main(["severe", str(model), *words[1:], "fx-s1"]) == 2
    assert "two models have the same name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_experiments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["severe", "--list"]) == 0
    assert "* fx-s1" in capsys.readouterr().out
