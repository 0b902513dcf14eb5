"""Publish audio and audio-visual models: the folder is complete; snippet, metric and task of its card are right."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import metadata_load
from scipy.io import wavfile

import tubelets
from tubelets.hub.cards import CardDetails
from tubelets.hub.finished_runs import PublishingError, RunFolder
from tubelets.hub.publishing import build_publication
from tubelets.models.common.auto import inference_processor
from videos import make_video

NAMES = ["bark", "rain", "siren"]
DETAILS = CardDetails(license="cc-by-4.0", datasets=["tester/sounds"])
SIZES: dict[str, Any] = {
    "max_length": 32, "num_mel_bins": 32, "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
DECODER: dict[str, Any] = {"decoder_type": "plain", "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1}
DECODER |= {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 24}
LABELS: dict[str, Any] = {"id2label": dict(enumerate(NAMES)), "label2id": {name: n for n, name in enumerate(NAMES)}}
AUDIO = (tubelets.StructuredNoiseAudioConfig, {**SIZES, **DECODER})
BOTH = (tubelets.StructuredNoiseAudioVideoConfig, {**SIZES, **DECODER, "image_size": 16})


def save(folder: Path, kind: str, made_by: Any, **fields: Any) -> Any:
    torch.manual_seed(0)
    config_class, sizes = made_by
    model = getattr(tubelets, kind)(config_class(**sizes, **fields)).eval()
    model.save_pretrained(folder)
    inference_processor(model.config).save_pretrained(folder)
    return model


def write_run(folder: Path, metrics: dict[str, float], task: str = "audio-classification", **data: Any) -> None:
    """What the script for sounds leaves beside the model."""
    content = {
        "task": task,
        "arguments": {
            "model": {"model_name_or_path": "tester/encoder", "freeze_backbone": False},
            "data": {"dataset_name": "tester/sounds", "validation_split": "eval", "test_split": None, "test_clips": 1,
                     **data},
            "training": {"learning_rate": 1e-3, "num_train_epochs": 3, "bf16": False, "seed": 4},
        },
        "versions": {"torch": "2.9"},
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    (folder / "test_results.json").write_text(json.dumps(metrics))
    (folder / "per_class_average_precision.json").write_text(json.dumps(dict.fromkeys(NAMES, 0.5)))


def run_snippet(card: str, repository: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the card's snippet computes when the repository is a folder here."""
    (folder.parent / "clip.mp4").write_bytes(make_video(10, 24, 32))
    wavfile.write(folder.parent / "sound.wav", 16000, (9000 * np.sin(np.arange(8000) / 9)).astype(np.int16))
    monkeypatch.chdir(folder.parent)
    (snippet,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(snippet.replace(repository, folder.name), "card", "exec"), names)
    return names["outputs"]


def test_an_audio_classifier_becomes_a_complete_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "run", "StructuredNoiseAudioForAudioClassification", AUDIO, **LABELS)
    write_run(tmp_path / "run", {"test_mean_average_precision": 0.471, "test_num_videos": 9})
    publication = build_publication(RunFolder.find(tmp_path / "run"), tmp_path / "out", "tester/ears", DETAILS)
    assert {"preprocessor_config.json", "per_class_average_precision.json"} <= publication.files.keys()
    metadata = metadata_load(tmp_path / "out" / "README.md")
    assert metadata["pipeline_tag"] == "audio-classification"
    assert metadata["tags"] == ["audio", "structured_noise_audio", "tubelets"]
    (result,) = metadata["model-index"][0]["results"]
    assert result["task"]["type"] == "audio-classification"
    assert (result["metrics"][0]["type"], result["metrics"][0]["value"]) == ("mean_average_precision", 0.471)
    for text in ("An audio classifier with 3 classes", "all arguments are in `run.yaml`",
                 "| tester/sounds, eval, one clip from the middle | mean average precision | 0.471 |"):  # fmt: skip
        assert text in publication.card, text
    assert "video" not in publication.card
    assert run_snippet(publication.card, "tester/ears", tmp_path / "out", monkeypatch).logits.shape == (1, 3)


@pytest.mark.parametrize("modality", ["both", "audio", "video"])
def test_an_audio_visual_classifier_is_shown_with_what_it_takes(
    modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "run", "StructuredNoiseAudioVideoForVideoClassification", BOTH, modality=modality, **LABELS)
    write_run(tmp_path / "run", {"test_top_1": 0.5}, "video-classification", test_clips=10)
    publication = build_publication(RunFolder.find(tmp_path / "run"), tmp_path / "out", "tester/x", DETAILS)
    assert "processor_config.json" in publication.files
    words = {"both": "An audio-visual", "audio": "An audio", "video": "A video"}
    assert f"{words[modality]} classifier with 3 classes" in publication.card
    assert "| tester/sounds, eval, 10 clips | top-1 accuracy | 0.5 |" in publication.card
    outputs = run_snippet(publication.card, "tester/x", tmp_path / "out", monkeypatch)
    assert outputs.logits.shape == (1, 3)


@pytest.mark.parametrize(
    ("kind", "made_by", "tag"),
    [
        ("StructuredNoiseAudioForPreTraining", AUDIO, "masked-audio-modelling"),
        ("StructuredNoiseAudioVideoForPreTraining", BOTH, "masked-audio-visual-modelling"),
    ],
)
def test_pretrained_encoders_are_published(
    kind: str, made_by: Any, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(tmp_path / "run", kind, made_by, mask_options={"bank_size": 1})
    publication = build_publication(RunFolder.find(tmp_path / "run"), tmp_path / "out", "tester/x", DETAILS)
    assert tag in metadata_load(tmp_path / "out" / "README.md")["tags"]
    outputs = run_snippet(publication.card, "tester/x", tmp_path / "out", monkeypatch)
    tokens = model.config.num_tokens + (tag == "masked-audio-modelling")
    assert outputs.last_hidden_state.shape == (1, tokens, 24)


def test_a_feature_extractor_of_another_size_is_found_out(tmp_path: Path) -> None:
    save(tmp_path / "run", "StructuredNoiseAudioForAudioClassification", AUDIO, **LABELS)
    file = tmp_path / "run" / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "max_length": 48}))
    with pytest.raises(PublishingError, match="does not accept the output of its processor"):
        build_publication(RunFolder.find(tmp_path / "run"), tmp_path / "out", "tester/x", DETAILS)
