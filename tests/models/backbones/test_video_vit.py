"""The video ViT and the models built on it: mask counts, precision, copies and quantisation."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tiny import SIZES, masked_clips
from tubelets import (
    SigmaConfig,
    SigmaForPreTraining,
    SigmaForVideoClassification,
    SmileConfig,
    SmileForPreTraining,
    TubeletsVideoMAEConfig,
    TubeletsVideoMAEForPreTraining,
    TubeletsVideoMAEModel,
)
from tubelets.masking import MASK_TYPES, VIDEO_NOISE

SIGMA = {"num_prototypes": 6, "projection_hidden_sizes": (20,), "projection_size": 12}


@pytest.mark.parametrize("mask_type", MASK_TYPES)
@pytest.mark.parametrize("ratio", [0.0, 0.29, 0.55, 0.75, 0.9])
@pytest.mark.parametrize("size", [(80, 80), (48, 112)])
def test_the_count_of_masked_tokens_is_the_generators(mask_type: str, ratio: float, size: tuple[int, int]) -> None:
    rules: list[dict[str, Any]] = [{}]
    if mask_type in VIDEO_NOISE:
        rules = [{"mask_options": {"count_rule": rule}} for rule in ("masked_floor", "kept_floor")]
    for options in rules:
        config = TubeletsVideoMAEConfig(
            image_size=size, patch_size=8, num_frames=6, mask_type=mask_type, mask_ratio=ratio, **options
        )
        assert config.num_masked == config.build_mask_generator().num_masked


@pytest.mark.parametrize("ratio", [0.29, 0.8])
def test_the_count_of_trajectory_masks_is_the_generators(ratio: float) -> None:
    config = SmileConfig(image_size=80, patch_size=8, num_frames=6, mask_ratio=ratio)
    assert config.num_masked == config.build_mask_generator().num_masked


def test_a_forward_builds_no_mask_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TubeletsVideoMAEForPreTraining(TubeletsVideoMAEConfig(**SIZES))
    monkeypatch.setattr(TubeletsVideoMAEConfig, "build_mask_generator", lambda self: pytest.fail("built a generator"))
    assert model(*masked_clips()).loss.isfinite()


def test_the_feature_map_holds_the_tokens_at_their_places() -> None:
    config = TubeletsVideoMAEConfig(**{**SIZES, "image_size": (16, 32)})
    model = TubeletsVideoMAEModel(config).eval()
    clips = torch.randn(2, 4, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    output, features = model(clips), model.feature_map(clips)
    assert features.shape == (2, model.feature_size, 2, 2, 4)
    assert torch.equal(features[1, :, 1, 0, 2], output.last_hidden_state[1, 8 + 2])
    torch.testing.assert_close(output.pooler_output, features.mean(dim=(2, 3, 4)))


def models() -> list[tuple[nn.Module, dict[str, Any]]]:
    _, mask = masked_clips()
    features = torch.randn(2, 32, 20, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    return [
        (TubeletsVideoMAEForPreTraining(TubeletsVideoMAEConfig(**SIZES)), {"bool_masked_pos": mask}),
        (SigmaForPreTraining(SigmaConfig(**SIZES, **SIGMA)), {"bool_masked_pos": mask}),
        (
            SmileForPreTraining(SmileConfig(**SIZES, target_type="dino", teacher_hidden_size=20)),
            {"bool_masked_pos": mask, "target_features": features},
        ),
        (SigmaForVideoClassification(SigmaConfig(**SIZES, num_labels=5)), {"labels": torch.tensor([0, 4])}),
    ]


def pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def saved_and_loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled, saved_and_loaded])
def test_models_can_be_copied_and_pickled(number: int, duplicate: Any) -> None:
    model, given = models()[number]
    clips, _ = masked_clips()
    other = duplicate(model)
    other.apply(other._init_weights)  # the schemes travel with the layers
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(clips, **given).loss, other(clips, **given).loss)


def gradients(model: nn.Module, clips: Tensor, given: dict[str, Any], autocast: bool) -> Tensor:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(clips, **given).loss
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("number", [0, 2])
def test_gradients_under_autocast_are_close_to_those_in_float32(number: int) -> None:
    model, given = models()[number]
    clips, _ = masked_clips()
    exact = gradients(model, clips, given, autocast=False)
    rounded = gradients(model, clips, given, autocast=True)
    assert 0 < (rounded - exact).norm() <= 0.015 * exact.norm()


def test_the_decoders_residual_stream_is_float32_under_autocast() -> None:
    model = TubeletsVideoMAEForPreTraining(TubeletsVideoMAEConfig(**SIZES))
    seen: list[torch.dtype] = []
    for layer in model.decoder.decoder_layers:
        layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(*masked_clips())
    assert seen == [torch.float32] * 2


def test_every_linear_layer_of_a_classifier_is_quantised() -> None:
    torch.manual_seed(0)
    model = SigmaForVideoClassification(SigmaConfig(**SIZES, num_labels=5)).eval()
    clips, _ = masked_clips()
    if "x86" not in torch.backends.quantized.supported_engines:
        pytest.skip("PyTorch was built without quantised kernels")
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    count = sum(type(module) is nn.Linear for module in model.modules())
    kind = torch.ao.nn.quantized.dynamic.Linear
    assert count == 13
    assert sum(isinstance(module, kind) for module in quantised.modules()) == count
    torch.testing.assert_close(quantised(clips).logits, model(clips).logits, atol=0.05, rtol=0.05)


def test_every_layer_is_a_layer_of_pytorch() -> None:
    for model, _ in models():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                assert type(module) is nn.Linear
