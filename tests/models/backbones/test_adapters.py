"""Models of transformers and of this package are backbones: own pooling, feature size, feature map."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    BertConfig,
    BertModel,
    TimesformerConfig,
    TimesformerForVideoClassification,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VivitConfig,
    VivitForVideoClassification,
    VJEPA2Config,
    VJEPA2Model,
)

from tubelets import (
    I3DConfig,
    I3DModel,
    R2Plus1DNativeConfig,
    R2Plus1DNativeModel,
    ResNet3DConfig,
    ResNet3DForVideoClassification,
    StructuredNoiseAudioConfig,
    StructuredNoiseAudioForPreTraining,
    StructuredNoiseAudioVideoConfig,
    StructuredNoiseAudioVideoForPreTraining,
    TubeletContrastConfig,
    TubeletContrastForPreTraining,
    TubeletsVideoMAEConfig,
    TubeletsVideoMAEForVideoClassification,
)
from tubelets.models.backbones.adapters import as_backbone
from tubelets.models.common.backbone import VideoBackbone
from tubelets.models.common.inputs import model_inputs

SIZES = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
CLIP = {"image_size": 32, "num_frames": 4, "patch_size": 8, **SIZES}


def build(kind: Any, config: Any) -> Any:
    torch.manual_seed(0)
    return kind(config).eval()


def video(frames: int = 4, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn(2, frames, 3, height, width, generator=torch.Generator().manual_seed(1))


def videomae() -> Any:
    return build(VideoMAEForVideoClassification, VideoMAEConfig(**CLIP, num_labels=3))


def timesformer() -> Any:
    return build(TimesformerForVideoClassification, TimesformerConfig(**CLIP, num_labels=3))


def vivit() -> Any:
    sizes = {name: value for name, value in CLIP.items() if name != "patch_size"}
    return build(VivitForVideoClassification, VivitConfig(**sizes, tubelet_size=[2, 8, 8], num_labels=3))


def vjepa2() -> Any:
    predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    shape = {"crop_size": 32, "patch_size": 8, "frames_per_clip": 4, "tubelet_size": 2, "mlp_ratio": 2}
    return build(VJEPA2Model, VJEPA2Config(**SIZES, **shape, **predictor, pred_num_mask_tokens=1))


def test_features_are_what_the_classifiers_of_transformers_compute() -> None:
    model = videomae()
    features = as_backbone(model)(video()).pooler_output
    torch.testing.assert_close(model.classifier(model.fc_norm(features)), model(video()).logits)
    for make in (timesformer, vivit):
        model = make()
        torch.testing.assert_close(model.classifier(as_backbone(model)(video()).pooler_output), model(video()).logits)


def test_v_jepa_2_is_pooled_over_the_tokens_of_its_encoder() -> None:
    model = vjepa2()
    backbone = as_backbone(model)
    found = backbone(pixel_values_videos=video())
    expected = model(video()).last_hidden_state
    torch.testing.assert_close(found.last_hidden_state, expected)
    torch.testing.assert_close(found.pooler_output, expected.mean(dim=1))
    assert list(model_inputs(backbone.config)) == ["pixel_values_videos"]


def test_the_audio_spectrogram_transformer_pools_its_two_class_tokens() -> None:
    config = ASTConfig(**SIZES, patch_size=8, frequency_stride=8, time_stride=8, max_length=32, num_mel_bins=16)
    model = build(ASTForAudioClassification, config)
    backbone = as_backbone(model)
    sound = torch.randn(2, 32, 16)
    output = backbone(sound)
    torch.testing.assert_close(model.classifier(output.pooler_output), model(sound).logits)
    assert backbone.tokens(output.last_hidden_state).shape == (2, 8, 24)
    assert not isinstance(backbone, VideoBackbone)
    assert (backbone.feature_size, list(model_inputs(backbone.config))) == (24, ["input_values"])


@pytest.mark.parametrize(
    ("make", "grid"), [(videomae, (2, 4, 4)), (timesformer, (4, 4, 4)), (vivit, (2, 4, 4)), (vjepa2, (2, 4, 4))]
)
def test_maps_hold_each_token_at_its_place(make: Any, grid: tuple[int, int, int]) -> None:
    backbone = as_backbone(make())
    assert isinstance(backbone, VideoBackbone)
    clips = video()
    map_ = backbone.feature_map(clips)
    assert map_.shape == (2, backbone.feature_size, *grid)
    tokens = backbone.tokens(backbone(clips).last_hidden_state)
    assert tokens.shape == (2, grid[0] * grid[1] * grid[2], backbone.feature_size)
    # Without attention and positions, changing one corner of the clip changes the token of that place alone.
    for parameter_name, parameter in backbone.named_parameters():
        if "attention" in parameter_name or "position" in parameter_name or "time_embeddings" in parameter_name:
            nn.init.zeros_(parameter)
        if "temporal_dense" in parameter_name:
            nn.init.zeros_(parameter)
    changed = clips.clone()
    changed[:, -1, :, -8:, :8] += 3
    moved = (backbone.feature_map(changed) - backbone.feature_map(clips)).abs().amax(dim=(0, 1))
    place = moved > 1e-4
    assert place[-1, -1, 0]
    assert int(place.sum()) == 1


OURS = {
    "resnet3d": lambda: ResNet3DForVideoClassification(ResNet3DConfig(hidden_sizes=(8, 16), depths=(1, 1))),
    "i3d": lambda: I3DModel(I3DConfig(width_multiplier=0.0625)),
    "avid": lambda: R2Plus1DNativeModel(R2Plus1DNativeConfig(hidden_sizes=(8, 16), depths=(1, 1))),
    "rspnet": lambda: R2Plus1DNativeModel(R2Plus1DNativeConfig(variant="rspnet", hidden_sizes=(8, 16), depths=(1, 1))),
    "tubelet_contrast": lambda: TubeletContrastForPreTraining(
        TubeletContrastConfig(
            backbone_options={"hidden_sizes": (8, 16), "depths": (1, 1), "stem_size": 6}, queue_size=4
        )
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_convolutional_models_are_backbones_and_pool_their_map(name: str) -> None:
    torch.manual_seed(0)
    backbone = as_backbone(OURS[name]().eval())
    clips = video(8)
    output = backbone(clips)
    map_ = backbone.feature_map(clips)
    assert map_.shape[:2] == (2, backbone.feature_size)
    torch.testing.assert_close(output.last_hidden_state, map_)
    pooled = map_.amax(dim=(2, 3, 4)) if name == "avid" else map_.mean(dim=(2, 3, 4))
    torch.testing.assert_close(output.pooler_output, pooled)
    assert backbone.tokens(map_).shape == (2, map_[0, 0].numel(), backbone.feature_size)


AUDIO = {"max_length": 32, "num_mel_bins": 16, "patch_size": 8, **SIZES, "decoder_type": "plain"}
DECODER = {"decoder_hidden_size": 24, "decoder_num_attention_heads": 2, "decoder_num_hidden_layers": 1}


def test_audio_models_leave_their_class_token_out_of_the_mean() -> None:
    model = build(StructuredNoiseAudioForPreTraining, StructuredNoiseAudioConfig(**AUDIO, **DECODER))
    backbone = as_backbone(model)
    output = backbone(torch.randn(2, 32, 16))
    torch.testing.assert_close(output.pooler_output, output.last_hidden_state[:, 1:].mean(dim=1))
    assert torch.equal(backbone.tokens(output.last_hidden_state), output.last_hidden_state[:, 1:])
    assert (backbone.feature_size, list(model_inputs(backbone.config))) == (24, ["input_values"])


def test_audio_visual_models_have_a_map_of_their_frames() -> None:
    frames = {"image_size": 32, "num_frames": 2, "video_mask_options": {"bank_size": 2}}
    config = StructuredNoiseAudioVideoConfig(**AUDIO, **DECODER, **frames)
    backbone = as_backbone(build(StructuredNoiseAudioVideoForPreTraining, config))
    clips = video(2)
    tokens = backbone(pixel_values=clips).video_hidden_state
    map_ = backbone.feature_map(clips)
    assert map_.shape == (2, 24, 2, 4, 4)
    torch.testing.assert_close(map_[:, :, 1, 2, 3], tokens[:, 16 + 2 * 4 + 3])


def test_the_video_vit_is_stripped_of_its_head() -> None:
    config = TubeletsVideoMAEConfig(**CLIP, num_labels=3)
    model = build(TubeletsVideoMAEForVideoClassification, config)
    assert as_backbone(model) is model.videomae


def test_other_models_are_refused_with_what_is_accepted() -> None:
    with pytest.raises(TypeError, match=r"Linear is not a backbone.*timesformer.*videomae"):
        as_backbone(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="BertModel is not a backbone"):
        as_backbone(BertModel(BertConfig(**SIZES, vocab_size=10)))
    with pytest.raises(TypeError, match="space_only"):
        as_backbone(build(TimesformerForVideoClassification, TimesformerConfig(**CLIP, attention_type="space_only")))


def test_an_adapter_keeps_the_mode_of_its_model() -> None:
    assert not as_backbone(vivit()).training
    assert as_backbone(vivit().train()).training
