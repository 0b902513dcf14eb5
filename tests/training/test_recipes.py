import re
import shutil
from pathlib import Path

import pytest
import yaml
from pretraining import DEMO, ROOT, command, losses, make_clip_shards, train

from tubelets.training.recipe import RecipeError, load_recipe, parse_overrides

# The recipes of the fine-tuning script have tests of their own.
OTHERS = ("_finetune_", "_linear_probe_")
RECIPES = sorted(
    path for path in (ROOT / "training" / "recipes").glob("*.yaml") if not any(part in path.stem for part in OTHERS)
)
GIVEN = ["--data.path=shards", "--run.output_dir=runs/x"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_builds_its_configuration(path: Path) -> None:
    recipe = load_recipe(path, GIVEN)
    config = recipe.model.build_config()
    assert config.model_type == recipe.model.model_type
    assert config.num_tokens > 0


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_runs_two_steps(path: Path, tmp_path: Path) -> None:
    shards = make_clip_shards(tmp_path, num_videos=8)
    changes = {"optimization__max_steps": 2, "run__precision": "fp32"}
    if load_recipe(path, GIVEN).model.model_type == "sigma":
        # The teacher's weights are not here: the target that needs none stands in.
        changes["model__config__target_type"] = "mlp"
    else:
        changes["model__config__num_prototypes"] = None
    small = {
        "model__config__patch_size": 8,
        "model__config__num_frames": 8,
        "model__config__decoder_num_attention_heads": 3,
    }
    train(*command(shards, tmp_path / "run", path, **changes, **small, run__trackers="[]"))
    assert len(losses(tmp_path / "run")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimization.weight_deacy=0.1"], "did you mean 'weight_decay'"),
        (["--model.config.mask_rato=0.5"], "did you mean 'mask_ratio'"),
        (["--optimization.base_learning_rate=1e-3"], r"write 1.0e-3"),
        (["--run.precision=int8"], "one of 'fp32', 'bf16', 'fp16'"),
        (["--run.seed=1.5"], "run.seed must be int"),
        (["--data.path=null"], "data.path is missing"),
        (["--run.seed"], "needs a value"),
        (["seed=3"], "expected an override"),
        (["--data.path.deep=3"], "is a value, not a section"),
    ],
)
def test_bad_overrides_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        load_recipe(DEMO, [*GIVEN, *words]).model.build_config()


def test_saved_recipe_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(DEMO, [*GIVEN, "--run.seed", "7"])
    recipe.save(tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert recipe.run.seed == 7


def test_overrides_are_yaml() -> None:
    assert parse_overrides(["--a.b=[1, 2]", "--a.c", "null"]) == {"a.b": [1, 2], "a.c": None}


def test_no_recipe_file() -> None:
    with pytest.raises(FileNotFoundError, match="training/recipes"):
        load_recipe("nowhere.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "training" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_configurations_are_understood(path: Path, tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    copy = Path(shutil.copy(path, tmp_path))
    config = load_config_from_file(str(copy))
    assert config.num_processes == yaml.safe_load(path.read_text())["num_processes"]
