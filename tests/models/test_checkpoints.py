"""Official checkpoint files: read without running anything in them, and renamed strictly."""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tubelets import SigmaConfig, SigmaForPreTraining, SigmaForVideoClassification
from tubelets.masking import TubeMaskGenerator
from tubelets.models.common.errors import CheckpointLayoutError, UnsafeCheckpointError
from tubelets.models.common.layouts import Rename, convert_to_official, convert_to_ours, read_checkpoint
from tubelets.models.methods.sigma.conversion_sigma import from_official, load_official, to_official

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}
# Heads are 64 wide in official checkpoints, so that these widths mean one head.
SIZES: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_frames": 8, "hidden_size": 64, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 1, "intermediate_size": 96, "decoder_hidden_size": 64, "decoder_num_hidden_layers": 2}
SIZES |= {"decoder_num_attention_heads": 1, "decoder_intermediate_size": 48, "mask_ratio": 0.75}
VARIANTS: dict[str, dict[str, Any]] = {
    "mlp": {"num_prototypes": 7, "projection_hidden_sizes": [20, 16], "projection_size": 12},
    "dino": {"target_type": "dino_v1", "num_prototypes": 7, "teacher_hidden_size": 20},
    "dino regression": {"target_type": "dino_v1", "loss_type": "regression", "teacher_hidden_size": 20},
    "pixel": {"target_type": "pixel"},
}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


def pretraining_model(variant: str = "pixel", **changes: Any) -> SigmaForPreTraining:
    torch.manual_seed(0)
    model = SigmaForPreTraining(SigmaConfig(**{**SIZES, **VARIANTS[variant], **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"model": WEIGHTS},
        {"module": WEIGHTS},
        {"state_dict": WEIGHTS},
        {f"module.{name}": value for name, value in WEIGHTS.items()},
        {"model": {f"module.{name}": value for name, value in WEIGHTS.items()}, "epoch": 3, "optimizer": {"state": {}}},
    ],
    ids=["plain", "model", "module", "state_dict", "prefix", "training"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_found_in_every_wrapping(content: dict[str, Any], zipped: bool, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    weights, arguments = read_checkpoint(tmp_path / "file.pth")
    assert equal(weights, WEIGHTS)
    assert arguments == {}


def test_safetensors_and_strings_as_paths(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "file.safetensors")
    weights, arguments = read_checkpoint(str(tmp_path / "file.safetensors"))
    assert equal(weights, WEIGHTS)
    assert arguments == {}


def test_training_arguments_may_be_an_argparse_namespace(tmp_path: Path) -> None:
    arguments = argparse.Namespace(num_frames=8, input_size=32, model="vit", opt_betas=[0.9, 0.95], resume=None)
    torch.save({"model": WEIGHTS, "args": arguments}, tmp_path / "file.pth")
    weights, found = read_checkpoint(tmp_path / "file.pth")
    assert equal(weights, WEIGHTS)
    assert found == vars(arguments)


class Payload:
    """An object whose unpickling runs a shell command that leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.command = f"touch '{trace}'"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["beside", "inside", "arguments", "alone"])
def test_an_object_with_code_is_refused_and_its_code_does_not_run(place: str, zipped: bool, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    payload = Payload(trace)
    content: Any = {
        "beside": {"model": WEIGHTS, "extra": payload},
        "inside": {"model": WEIGHTS | {"payload": payload}},
        "arguments": {"model": WEIGHTS, "args": argparse.Namespace(payload=payload)},
        "alone": payload,
    }[place]
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeCheckpointError, match=r"file\.pth"):
        read_checkpoint(tmp_path / "file.pth")
    assert not trace.exists()


GARBAGE = {
    "empty": b"",
    "text": b"this is not a checkpoint\n" * 50,
    "html": b"<!DOCTYPE html><html>Not found</html>",
    "zeros": bytes(1000),
    "random": bytes(i * 37 % 251 for i in range(1000)),
    "pickle": b"\x80\x02]q\x00.",
    "zip": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_refused_by_name(kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(GARBAGE[kind])
    with pytest.raises((UnsafeCheckpointError, CheckpointLayoutError), match=rf"file\.{suffix}"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_refused_by_name(share: float, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file.{suffix}"
    save_file(WEIGHTS, path) if suffix == "safetensors" else torch.save({"model": WEIGHTS}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises((UnsafeCheckpointError, CheckpointLayoutError), match=rf"file\.{suffix}"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({}, "no state dict"),
        ([torch.ones(2)], "no state dict"),
        (torch.ones(2), "no state dict"),
        ({"epoch": 3, "lr": 0.1}, "not tensors: epoch, lr"),
        ({"model": {"a": torch.ones(2), "b": 3}}, "not tensors: b"),
        ({"model": {}}, "no state dict"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(content: Any, named: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointLayoutError, match=named):
        read_checkpoint(tmp_path / "file.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        read_checkpoint(tmp_path / "absent.pth")


def test_a_table_renames_splits_and_joins() -> None:
    table = [Rename("b.{}.qkv", ("x.{}.q", "x.{}.k", "x.{}.v")), Rename("n.{}.w.{}", "m.{}.{}")]
    official = {"b.3.qkv": torch.arange(6.0), "n.1.w.20": torch.ones(1)}
    ours = convert_to_ours(official, table)
    assert {name: value.tolist() for name, value in ours.items()} == {
        "x.3.q": [0, 1],
        "x.3.k": [2, 3],
        "x.3.v": [4, 5],
        "m.1.20": [1],
    }
    assert equal(convert_to_official(ours, table), official)
    for convert, name in ((convert_to_ours, "n.one.w.2"), (convert_to_official, "m.1"), (convert_to_ours, "bx3.qkv")):
        with pytest.raises(CheckpointLayoutError, match=name.replace(".", r"\.")):
            convert({name: torch.ones(3)}, table)


def official_weights(variant: str = "pixel") -> dict[str, Tensor]:
    return to_official(pretraining_model(variant))


BAD_WEIGHTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"memory_bank": torch.ones(3)}, "memory_bank"),
    "shape": ({"encoder.norm.weight": torch.ones(65)}, "layernorm"),
    "split": ({"encoder.blocks.0.attn.qkv.weight": torch.ones(2, 64)}, "qkv"),
    "uneven split": ({"encoder.blocks.0.attn.qkv.weight": torch.ones(191, 64)}, "qkv|query|value"),
    "missing norm": ({"encoder.norm.weight": None}, "layernorm"),
    "missing projection": ({"encoder_to_decoder.weight": None}, "encoder_to_decoder"),
    "missing head": ({"decoder.head.weight": None}, "decoder"),
    "missing mlp": ({"encoder.blocks.0.mlp.fc1.weight": None}, "fc1|intermediate"),
    "an image model": ({"encoder.patch_embed.proj.weight": torch.ones(64, 3, 8, 8)}, "patch_embed"),
    "no blocks": ({f"encoder.blocks.{i}": None for i in range(2)}, "blocks"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_of_another_layout_are_refused_by_name(case: str) -> None:
    changes, named = BAD_WEIGHTS[case]
    weights = official_weights()
    for name, value in changes.items():
        if value is None:
            weights = {key: each for key, each in weights.items() if not key.startswith(name)}
        else:
            weights[name] = value
    with pytest.raises(CheckpointLayoutError, match=named):
        from_official(weights, arguments={"num_frames": 8, "input_size": 32})


def test_another_methods_weights_are_refused() -> None:
    with pytest.raises(CheckpointLayoutError, match=r"patch_embed\.proj\.weight"):
        from_official(dict(WEIGHTS))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_checkpoint_gives_back_model_and_sizes(variant: str, tmp_path: Path) -> None:
    model = pretraining_model(variant)
    arguments = argparse.Namespace(num_frames=8, input_size=32, mask_ratio=0.75, lr=1.5e-4)
    torch.save({"model": to_official(model), "args": arguments, "epoch": 800}, tmp_path / "file.pth")
    loaded = load_official(tmp_path / "file.pth")
    assert isinstance(loaded, SigmaForPreTraining)
    assert equal(dict(loaded.state_dict()), dict(model.state_dict()))
    for field in (*SIZES, *VARIANTS[variant], "loss_type", "prediction_size", "grid"):
        assert getattr(loaded.config, field) == getattr(model.config, field), field
    video = torch.randn(2, 8, 3, 32, 32)
    mask = TubeMaskGenerator((4, 4, 4), 0.75)(2)
    features = torch.randn(2, 64, 20) if model.config.uses_teacher else None
    outputs = [each(video, mask, target_features=features).loss for each in (model, loaded.eval())]
    torch.testing.assert_close(*outputs)


def test_a_videomae_checkpoint_without_prototypes_goes_both_ways(tmp_path: Path) -> None:
    weights = official_weights()
    assert "prototypes" not in weights
    assert not any(name.startswith("head.") for name in weights)
    assert weights["encoder.blocks.1.attn.qkv.weight"].shape == (192, 64)
    torch.save({"model": weights, "args": argparse.Namespace(num_frames=8, input_size=32)}, tmp_path / "file.pth")
    loaded = load_official(tmp_path / "file.pth")
    assert loaded.config.target_type == "pixel"
    assert equal(to_official(loaded), weights)


def test_a_classifier_checkpoint_and_overrides(tmp_path: Path) -> None:
    torch.manual_seed(0)
    labels = {0: "run", 1: "jump", 2: "fall"}
    model = SigmaForVideoClassification(SigmaConfig(**SIZES, num_labels=3)).eval()
    weights = to_official(model)
    assert {"head.weight", "fc_norm.weight", "blocks.0.attn.q_bias"} <= weights.keys()
    torch.save({"module": weights}, tmp_path / "file.pth")
    loaded = load_official(tmp_path / "file.pth", num_frames=8, image_size=32, id2label=labels)
    assert isinstance(loaded, SigmaForVideoClassification)
    assert loaded.config.id2label == labels
    assert equal(to_official(loaded), weights)
    video = torch.randn(1, 8, 3, 32, 32)
    torch.testing.assert_close(loaded.eval()(video).logits, model(video).logits)
