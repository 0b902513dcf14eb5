"""Recipes of Skeleton-Contrast: the paper's numbers, and runs of the demonstration on shards of recordings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pretraining import ROOT, SCRIPT, losses, train
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModel

from tubelets.data.build.data_sets import build_data_set
from tubelets.training.optimization import plan_run
from tubelets.training.recipe import load_recipe

RECIPES = ROOT / "training" / "recipes"
GIVEN = ["--data.path=shards", "--run.output_dir=runs/x"]
PUBLISHED = {
    "ntu60": (451, 351, 16384), "ntu120": (351, 251, 16384), "pku_mmd_1": (600, 467, 8192),
    "pku_mmd_2": (600, 467, 2048),
}  # fmt: skip


def test_every_preset_is_tested() -> None:
    found = {path.stem.removeprefix("skeleton_contrast_") for path in RECIPES.glob("skeleton_contrast_*.yaml")}
    assert found - {"finetune", "linear_probe"} == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_follow_the_spec(name: str) -> None:
    recipe = load_recipe(RECIPES / f"skeleton_contrast_{name}.yaml", GIVEN)
    config, optimization = recipe.model.build_config(), recipe.optimization
    epochs, milestone, queue = PUBLISHED[name]
    # skeleton_contrast.md, sections 4, 5 and 7.
    assert (config.queue_size, config.momentum, config.temperature, config.projection_size) == (queue, 0.999, 0.07, 128)
    assert (tuple(config.representations), config.num_frames, config.max_frames) == (("sequence", "graph"), 64, 300)
    assert config.encoder_configs["sequence"].feature_size == 2048
    settings = config.view_settings
    assert (settings.augmentations, settings.min_crop_ratio) == (("temporal", "pose", "jitter"), 0.1)
    assert (settings.min_crop_frames, settings.jitter_joints, settings.shear_strength) == (64, 15, 1.0)
    assert (optimization.optimizer, optimization.decayed, optimization.momentum) == ("sgd", "all", 0.9)
    assert (optimization.weight_decay, optimization.warmup_epochs) == (1e-4, 0)
    plan = plan_run(optimization, 6400, recipe.run.batch_size, num_processes=1)
    assert (plan.accumulation, plan.steps_per_epoch, plan.total_steps) == (1, 100, epochs * 100)
    assert plan.schedule(0) == plan.schedule(milestone * 100 - 1) == pytest.approx(0.01)
    assert plan.schedule(milestone * 100) == plan.schedule(epochs * 100 - 1) == pytest.approx(0.001)


def make_shards(folder: Path, count: int = 16) -> Path:
    generator = np.random.default_rng(0)
    (folder / "recordings").mkdir(parents=True)
    for number in range(count):
        values = generator.standard_normal((2, int(generator.integers(20, 90)), 25, 3)).astype(np.float32)
        np.save(folder / "recordings" / f"{number}.npy", values)
    build_data_set(folder / "recordings", folder / "shards", kind="skeletons", clips_per_shard=4, progress=False)
    return folder / "shards"


def test_demonstration_trains_resumes_and_loads(tmp_path: Path) -> None:
    shards = make_shards(tmp_path)
    recipe = str(RECIPES / "demo_skeleton_contrast.yaml")
    small = [
        "--run.batch_size=4", "--optimization.global_batch_size=4", "--model.config.queue_size=8",
        "--data.num_workers=0", "--run.precision=fp32", f"--data.path={shards}", "--run.logging_steps=1",
        "--run.save_steps=2", "--optimization.schedule_epochs=8",
    ]  # fmt: skip
    found = []
    for name, steps in (("whole", (4,)), ("resumed", (2, 4))):
        for last in steps:
            extend = ["--run.extend=true"] if len(steps) > 1 and last == 4 else []
            run = [f"--run.output_dir={tmp_path / name}", f"--optimization.max_steps={last}", *extend]
            train(str(SCRIPT), recipe, *small, *run)
        found.append(load_file(tmp_path / name / "final" / "model.safetensors"))
        assert len(losses(tmp_path / name)) == 4
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())
    device = [f"--run.output_dir={tmp_path / 'device'}", "--optimization.max_steps=4", "--run.augment_on=device"]
    train(str(SCRIPT), recipe, *small, *device)
    assert losses(tmp_path / "device") == losses(tmp_path / "whole")
    final = tmp_path / "whole" / "final"
    extract = AutoFeatureExtractor.from_pretrained(final)
    output = AutoModel.from_pretrained(final)(**extract(np.ones((1, 50, 25, 3)), return_tensors="pt"))
    assert output.pooler_output.shape == (1, 128)
    assert "skeleton" in (final / "README.md").read_text()
