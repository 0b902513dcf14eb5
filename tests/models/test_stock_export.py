"""Our classifiers and encoders in plain transformers, in a process that cannot import this package."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_masked_video_models import CLASSIFIERS, scattered

from tiny_models import tiny_model
from tubelets import SigmaForVideoClassification
from tubelets.models.backbones.video_vit.stock import StockExportError, to_stock
from videos import make_video

NAMES = {0: "fall", 1: "jump", 2: "run", 3: "sit", 4: "walk"}
ENCODERS = ["videomae", "sigma"]

# Runs where `import tubelets` fails: loads every folder, compares with the numbers that were stored, uses the pipeline.
WITHOUT_TUBELETS = """
import json, sys
from pathlib import Path

sys.modules["tubelets"] = None
import av
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel, AutoModelForVideoClassification, AutoVideoProcessor, VideoMAEForVideoClassification,
    VideoMAEImageProcessor, VideoMAEModel, pipeline,
)
try:
    import tubelets
    raise SystemExit("the package can be imported")
except ImportError:
    pass

root, video = Path(sys.argv[1]), sys.argv[2]
found = {}
for folder in sorted(path.parent for path in root.glob("*/config.json")):
    stored = load_file(root / f"{folder.name}.safetensors")
    classifier = "logits" in stored
    stock, auto = (
        (VideoMAEForVideoClassification, AutoModelForVideoClassification) if classifier else (VideoMAEModel, AutoModel)
    )
    model, report = stock.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    assert type(auto.from_pretrained(folder)) is stock
    with torch.no_grad():
        output = model(stored["clip"])
    output = output.logits if classifier else output.last_hidden_state
    expected = stored["logits"] if classifier else stored["tokens"]
    found[folder.name] = float((output - expected).abs().max() / expected.abs().max())
    frames = np.random.default_rng(0).integers(0, 255, (4, 40, 48, 3), dtype=np.uint8)
    new = AutoVideoProcessor.from_pretrained(folder)(frames, return_tensors="pt").pixel_values
    old = VideoMAEImageProcessor.from_pretrained(folder)(list(frames), return_tensors="pt").pixel_values
    assert new.shape == old.shape == (1, 4, 3, 32, 32), (new.shape, old.shape)
    torch.testing.assert_close(new, old, atol=0.05, rtol=0)
    if classifier:
        # Stock pipelines take paths only with a system-wide FFmpeg, frames always.
        with av.open(video) as container:
            clip = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        answers = pipeline("video-classification", model=str(folder))(clip, top_k=5)
        assert {answer["label"] for answer in answers} == set(json.loads(sys.argv[3])), answers
        assert abs(sum(answer["score"] for answer in answers) - 1) < 1e-4
print(json.dumps(found))
"""


def named(name: str, **changes: Any) -> Any:
    labels = {"id2label": NAMES, "label2id": {label: number for number, label in NAMES.items()}}
    return scattered(name, **labels, **changes)


def test_folders_load_without_this_package_with_equal_outputs(tmp_path: Path) -> None:
    clip = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name in (*CLASSIFIERS, *ENCODERS):
        model = named(name)
        model.save_pretrained(tmp_path / name, as_videomae=True, max_shard_size="40KB")
        with torch.no_grad():
            output = model(clip)
        found = {"logits": output.logits} if "logits" in output else {"tokens": output.last_hidden_state}
        save_file({"clip": clip, **found}, tmp_path / f"{name}.safetensors")
    (tmp_path / "clip.mp4").write_bytes(make_video(12, 48, 64))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_TUBELETS,
            str(tmp_path),
            str(tmp_path / "clip.mp4"),
            json.dumps([*NAMES.values()]),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    differences = json.loads(done.stdout.splitlines()[-1])
    assert differences.keys() == {*CLASSIFIERS, *ENCODERS}
    # Stock's last norm has epsilon 1e-5, ours 1e-6; encoders have no such norm.
    assert all(differences[name] < 1e-4 for name in CLASSIFIERS)
    assert all(differences[name] < 1e-6 for name in ENCODERS)
    assert len(list((tmp_path / "sigma-classifier").glob("*.safetensors"))) > 1


def test_both_names_of_the_attention_biases_are_written(tmp_path: Path) -> None:
    model = named("sigma-classifier")
    model.save_pretrained(tmp_path, as_videomae=True)
    weights = load_file(tmp_path / "model.safetensors")
    attention = "videomae.encoder.layer.1.attention.attention"
    for old, new in (("q_bias", "query.bias"), ("v_bias", "value.bias")):
        expected = model.state_dict()[f"{attention}.{new}"]
        assert torch.equal(weights[f"{attention}.{old}"], expected)
        assert torch.equal(weights[f"{attention}.{new}"], expected)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "videomae"
    assert config["architectures"] == ["VideoMAEForVideoClassification"]
    assert config["id2label"] == {str(number): name for number, name in NAMES.items()}
    assert config["label2id"] == {name: number for number, name in NAMES.items()}


def test_an_exported_folder_comes_back_as_ours(tmp_path: Path) -> None:
    model = named("sigma-classifier")
    model.save_pretrained(tmp_path, as_videomae=True)
    again = SigmaForVideoClassification.from_pretrained(tmp_path, layer_norm_eps=model.config.layer_norm_eps)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize("name", ["sigma-mlp", "videomae-pretraining"])
def test_a_pretraining_network_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StockExportError, match=r"save `model.videomae`"):
        scattered(name).save_pretrained(tmp_path, as_videomae=True)
    assert not list(tmp_path.iterdir())


def test_other_networks_are_refused(tmp_path: Path) -> None:
    for model_type in ("resnet3d", "structured_noise_audio"):
        with pytest.raises(ValueError, match=r"as_videomae|does not have a stock counterpart"):
            tiny_model(model_type, "AutoModel").save_pretrained(tmp_path, as_videomae=True)
    assert not list(tmp_path.iterdir())


def test_weights_that_stock_lacks_are_refused_by_name(tmp_path: Path) -> None:
    model = named("sigma-classifier")
    model.videomae.encoder.layer[0].scale = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(StockExportError, match=r"layer\.0\.scale"):
        model.save_pretrained(tmp_path, as_videomae=True)


def test_another_forward_with_the_same_weights_is_refused(tmp_path: Path) -> None:
    model = named("sigma-classifier")
    model.videomae.encoder.layer[0].register_forward_hook(lambda module, inputs, output: 1.1 * output)
    with pytest.raises(StockExportError, match="other outputs"):
        model.save_pretrained(tmp_path, as_videomae=True)
    assert not list(tmp_path.iterdir())


def test_export_leaves_mode_and_dtype_alone() -> None:
    model = named("sigma-classifier", drop_path_rate=0.5, head_dropout=0.5).to(torch.bfloat16).train()
    stock = to_stock(model)
    assert model.training
    assert not stock.training
    assert stock.dtype == torch.bfloat16
