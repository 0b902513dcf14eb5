"""Audio networks on spectrograms of another length than they were trained on."""

from typing import Any

import pytest
import torch

from tubelets import (
    StructuredNoiseAudioConfig,
    StructuredNoiseAudioForAudioClassification,
    StructuredNoiseAudioForPreTraining,
    StructuredNoiseAudioVideoConfig,
    StructuredNoiseAudioVideoForVideoClassification,
)

SIZES = {
    "num_mel_bins": 16, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 32, "mask_options": {"bank_size": 1},
}  # fmt: skip
AUDIO = (StructuredNoiseAudioForAudioClassification, StructuredNoiseAudioConfig, {"decoder_type": "plain"})
BOTH = (StructuredNoiseAudioVideoForVideoClassification, StructuredNoiseAudioVideoConfig, {"image_size": 8})


def build(kind: tuple[Any, Any, dict[str, Any]], length: int, **fields: Any) -> Any:
    torch.manual_seed(0)
    return kind[0](kind[1](max_length=length, **SIZES, **kind[2], **fields)).eval()


def table(model: Any) -> torch.Tensor:
    (name,) = [name for name in model.state_dict() if "embeddings.positions" in name and "video_embeddings" not in name]
    return model.state_dict()[name]


@pytest.mark.parametrize("order", ["time", "frequency"])
@pytest.mark.parametrize("kind", [AUDIO, BOTH], ids=["audio", "both"])
def test_shorter_and_longer_spectrograms_have_the_positions_of_a_fresh_model(kind: Any, order: str) -> None:
    model = build(kind, 32, token_order=order)
    for length in (16, 64):
        model.resize_spectrograms(length)
        torch.testing.assert_close(table(model), table(build(kind, length, token_order=order)))
        assert model(torch.zeros(1, length, 16)).logits.shape == (1, 2)
        with pytest.raises(ValueError, match=f"expected .* {length}, 16"):
            model(torch.zeros(1, 32, 16))


@pytest.mark.parametrize("order", ["time", "frequency"])
def test_trained_positions_are_cut(order: str) -> None:
    model = build(AUDIO, 32, token_order=order, learned_positions=True)
    with torch.no_grad():
        table(model).add_(torch.randn(table(model).shape, generator=torch.Generator().manual_seed(1)))
    before = table(model).clone()
    model.resize_spectrograms(16)
    grid = before[:, 1:].unflatten(1, (8, 4) if order == "time" else (4, 8))
    kept = grid[:, :4] if order == "time" else grid[:, :, :4]
    assert torch.equal(table(model), torch.cat([before[:, :1], kept.flatten(1, 2)], dim=1))
    positions = model.audio.embeddings.positions.position_embeddings
    assert isinstance(positions, torch.nn.Parameter)
    assert positions.requires_grad
    with pytest.raises(ValueError, match="cannot be extended"):
        model.resize_spectrograms(64)


def test_a_resized_model_is_saved_and_loaded(tmp_path: Any) -> None:
    model = build(AUDIO, 32)
    model.resize_spectrograms(16)
    model.save_pretrained(tmp_path)
    again, report = StructuredNoiseAudioForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert again.config.max_length == 16
    sound = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.eval()(sound).logits, model(sound).logits)


def test_what_cannot_be_resized_is_refused() -> None:
    with pytest.raises(ValueError, match="StructuredNoiseAudioForPreTraining has a decoder for 32 frames"):
        build((StructuredNoiseAudioForPreTraining, *AUDIO[1:]), 32).resize_spectrograms(16)
    with pytest.raises(ValueError, match="max_length=18 must be a positive multiple of patch_size=4"):
        build(AUDIO, 32).resize_spectrograms(18)
