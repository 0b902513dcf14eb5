"""The convolutional backbones: saving and loading, inputs, torchvision's weights, and the momentum contrast."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor

import tubelets
from tubelets.models.backbones.convolutional.modeling_convolutional import use_channels_last
from tubelets.models.backbones.resnet3d.conversion_resnet3d import LAYOUTS, find_layout, from_official, to_official
from tubelets.models.common.auto import inference_processor
from tubelets.models.common.errors import CheckpointLayoutError

SMALL = {"hidden_sizes": (8, 16, 24, 32), "stem_size": 6, "image_size": 32, "num_frames": 8}
SMALLER = {"hidden_sizes": [8, 16, 24, 32], "stem_size": 6}
CONFIGS: dict[str, Any] = {
    "r2plus1d": lambda **fields: tubelets.ResNet3DConfig(**SMALL, **fields),
    "r3d": lambda **fields: tubelets.ResNet3DConfig(**SMALL, convolution="3d", **fields),
    "dilated": lambda **fields: tubelets.ResNet3DConfig(**SMALL, dilated_last_stage=True, **fields),
    "i3d": lambda **fields: tubelets.I3DConfig(width_multiplier=0.125, image_size=32, num_frames=8, **fields),
    "tubelet_contrast": lambda **fields: tubelets.TubeletContrastConfig(
        backbone_options=SMALLER, image_size=32, num_frames=8, queue_size=8, projection_size=6, **fields
    ),
}


def clips(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def backbone(name: str) -> Any:
    torch.manual_seed(0)
    return AutoModel.from_config(CONFIGS[name]()).eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_backbone_is_saved_loaded_and_becomes_a_classifier(name: str, tmp_path: Path) -> None:
    model = backbone(name)
    model.save_pretrained(tmp_path)
    inference_processor(model.config).save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = model(clips(), output_hidden_states=True)
        found = loaded(clips())
    # Weights that were loaded lie elsewhere in memory, where some processors add in another order.
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(expected.pooler_output, expected.last_hidden_state.mean(dim=(2, 3, 4)))
    assert expected.pooler_output.shape == (2, model.config.feature_size)
    assert torch.equal(expected.hidden_states[-1], expected.last_hidden_state)
    classifier = AutoModelForVideoClassification.from_pretrained(tmp_path, num_labels=5).eval()
    with torch.no_grad():
        output = classifier(clips(), labels=torch.tensor([0, 4]))
        encoded = getattr(classifier, classifier.base_model_prefix)(clips())
    torch.testing.assert_close(encoded.last_hidden_state, expected.last_hidden_state, rtol=1e-4, atol=1e-9)
    assert output.logits.shape == (2, 5)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 4])))
    processor = AutoVideoProcessor.from_pretrained(tmp_path)
    pixels = processor(torch.zeros(8, 3, 40, 48, dtype=torch.uint8), return_tensors="pt").pixel_values
    assert pixels.shape == (1, 8, 3, 32, 32)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_weight_is_initialised_and_trained(name: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForVideoClassification.from_config(CONFIGS[name](num_labels=3)).train()
    model(clips(), labels=torch.tensor([0, 2])).loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.isfinite().all()
    for buffer in model.buffers():
        assert buffer.isfinite().all()


@pytest.mark.parametrize("name", CONFIGS)
def test_raw_video_equals_normalised_video(name: str) -> None:
    model = backbone(name)
    raw = torch.randint(256, (1, 8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(getattr(model.config, field)).view(3, 1, 1) for field in ("image_mean", "image_std"))
    with torch.no_grad():
        torch.testing.assert_close(
            model(raw).pooler_output, model((raw / 255 - mean) / std).pooler_output, atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("name", CONFIGS)
def test_bad_videos_are_refused_by_value(name: str) -> None:
    model = backbone(name)
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 32, 32\), expected \(clips, frames, 3"):
        model(clips(1).transpose(1, 2))
    with pytest.raises(ValueError, match=r"torch\.int64"):
        model(torch.zeros(1, 8, 3, 32, 32, dtype=torch.int64))


@pytest.mark.parametrize(("architecture", "convolution"), [("r2plus1d_18", "2plus1d"), ("r3d_18", "3d")])
def test_torchvision_weights_give_torchvision_outputs(architecture: str, convolution: str) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models.video, architecture)(num_classes=7).eval()
    ours = from_official(theirs.state_dict()).eval()
    assert (ours.config.convolution, ours.config.batch_norm_eps) == (convolution, 1e-5)
    video = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(theirs.stem(video.transpose(1, 2))))))
        found = ours(video).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    classifier = tubelets.ResNet3DForVideoClassification(tubelets.ResNet3DConfig(**{
        **ours.config.to_dict(), "num_labels": 7
    }))  # fmt: skip
    theirs.load_state_dict(to_official(classifier), strict=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_found_and_read_back(layout: str) -> None:
    model = backbone("r3d" if layout == "backbone_3d" else "r2plus1d")
    official = to_official(model, layout)
    assert find_layout(official) == layout
    again = from_official({f"module.{name}": value for name, value in official.items()})
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    assert tuple(again.config.hidden_sizes) == (8, 16, 24, 32)


def test_tclr_is_turned_to_the_usual_order_of_colours() -> None:
    ours = backbone("r2plus1d")
    official = to_official(ours, "sequential")
    stem = official["0.stem.0.weight"]
    assert torch.equal(stem.flip(1), ours.state_dict()["stem.0.weight"])
    config = from_official(official).config
    assert (list(config.image_mean), list(config.image_std)) == ([0.0] * 3, [1.0] * 3)


def test_what_no_layout_knows_is_refused() -> None:
    official = to_official(backbone("r2plus1d"))
    with pytest.raises(CheckpointLayoutError, match=r"are not part of the layout torchvision"):
        from_official(official | {"decoder.weight": torch.zeros(1)})
    with pytest.raises(CheckpointLayoutError, match=r"Missing key"):
        from_official({name: value for name, value in official.items() if name != "layer3.1.conv1.0.0.weight"})
    with pytest.raises(CheckpointLayoutError, match=r"'encoder'.*known layouts.*RSPNet"):
        from_official({"encoder.weight": torch.zeros(1)})


def contrast(**fields: Any) -> Any:
    torch.manual_seed(0)
    return tubelets.TubeletContrastForPreTraining(CONFIGS["tubelet_contrast"](**fields))


def test_the_key_encoder_starts_as_a_copy_and_follows_slowly() -> None:
    model = contrast(momentum=0.5).train()
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, model.key_encoder.state_dict()[name])
    before = model.key_projection[0].weight.clone()
    with torch.no_grad():
        model.projection[0].weight.add_(1.0)
    model(clips(), clips().flip(0)).loss.backward()
    torch.testing.assert_close(model.key_projection[0].weight, before + 0.5)
    assert all(parameter.grad is None for parameter in model.key_encoder.parameters())
    assert model.queue.pointer.tolist() == [2]


def test_evaluation_changes_nothing() -> None:
    model = contrast().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (model(clips(), clips()) for _ in range(2))
    assert torch.equal(first.logits, second.logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_queue_and_key_encoder_are_saved_and_go_on(tmp_path: Path) -> None:
    model = contrast().train()
    model(clips(), clips().flip(0))
    model.save_pretrained(tmp_path)
    loaded = tubelets.TubeletContrastForPreTraining.from_pretrained(tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(encoder(clips()).pooler_output, loaded.encoder(clips()).pooler_output)
    loaded.train()
    assert torch.equal(loaded.queue.keys, model.queue.keys)
    assert not any(parameter.requires_grad for parameter in loaded.key_encoder.parameters())
    outputs = [each(clips().flip(0), clips()) for each in (model, loaded)]
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    assert torch.equal(model.queue.keys, loaded.queue.keys)


def test_a_queue_that_is_no_multiple_of_the_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"8 .*multiple of the .*3 clips"):
        contrast().train()(clips(3), clips(3))


@pytest.mark.parametrize("name", CONFIGS)
def test_channels_last_changes_the_layout_and_neither_results_nor_files(name: str, tmp_path: Path) -> None:
    model = backbone(name)
    raw = torch.randint(256, (2, 8, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    last = deepcopy(model)
    use_channels_last(last)
    layouts = []
    first = next(module for module in last.modules() if isinstance(module, nn.Conv3d))
    first.register_forward_pre_hook(
        lambda _, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last_3d))
    )
    expected, found = (each(raw).pooler_output for each in (model, last))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    found.square().sum().backward()
    assert layouts == [True], "clips reach the first convolution in its layout"
    last.save_pretrained(tmp_path)
    reloaded = type(model).from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(reloaded[key], value) for key, value in last.state_dict().items())


def test_channels_last_is_refused_for_other_models() -> None:
    with pytest.raises(ValueError, match="got Linear"):
        use_channels_last(nn.Linear(1, 1))
