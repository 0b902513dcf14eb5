"""Cards that runs write: what was measured, what is missing, and the right words for each method."""

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

import tubelets
from tubelets.hub.cards import render_finetuning_card, render_run_card
from tubelets.training.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
DATA = {"dataset_name": None, "validation_split": "validation", "test_split": None, "test_clips": 1, "stride": 1}
TRAINING = {"videos_per_step": 8, "learning_rate": 1e-3, "head_factor": 100, "layer_decay": 0.75}
ARGUMENTS: dict[str, Any] = {
    "model": {"model_name_or_path": None, "freeze_backbone": False},
    "data": DATA,
    "training": {**TRAINING, "bf16": True, "fp16": False, "seed": 0},
}


def finetuning_card(config: Any, metrics: dict[str, float]) -> str:
    return render_finetuning_card("mine", ARGUMENTS, {"steps": 8}, metrics, {"torch": "2"}, config)


def test_a_pretraining_card_lists_what_is_missing() -> None:
    recipe = load_recipe(ROOT / "training/recipes/sigma_tiny_demo.yaml", ["--data.path=x", "--run.output_dir=y"])
    summary = {"steps": 3, "epochs": 0.123456789, "seconds": 98765.4321}
    text = render_run_card("demo", recipe.to_dict(), summary, {"torch": "2"}, recipe.model.build_config())
    data = ModelCard(text).data
    assert data.library_name == "tubelets"
    assert data.pipeline_tag == "feature-extraction"
    assert data.tags == ["video", "sigma", "tubelets", "masked-video-modelling"]
    assert "license" not in data.to_dict()
    for part in ("To be completed by the author", "| steps | 3 |", "| epochs | 0.1235 |", "| seconds | 98765 |",
                 "No evaluation has been run", "Accuracy was not measured"):  # fmt: skip
        assert part in text, part


def test_a_card_states_the_command_without_private_values() -> None:
    words = ["tubelets", "pretrain", "mine.yaml", "--data.path", "/home/me/clips", "--run.project", "two words"]
    config = tubelets.I3DConfig(width_multiplier=0.25)
    text = render_run_card("mine", {}, {"command": words, "steps": 3}, {"torch": "2"}, config)
    assert "```bash\ntubelets pretrain mine.yaml --data.path clips --run.project 'two words'\n```" in text
    assert "| command |" not in text
    assert "/home" not in text
    tuned = render_finetuning_card("mine", ARGUMENTS, {}, {}, {"torch": "2"}, config, command=words)
    assert "tubelets pretrain mine.yaml" in tuned


def test_a_contrastive_run_is_not_called_masked() -> None:
    config = tubelets.TubeletContrastConfig()
    text = render_run_card("mine", {"model": {"init_from": None}, "data": {"stride": 2}}, {}, {"torch": "2"}, config)
    assert "contrastive-learning" in ModelCard(text).data.tags
    assert "mask" not in text.lower()
    assert "stride=2" in text


def test_a_card_without_a_test_claims_nothing() -> None:
    text = finetuning_card(tubelets.StructuredNoiseAudioConfig(num_labels=3), {})
    assert "No test has been run." in text
    assert "Accuracy was not measured" in text
    assert "model-index" not in text
    assert "| learning rate of the head | 0.1 |" in text
    assert "| clips per step | 8 |" in text
    assert "AutoModelForAudioClassification" in text
    assert "video" not in text.partition("## Citation")[0].lower()


def test_measured_numbers_are_rounded_and_the_primary_metric_comes_first() -> None:
    metrics = {"top_5": 0.98765432, "top_1": 0.87654321, "num_videos": 40.0, "skipped_videos": 2.0, "loss": 0.3}
    text = finetuning_card(tubelets.SigmaConfig(num_labels=3), metrics)
    first, second = ModelCard(text).data.eval_results or []
    assert (first.metric_type, first.metric_value, first.dataset_split) == ("accuracy", 0.87654, "validation")
    assert second.metric_type == "top_5_accuracy"
    assert "Measured on 40 clips; 2 could not be read." in text
    assert (
        "| local files, validation, one clip from the middle | top-1 accuracy | 0.8765 | measured by this run |" in text
    )


@pytest.mark.parametrize(
    ("started_from", "expected"), [("MCG-NJU/videomae-base", "MCG-NJU/videomae-base"), ("runs/k400/final", None)]
)
def test_only_a_hub_id_becomes_the_base_model(started_from: str, expected: str | None) -> None:
    arguments = {**ARGUMENTS, "model": {"model_name_or_path": started_from, "freeze_backbone": True}}
    config = tubelets.SigmaConfig(num_labels=3)
    text = render_finetuning_card("mine", arguments, {}, {}, {"torch": "2"}, config)
    assert ModelCard(text).data.base_model == expected
    assert f"| started from | {started_from} |" in text
    assert "A linear probe" in text


def test_rendering_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    finetuning_card(tubelets.SigmaConfig(num_labels=3), {})
    render_run_card("mine", {}, {}, {"torch": "2"}, tubelets.I3DConfig(width_multiplier=0.25))
    assert torch.equal(torch.rand(1), expected)
