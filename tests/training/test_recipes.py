import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from pretraining import DEMO, ROOT, TINY, command, losses, make_clip_shards, train

from tubelets.training import acceleration
from tubelets.training.acceleration import choose_precision
from tubelets.training.optimization import plan_run
from tubelets.training.parsing import RecipeError
from tubelets.training.pretraining import synchronize_batch_norm
from tubelets.training.recipe import load_recipe, recipe_help
from tubelets.training.run_log import read_log

# The recipes of the fine-tuning script have tests of their own.
OTHERS = ("_finetune", "_linear_probe")
RECIPES = sorted(
    path for path in (ROOT / "training" / "recipes").glob("*.yaml") if not any(part in path.stem for part in OTHERS)
)
GIVEN = ["--data.path=shards", "--run.output_dir=runs/x"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_builds_its_configuration(path: Path) -> None:
    recipe = load_recipe(path, GIVEN)
    config = recipe.model.build_config()
    assert config.model_type == recipe.model.model_type
    heard = hasattr(config, "max_length")
    assert (config.max_length if heard else config.num_frames) > 0


# Recipes that differ from another one in sizes, epochs and data alone are built above, and not run; those of networks
# that hear or read skeletons have tests of their own.
ALIKE = re.compile(
    r"smile_.*(_1200_|vit_s_k400|_ssv2|video_frame|black)|noise_(sigma|.*_ssv2)|sigma_vit_s_ssv2"
    r"|contrast.*k400|skeleton|noise_(audio|cav_mae)|study_audio|study_gpu|locomotion"
)
RUN = [path for path in RECIPES if ALIKE.search(path.stem) is None and "tubelet_contrast" not in path.stem]
RUN_CONTRAST = [path for path in RECIPES if ALIKE.search(path.stem) is None and "tubelet_contrast" in path.stem]


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_every_kind_of_recipe_runs_two_steps(path: Path, tmp_path: Path) -> None:
    shards = make_clip_shards(tmp_path, num_videos=8)
    changes: dict[str, Any] = {"optimization__max_steps": 2, "run__precision": "fp32"}
    model_type = load_recipe(path, GIVEN).model.model_type
    # Teachers and objects of the papers are not here: targets that need no teacher, and drawn objects, stand in.
    if model_type == "sigma":
        changes["model__config__target_type"] = "mlp"
    else:
        changes["model__config__num_prototypes"] = None
    if model_type == "smile":
        changes |= {"model__config__target_type": "pixel", "model__config__objects": "shapes"}
    if path.stem.startswith("structured_noise"):
        changes["model__config__mask_options"] = "{bank_size: 1}"
    small = {
        "model__config__patch_size": 8,
        "model__config__num_frames": 8,
        "model__config__decoder_num_attention_heads": 3,
    }
    train(*command(shards, tmp_path / "run", path, **changes, **small, run__trackers="[]"))
    assert len(losses(tmp_path / "run")) == 2


@pytest.mark.parametrize("path", RUN_CONTRAST, ids=lambda path: path.stem)
def test_every_kind_of_contrast_runs_two_steps(path: Path, tmp_path: Path) -> None:
    shards = make_clip_shards(tmp_path, num_videos=8)
    given = load_recipe(path, GIVEN).model.config
    narrow = {"depths": [1, 1, 1], "hidden_sizes": [8, 8, 8]} | ({} if "r3d" in path.stem else {"stem_size": 4})
    # Statistics over processes need GPUs.
    changes: dict[str, Any] = {"optimization__max_steps": 2, "run__precision": "fp32", "run__sync_batch_norm": "false"}
    changes |= {"model__config__queue_size": 8, "model__config__num_frames": 4}
    changes["model__config__backbone_options"] = {"width_multiplier": 0.1} if given["backbone"] == "i3d" else narrow
    unused = {name.replace(".", "__"): None for name in TINY if name.startswith("model.config.")}
    unused.pop("model__config__image_size")
    train(*command(shards, tmp_path / "run", path, **{**unused, **changes}, run__trackers="[]"))
    assert len(losses(tmp_path / "run")) == 2


@pytest.mark.parametrize("name", ["demo_locomotion", "locomotion_divided_webvid", "locomotion_stacked_webvid"])
def test_every_kind_of_video_with_captions_runs_two_steps(name: str, tmp_path: Path) -> None:
    shards = make_clip_shards(tmp_path, num_videos=8)
    tower = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 48}
    attention = "stacked" if "stacked" in name else "divided"
    video = tower | {"image_size": 32, "temporal_head_size": 16, "temporal_attention": attention}
    text = tower | {"tokenizer": "motion_words", "vocab_size": 560, "max_length": 32}
    # BEiT, BERT and the paper's objects are not here: random weights, and drawn objects, take their place.
    changes: dict[str, Any] = {name.replace(".", "__"): None for name in TINY if name.startswith("model.config.")}
    changes |= {"model__config__video_config": video, "model__config__text_config": text}
    changes |= {"model__config__fusion_encoder_config": tower, "model__config__objects": "shapes"}
    changes |= {"model__config__video_init": "null", "model__config__text_init": "null"}
    changes |= {"optimization__max_steps": 2, "run__precision": "fp32", "run__trackers": "[]"}
    train(*command(shards, tmp_path / "run", ROOT / "training" / "recipes" / f"{name}.yaml", **changes))
    lines = read_log(tmp_path / "run" / "training_log.jsonl")
    assert len(lines) == 2
    parts = ("contrastive", "matching", "masked_language")
    for line in lines:
        assert line["loss"] == pytest.approx(sum(line[f"{part}_loss"] for part in parts), rel=1e-4)
        assert all(0 <= line[f"{part}_accuracy"] <= 1 for part in parts)


@pytest.mark.parametrize("attention", ["divided", "stacked"])
def test_locomotion_recipes_follow_the_spec(attention: str) -> None:
    recipe = load_recipe(f"locomotion_{attention}_webvid", GIVEN)
    config, data, optimization = recipe.model.build_config(), recipe.data, recipe.optimization
    # locomotion.md, sections 3 and 7.
    assert config.video_config.temporal_attention == attention
    assert config.gather_features == (attention == "divided")
    assert (config.num_frames, config.image_height_width, config.text_config.max_length) == (4, (224, 224), 48)
    assert (config.temperature, config.masked_language_probability, config.template_probability) == (0.07, 0.5, 0.25)
    assert (data.sampling, data.crop, data.crop_scales, data.horizontal_flip) == (
        "interval", "random_resized", [0.5, 1.0], 0.5,
    )  # fmt: skip
    assert (optimization.weight_decay, optimization.betas) == (0.02, [0.9, 0.999])
    plan = plan_run(optimization, 9600, recipe.run.batch_size, num_processes=3)
    assert (plan.accumulation, plan.total_steps) == (1, 500)
    assert plan.schedule(99) == pytest.approx(5e-5)
    assert plan.schedule(499) == pytest.approx(5e-7, rel=0.2)


def test_synchronised_batch_norm_is_refused_on_cpus() -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm3d(2))
    with pytest.raises(ValueError, match=r"set run.sync_batch_norm=false"):
        synchronize_batch_norm(model, SimpleNamespace(device=torch.device("cpu")))
    changed = synchronize_batch_norm(model, SimpleNamespace(device=torch.device("cuda")))
    assert isinstance(changed[0], torch.nn.SyncBatchNorm)


CONTRAST = [path for path in RECIPES if path.stem.startswith("tubelet_contrast_")]


@pytest.mark.parametrize("path", CONTRAST, ids=lambda path: path.stem)
def test_tubelet_contrast_recipes_follow_the_spec(path: Path) -> None:
    recipe = load_recipe(path, GIVEN)
    config, data, optimization = recipe.model.build_config(), recipe.data, recipe.optimization
    # tubelet_contrast.md, sections 4, 6 and 7.
    assert (config.queue_size, config.momentum, config.temperature, config.projection_size) == (16384, 0.999, 0.2, 128)
    assert config.image_size == (224 if config.backbone == "i3d" else 112)
    assert (config.num_tubelets, config.motion_type, config.patch_transformation) == (2, "gaussian", "rotation")
    assert (config.key_encoder, config.still_probability, config.colour_probability) == ("momentum", 0, 0.2)
    assert (config.contrast == "temporal") == ("temporal" in path.stem)
    assert (data.sampling, data.stride, data.crop, data.horizontal_flip) == ("jittered", 4, "stretched", 0.5)
    assert (optimization.optimizer, optimization.decayed, optimization.momentum) == ("sgd", "all", 0.9)
    assert (optimization.weight_decay, optimization.max_gradient_norm) == (1e-4, 40)
    plan = plan_run(optimization, 3200, recipe.run.batch_size, num_processes=4)
    assert (plan.accumulation, plan.total_steps) == (1, 100 * 100)
    # The cosine over 200 epochs, once an epoch, stopped at 100: half of the rate is left.
    assert plan.schedule(0) == plan.schedule(99) == pytest.approx(0.01)
    assert plan.schedule(100) < 0.01
    assert plan.schedule(100 * 100) == pytest.approx(0.005)
    assert recipe.run.seed == 7


@pytest.mark.parametrize("path", [path for path in RECIPES if path.stem.startswith("smile_")], ids=lambda p: p.stem)
def test_smile_recipes_follow_the_spec(path: Path) -> None:
    recipe = load_recipe(path, GIVEN)
    config, optimization = recipe.model.build_config(), recipe.optimization
    assert (config.mask_ratio, config.masks_per_clip, config.second_mask) == (0.8, 2, "permute")
    assert (config.decoder_num_hidden_layers, config.hidden_size) == (4, 384 if "vit_s" in path.stem else 768)
    second, pixels = "stage2" in path.stem, "motion" in path.stem
    assert (config.num_objects, config.mask_type) == ((0, "tube") if second else (2, "trajectory"))
    assert config.target_type == ("pixel" if pixels else "clip")
    # 256 masked clips a step at the base rates (smile.md, section 7).
    plan = plan_run(optimization, clips_per_epoch=12800, batch_size=recipe.run.batch_size, num_processes=8)
    assert optimization.global_batch_size * config.masks_per_clip == 256
    assert (plan.schedule.learning_rate, plan.schedule.min_learning_rate) == (1.5e-4, 1e-5)
    assert (plan.accumulation, optimization.weight_decay, optimization.betas) == (1, 0.05, [0.9, 0.95])
    counted = {"600_stage1": 300, "600_stage2": 300, "1200_stage1": 800, "1200_stage2": 400}
    expected = next((epochs for part, epochs in counted.items() if part in path.stem), 400)
    assert optimization.epochs * config.masks_per_clip == expected
    # The warm-up ends at epoch 40 and, but for the family without video, the cosine is planned over 801.
    assert plan.schedule(40 * 100 - 1) == pytest.approx(1.5e-4)
    planned = 200 if pixels else 801
    halfway = plan.schedule(100 * (40 + (planned - 40) // 2))
    assert halfway == pytest.approx((1.5e-4 + 1e-5) / 2, rel=0.01)


def test_a_schedule_shorter_than_the_run_is_refused() -> None:
    recipe = load_recipe(DEMO, [*GIVEN, "--optimization.max_steps=null", "--optimization.schedule_epochs=1",
                                "--optimization.warmup_epochs=0"])  # fmt: skip
    with pytest.raises(ValueError, match="schedule_epochs=1 are"):
        plan_run(recipe.optimization, 1000, recipe.run.batch_size, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimization.weight_deacy=0.1"], "did you mean 'weight_decay'"),
        (["--optimization.epoch=3"], "did you mean 'epochs'"),
        (["--model.config.mask_rato=0.5"], "did you mean 'mask_ratio'"),
        (["--optimization.base_learning_rate=fast"], '"optimization.base_learning_rate": Expected'),
        (["--run.precision=int8"], "Literal['auto', 'fp32', 'bf16', 'fp16']. Got value: int8"),
        (["--run.seed=1.5"], '"run.seed": Expected a int. Got value: 1.5'),
        (["--run.compile=1"], '"run.compile": Expected a bool. Got value: 1'),
        (["--run.seed"], "--run.seed: expected one argument"),
        (["seed=3"], "unrecognized arguments: seed=3"),
        (["--data.path.deep=3"], '"data.path": Expected'),
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
    words = ["--model.config.a=[1, 2]", "--model.config.b", "null", "--model.config.c", "{d: 2e-3}"]
    recipe = load_recipe(DEMO, [*GIVEN, *words, "--optimization.base_learning_rate=1e-3"])
    assert [recipe.model.config[name] for name in "abc"] == [[1, 2], None, {"d": 0.002}]
    assert recipe.model.config["num_frames"] == load_recipe(DEMO, GIVEN).model.config["num_frames"]
    assert recipe.optimization.base_learning_rate == 1e-3


def test_errors_name_the_file_and_the_field(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(DEMO.read_text().replace("run:", "run:\n  sead: 3"))
    with pytest.raises(RecipeError, match=r"recipe\.yaml .*'sead'; did you mean 'seed'"):
        load_recipe(file, GIVEN)
    with pytest.raises(RecipeError, match=r"required: data\.path"):
        load_recipe(DEMO, GIVEN[1:])


def test_help_explains_the_fields_of_a_section() -> None:
    assert "optimization  optimisation and schedules" in recipe_help()
    assert "gradients are clipped to this norm" in " ".join(recipe_help("optimization").split())
    shown = recipe_help("run")
    assert "--run.precision {auto,fp32,bf16,fp16}" in shown
    assert "--data.path" not in shown
    with pytest.raises(ValueError, match="did you mean 'optimization'"):
        recipe_help("optimisation")


def test_no_recipe_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"no recipe 'sigma_tiny_dem'.*did you mean 'sigma_tiny_demo'"):
        load_recipe("sigma_tiny_dem")
    with pytest.raises(FileNotFoundError, match=r"no recipe 'elsewhere/sigma_tiny_demo\.yaml'"):
        load_recipe("elsewhere/sigma_tiny_demo.yaml")


def test_a_recipe_is_found_by_name_and_the_output_folder_has_its_short_name() -> None:
    words = ["--data.path=x", "--output-dir", "runs/x", "--optimization.base-learning-rate=1e-3"]
    recipe = load_recipe("sigma_tiny_demo", words)
    same = ["--data.path=x", "--run.output_dir=runs/x", "--optimization.base_learning_rate=1e-3"]
    assert recipe == load_recipe(DEMO, same)
    assert recipe.run.output_dir == "runs/x"


@pytest.mark.parametrize("computes", [True, False])
def test_precision_follows_the_machine_unless_it_is_given(
    computes: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceleration, "computes_bfloat16", lambda: computes)
    assert load_recipe("sigma_vit_b_k400", GIVEN).run.precision == "auto"
    assert choose_precision("auto") == ("bf16" if computes else "fp32")
    caplog.clear()
    assert [choose_precision(each) for each in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    assert ("is emulated on this machine" in caplog.text) is not computes


@pytest.mark.parametrize("path", sorted((ROOT / "training" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_configurations_are_understood(path: Path, tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    copy = Path(shutil.copy(path, tmp_path))
    config = load_config_from_file(str(copy))
    assert config.num_processes == yaml.safe_load(path.read_text())["num_processes"]
