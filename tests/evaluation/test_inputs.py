"""Inputs of frozen models are what their processors make, for models of this package and of transformers."""

from typing import Any

import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    TimesformerConfig,
    TimesformerVideoProcessor,
    VideoMAEConfig,
    VideoMAEVideoProcessor,
    VivitConfig,
    VivitVideoProcessor,
    VJEPA2Config,
    VJEPA2VideoProcessor,
)

from tubelets import ResNet3DConfig, TubeletsVideoMAEConfig
from tubelets.evaluation.inputs import FrameInputs, SoundInputs, processor_inputs
from tubelets.models.common.auto import inference_processor

RESIZED = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
OURS = ResNet3DConfig(image_size=32, num_frames=4, image_mean=(0.4, 0.5, 0.6), image_std=(0.2, 0.3, 0.4))
MODELS: dict[str, tuple[Any, Any]] = {
    "resnet3d": (OURS, inference_processor(OURS)),
    "videomae": (VideoMAEConfig(image_size=32, num_frames=4), VideoMAEVideoProcessor(**RESIZED)),
    "timesformer": (TimesformerConfig(image_size=32, num_frames=4), TimesformerVideoProcessor(**RESIZED)),
    "vivit": (VivitConfig(image_size=32, num_frames=4), VivitVideoProcessor(**RESIZED)),
    "vjepa2": (VJEPA2Config(crop_size=32, frames_per_clip=4), VJEPA2VideoProcessor(**RESIZED)),
}


@pytest.mark.parametrize("name", MODELS)
def test_frames_are_those_of_the_processor(name: str) -> None:
    config, processor = MODELS[name]
    inputs = processor_inputs(processor, config, sampling="uniform", stride=2)
    assert isinstance(inputs, FrameInputs)
    assert inputs.name == ("pixel_values_videos" if name == "vjepa2" else "pixel_values")
    assert (inputs.clips.num_frames, inputs.clips.sampling) == (4, "uniform")
    side = processor.size["shortest_edge"]  # nothing to resize, so that both only crop
    assert side > 32 or name == "resnet3d"
    clip = torch.randint(256, (4, 3, side, side + 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert inputs.transform is not None
    cropped = inputs.transform(clip, torch.Generator())
    found = inputs.tensor(inputs.collate([{"pixel_values": cropped}]), torch.device("cpu"))
    expected = processor(clip, return_tensors="pt")
    values = expected["pixel_values" if "pixel_values" in expected else "pixel_values_videos"]
    torch.testing.assert_close(found, values, atol=1e-4, rtol=1e-4)


def test_sounds_take_their_length_from_the_configuration() -> None:
    inputs = processor_inputs(ASTFeatureExtractor(max_length=64), ASTConfig(max_length=64))
    assert isinstance(inputs, SoundInputs)
    assert (inputs.name, inputs.spec.shape) == ("input_values", (64, 128))


def test_processors_of_another_kind_and_frames_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="preprocessed by ASTFeatureExtractor"):
        processor_inputs(ASTFeatureExtractor(), OURS)
    with pytest.raises(ValueError, match="preprocessed by VideoMAEVideoProcessor"):
        processor_inputs(VideoMAEVideoProcessor(), ASTConfig())
    wide = TubeletsVideoMAEConfig(image_size=(32, 64), num_frames=4)
    with pytest.raises(ValueError, match="32 x 64 pixels are not square"):
        processor_inputs(inference_processor(wide), wide)
