"""Snippets and trial inputs follow the input specs of any model, also of one whose modality has no processor."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedConfig

import tubelets
from tubelets.data.modalities.specs import InputSpec, SkeletonSpec, TextSpec
from tubelets.hub import media
from tubelets.hub.card_tasks import classification_task, task_of
from tubelets.hub.descriptions import input_rows, outputs_of
from tubelets.hub.media import trial_inputs, usage_snippet
from tubelets.models.common.auto import inference_processor
from tubelets.models.common.inputs import model_inputs
from tubelets.models.common.safe_loading import processor_class

CONFIGS: dict[str, Any] = {
    "video": lambda: tubelets.SigmaConfig(image_size=32, patch_size=16, num_frames=4),
    "feature map": lambda: tubelets.ResNet3DConfig(image_size=32, num_frames=4),
    "audio": lambda: tubelets.StructuredNoiseAudioConfig(max_length=32, num_mel_bins=32, patch_size=8),
    "both": lambda: tubelets.StructuredNoiseAudioVideoConfig(max_length=32, num_mel_bins=32, image_size=32),
    "skeletons": lambda: tubelets.BiGruConfig(hidden_size=8, num_frames=16),
    "frames alone": lambda: tubelets.StructuredNoiseAudioVideoConfig(modality="video", image_size=32),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_trial_inputs_have_the_declared_names_and_shapes(name: str) -> None:
    config = CONFIGS[name]()
    inputs = trial_inputs(config, inference_processor(config), torch.Generator().manual_seed(0))
    assert {key: tuple(value.shape) for key, value in inputs.items()} == {
        key: (1, *spec.shape) for key, spec in model_inputs(config).items()
    }


def test_stock_transformers_are_described_by_their_specs() -> None:
    config = transformers.ASTConfig(num_labels=3)
    task = classification_task(config)
    assert task.name == "audio-classification"
    assert "16000 Hz" in input_rows(config)["spectrogram"]
    snippet = usage_snippet(config, task.auto_class, "me/ast")
    assert "from transformers import AutoFeatureExtractor, AutoModelForAudioClassification" in snippet
    assert "wavfile.read" in snippet
    video = transformers.VideoMAEConfig(num_frames=8, architectures=["VideoMAEForVideoClassification"])
    assert "num_frames=8" in usage_snippet(video, "AutoModel", "me/videomae", revision="v1")
    assert 'revision="v1"' in usage_snippet(video, "AutoModel", "me/videomae", revision="v1")
    assert outputs_of(video, None) == "`outputs` are those of `videomae` in transformers."
    found = task_of(video)
    assert found is not None
    assert found.name == "video-classification"


def test_inputs_of_a_new_modality_are_shown_as_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class RadarSpec(InputSpec):
        modality = "radar"
        bins: int

        @property
        def shape(self) -> tuple[int, ...]:
            return (self.bins,)

    specs = {"echo": RadarSpec(7), "input_ids": TextSpec(5, 100), "skeletons": SkeletonSpec("coco-17", 4, 17)}
    monkeypatch.setattr(media, "model_inputs", lambda config: specs)
    snippet = usage_snippet(PreTrainedConfig(), "AutoModel", "me/radar")
    assert "Processor" not in snippet
    lines = snippet.splitlines()
    names: dict[str, Any] = {}
    tensors = [line for line in lines if line.startswith(("echo =", "input_ids =", "skeletons ="))]
    exec("import torch\n" + "\n".join(tensors), names)
    assert {name: (names[name].shape, names[name].dtype) for name in specs} == {
        "echo": ((1, 7), torch.float32),
        "input_ids": ((1, 5), torch.int64),
        "skeletons": ((1, 1, 4, 17, 3), torch.float32),
    }
    assert lines[-1] == "outputs = model(echo=echo, input_ids=input_ids, skeletons=skeletons)"
    drawn = trial_inputs(PreTrainedConfig(), None, torch.Generator().manual_seed(0))
    assert drawn["input_ids"].shape == (1, 5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("video", "AutoVideoProcessor"), ("audio", "AutoFeatureExtractor"), ("frames alone", "AutoProcessor")],
)
def test_the_processor_is_the_one_that_is_saved(name: str, expected: str) -> None:
    assert processor_class(CONFIGS[name]()).__name__ == expected
