"""The snippets of authors' cards run, and their outputs have the shapes that the card states."""

import argparse
import importlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from scipy.io import wavfile
from transformers import AutoConfig

import tubelets
from tubelets.hub.author_cards import author_checkpoints, render_author_card
from videos import make_video

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINTS = author_checkpoints()


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("sigma-dino-vit-small-ssv2", (1, 1568, 384)),
        ("sigma-dino-vit-small-ssv2-finetuned-ssv2", (1, 174)),
        ("smile-vit-base-k400-600", (1, 1568, 768)),
        ("smile-vit-base-k400-600-finetuned-ssv2", (1, 174)),
        ("tubelet-contrast-r2plus1d-18-mini-kinetics", (1, 512, 2, 7, 7)),
        ("supervised-r2plus1d-18-k400", (1, 512, 2, 7, 7)),
        ("audiomae-vit-base-audioset", (1, 513, 768)),
        ("cav-mae-vit-base-audioset", (1, 708, 768)),
    ],
)
def test_snippets_convert_without_losing_the_configuration_and_run(
    name: str, output: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "hub_configs" / name, tmp_path / name)
    before = json.loads((tmp_path / name / "config.json").read_text(encoding="utf-8"))
    # Fewer blocks save time and change neither the snippets nor the shapes.
    before |= {field: 2 for field in ("num_hidden_layers", "decoder_num_hidden_layers") if field in before}
    (tmp_path / name / "config.json").write_text(json.dumps(before), encoding="utf-8")
    classifier = CHECKPOINTS[name].finetuning_data is not None
    config = AutoConfig.from_pretrained(tmp_path / name)
    model = getattr(tubelets, config.architectures[0])(config)
    official = importlib.import_module(CHECKPOINTS[name].converter).to_official(model)
    torch.save({"model": official, "args": argparse.Namespace()}, tmp_path / "official.pth")
    (tmp_path / "clip.mp4").write_bytes(make_video(70, 48, 64))
    wavfile.write(tmp_path / "sound.wav", 16000, np.zeros(16000, dtype=np.int16))
    monkeypatch.chdir(tmp_path)

    card = render_author_card(CHECKPOINTS[name])
    use, convert = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    exec(compile(convert, "card", "exec"), {})
    after = json.loads((tmp_path / name / "config.json").read_text(encoding="utf-8"))
    assert {key: after.get(key) for key in before} == before
    names: dict[str, Any] = {}
    exec(compile(use, "card", "exec"), names)
    found = names["outputs"].logits if classifier else names["outputs"].last_hidden_state
    assert tuple(found.shape) == output
    assert classifier or f"`outputs.last_hidden_state` `{output}`" in card


def test_settings_of_runs_without_a_script_are_not_called_the_authors() -> None:
    unknown = {
        name for name, checkpoint in CHECKPOINTS.items() if "published no script" in render_author_card(checkpoint)
    }
    assert unknown == {name for name in CHECKPOINTS if "sigma-mlp" in name or "small-k400" in name}


def test_encoders_are_not_tagged_as_classifiers() -> None:
    for name, checkpoint in CHECKPOINTS.items():
        data = ModelCard(render_author_card(checkpoint)).data
        expected = "feature-extraction" if checkpoint.finetuning_data is None else "video-classification"
        assert (name, data.pipeline_tag) == (name, expected)
        assert data.license == "other"


def test_only_masked_models_are_called_masked() -> None:
    assert {name for name, each in CHECKPOINTS.items() if "mask" not in render_author_card(each).lower()} == {
        name for name in CHECKPOINTS if any(part in name for part in ("r2plus1d", "r3d", "i3d", "skeleton"))
    }


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_cards_end_with_a_newline(name: str) -> None:
    assert (ROOT / "model_cards" / f"{name}.md").read_text(encoding="utf-8").endswith("\n")
