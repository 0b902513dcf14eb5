import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from finetuning import DEMO, RECIPES, words

from tubelets.tasks.classification.labels import label_fields
from tubelets.tasks.classification.video import video_input
from tubelets.training import acceleration
from tubelets.training.finetuning_arguments import parse_finetuning_arguments, run_arguments
from tubelets.training.models import build_config
from tubelets.training.optimization import Schedule, StepSchedule
from tubelets.training.parsing import RecipeError

# Recipes for sounds, skeletons and videos with captions have tests of their own.
APART = ("structured_noise_", "skeleton_contrast_", "video_text_")
PATHS = sorted(
    path
    for path in [*RECIPES.glob("*_finetune_*.yaml"), *RECIPES.glob("*_linear_probe_*.yaml")]
    if not path.stem.startswith(APART) and not path.stem.endswith("_sounds")
)

# sigma.md, sections 7.2 and 7.3; smile.md, section 6.2 for UCF-101 and HMDB-51.
K400 = {
    "learning_rate": 1.25e-4, "min_learning_rate": 1.25e-7, "videos_per_step": 32, "epochs": 100, "layer_decay": 0.75,
    "flip": 0.5, "sampling": "finetune", "views": (5, 3), "repeats": 1, "drop_path": 0.1,
}  # fmt: skip
SSV2 = {**K400, "epochs": 40, "flip": 0.0, "sampling": "segment", "views": (2, 3)}
PROBE = {
    **SSV2,
    "epochs": 30,
    "learning_rate": 1.5e-3,
    "min_learning_rate": 1.5e-6,
    "videos_per_step": 384,
    "repeats": 2,
}
HMDB = {**K400, "epochs": 50, "layer_decay": 0.7, "drop_path": 0.2}
UCF = {**HMDB, "epochs": 100, "learning_rate": 6.25e-5}
EXPECTED = {
    f"sigma_{size}_{task}": numbers
    for size in ("vit_s", "vit_b")
    for task, numbers in {
        "finetune_k400": K400,
        "finetune_ssv2": SSV2,
        "finetune_ucf101": UCF,
        "finetune_hmdb51": HMDB,
        "linear_probe_ssv2": PROBE,
    }.items()
}
# smile.md, section 6.2.
SMILE_K400 = {
    **K400, "learning_rate": 6.25e-5, "min_learning_rate": 6.25e-8, "videos_per_step": 16, "views": (7, 3)
}  # fmt: skip
SMILE_SSV2 = {**SSV2, "layer_decay": 0.7}
for size in ("vit_s", "vit_b"):
    EXPECTED |= {f"smile_{size}_finetune_k400": SMILE_K400, f"smile_{size}_finetune_ssv2": SMILE_SSV2}

# tubelet_contrast.md, section 9: epochs and milestones times the clips of a video in an epoch.
CONTRAST = {
    "ucf101": (16, (6, 10, 14), 10),
    "hmdb51": (16, (6, 10, 14), 10),
    "gym99": (16, (6, 10, 14), 10),
    "diving48": (16, (6, 10, 14), 10),
    "ssv2": (22, (12, 17, 20), 2),
    "fx_s1": (18, (7, 12, 16), 10),
    "ucf101_1000": (18, (8, 13, 16), 10),
}


def load(path: Path, tmp_path: Path, **changes: Any) -> Any:
    given = {} if path == DEMO else {"model_name_or_path": "x", "dataset_name": "y", "use_cpu": True}
    data = tmp_path if path == DEMO else None
    task, *groups = parse_finetuning_arguments(words(tmp_path / "run", data, path, **given, **changes))
    assert task.name == "video-classification"
    return groups


def test_every_recipe_of_the_papers_is_expected() -> None:
    papers = {path.stem for path in PATHS if not path.stem.startswith("study_")}
    assert papers == {*EXPECTED, DEMO.stem, *(f"tubelet_contrast_r2plus1d_18_finetune_{name}" for name in CONTRAST)}


@pytest.mark.parametrize("name", CONTRAST)
def test_contrast_is_tuned_by_the_protocol_of_severe(name: str, tmp_path: Path) -> None:
    model, data, args = load(RECIPES / f"tubelet_contrast_r2plus1d_18_finetune_{name}.yaml", tmp_path)
    epochs, milestones, passes = CONTRAST[name]
    assert args.num_train_epochs == epochs * passes
    assert args.milestones == [passes * milestone for milestone in milestones]
    assert (args.milestone_factor, args.learning_rate, args.videos_per_step) == (0.3, pytest.approx(1e-4), 32)
    assert (args.weight_decay, args.warmup_epochs, args.layer_decay, args.max_grad_norm) == (0, 0, 1, 0)
    assert (args.adam_beta1, args.adam_beta2, args.adam_epsilon, args.label_smoothing_factor) == (0.9, 0.999, 1e-8, 0)
    assert (data.crop_scale, data.color_jitter, data.horizontal_flip) == ([0.08, 1.0], [0.4, 0.4, 0.4, 0.2], 0.5)
    assert (data.random_augment, data.random_erasing, data.mixup, data.cutmix) == (None, 0, 0, 0)
    assert (data.test_clips, data.test_crops, data.test_short_side, data.stride) == (10, 1, 128, 1)
    assert model.config_overrides == {"num_frames": 32}
    assert data.shots_per_class == (10 if name.endswith("1000") else None)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_recipe_loads(path: Path, tmp_path: Path) -> None:
    words = [str(path), "--use_cpu", "--output_dir", str(tmp_path), *missing(path)]
    args = parse_finetuning_arguments(words)[-1]
    assert args.do_train
    assert args.learning_rate > 0


def missing(path: Path) -> list[str]:
    """Flags for what a recipe leaves to the command line."""
    content = yaml.safe_load(path.read_text())
    model = [] if content.get("model_type") or content.get("model_name_or_path") else ["--model_name_or_path", "x"]
    return [*model, "--dataset_name", "y"]


@pytest.mark.parametrize("path", [path for path in PATHS if path.stem in EXPECTED], ids=lambda path: path.stem)
def test_effective_numbers_are_those_of_the_spec(path: Path, tmp_path: Path) -> None:
    model, data, args = load(path, tmp_path)
    found = {
        "learning_rate": args.learning_rate,
        "min_learning_rate": args.min_learning_rate,
        "videos_per_step": args.videos_per_step,
        "epochs": args.num_train_epochs,
        "layer_decay": args.layer_decay,
        "flip": data.horizontal_flip,
        "sampling": data.train_sampling,
        "views": (data.test_clips, data.test_crops),
        "repeats": data.repeated_augmentation,
        "drop_path": model.config_overrides["drop_path_rate"],
    }
    expected = EXPECTED[path.stem]
    assert found == {
        name: pytest.approx(value) if isinstance(value, float) else value for name, value in expected.items()
    }
    assert model.freeze_backbone == ("linear_probe" in path.stem)
    assert (args.adam_beta1, args.adam_beta2, args.weight_decay, args.warmup_epochs) == (0.9, 0.999, 0.05, 5)
    assert (args.label_smoothing_factor, args.max_grad_norm) == (0.1, 0.0)
    assert (data.random_augment, data.random_erasing) == ("rand-m7-n4-mstd0.5-inc1", 0.25)
    assert (data.mixup, data.cutmix, data.mix_probability, data.cutmix_share) == (0.8, 1.0, 1.0, 0.5)
    assert (data.crop_scale, data.stride) == ([0.25, 1.0], 4)
    # The official launch: 8 processes, SMILE 4, with the recipe's batch reach the global one by whole accumulations.
    processes = 4 if path.stem.startswith("smile") else 8
    assert args.global_batch_size % (processes * args.per_device_train_batch_size) == 0


@pytest.mark.parametrize("path", [path for path in PATHS if path.stem in EXPECTED], ids=lambda path: path.stem)
def test_the_schedule_begins_at_0_and_ends_at_the_minimum(path: Path, tmp_path: Path) -> None:
    _, _, args = load(path, tmp_path)
    steps = 100
    total = int(args.num_train_epochs * steps)
    schedule = Schedule(args.learning_rate, args.min_learning_rate, int(args.warmup_epochs * steps), total)
    assert schedule(0) == 0
    assert schedule(int(args.warmup_epochs * steps)) == pytest.approx(EXPECTED[path.stem]["learning_rate"])
    assert schedule(total) == pytest.approx(EXPECTED[path.stem]["min_learning_rate"])


def test_milestones_replace_the_cosine() -> None:
    schedule = StepSchedule(1e-4, 0.3, milestones=(10, 20), warmup_steps=3)
    assert [schedule(step) for step in (0, 2, 3, 9)] == pytest.approx([0.0, 1e-4, 1e-4, 1e-4])
    assert [schedule(step) for step in (10, 19, 20, 99)] == pytest.approx([3e-5, 3e-5, 9e-6, 9e-6])


def test_milestones_ascend(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[3, 2\]"):
        load(DEMO, tmp_path, milestones=[3, 2])
    with pytest.raises(ValueError, match="4 numbers"):
        load(DEMO, tmp_path, color_jitter=[0.4])


def test_the_demonstration_builds_its_model(tmp_path: Path) -> None:
    model, _, args = load(DEMO, tmp_path)
    config = build_config(model, label_fields(["a", "b"]))
    assert config.num_labels == 2
    assert video_input(config)[1].num_frames == 8
    assert args.learning_rate == pytest.approx(1e-3)


def test_any_argument_can_be_overridden(tmp_path: Path) -> None:
    changes = {"mixup": 0, "random_augment": "", "layer_decay": 0.5, "crop_scale": [0.5, 1.0], "seed": 3}
    _, data, args = load(DEMO, tmp_path, **changes)
    assert (data.mixup, data.random_augment, data.crop_scale) == (0.0, None, [0.5, 1.0])
    assert (args.layer_decay, args.seed) == (0.5, 3)


def test_processes_and_accumulation_share_the_global_batch(tmp_path: Path) -> None:
    path = RECIPES / "sigma_vit_b_finetune_k400.yaml"
    _, _, args = load(path, tmp_path, per_device_train_batch_size=8)
    assert (args.gradient_accumulation_steps, args.videos_per_step) == (4, 32)
    assert args.learning_rate == pytest.approx(1.25e-4)
    with pytest.raises(ValueError, match="global_batch_size=32 must be a multiple"):
        load(path, tmp_path, per_device_train_batch_size=5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"layer_deacy": 0.5}, "did you mean 'layer_decay'"),
        ({"base_learning_rate": "fast"}, '"base_learning_rate": Expected one of float, NoneType. Got value: fast'),
        ({"stride": 1.5}, '"stride": Expected a int. Got value: 1.5'),
        ({"train_sampling": "random"}, "Literal['dense', 'finetune', 'segment', 'uniform']. Got value: random"),
        ({"multi_label": "perhaps"}, '"multi_label": Expected a bool'),
    ],
)
def test_bad_files_are_refused(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError, match=re.escape(message)) as error:
        parse_finetuning_arguments([str(file), "--model_type", "sigma"])
    assert str(file) in str(error.value)


def test_exponents_need_no_point(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("model_type: sigma\ntrain_dir: videos\nbase_learning_rate: 2e-3\n")
    *_, args = parse_finetuning_arguments([str(file), "--output_dir", str(tmp_path), "--use_cpu"])
    assert args.base_learning_rate == 2e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_name_or_path": "x", "model_type": "sigma"}, "give either model_name_or_path"),
        ({"dataset_name": "x"}, "give either dataset_name"),
        ({"learning_rate": 0.5}, "contradict each other"),
        ({"warmup_steps": 10}, "warmup_steps=10.0 is not used"),
        ({"lr_scheduler_type": "cosine"}, "is not used; set warmup_epochs"),
        ({"crop_scale": [0.5]}, "crop_scale must be 2 numbers"),
        ({"random_augment": "rand-m7"}, "must begin with 'rand-' and have 'inc1'"),
        ({"repeated_augmentation": 0}, "repeated_augmentation must be at least 1"),
        ({"freeze_backbone": True, "freeze_layers": 1}, "omit freeze_layers"),
        ({"base_learning_rate": -1}, "base_learning_rate must be positive"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load(DEMO, tmp_path, **changes)


def test_no_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"no recipe 'nowhere\.yaml'"):
        parse_finetuning_arguments(["nowhere.yaml"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer_deacy", "0.5"], "unknown flag --layer_deacy; did you mean '--layer_decay'?"),
        (["--stride", "x"], "argument --stride: invalid int value: 'x'"),
    ],
)
def test_bad_flags_are_refused_in_a_line(words: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse_finetuning_arguments(["--model_type", "sigma", *words])
    assert str(error.value) == message


@pytest.mark.parametrize("computes", [True, False])
def test_precision_follows_the_machine(computes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "computes_bfloat16", lambda: computes)
    words = ["sigma_vit_b_finetune_ssv2", "--model_type", "sigma", "--train_dir", "x", "--output_dir", str(tmp_path)]
    args = parse_finetuning_arguments(words)[-1]
    assert (args.bf16, args.fp16) == (computes, False)
    assert args.use_cpu is not torch.accelerator.is_available()
    assert parse_finetuning_arguments([*words, "--precision", "fp32"])[-1].bf16 is False
    # What is asked for is done, also where it is slow.
    assert parse_finetuning_arguments([*words, "--bf16", "false"])[-1].bf16 is False
    assert parse_finetuning_arguments([*words, "--bf16"])[-1].bf16 is True
    with pytest.raises(ValueError, match="precision=fp32 and bf16 contradict"):
        parse_finetuning_arguments([*words, "--precision", "fp32", "--bf16"])


def test_what_is_written_down_holds_no_token(tmp_path: Path) -> None:
    arguments = run_arguments(*load(DEMO, tmp_path, token="secret", hub_token="secret"))
    assert "secret" not in str(arguments)
    assert arguments["training"]["videos_per_step"] == 4
    assert yaml.safe_load(yaml.safe_dump(arguments)) == arguments
    assert math.isclose(arguments["training"]["learning_rate"], 1e-3)
