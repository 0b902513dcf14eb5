import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForPreTraining, PreTrainedModel, VideoMAEForPreTraining

from tubelets import StructuredNoiseAudioConfig
from tubelets.models.methods.sigma.configuration_sigma import SigmaConfig
from tubelets.tasks.classification.labels import label_fields
from tubelets.tasks.classification.video import VIDEO_CLASSIFICATION, video_input
from tubelets.training.finetuning_arguments import ModelArguments
from tubelets.training.models import (
    WrongCheckpointError,
    build_config,
    build_model,
    build_processor,
    stored_class_names,
)
from tubelets.training.parsing import RecipeError

SIZES = {
    "hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32, "image_size": 16,
    "patch_size": 8, "num_frames": 2,
}  # fmt: skip
DECODER = {
    "decoder_hidden_size": 24, "decoder_num_attention_heads": 2, "decoder_num_hidden_layers": 1,
    "decoder_intermediate_size": 32,
}  # fmt: skip
NAMES = ["jump", "run", "walk"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining checkpoint of SIGMA."""
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    model = AutoModelForPreTraining.from_config(SigmaConfig(**SIZES, **DECODER, num_prototypes=4))
    model.save_pretrained(folder)
    return folder


def built(where: Path, names: list[str] | None = None, **fields: Any) -> PreTrainedModel:
    arguments = ModelArguments(model_name_or_path=str(where), **fields)
    return build_model(arguments, VIDEO_CLASSIFICATION, label_fields(names or NAMES))


def test_a_pretrained_encoder_becomes_a_classifier(pretrained: Path) -> None:
    model = built(pretrained, config_overrides={"drop_path_rate": 0.2})
    encoder = AutoModelForPreTraining.from_pretrained(pretrained).state_dict()
    shared = [name for name in model.state_dict() if name in encoder]
    assert len(shared) > 20
    assert all(torch.equal(model.state_dict()[name], encoder[name]) for name in shared)
    assert not [
        name
        for name in model.state_dict()
        if name not in encoder and "classifier" not in name and "fc_norm" not in name
    ]
    assert model.config.id2label == dict(enumerate(NAMES))
    assert model.config.label2id == {"jump": 0, "run": 1, "walk": 2}
    assert model.config.problem_type == "single_label_classification"
    assert model.config.drop_path_rate == 0.2
    assert model.training
    assert model.dtype == torch.float32


def test_a_head_is_only_drawn_anew_when_asked(pretrained: Path, tmp_path: Path) -> None:
    first = built(pretrained)
    first.save_pretrained(tmp_path)
    same = built(tmp_path)
    assert torch.equal(same.classifier.weight, first.classifier.weight)
    with pytest.raises(WrongCheckpointError, match="checkpoint has 3 labels and the configuration 4"):
        built(tmp_path, [*NAMES, "sit"])
    for names in ([*NAMES, "sit"], ["crawl", "sit", "stand"]):
        other = built(tmp_path, names, new_head=True)
        assert other.classifier.weight.shape[0] == len(names)
        assert not torch.equal(other.classifier.weight[:3], first.classifier.weight)
        assert torch.isfinite(other.classifier.weight).all()
        encoders = [model.videomae.state_dict() for model in (first, other)]
        assert all(torch.equal(value, encoders[1][name]) for name, value in encoders[0].items())


def test_the_classes_of_a_kept_head(pretrained: Path, tmp_path: Path) -> None:
    built(pretrained).save_pretrained(tmp_path)
    kept = ModelArguments(model_name_or_path=str(tmp_path))
    new = ModelArguments(model_name_or_path=str(tmp_path), new_head=True)
    headless = ModelArguments(model_name_or_path=str(pretrained))
    assert stored_class_names(kept, VIDEO_CLASSIFICATION, trains=False) == NAMES
    assert stored_class_names(new, VIDEO_CLASSIFICATION, trains=True) is None
    assert stored_class_names(headless, VIDEO_CLASSIFICATION, trains=True) is None
    for arguments, reason in ((new, "new_head is set"), (headless, "it is a SigmaForPreTraining, which has none")):
        with pytest.raises(WrongCheckpointError, match=f"head of random weights, because {reason}"):
            stored_class_names(arguments, VIDEO_CLASSIFICATION, trains=False)


def test_a_bf16_checkpoint_is_trained_in_float32(pretrained: Path, tmp_path: Path) -> None:
    built(pretrained).to(torch.bfloat16).save_pretrained(tmp_path)
    assert built(tmp_path).dtype == torch.float32


def test_stock_pretraining_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = VideoMAEForPreTraining(transformers.VideoMAEConfig(**SIZES, **DECODER, use_mean_pooling=False))
    source.save_pretrained(tmp_path)
    # The stock classifier pools over tokens and has no final norm; the encoder's is not used.
    model = built(tmp_path, config_overrides={"use_mean_pooling": True})
    name = "videomae.encoder.layer.1.attention.attention.query.bias"
    assert torch.equal(model.state_dict()[name], source.state_dict()[name])


def test_another_methods_weights_are_refused(pretrained: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = transformers.TimesformerForVideoClassification(transformers.TimesformerConfig(**SIZES))
    other.save_pretrained(tmp_path)
    # The configuration says one method and the weights are another's.
    shutil.copy(pretrained / "config.json", tmp_path / "config.json")
    with pytest.raises(WrongCheckpointError, match=r"holds no weight of a TubeletsVideoMAEModel \(\d+ are needed"):
        built(tmp_path)


def test_another_size_is_refused(pretrained: Path, tmp_path: Path) -> None:
    shutil.copytree(pretrained, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_size": 48}))
    with pytest.raises(WrongCheckpointError, match=r"has shape .* in the model .*method or size.*config_overrides"):
        built(tmp_path)


def test_a_model_that_classifies_no_videos_is_refused(tmp_path: Path) -> None:
    transformers.ViTConfig(hidden_size=24, num_attention_heads=2).save_pretrained(tmp_path)
    with pytest.raises(WrongCheckpointError, match="'vit', which AutoModelForVideoClassification does not load"):
        built(tmp_path)


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        built(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no_method"):
        build_config(ModelArguments(model_type="no_method"), label_fields(NAMES))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"drop_path": 0.1}, "did you mean 'drop_path_rate'"), ({"problem_type": "x"}, "which follow from the data")],
)
def test_bad_overrides_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_config(ModelArguments(model_type="sigma", config_overrides=changes), label_fields(NAMES))


def test_overrides_are_checked_by_the_configuration() -> None:
    with pytest.raises(Exception, match="image_size=30 must be a multiple of patch_size=16"):
        build_config(ModelArguments(model_type="sigma", config_overrides={"image_size": 30}), label_fields(NAMES))


def test_multi_label_heads() -> None:
    config = build_config(ModelArguments(model_type="sigma"), label_fields(NAMES, multi_label=True))
    assert config.problem_type == "multi_label_classification"


def test_frozen_parts(pretrained: Path) -> None:
    probe = built(pretrained, freeze_backbone=True)
    trained = {name for name, parameter in probe.named_parameters() if parameter.requires_grad}
    assert trained == {"fc_norm.weight", "fc_norm.bias", "classifier.weight", "classifier.bias"}
    upper = built(pretrained, freeze_layers=1)
    frozen = {name for name, parameter in upper.named_parameters() if not parameter.requires_grad}
    assert frozen
    assert all("embeddings" in name or "layer.0." in name for name in frozen)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SigmaConfig(**SIZES), ("pixel_values", 2, 16)),
        (transformers.TimesformerConfig(), ("pixel_values", 8, 224)),
        (transformers.VJEPA2Config(frames_per_clip=4, crop_size=32), ("pixel_values_videos", 4, 32)),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_clips_and_processors(config: Any, expected: tuple[str, int, int]) -> None:
    name, num_frames, size = expected
    found, spec = video_input(config)
    assert (found, spec.num_frames, spec.size) == (name, num_frames, (size, size))
    processor = build_processor(ModelArguments(model_type=config.model_type), VIDEO_CLASSIFICATION, config)
    frames = torch.zeros(num_frames, 3, 300, 400, dtype=torch.uint8)
    assert processor(frames, return_tensors="pt")[name].shape == (1, num_frames, 3, size, size)
    assert len(processor.image_mean) == len(processor.image_std) == 3


def test_models_without_square_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="'bert' does not declare its number of frames"):
        video_input(transformers.BertConfig())
    with pytest.raises(ValueError, match="expects 16 x 32 pixels"):
        video_input(SigmaConfig(**{**SIZES, "image_size": (16, 32)}))
    with pytest.raises(ValueError, match="expects input_values, and video classification"):
        video_input(StructuredNoiseAudioConfig())


def test_a_stored_processor_wins(tmp_path: Path) -> None:
    stored = transformers.VideoMAEVideoProcessor(image_mean=[0.1, 0.2, 0.3])
    stored.save_pretrained(tmp_path)
    arguments = ModelArguments(model_name_or_path=str(tmp_path))
    found = build_processor(arguments, VIDEO_CLASSIFICATION, transformers.VideoMAEConfig())
    assert list(found.image_mean) == [0.1, 0.2, 0.3]
