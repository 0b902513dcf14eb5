"""Finished runs on disk, as the training scripts leave them."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml

import tubelets
from tubelets.training.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
SIZES: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_frames": 4, "hidden_size": 32, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "intermediate_size": 48, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1}
SIZES |= {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 24, "mask_ratio": 0.75}
SIZES |= {"num_prototypes": 6, "projection_hidden_sizes": (20,), "projection_size": 12}
NAMES = ["fall", "jump", "run"]


def save_model(folder: Path, kind: str, seed: int = 0, **changes: Any) -> Any:
    """A small model with its processor."""
    torch.manual_seed(seed)
    model = getattr(tubelets, kind)(tubelets.SigmaConfig(**{**SIZES, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    tubelets.video_processor(model.config).save_pretrained(folder)
    return model.eval()


def pretraining_run(folder: Path) -> Any:
    """The folder of a pretraining run; its model is in `final`."""
    model = save_model(folder / "final", "SigmaForPreTraining")
    overrides = ["--data.path=/home/someone/clips", f"--run.output_dir={folder}"]
    load_recipe(ROOT / "training/recipes/sigma_tiny_demo.yaml", overrides).save(folder / "final" / "recipe.yaml")
    summary = {"versions": {"torch": "2.9"}, "steps": 12, "seconds": 3.5, "device": "cpu"}
    (folder / "final" / "training_summary.json").write_text(json.dumps(summary))
    (folder / "training_log.jsonl").write_text('{"step": 12, "loss": 3.5}\n')
    (folder / "checkpoint-12").mkdir()
    (folder / "checkpoint-12" / "optimizer.bin").write_bytes(b"a pickle")
    return model


def finetuning_run(folder: Path, **changes: Any) -> Any:
    """The folder of a fine-tuning run."""
    labels = {"id2label": dict(enumerate(NAMES)), "label2id": {name: number for number, name in enumerate(NAMES)}}
    model = save_model(folder, "SigmaForVideoClassification", **{**labels, **changes})
    data = {"dataset_name": "tester/clips", "validation_split": "test", "test_split": None, "stride": 2}
    arguments = {
        "model": {"model_name_or_path": "tester/encoder", "freeze_backbone": False},
        "data": {**data, "test_clips": 5, "test_crops": 3},
        "training": {"learning_rate": 1e-3, "num_train_epochs": 3, "bf16": False, "seed": 4, "hub_token": "hf_secret"},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump({"arguments": arguments, "versions": {"torch": "2.9"}}))
    metrics = {"train_runtime": 12.5, "epoch": 3.0, "test_top_1": 0.625, "test_top_5": 1.0, "test_num_videos": 24}
    (folder / "all_results.json").write_text(json.dumps(metrics))
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": [{"step": 1, "loss": 1.1}]}))
    (folder / "training_args.bin").write_bytes(b"a pickle")
    return model
