"""Frozen evaluation of models of sounds: saved ones, and one in training."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from sounds import tone
from tubelets import (
    StructuredNoiseAudioConfig,
    StructuredNoiseAudioVideoConfig,
    StructuredNoiseAudioVideoForPreTraining,
)
from tubelets.benchmarks.game_sounds import SoundSource, build_game_sounds
from tubelets.data.modalities.audio import encode_audio
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import AudioSpec, ClipStream
from tubelets.evaluation.checkpoints import checkpoint_features, evaluate_checkpoint, load_processor, save_random_twin
from tubelets.evaluation.features import model_fingerprint
from tubelets.evaluation.inputs import FrameInputs, SoundInputs, processor_inputs
from tubelets.evaluation.online import OnlineEvaluation
from tubelets.models.common.auto import inference_processor
from tubelets.models.methods.structured_noise.modeling_structured_noise_audio import StructuredNoiseAudioForPreTraining
from tubelets.training.recipe import EvaluationSection

SIZES = {
    "max_length": 32, "num_mel_bins": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 32, "decoder_type": "plain", "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32,
    "mask_type": "random", "roll_augmentation": "none",
}  # fmt: skip
WHOLE = AudioSpec.filling(SIZES["max_length"], 16000, "centre")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    sources: dict[str, list[SoundSource]] = {"train": [], "test": []}
    for split, found in sources.items():
        for family, pitch in {"high": 3000.0, "low": 200.0}.items():
            path = folder / f"{split}-{family}.wav"
            path.write_bytes(encode_audio(tone(0.3, 16000, pitch), 16000))
            found.append(SoundSource(path, family))
    counts = {"train": 24, "test": 8}
    build_game_sounds(folder / "shards", counts, sources=sources, seconds=0.4, progress=False)
    return folder / "shards"


@pytest.fixture
def model() -> StructuredNoiseAudioForPreTraining:
    torch.manual_seed(0)
    return StructuredNoiseAudioForPreTraining(StructuredNoiseAudioConfig(**SIZES))


def test_a_checkpoint_of_sounds_is_measured_beside_its_twin(model, shards, tmp_path):
    model.save_pretrained(tmp_path / "model")
    inference_processor(model.config).save_pretrained(tmp_path / "model")
    twin = save_random_twin(tmp_path / "model", tmp_path / "twin", seed=1)
    assert type(load_processor(twin)) is type(inference_processor(model.config))
    for folder in (tmp_path / "model", twin):
        result = evaluate_checkpoint(folder, shards, frozen={"k": 1, "shots": (2,), "draws": 1}, progress=False)
        assert (result["num_train"], result["num_test"], result["chance"]) == (24, 8, 0.5)
        assert 0 <= result["linear_probe"]["top_1"] <= 1
    first, second = (AutoModel.from_pretrained(folder) for folder in (tmp_path / "model", twin))
    assert model_fingerprint(first) != model_fingerprint(second)


def test_features_are_the_models_of_what_the_extractor_makes(model, shards):
    extractor = inference_processor(model.config)
    (found,) = checkpoint_features(model.base_model, extractor, shards, ("test",), progress=False)
    items = {item["clip_id"]: item for item in ClipStream(open_source(shards, split="test"), None, audio=WHOLE)}
    assert found.clip_ids == [f"{name}#0" for name in sorted(items)]
    for name, label, features in zip(sorted(items), found.labels, found.features, strict=True):
        inputs = extractor(items[name]["waveform"].numpy(), sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            expected = model.base_model.eval()(**inputs).last_hidden_state[:, 1:].mean(dim=1)[0]
        torch.testing.assert_close(features, expected)
        assert label == items[name]["label"]


def test_a_model_of_sounds_is_measured_in_training(model, shards):
    section = EvaluationSection(path=str(shards), every_steps=2, k=1, batch_size=8, num_workers=0, linear_probe=True)
    found = OnlineEvaluation(section, model.config, torch.float32)(model.train())
    assert found.keys() == {"knn_top_1", "effective_rank", "probe_top_1"}
    assert found["effective_rank"] >= 1
    assert model.training


def test_a_batch_is_what_the_extractor_makes(model):
    extractor = inference_processor(model.config)
    inputs = processor_inputs(extractor, model.config)
    assert isinstance(inputs, SoundInputs)
    waves = [tone(0.4, 16000, 500.0), tone(0.2, 16000, 900.0)]
    batch = inputs.collate([{"waveform": wave, "clip_id": str(i), "label": i} for i, wave in enumerate(waves)])
    for row, wave in zip(inputs.tensor(batch, torch.device("cpu")), waves, strict=True):
        alone = extractor(wave.numpy(), sampling_rate=16000, return_tensors="pt")["input_values"][0]
        torch.testing.assert_close(row, alone)
    assert batch["label"].tolist() == [0, 1]


AUDIO_VISUAL = {
    **SIZES, "num_shared_layers": 1, "image_size": 16, "mask_options": {"bank_size": 2},
    "video_mask_options": {"bank_size": 2},
}  # fmt: skip


def test_audio_visual_models_are_refused_unless_they_have_one_modality(tmp_path):
    config = StructuredNoiseAudioVideoConfig(**AUDIO_VISUAL)
    StructuredNoiseAudioVideoForPreTraining(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="supports video, audio or skeleton models, not audio-visual ones"):
        load_processor(tmp_path)
    with pytest.raises(ValueError, match="input_values and pixel_values, preprocessed by StructuredNoise"):
        processor_inputs(inference_processor(config), config)


def test_an_audio_visual_model_of_one_modality_is_measured_on_it(shards, tmp_path):
    model = StructuredNoiseAudioVideoForPreTraining(StructuredNoiseAudioVideoConfig(**AUDIO_VISUAL, modality="audio"))
    model.save_pretrained(tmp_path)
    inference_processor(model.config).save_pretrained(tmp_path)
    extractor = load_processor(tmp_path)
    (found,) = checkpoint_features(model.base_model, extractor, shards, ("test",), progress=False)
    item = next(iter(ClipStream(open_source(shards, split="test"), None, audio=WHOLE)))
    inputs = extractor(item["waveform"].numpy(), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        expected = model.base_model.eval()(**inputs).pooler_output[0]
    torch.testing.assert_close(found.features[found.clip_ids.index(f"{item['clip_id']}#0")], expected)


def test_the_inputs_of_an_audio_visual_model_of_video_only_are_frames():
    config = StructuredNoiseAudioVideoConfig(**AUDIO_VISUAL, modality="video")
    joint = inference_processor(config)
    inputs = processor_inputs(joint, config)
    assert isinstance(inputs, FrameInputs)
    video = torch.randint(256, (config.num_frames, 3, 16, 16), dtype=torch.uint8)
    batch = inputs.collate([{"pixel_values": inputs.transform(video, torch.Generator()), "clip_id": "a"}])
    expected = joint(videos=[video], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(inputs.tensor(batch, torch.device("cpu")), expected, atol=1e-5, rtol=0)
