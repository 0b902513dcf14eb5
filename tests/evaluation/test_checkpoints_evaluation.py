"""Saved models and their random twins, measured through files as the command does."""

from pathlib import Path

import pytest
import torch
from clip_shards import clip_rows, write_parquet
from transformers import AutoModel, AutoModelForPreTraining

from preloaded import run_script
from tubelets import TubeletsVideoMAEConfig, TubeletsVideoMAEForPreTraining
from tubelets.evaluation.checkpoints import evaluate_checkpoint, save_random_twin
from tubelets.models.common.auto import inference_processor
from tubelets.training.pretraining import build_model
from tubelets.training.recipe import DataSection, ModelSection, OptimizationSection, Recipe, RunSection
from videos import make_video

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "image_size": 16, "patch_size": 8, "num_frames": 4, "hidden_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 32, "decoder_hidden_size": 32, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32,
}  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(9)
    model = TubeletsVideoMAEForPreTraining(TubeletsVideoMAEConfig(**SIZES))
    model.save_pretrained(tmp_path / "model")
    inference_processor(model.config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_twin_has_the_weights_that_a_run_of_that_seed_starts_from(checkpoint, tmp_path):
    twin = save_random_twin(checkpoint, tmp_path / "twin", seed=3)
    recipe = Recipe(
        ModelSection("tubelets_videomae", dict(SIZES)), DataSection("x"), OptimizationSection(), RunSection("y", seed=3)
    )
    start = build_model(recipe).state_dict()
    found = AutoModelForPreTraining.from_pretrained(twin).state_dict()
    assert found.keys() == start.keys()
    assert all(torch.equal(found[name], value) for name, value in start.items())
    trained = AutoModelForPreTraining.from_pretrained(checkpoint).state_dict()
    assert not torch.equal(found["mask_token"], trained["mask_token"])


def test_a_twin_is_written_once_and_disturbs_no_generator(checkpoint, tmp_path):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    twin = save_random_twin(checkpoint, tmp_path / "twin", seed=3)
    assert torch.equal(torch.rand(3), expected)
    before = (twin / "model.safetensors").stat().st_mtime_ns
    save_random_twin(checkpoint, tmp_path / "twin", seed=4)
    assert (twin / "model.safetensors").stat().st_mtime_ns == before
    assert AutoModel.from_pretrained(twin).config.hidden_size == 32


def shards(folder):
    path = write_parquet(folder / "shards", clip_rows(12, {i: make_video(10, 16, 24, seed=i) for i in range(12)}), [12])
    data = (path / "train-00000-of-00001.parquet").read_bytes()
    (path / "test-00000-of-00001.parquet").write_bytes(data)
    return path


def test_a_checkpoint_is_measured_from_its_folder(checkpoint, tmp_path):
    data = shards(tmp_path)
    options = {"sampling": "uniform", "pooling": "tokens", "progress": False}
    frozen = {"k": 1, "shots": (1,), "draws": 1, "attentive": {"steps": 2, "num_heads": 2}}
    result = evaluate_checkpoint(checkpoint, data, frozen=frozen, **options)
    assert result["knn"]["top_1"] == 1.0  # both splits are the same clips: each finds itself
    assert (result["num_train"], result["num_test"]) == (12, 12)
    assert 0.0 <= result["attentive_probe"]["top_1"] <= 1.0


def test_the_verb_writes_numbers_and_a_picture(checkpoint, tmp_path):
    words = [
        "tubelets",
        "evaluate",
        checkpoint,
        shards(tmp_path),
        "--output_dir",
        tmp_path / "out",
        "--sampling",
        "uniform",
    ]
    words += ["--random-twin", "--shots", "1", "--draws", "1", "--num-workers", "0", "--k", "1"]
    done = run_script(*words, folder=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "checkpoint: kNN 100.0%" in done.stdout
    assert "chance 33.3%" in done.stdout
    assert {"frozen.json", "frozen.png", "features", "random_twin"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }
    words[3] = tmp_path / "nowhere"
    failed = run_script(*words, folder=ROOT)
    assert failed.returncode == 2
    assert "tubelets evaluate: " in failed.stderr
