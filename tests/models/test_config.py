"""Configurations: what they refuse, derive, write and read back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from tubelets import (
    SigmaConfig,
    SigmaForPreTraining,
    SigmaForVideoClassification,
    SmileConfig,
    TubeletsVideoMAEConfig,
    TubeletsVideoMAEForPreTraining,
)
from tubelets.masking import build_mask_generator
from tubelets.models.common.auto import MODELS
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.motion import MotionSettings

CONFIGS = [TubeletsVideoMAEConfig, SigmaConfig, SmileConfig]
SIZES = {"num_frames": 4, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
SIZES |= {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
SIZES |= {"decoder_intermediate_size": 24, "mask_ratio": 0.5}


@pytest.mark.parametrize("config_class", CONFIGS)
def test_a_configuration_survives_json(config_class: Any, tmp_path: Path) -> None:
    changed = {"image_size": (32, 48), "patch_size": (8, 16), "mask_ratio": 0.5, "mask_type": "random", "num_frames": 8}
    changed |= {"image_mean": (0.5, 0.4, 0.3), "drop_path_rate": 0, "id2label": {0: "a", 1: "b", 2: "c"}}
    changed |= {"label2id": {"a": 0, "b": 1, "c": 2}, "layer_norm_eps": 1e-5, "use_mean_pooling": True}
    if config_class is SigmaConfig:
        changed |= {"target_type": "dino_v2", "teacher_hidden_size": 384, "projection_hidden_sizes": (7, 9)}
        changed |= {"sinkhorn_epsilon": 0.03, "hard_labels": False}
    if config_class is SmileConfig:
        changed |= {"target_type": "dino", "teacher_hidden_size": 384, "background": "noise", "second_mask": "resample"}
        changed |= {"motion_settings": {"rotation_velocity": 0.0, "path_span": [10, 50]}, "motion_type": "linear"}
    config = config_class(**changed)
    config.save_pretrained(tmp_path)
    for loaded in (config_class.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is config_class
        assert json.loads(loaded.to_json_string()) == json.loads(config.to_json_string())
        assert loaded.grid == config.grid == (4, 4, 3)
        assert loaded.num_labels == 3
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == config_class.model_type


@pytest.mark.parametrize("config_class", CONFIGS)
def test_defaults_are_the_papers(config_class: Any) -> None:
    config = config_class()
    assert config.grid == (8, 14, 14)
    assert (config.num_tokens, config.pixels_per_tube) == (1568, 1536)
    ratio = 0.8 if config_class is SmileConfig else 0.9
    assert (config.layer_norm_eps, config.use_mean_pooling, config.mask_ratio) == (1e-6, False, ratio)
    assert (config.image_mean, config.image_std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (config.decoder_hidden_size, config.decoder_num_hidden_layers, config.decoder_num_attention_heads) == (
        384,
        4,
        6,
    )
    assert (config.drop_path_rate, config.head_init_scale) == (0, 0.001)


def test_defaults_of_sigma_are_the_scripts() -> None:
    config = SigmaConfig()
    assert (config.target_type, config.loss_type, config.hard_labels) == ("mlp", "prototypes", True)
    assert (config.num_prototypes, config.sinkhorn_epsilon, config.sinkhorn_iterations) == (3000, 0.05, 10)
    assert config.temperature == 0.1
    assert (tuple(config.projection_hidden_sizes), config.projection_size) == ((1024, 1024, 512), 256)
    assert config.teacher is None


@pytest.mark.parametrize("config_class", CONFIGS)
def test_any_method_takes_masks_of_coloured_noise(config_class: Any, tmp_path: Path) -> None:
    options = {"bank_size": 2, "volume_shape": [8, 16, 16], "sigma_low": 0.5, "sigma_high": [1.5, 2.0]}
    config = config_class(**SIZES, image_size=32, patch_size=8, mask_type="green3d", mask_options=options)
    config.save_pretrained(tmp_path)
    generators = [each.build_mask_generator() for each in (config, config_class.from_pretrained(tmp_path))]
    masks = [each(4, generator=torch.Generator().manual_seed(0)) for each in generators]
    assert torch.equal(*masks)
    assert masks[0].sum(dim=1).tolist() == [16] * 4


def test_defaults_of_smile_are_the_first_stage() -> None:
    config = SmileConfig()
    assert (config.target_type, config.teacher) == ("clip", "transformers:openai/clip-vit-base-patch16")
    assert (config.num_objects, config.objects) == (2, "mdorkenw/PIN_Synthetic_Dataset")
    assert (config.motion_type, config.background) == ("gaussian", "video")
    assert (config.mask_type, config.trajectory_mask, config.traj_unmask_ratio) == ("trajectory", "tube+traj_mask", 0.1)
    assert (config.masks_per_clip, config.second_mask, config.normalize_target) == (2, "permute", True)
    assert config.build_mask_generator().num_masked == 8 * 156
    assert config.motion == MotionSettings.smile()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "frames": ({"num_frames": 15}, r"num_frames=15.*tubelet_size=2"),
    "pixels": ({"image_size": 100}, r"image_size=100.*patch_size=16"),
    "one side": ({"image_size": (224, 100)}, r"image_size=\(224, 100\).*patch_size=16"),
    "heads": ({"num_attention_heads": 7}, r"hidden_size=768.*num_attention_heads=7"),
    "decoder heads": ({"decoder_num_attention_heads": 7}, r"decoder_hidden_size=384.*decoder_num_attention_heads=7"),
    "all masked": ({"mask_ratio": 1.0}, r"mask_ratio.*1\.0"),
    "negative ratio": ({"mask_ratio": -0.1}, r"mask_ratio.*-0\.1"),
    "drop path": ({"drop_path_rate": 1}, r"drop_path_rate.*1"),
    "dropout": ({"head_dropout": 2.0}, r"head_dropout.*2\.0"),
    "mean": ({"image_mean": (0.5,)}, r"image_mean.*3.*0\.5"),
    "std": ({"image_std": (0.5, 0.5, 0.5, 0.5)}, r"image_std.*3"),
    "zero std": ({"image_std": (0.5, 0.5, 0.0)}, "image_std"),
    "mask type": ({"mask_type": "block"}, "mask_type.*|.*block"),
    "type": ({"hidden_size": "wide"}, "hidden_size"),
    "no frames": ({"num_frames": 0}, "num_frames"),
    "no tubelet": ({"tubelet_size": 0}, "tubelet_size"),
    "no patch": ({"patch_size": 0}, "patch_size"),
    "no pixels": ({"image_size": 0}, "image_size"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads"),
    "no width": ({"hidden_size": 0}, "hidden_size"),
    "mask options": ({"mask_type": "green3d", "mask_options": {"colour": 1}}, "green3d.*colour"),
    "small bank": ({"mask_type": "red3d", "mask_options": {"volume_shape": [4, 4, 4]}}, r"volume_shape \(4, 4, 4\)"),
    "three sides": ({"image_size": (224, 224, 224)}, "image_size"),
}
BAD_SIGMA: dict[str, tuple[dict[str, Any], str]] = {
    "mlp regression": ({"loss_type": "regression"}, "target_type='mlp'.*loss_type='regression'.*collapses"),
    "pixel prototypes": ({"target_type": "pixel", "loss_type": "prototypes"}, "'pixel'.*'prototypes'"),
    "no encoder": ({"target_type": "image_encoder"}, "image_encoder.*teacher"),
    "target": ({"target_type": "dino"}, "target_type"),
    "loss": ({"loss_type": "contrastive"}, "loss_type"),
    "prototypes": ({"num_prototypes": 0}, "num_prototypes.*0"),
    "epsilon": ({"sinkhorn_epsilon": 0}, "sinkhorn_epsilon.*0"),
    "iterations": ({"sinkhorn_iterations": -1}, "sinkhorn_iterations.*-1"),
    "temperature": ({"temperature": -0.1}, r"temperature.*-0\.1"),
    "projection": ({"projection_size": 0}, "projection_size.*0"),
    "hidden projection": ({"projection_hidden_sizes": (64, 0)}, "projection_hidden_sizes"),
    "teacher width": ({"teacher_hidden_size": -1}, "teacher_hidden_size.*-1"),
}
BAD_SMILE: dict[str, tuple[dict[str, Any], str]] = {
    "no encoder": ({"target_type": "image_encoder"}, "image_encoder.*teacher"),
    "target": ({"target_type": "clap"}, "target_type"),
    "nothing moves": ({"num_objects": 0}, "trajectory.*num_objects"),
    "negative objects": ({"num_objects": -1}, "num_objects.*-1"),
    "many objects": ({"num_objects": 1000}, "num_objects.*1000"),
    "no mask": ({"masks_per_clip": 0}, "masks_per_clip"),
    "share": ({"traj_unmask_ratio": 1.5}, r"traj_unmask_ratio.*1\.5"),
    "kind": ({"trajectory_mask": "frame"}, "trajectory_mask.*frame"),
    "motion field": ({"motion_settings": {"speed": 3}}, "motion_settings.*speed"),
    "motion value": ({"motion_settings": {"smoothness": -1.0}}, "smoothness"),
    "long patches": ({"patch_size": (16, 8)}, "square.*16 x 8"),
    "one frame": ({"num_frames": 1, "tubelet_size": 1}, "num_frames.*1"),
}


@pytest.mark.parametrize("config_class", CONFIGS)
@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_by_name(config_class: Any, case: str) -> None:
    with pytest.raises(StrictDataclassError, match=BAD[case][1]):
        config_class(**BAD[case][0])


@pytest.mark.parametrize("case", BAD_SIGMA)
def test_bad_values_of_sigma_are_refused_by_name(case: str) -> None:
    with pytest.raises(StrictDataclassError, match=BAD_SIGMA[case][1]):
        SigmaConfig(**BAD_SIGMA[case][0])


@pytest.mark.parametrize("case", BAD_SMILE)
def test_bad_values_of_smile_are_refused_by_name(case: str) -> None:
    with pytest.raises(StrictDataclassError, match=BAD_SMILE[case][1]):
        SmileConfig(**BAD_SMILE[case][0])


@pytest.mark.parametrize(
    ("fields", "loss_type", "size", "teacher"),
    [
        ({}, "prototypes", 256, None),
        ({"projection_size": 100}, "prototypes", 100, None),
        ({"target_type": "pixel"}, "regression", 1536, None),
        ({"target_type": "pixel", "patch_size": 8, "image_size": 64}, "regression", 384, None),
        ({"target_type": "dino_v1"}, "prototypes", 768, "transformers:facebook/dino-vitb16"),
        (
            {"target_type": "dino_v1", "teacher_hidden_size": 384},
            "prototypes",
            384,
            "transformers:facebook/dino-vits16",
        ),
        ({"target_type": "dino_v1", "loss_type": "regression"}, "regression", 768, "transformers:facebook/dino-vitb16"),
        ({"target_type": "dino_v2"}, "prototypes", 768, "timm:vit_base_patch14_reg4_dinov2.lvd142m"),
        ({"target_type": "image_encoder", "teacher": "timm:x", "teacher_hidden_size": 9}, "prototypes", 9, "timm:x"),
    ],
)
def test_the_target_decides_loss_width_and_teacher(
    fields: dict[str, Any], loss_type: str, size: int, teacher: str | None
) -> None:
    config = SigmaConfig(**fields)
    assert (config.loss_type, config.prediction_size, config.teacher) == (loss_type, size, teacher)
    assert config.uses_teacher == (teacher is not None)


def test_the_base_predicts_pixels() -> None:
    assert TubeletsVideoMAEConfig(patch_size=(8, 16), tubelet_size=4, num_channels=3).prediction_size == 3 * 4 * 8 * 16


@pytest.mark.parametrize("image_size", [(32, 48), (48, 32), [16, 64]])
@pytest.mark.parametrize("patch_size", [16, (8, 16), (16, 8)])
def test_other_than_square_videos_work_end_to_end(image_size: Any, patch_size: Any) -> None:
    sizes = {**SIZES, "image_size": image_size, "patch_size": patch_size}
    video = torch.randn(2, 4, 3, *image_size)
    for model in (
        TubeletsVideoMAEForPreTraining(TubeletsVideoMAEConfig(**sizes)),
        SigmaForPreTraining(SigmaConfig(**sizes, num_prototypes=3)),
    ):
        mask = build_mask_generator("tube", model.config.grid, 0.5)(2)
        output = model(video, mask)
        assert output.loss.isfinite()
        assert output.logits.shape == (2, int(mask[0].sum()), model.config.prediction_size)
    classifier = SigmaForVideoClassification(SigmaConfig(**sizes, num_labels=3))
    assert classifier(video).logits.shape == (2, 3)


def test_tubes_of_other_than_square_videos_are_cut_as_the_convolution_cuts_them() -> None:
    model = SigmaForVideoClassification(SigmaConfig(**SIZES, image_size=(32, 48), patch_size=(8, 16))).videomae
    video = torch.randn(2, 4, 3, 32, 48)
    embeddings = model.embeddings
    expected = embeddings.patch_embeddings(video) + embeddings.position_embeddings
    torch.testing.assert_close(embeddings(video), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize("number", [10**9, -1, "many"])
def test_absurd_numbers_of_labels_are_refused_before_names_are_made(model_type: str, number: Any) -> None:
    with pytest.raises(StrictDataclassError, match="num_labels"):
        AutoConfig.for_model(model_type, num_labels=number)


FAMILY = {"tubelets_videomae", "sigma", "smile", "structured_noise_video"} & set(MODELS)


@pytest.mark.parametrize("written", [*MODELS, "videomae", "bert"])
def test_only_the_masked_video_family_exchanges_encoders(written: str, tmp_path: Path) -> None:
    config = AutoConfig.for_model(written)
    config.save_pretrained(tmp_path)
    for reader, entry in MODELS.items():
        config_class = entry.load(entry.config)
        if written == reader or (reader in FAMILY and written in FAMILY | {"videomae"}):
            loaded = config_class.from_pretrained(tmp_path)
            assert type(loaded) is config_class
            continue
        with pytest.raises(CheckpointLayoutError, match=f"'{written}' and {config_class.__name__} reads"):
            config_class.from_pretrained(tmp_path)


def test_an_encoder_of_the_family_is_read_with_its_sizes(tmp_path: Path) -> None:
    SmileConfig(**SIZES, image_size=32, patch_size=16).save_pretrained(tmp_path)
    assert SigmaConfig.from_pretrained(tmp_path).hidden_size == SIZES["hidden_size"]
