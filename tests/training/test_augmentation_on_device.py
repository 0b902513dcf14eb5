"""`run.augment_on=device` gives the batches of `workers`, and is refused where a method has no such part."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from pretraining import DEMO, ROOT, make_clip_shards

from tubelets.training.pretraining import build_loader, second_part
from tubelets.training.recipe import Recipe, load_recipe

RECIPES = {
    "smile": "smile_vit_b_k400_600_stage1.yaml",
    "tubelet_contrast": "tubelet_contrast_r3d_18_mini_kinetics.yaml",
}
CHANGES = {"smile": ["--model.config.objects=shapes", "--model.config.patch_size=8"], "tubelet_contrast": []}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip_shards(tmp_path_factory.mktemp("clips"), num_videos=4)


def recipe_of(model_type: str, shards: Path, place: str, workers: int) -> Recipe:
    words = {
        "data.path": shards, "data.num_workers": workers, "data.shuffle_window": 4, "run.output_dir": "unused",
        "run.batch_size": 4, "run.augment_on": place, "model.config.image_size": 32, "model.config.num_frames": 4,
    }  # fmt: skip
    path = ROOT / "training" / "recipes" / RECIPES[model_type]
    return load_recipe(path, [*(f"--{name}={value}" for name, value in words.items()), *CHANGES[model_type]])


@pytest.mark.parametrize("model_type", RECIPES)
def test_batches_are_those_of_the_workers(model_type: str, shards: Path) -> None:
    batches = []
    for place, workers in (("workers", 0), ("device", 1)):
        recipe = recipe_of(model_type, shards, place, workers)
        config = recipe.model.build_config()
        finish = second_part(recipe, config)
        batches.append(finish(next(iter(build_loader(recipe, config, Accelerator(cpu=True))))))
    one, other = batches
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one if isinstance(one[name], torch.Tensor))


def test_a_method_that_leaves_pixels_alone_is_refused(shards: Path) -> None:
    recipe = load_recipe(DEMO, [f"--data.path={shards}", "--run.output_dir=unused", "--run.augment_on=device"])
    with pytest.raises(ValueError, match=r"run.augment_on='device'.*'sigma'"):
        second_part(recipe, recipe.model.build_config())
