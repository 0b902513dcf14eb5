"""Batches of sounds: spectrograms, labels, mixing."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ASTFeatureExtractor

from sounds import tone
from tubelets import StructuredNoiseAudioConfig, StructuredNoiseAudioVideoConfig
from tubelets.data.modalities.specs import VideoSpec
from tubelets.data.transforms.mixing import Mixing
from tubelets.data.transforms.sound import SoundAugmentation
from tubelets.models.common.auto import inference_processor
from tubelets.models.methods.structured_noise.processing_structured_noise import SpectrogramAugmentation
from tubelets.tasks.classification.audio_batches import Inputs, SoundBatch, SoundCollator

CONFIG = StructuredNoiseAudioConfig(max_length=64, num_mel_bins=32)
SEEING = {"max_length": 64, "num_mel_bins": 32, "image_size": 16, "num_frames": 2, "patch_size": 8}
CPU = torch.device("cpu")
RATE = 16000


def inputs(config: Any = CONFIG) -> Inputs:
    return Inputs.of(config, inference_processor(config))


def item(seed: int = 0, label: Any = 1, seconds: float = 0.5) -> dict[str, Any]:
    return {"waveform": tone(seconds, RATE, 400.0), "seed": seed, "label": label, "clip_id": f"clip {seed}"}


def test_test_spectrograms_are_those_of_the_feature_extractor() -> None:
    sound, given = item()["waveform"], inputs()
    expected = given.extractor(sound.numpy(), sampling_rate=RATE, return_tensors="pt")["input_values"]
    torch.testing.assert_close(SoundCollator(given, 3)([item()])["input_values"], expected)
    stock = ASTFeatureExtractor(
        num_mel_bins=32, max_length=64, mean=CONFIG.spectrogram_mean, std=CONFIG.spectrogram_std
    )
    found = Inputs(given.sound, extractor=stock).spectrogram(sound)
    torch.testing.assert_close(found, expected[0], rtol=1e-3, atol=1e-3)


def test_training_spectrograms_are_augmented_by_the_clips_own_seed() -> None:
    collate = SoundCollator(inputs(), 3, augment=SoundAugmentation("waveform", 10, 0.1, 8, 8))
    alone, beside = collate([item(5)]), collate([item(4), item(5)])
    assert torch.equal(alone["input_values"][0], beside["input_values"][1])
    assert not torch.equal(beside["input_values"][0], beside["input_values"][1])
    assert beside["seeds"] == [4, 5]
    assert beside["clip_ids"] == ["clip 4", "clip 5"]


def test_pretraining_draws_what_it_drew_before_the_augmentations_moved() -> None:
    """Roll, gain, noise: in this order from one generator."""
    config = StructuredNoiseAudioVideoConfig(**SEEING, gain_augmentation=True)
    sound, generator = item()["waveform"], torch.Generator().manual_seed(3)
    louder = sound * (torch.rand(19, generator=generator).median() + 0.5)
    values = inputs(config).spectrogram(louder)
    amplitude = config.noise_augmentation * torch.rand((), generator=generator)
    values = values + amplitude * torch.rand(values.shape, generator=generator)
    expected = values.roll(int(torch.randint(len(values), (), generator=generator)), dims=0)
    found = SpectrogramAugmentation(config)(sound, torch.Generator().manual_seed(3))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("modality", "given"),
    [("both", ["input_values", "pixel_values"]), ("audio", ["input_values"]), ("video", ["pixel_values"])],
)
def test_a_model_is_given_what_its_modality_needs(modality: str, given: list[str]) -> None:
    config = StructuredNoiseAudioVideoConfig(**SEEING, modality=modality)
    taken = inputs(config)
    assert (taken.sound is None) == (taken.extractor is None) == (modality == "video")
    assert taken.frames == (None if modality == "audio" else VideoSpec(2, (16, 16)))
    assert (taken.audio("random") is None) == (modality == "video")
    clip = {**item(), "pixel_values": torch.full((1, 2, 3, 16, 16), 255, dtype=torch.uint8)}
    batch = SoundBatch(taken, CPU, 3).arguments(SoundCollator(taken, 3)([clip, clip]))
    assert sorted(batch) == given
    if "pixel_values" in batch:
        white = (1 - torch.tensor(config.image_mean)) / torch.tensor(config.image_std)
        torch.testing.assert_close(batch["pixel_values"][1, 0, :, 0, 0], white)


def test_the_stretch_fills_the_spectrogram() -> None:
    spec = inputs().audio("centre")
    assert spec is not None
    assert (spec.sampling_rate, spec.seconds, spec.position) == (
        RATE,
        pytest.approx(CONFIG.pretraining_specs["waveform"].seconds),
        "centre",
    )
    full = inputs().spectrogram(torch.rand(spec.num_samples) - 0.5)
    empty = -CONFIG.spectrogram_mean / (2 * CONFIG.spectrogram_std)
    assert not torch.isclose(full[-1], torch.tensor(empty)).all(), "no frame is filled up"


def make_batch(labels: Tensor) -> dict[str, Any]:
    values = torch.arange(len(labels) * 6.0).view(len(labels), 3, 2)
    return {"input_values": values, "labels": labels, "seeds": list(range(len(labels)))}


@pytest.mark.parametrize("multi_label", [False, True])
def test_sounds_and_targets_are_mixed_alike(multi_label: bool) -> None:
    labels = torch.tensor([0, 1, 2, 2])
    targets = F.one_hot(labels, 3).float()
    targets[0, 2] = float(multi_label)
    batch = make_batch(targets if multi_label else labels)
    found = SoundBatch(inputs(), CPU, 3, Mixing(mixup_alpha=0.8, cutmix_alpha=0))(batch)
    # The first value of the first sound is 0, that of its partner 18.
    weight = 1 - float(found["input_values"][0, 0, 0]) / 18
    assert 0 < weight < 1
    torch.testing.assert_close(found["labels"], targets * weight + targets.flip(0) * (1 - weight))
    expected = batch["input_values"] * weight + batch["input_values"].flip(0) * (1 - weight)
    torch.testing.assert_close(found["input_values"], expected)


def test_mixing_half_of_the_batches() -> None:
    prepare = SoundBatch(inputs(), CPU, 3, Mixing(10.0, 0, probability=0.5))
    mixed = []
    for seed in range(200):
        batch = {**make_batch(torch.tensor([0, 1])), "seeds": [seed, seed + 1000]}
        mixed.append(not torch.equal(prepare(batch)["input_values"], batch["input_values"]))
    assert 70 < sum(mixed) < 130
    with pytest.raises(ValueError, match="needs an even number of them, got 3"):
        prepare(make_batch(torch.tensor([0, 1, 2])))


def test_labels_are_smoothed_and_independent_ones_are_not() -> None:
    prepare = SoundBatch(inputs(), CPU, 4, smoothing=0.2)
    torch.testing.assert_close(
        prepare(make_batch(torch.tensor([3])))["labels"], torch.tensor([[0.05, 0.05, 0.05, 0.85]])
    )
    several = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    assert torch.equal(prepare(make_batch(several))["labels"], several)


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="clip 0 has label 3 and the model has 3 classes"):
        SoundCollator(inputs(), 3)([item(label=3)])
    with pytest.raises(ValueError, match=r"clip 0 has the label \[1\]; expected a class number"):
        SoundCollator(inputs(), 3)([item(label=[1])])
    assert SoundCollator(inputs(), 3, multi_label=True)([item(label=[])])["labels"].tolist() == [[0, 0, 0]]
