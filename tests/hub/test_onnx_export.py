"""ONNX files reproduce the outputs of torch for any number of clips, from the inputs that the specs declare."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import tubelets
from tiny_models import tiny_config
from tubelets.cli.main import main
from tubelets.hub import onnx_export
from tubelets.hub.onnx_export import OnnxExportError, compare_with_torch, export_onnx
from videos import make_video

SIZES: dict[str, Any] = {"image_size": 32, "patch_size": 16, "num_frames": 4, "hidden_size": 32, "num_hidden_layers": 1}
SIZES |= {"num_attention_heads": 2, "intermediate_size": 48, "id2label": {0: "run", 1: "jump", 2: "fall"}}


CNN_SIZES: dict[str, Any] = {"image_size": 32, "num_frames": 8, "num_labels": 3}
CNNS = {
    "ResNet3D": lambda: tubelets.ResNet3DConfig(**CNN_SIZES, hidden_sizes=(8, 16, 24, 32), stem_size=6),
    "I3D": lambda: tubelets.I3DConfig(**CNN_SIZES, width_multiplier=0.125),
}
AUDIO: dict[str, Any] = {
    "max_length": 32, "num_mel_bins": 32, "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 32, "num_labels": 3,
}  # fmt: skip


def scattered(name: str, config: Any) -> Any:
    torch.manual_seed(0)
    model = getattr(tubelets, name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def model_of(name: str, **changes: Any) -> Any:
    return scattered(name, tubelets.SigmaConfig(**{**SIZES, **changes}))


@pytest.mark.parametrize("input_type", ["uint8", "float32"])
def test_a_classifier_takes_any_number_of_clips(input_type: Any, tmp_path: Path) -> None:
    model = model_of("SigmaForVideoClassification")
    report = export_onnx(model, tmp_path / "model.onnx", input_type)
    assert report.outputs == ("logits",)
    assert report.difference < 1e-5
    assert report.num_bytes == report.path.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(str(report.path))
    raw = torch.randint(0, 256, (5, 4, 3, 32, 32), dtype=torch.uint8)
    clips = raw
    if input_type == "float32":
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (model.config.image_mean, model.config.image_std))
        clips = (raw / 255 - mean) / std
    with torch.no_grad():
        expected = model(raw).logits
    (logits,) = session.run(None, {"pixel_values": clips.numpy()})
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)
    metadata = {each.key: each.value for each in onnx.load(report.path).metadata_props}
    assert json.loads(metadata["id2label"]) == {"0": "run", "1": "jump", "2": "fall"}
    assert metadata["model_type"] == "sigma"
    assert metadata["input_type"] == input_type
    assert json.loads(metadata["inputs"])["pixel_values"] == {
        "modality": "video", "num_frames": 4, "size": [32, 32], "num_channels": 3, "media": "video",
        "mean": list(model.config.image_mean), "std": list(model.config.image_std), "clips_per_sample": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("family", "kind", "opset"),
    [("ResNet3D", "Model", 20), ("ResNet3D", "ForVideoClassification", 18), ("I3D", "ForVideoClassification", 18)],
)
def test_convolutional_networks_are_exported(family: str, kind: str, opset: int, tmp_path: Path) -> None:
    model = scattered(f"{family}{kind}", CNNS[family]())
    report = export_onnx(model, tmp_path / "model.onnx", opset=opset)
    assert report.difference < 1e-4
    assert [each.version for each in onnx.load(report.path).opset_import if each.domain == ""] == [opset]
    clips = torch.randint(0, 256, (2, 8, 3, 32, 32), dtype=torch.uint8)
    found = onnxruntime.InferenceSession(str(report.path)).run(None, {"pixel_values": clips.numpy()})
    with torch.no_grad():
        expected = model(clips)
    assert report.outputs == (("logits",) if kind != "Model" else ("last_hidden_state", "pooler_output"))
    for name, values in zip(report.outputs, found, strict=True):
        torch.testing.assert_close(torch.from_numpy(values), expected[name], atol=1e-4, rtol=1e-3)
    # Inputs must decide the outputs, or the comparison would show nothing.
    assert expected[report.outputs[-1]].std(dim=0).max() > 1e-6


@pytest.mark.parametrize("modality", ["both", "audio"])
def test_audio_inputs_are_taken_from_the_specs(modality: str, tmp_path: Path) -> None:
    config = tubelets.StructuredNoiseAudioVideoConfig(**AUDIO, image_size=16, modality=modality)
    model = scattered("StructuredNoiseAudioVideoForVideoClassification", config)
    report = export_onnx(model, tmp_path / "model.onnx")
    assert report.difference < 1e-4
    inputs = {each.name: each.type for each in onnxruntime.InferenceSession(str(report.path)).get_inputs()}
    both = {"input_values": "tensor(float)", "pixel_values": "tensor(uint8)"}
    assert inputs == (both if modality == "both" else {"input_values": "tensor(float)"})


def test_the_verb_exports_an_encoder_of_a_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of("SigmaForVideoClassification")
    model.save_pretrained(tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out" / "features.onnx"), "--features"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["outputs"] == ["last_hidden_state", "pooler_output"]
    (tmp_path / "clip.mp4").write_bytes(make_video(20, 32, 32))
    clip = tubelets.read_clip(tmp_path / "clip.mp4", num_frames=4, stride=2)[None]
    session = onnxruntime.InferenceSession(answer["file"])
    tokens, mean = session.run(None, {"pixel_values": clip.numpy()})
    with torch.no_grad():
        expected = model.videomae(clip)
    np.testing.assert_allclose(tokens, expected.last_hidden_state.numpy(), atol=1e-4)
    np.testing.assert_allclose(mean, expected.pooler_output.numpy(), atol=1e-4)
    assert main(["export", str(tmp_path / "nothing"), str(tmp_path / "x.onnx")]) == 2


def test_a_network_of_frames_takes_any_number_of_clips(tmp_path: Path) -> None:
    config = tiny_config("locomotion", num_labels=3)
    report = export_onnx(scattered("LocoMotionForVideoClassification", config), tmp_path / "model.onnx")
    assert report.difference < 1e-5  # measured with other numbers of clips than the exporter saw


def test_a_file_that_differs_from_torch_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"an older export")
    with pytest.raises(OnnxExportError, match=r"tolerance=0"):
        export_onnx(model_of("SigmaModel"), tmp_path / "model.onnx", tolerance=0.0)
    assert (tmp_path / "model.onnx").read_bytes() == b"an older export"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_the_comparison_sees_other_weights_and_other_outputs(tmp_path: Path) -> None:
    model = model_of("SigmaForVideoClassification")
    export_onnx(model, tmp_path / "model.onnx")
    with torch.no_grad():
        model.classifier.weight.mul_(1.5)
    assert compare_with_torch(model, tmp_path / "model.onnx") > 0.01
    assert compare_with_torch(model.videomae, tmp_path / "model.onnx") == float("inf")


@pytest.mark.parametrize(
    ("name", "changes", "options", "said"),
    [
        ("SigmaForPreTraining", {}, {}, "neither a classifier nor an encoder"),
        ("SigmaModel", {"dtype": "bfloat16"}, {}, "dtype=torch.float32"),
        ("SigmaModel", {}, {"input_type": "int8"}, "'int8'"),
        ("SigmaModel", {}, {"opset": 17}, "at least 18, got 17"),
        ("SigmaModel", {}, {"opset": 99}, "opset 99"),
    ],
)
def test_what_cannot_be_exported(
    name: str, changes: dict[str, Any], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    model = model_of(name)
    if "dtype" in changes:
        model = model.to(torch.bfloat16)
    with pytest.raises(OnnxExportError, match=said):
        export_onnx(model, tmp_path / "model.onnx", **options)


def test_missing_packages_are_named_with_the_way_to_install_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"tubelets\[onnx\]"):
        export_onnx(model_of("SigmaModel"), tmp_path / "model.onnx")
    assert onnx_export.INSTALL.startswith("pip install")
