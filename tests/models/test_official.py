"""Official files of any method are recognised by their names, and every table leads back to the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

import tubelets
from tubelets.models.backbones.resnet3d import conversion_resnet3d
from tubelets.models.common.auto import MODELS
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.layouts import Rename, Transform, convert_to_official, convert_to_ours
from tubelets.models.common.official import load_official, official_layouts

# Heads are 64 wide in official checkpoints, so that these widths mean one head.
VIT: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_frames": 4, "hidden_size": 64, "num_hidden_layers": 2}
VIT |= {"num_attention_heads": 1, "intermediate_size": 96, "decoder_hidden_size": 64, "decoder_num_hidden_layers": 1}
VIT |= {"decoder_num_attention_heads": 1, "decoder_intermediate_size": 48}
SEEN = {"image_size": 32, "num_frames": 4}
AUDIO: dict[str, Any] = {"max_length": 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
AUDIO |= {"intermediate_size": 96, "decoder_hidden_size": 64, "decoder_num_hidden_layers": 2, "mask_type": "random"}
AUDIO |= {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 48}
WINDOWS = {"decoder_window_size": (2, 2), "decoder_window_shift": (1, 0), "decoder_position_hidden_size": 12}
RESNET = {"hidden_sizes": [8, 16, 24, 32], "stem_size": 6}
TOWER = {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 96}
TEXT = {"text_config": TOWER | {"vocab_size": 60}, "fusion_encoder_config": TOWER, "projection_size": 16}
# Model class, fields, and fields that the file cannot show.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "videomae": ("TubeletsVideoMAEForPreTraining", VIT, SEEN),
    "videomae-classifier": ("TubeletsVideoMAEForVideoClassification", VIT, SEEN),
    "sigma": ("SigmaForPreTraining", VIT | {"projection_hidden_sizes": (20,), "projection_size": 12}, SEEN),
    "smile": ("SmileForPreTraining", VIT | {"teacher_hidden_size": 768}, SEEN),
    "audio-windows": ("StructuredNoiseAudioForPreTraining", AUDIO | WINDOWS, WINDOWS),
    "audio-plain": ("StructuredNoiseAudioForPreTraining", AUDIO | {"decoder_type": "plain"}, {}),
    "audio-classifier": ("StructuredNoiseAudioForAudioClassification", AUDIO | {"decoder_type": "plain"}, {}),
    "audio-video": ("StructuredNoiseAudioVideoForPreTraining", AUDIO | {"image_size": 32}, {}),
    "avid-cma": ("R2Plus1DNativeModel", {"hidden_sizes": [4, 6, 8, 10]}, {}),
    "rspnet": ("R2Plus1DNativeForVideoClassification", {"variant": "rspnet", "hidden_sizes": [4, 6, 8, 10]}, {}),
    **{
        f"locomotion-{attention}": (
            name,
            TEXT | {"video_config": TOWER | {"image_size": 32, "temporal_attention": attention}},
            {},
        )
        for attention, name in (
            ("divided", "LocoMotionForPreTraining"),
            ("stacked", "LocoMotionForPreTraining"),
            ("none", "LocoMotionForVideoTextRetrieval"),
        )
    },
    **{
        f"tubelet-{backbone}": (
            "TubeletContrastForPreTraining",
            {"backbone": backbone, "backbone_options": options, "queue_size": 8},
            {"backbone_options": options},
        )
        for backbone, options in {"r2plus1d_18": RESNET, "r3d_18": RESNET, "i3d": {"width_multiplier": 0.1}}.items()
    },
}


def scattered(name: str, fields: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    model_class = getattr(tubelets, name)
    model = model_class(model_class.config_class(**fields))
    with torch.no_grad():
        for value in [*model.parameters(), *(each for each in model.buffers() if each.is_floating_point())]:
            value.add_(0.1 * torch.randn(value.shape))
    return model


def assert_read_back(model: Any, official: dict[str, torch.Tensor], path: Path, **seen: Any) -> Any:
    torch.save({"state_dict": {f"module.{name}": value for name, value in official.items()}}, path)
    loaded = load_official(path, **seen)
    assert type(loaded) is type(model)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    return loaded


@pytest.mark.parametrize("case", CASES)
def test_a_file_is_recognised_by_its_names(case: str, tmp_path: Path) -> None:
    name, fields, seen = CASES[case]
    model = scattered(name, fields)
    own = [layout for layout in official_layouts() if _makes(layout, model)]
    (official,) = (layout.to_official(model) for layout in own)
    loaded = assert_read_back(model, official, tmp_path / "official.pth", **seen)
    assert loaded.config.model_type == model.config.model_type


def _makes(layout: Any, model: Any) -> bool:
    """Whether a layout is that of a model's own type."""
    entry = MODELS[model.config.model_type]
    # Both structured-noise types share the layout that the audio type declares.
    reference = entry.official or "conversion_structured_noise:OFFICIAL"
    return layout in entry.load(reference)


@pytest.mark.parametrize("layout", conversion_resnet3d.LAYOUTS)
def test_every_layout_of_a_video_resnet_is_recognised(layout: str, tmp_path: Path) -> None:
    model = scattered("ResNet3DModel", RESNET | {"convolution": "3d" if layout == "backbone_3d" else "2plus1d"})
    official = conversion_resnet3d.to_official(model, layout)
    assert_read_back(model, official, tmp_path / "official.pth")


def test_a_file_that_no_layout_fits_names_what_was_seen(tmp_path: Path) -> None:
    torch.save({"model": {"bert.weight": torch.zeros(2)}}, tmp_path / "bert.pth")
    with pytest.raises(CheckpointLayoutError, match=r"bert\.pth: no known layout fits the names \['bert'\].*SIGMA"):
        load_official(tmp_path / "bert.pth")


def test_placeholders_keep_numbers_leaves_and_rests() -> None:
    flip = Transform(lambda value: value.flip(0), lambda value: value.flip(0))
    table = [
        Rename("stem.0.weight", "first.weight", flip),
        Rename("b{}.{}.norm.{leaf}", "blocks.{}.{}.norm.{leaf}"),
        Rename("model.{rest}", "{rest}"),
        Rename("queue.{rest}", None),
    ]
    official = {
        "stem.0.weight": torch.tensor([1.0, 2.0]),
        "b3.12.norm.running_mean": torch.ones(1),
        "model.head.0.weight": torch.zeros(1),
    }
    ours = convert_to_ours(official | {"queue.keys": torch.ones(3)}, table)
    assert ours.keys() == {"first.weight", "blocks.3.12.norm.running_mean", "head.0.weight"}
    assert ours["first.weight"].tolist() == [2.0, 1.0]
    back = convert_to_official(ours, table)
    assert back.keys() == official.keys()
    assert all(torch.equal(value, official[name]) for name, value in back.items())
    with pytest.raises(CheckpointLayoutError, match=r"not part of the layout toy: b3\.norm\.weight"):
        convert_to_ours({"b3.norm.weight": torch.ones(1)}, table, "toy")
