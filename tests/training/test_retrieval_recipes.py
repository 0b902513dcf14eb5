"""Recipes of video-text retrieval follow the specification (video_text_retrieval.md, section 3)."""

from pathlib import Path
from typing import Any

import pytest
from finetuning import RECIPES, words

from tubelets.training.finetuning_arguments import parse_finetuning_arguments

# Rate, tokens, epochs, flips, share of the training videos.
EXPECTED: dict[str, tuple[float, int, int, float, float]] = {
    "ssv2_template": (1e-4, 22, 10, 0.0, 1.0),
    "ssv2_label": (1e-5, 25, 10, 0.0, 1.0),
    "ssv2_template_fraction": (1e-4, 22, 10, 0.0, 0.05),
    "ssv2_label_fraction": (1e-5, 25, 10, 0.0, 0.05),
    "msrvtt": (1e-5, 32, 5, 0.5, 1.0),
    "didemo": (1e-5, 64, 10, 0.5, 1.0),
    "activitynet": (1e-5, 64, 10, 0.5, 1.0),
    "webvid": (5e-5, 32, 5, 0.5, 1.0),
}
PREFIX = "video_text_finetune_"


def load(name: str, folder: Path, **changes: Any) -> Any:
    given = {"model_name_or_path": "x", "dataset_name": "y", "use_cpu": True, **changes}
    return parse_finetuning_arguments(words(folder / "run", None, RECIPES / f"{PREFIX}{name}.yaml", **given))


def test_every_recipe_is_expected() -> None:
    assert {path.stem.removeprefix(PREFIX) for path in RECIPES.glob(f"{PREFIX}*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_effective_numbers_are_those_of_the_spec(name: str, tmp_path: Path) -> None:
    task, model, data, args = load(name, tmp_path)
    rate, tokens, epochs, flip, fraction = EXPECTED[name]
    assert task.name == "video-text-retrieval"
    assert args.videos_per_step == 96
    assert args.learning_rate == pytest.approx(rate)
    floor = 0.01 if name == "webvid" else 0.1
    assert args.min_learning_rate == pytest.approx(floor * rate)
    assert args.warmup_epochs == (1 if name == "webvid" else 0)
    assert (args.num_train_epochs, args.weight_decay, args.layer_decay) == (epochs, 0.02, 1)
    assert args.label_smoothing_factor == args.max_grad_norm == 0
    assert model.config_overrides == {"max_length": tokens}
    assert (data.horizontal_flip, data.fraction, data.least_steps) == (flip, fraction, 0.25)


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.25, 0.5])
def test_every_share_is_a_flag(fraction: float, tmp_path: Path) -> None:
    assert load("ssv2_label_fraction", tmp_path, fraction=fraction)[2].fraction == fraction
