"""Fine-tuning recipes with other models than they were written for."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from finetuning import DEMO, RECIPES
from transformers import AutoConfig, AutoModelForPreTraining

from tubelets.tasks.classification.labels import label_fields
from tubelets.training.finetuning_arguments import parse_finetuning_arguments, run_arguments
from tubelets.training.models import build_config, build_model
from tubelets.training.parsing import RecipeError

NAMES = ["jump", "run"]
KINETICS = RECIPES / "sigma_vit_b_finetune_k400.yaml"
SMALL = {
    "hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32, "image_size": 32,
    "num_frames": 2,
}  # fmt: skip


def words(recipe: Path, folder: Path, **flags: Any) -> list[str]:
    places = {
        "train_dir": folder,
        "validation_dir": folder,
        "output_dir": folder / "run",
        "use_cpu": True,
        "bf16": False,
    }
    return [str(recipe), *(part for name, value in {**places, **flags}.items() for part in (f"--{name}", str(value)))]


def saved(config: Any, folder: Path) -> Path:
    config.save_pretrained(folder)
    return folder


def test_a_recipe_fits_any_classifier(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stock = saved(transformers.VideoMAEConfig(**SMALL), tmp_path / "stock")
    timesformer = saved(transformers.TimesformerConfig(**SMALL), tmp_path / "timesformer")
    vjepa2 = saved(transformers.VJEPA2Config(hidden_size=24, num_attention_heads=2), tmp_path / "vjepa2")
    # TimeSformer has the field, as an integer.
    for folder, message in ((stock, "a videomae has none"), (timesformer, "a timesformer has none"), (vjepa2, None)):
        caplog.clear()
        _, model, _, _ = parse_finetuning_arguments(words(KINETICS, tmp_path, model_name_or_path=folder))
        config = build_config(model, label_fields(NAMES))
        assert config.hidden_size == 24
        if message is None:
            assert (config.drop_path_rate, caplog.text) == (0.1, "")
        else:
            assert [record.message for record in caplog.records] == [
                f"left out of the recipe, because {message}: drop_path_rate"
            ]


def test_unknown_fields_of_the_command_line_or_of_no_model_are_refused(tmp_path: Path) -> None:
    stock = saved(transformers.VideoMAEConfig(**SMALL), tmp_path / "stock")
    given = {"model_name_or_path": stock, "config_overrides": json.dumps({"drop_path_rate": 0.1})}
    _, model, _, _ = parse_finetuning_arguments(words(KINETICS, tmp_path, **given))
    with pytest.raises(RecipeError, match=r"unknown field config_overrides\.drop_path_rate"):
        build_config(model, label_fields(NAMES))
    (tmp_path / "typo.yaml").write_text(KINETICS.read_text().replace("drop_path_rate", "drop_path_rat"))
    _, model, _, _ = parse_finetuning_arguments(words(tmp_path / "typo.yaml", tmp_path, model_name_or_path=stock))
    with pytest.raises(RecipeError, match=r"unknown field config_overrides\.drop_path_rat; "):
        build_config(model, label_fields(NAMES))


def test_the_tiny_recipe_starts_from_the_tiny_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = yaml.safe_load((RECIPES / "sigma_tiny_demo.yaml").read_text())["model"]
    torch.manual_seed(0)
    pretrained = AutoModelForPreTraining.from_config(AutoConfig.for_model(content["model_type"], **content["config"]))
    pretrained.save_pretrained(tmp_path / "tiny")
    with caplog.at_level(logging.WARNING):
        task, arguments, data, args = parse_finetuning_arguments(
            words(DEMO, tmp_path, model_name_or_path=tmp_path / "tiny")
        )
    assert "hidden_size, image_size" in caplog.text
    assert run_arguments(arguments, data, args)["model"]["config_overrides"] == {"drop_path_rate": 0.1}
    model = build_model(arguments, task, label_fields(NAMES))
    assert (model.config.hidden_size, model.config.drop_path_rate) == (192, 0.1)
    expected = pretrained.videomae.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.videomae.state_dict().items())
