"""Inputs of the audio model of structured-noise masking, and its official checkpoints."""

import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.swin_transformer_v2_cr import SwinTransformerV2CrBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import (
    ASTFeatureExtractor,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    pipeline,
)

from tubelets import (
    StructuredNoiseAudioConfig,
    StructuredNoiseAudioForAudioClassification,
    StructuredNoiseAudioForPreTraining,
    StructuredNoiseAudioModel,
)
from tubelets.data.transforms.sound import draw_beta
from tubelets.models.backbones.audio_vit.filterbanks import log_mel_filterbank
from tubelets.models.backbones.audio_vit.spectrograms import to_token_order
from tubelets.models.common.auto import inference_processor, pretraining_collator
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.mask_banks import save_mask_bank
from tubelets.models.methods.structured_noise import conversion_structured_noise as conversion
from tubelets.models.methods.structured_noise.window_decoder import blocked_pairs, log_offsets

# 16 time steps and 4 bands of 4 x 4 values.
SIZES = {
    "max_length": 64, "num_mel_bins": 16, "patch_size": 4, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 48, "decoder_hidden_size": 16, "decoder_num_attention_heads": 2,
    "decoder_num_hidden_layers": 2, "decoder_intermediate_size": 24, "decoder_position_hidden_size": 8,
    "num_labels": 5, "mask_options": {"bank_size": 4},
}  # fmt: skip
CLIPS, TOKENS, MASKED = 3, 64, 52
VARIANTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "window": (StructuredNoiseAudioForPreTraining, {}),
    "plain": (StructuredNoiseAudioForPreTraining, {"decoder_type": "plain"}),
    "maskspec": (StructuredNoiseAudioForPreTraining, {"decoder_type": "plain", "token_order": "frequency"}),
    "classifier": (StructuredNoiseAudioForAudioClassification, {}),
}


def build(name: str, **changes: Any) -> Any:
    """A model none of whose parameters has the value of an initialisation."""
    kind, fields = VARIANTS[name]
    torch.manual_seed(0)
    model = kind(StructuredNoiseAudioConfig(**{**SIZES, **fields, **changes})).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(0.1 * torch.randn(tensor.shape))
    return model


def masks(config: StructuredNoiseAudioConfig, clips: int = CLIPS) -> Tensor:
    return to_token_order(config.build_mask_generator()(clips, generator=torch.Generator().manual_seed(3)), config)


# Inputs ---------------------------------------------------------------------------------------------------------------


def sound(seconds: float = 1.0, rate: int = 16000, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(int(seconds * rate), generator=torch.Generator().manual_seed(seed)) + 0.05


def test_mixed_precision_does_not_reach_spectrograms() -> None:
    sound = torch.sin(torch.arange(8000) / 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = log_mel_filterbank(sound)
    assert found.dtype == torch.float32
    assert torch.equal(found, log_mel_filterbank(sound))


def test_feature_extractor_is_the_stock_one_at_16_khz() -> None:
    config = StructuredNoiseAudioConfig(max_length=128)
    stock = ASTFeatureExtractor(max_length=128, mean=config.spectrogram_mean, std=config.spectrogram_std)
    for seconds in (0.5, 2.0):
        waveform = sound(seconds).numpy()
        expected = stock(waveform, sampling_rate=16000, return_tensors="pt").input_values
        found = inference_processor(config)(waveform, sampling_rate=16000, return_tensors="pt").input_values
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="16000"):
        inference_processor(config)(waveform, sampling_rate=8000)


def test_filterbank_is_kaldis_definition_at_32_khz() -> None:
    """Frame by frame and filter by filter in NumPy: 800-sample windows, 320 apart, 1024-point transforms."""
    waveform = sound(0.1, 32000).double().numpy()
    mel = lambda f: 1127 * np.log(1 + f / 700)  # noqa: E731
    edges = np.linspace(mel(20), mel(16000), 12)
    position = mel(np.arange(513) * 32000 / 1024)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799)
    waveform = waveform - waveform.mean()
    rows = []
    for start in range(0, len(waveform) - 799, 320):
        frame = waveform[start : start + 800] - waveform[start : start + 800].mean()
        frame = np.append(0.03 * frame[0], frame[1:] - 0.97 * frame[:-1])
        power = np.abs(np.fft.rfft(frame * window, 1024)) ** 2
        bands = []
        for band in range(10):
            left, middle, right = edges[band : band + 3]
            weight = np.minimum((position - left) / (middle - left), (right - position) / (right - middle)).clip(0)
            bands.append(np.log(max(weight[:512] @ power[:512], 2.0**-23)))
        rows.append(bands)
    found = log_mel_filterbank(torch.from_numpy(waveform).float(), 32000, 10)
    np.testing.assert_allclose(found.numpy(), rows, atol=2e-3)


def test_processor_and_classifier_make_a_pipeline(tmp_path: Path) -> None:
    model = build("classifier")
    model.save_pretrained(tmp_path)
    inference_processor(model.config).save_pretrained(tmp_path)
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)).__name__ == "FilterbankFeatureExtractor"
    assert isinstance(AutoModel.from_pretrained(tmp_path), StructuredNoiseAudioModel)
    assert isinstance(AutoModelForAudioClassification.from_pretrained(tmp_path), type(model))
    scores = pipeline("audio-classification", model=str(tmp_path), device="cpu")(sound().numpy())
    assert len(scores) == 5
    assert sum(each["score"] for each in scores) == pytest.approx(1, abs=1e-3)


def test_collator_draws_from_each_clips_own_seed() -> None:
    config = StructuredNoiseAudioConfig(**SIZES)
    collate = pretraining_collator(config)
    items = [{"waveform": sound(seed=number), "seed": number} for number in range(4)]
    batch = collate(items)
    assert batch["input_values"].shape == (4, 64, 16)
    assert batch["num_masked"] == MASKED
    alone = collate(items[2:3])
    assert torch.equal(alone["input_values"][0], batch["input_values"][2])
    assert torch.equal(alone["bool_masked_pos"][0], batch["bool_masked_pos"][2])
    other = collate([{**items[2], "seed": 77}])
    assert not torch.equal(other["input_values"], alone["input_values"])
    assert StructuredNoiseAudioForPreTraining(config)(**batch).loss.isfinite()


@pytest.mark.parametrize("mask_type", ["random", "blue2d", "regularized_blue"])
def test_collator_knows_every_kind_of_mask(mask_type: str) -> None:
    options = None if mask_type == "random" else {"bank_size": 2}
    config = StructuredNoiseAudioConfig(max_length=64, mask_type=mask_type, mask_options=options)
    batch = pretraining_collator(config)([{"waveform": torch.zeros(4000), "seed": seed} for seed in range(2)])
    assert batch["bool_masked_pos"].sum(dim=1).tolist() == [batch["num_masked"]] * 2


def test_masks_keep_their_place_in_either_token_order() -> None:
    items = [{"waveform": sound(), "seed": 5}]
    time, frequency = (
        pretraining_collator(StructuredNoiseAudioConfig(**SIZES, token_order=order))(items)["bool_masked_pos"]
        for order in ("time", "frequency")
    )
    assert torch.equal(time.view(16, 4), frequency.view(4, 16).T)
    assert not torch.equal(time, frequency)


@pytest.mark.parametrize("kind", ["regularized_blue", "blue2d"])
def test_masks_come_from_the_bank_that_is_named(kind: str, tmp_path: Path) -> None:
    options = {"bank_size": 3, "seed": 9}
    own = StructuredNoiseAudioConfig(**{**SIZES, "mask_options": options}, mask_type=kind)
    save_mask_bank(own.build_mask_generator(), tmp_path)
    named = StructuredNoiseAudioConfig(**{**SIZES, "mask_options": None}, mask_type=kind, mask_bank=str(tmp_path))
    items = [{"waveform": sound(), "seed": seed} for seed in range(5)]
    first, second = (pretraining_collator(config)(items)["bool_masked_pos"] for config in (own, named))
    assert torch.equal(first, second)
    other = StructuredNoiseAudioConfig(**{**SIZES, "mask_options": None}, mask_type="red2d", mask_bank=str(tmp_path))
    with pytest.raises(ValueError, match=f"holds {kind}|the bank .* was made with"):
        pretraining_collator(other)


def test_augmentation_rolls_scales_and_adds_noise() -> None:
    plain = {"roll_augmentation": "none", "gain_augmentation": False}
    item = {"waveform": sound(0.64), "seed": 3}

    def values(**fields: Any) -> Tensor:
        return pretraining_collator(StructuredNoiseAudioConfig(**SIZES, **{**plain, **fields}))([item])["input_values"][
            0
        ]

    base = values()
    extracted = inference_processor(StructuredNoiseAudioConfig(**SIZES))(item["waveform"].numpy(), sampling_rate=16000)
    np.testing.assert_allclose(base.numpy(), extracted["input_values"][0], atol=1e-5)
    # A gain g adds 2 log g to every log power, before the division by twice the deviation.
    gained = (values(gain_augmentation=True) - base)[:60] * 2 * StructuredNoiseAudioConfig().spectrogram_std / 2
    assert gained.std() < 1e-2
    assert math.log(0.5) < gained.mean() < math.log(1.5)
    rolled = values(roll_augmentation="spectrogram")
    assert any(torch.equal(rolled.roll(-shift, 0), base) for shift in range(64))
    assert not torch.allclose(values(roll_augmentation="waveform"), base)
    noise = values(noise_augmentation=0.1) - base
    assert 0 <= noise.min() < noise.max() <= 0.1


def test_gains_follow_their_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_beta(10, generator) for _ in range(4000)])
    # Beta(10, 10) has mean 1/2 and variance 1/84.
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
    assert drawn.var() == pytest.approx(1 / 84, rel=0.1)


# Official checkpoints -------------------------------------------------------------------------------------------------


def test_a_classifier_with_official_names_is_timms_vision_transformer() -> None:
    """AudioMAE fine-tunes timm's network: the same weights must give the same scores there."""
    fields = {"num_mel_bins": 128, "patch_size": 16, "max_length": 256, "hidden_size": 64, "num_attention_heads": 1}
    model = build("classifier", **fields, mask_type="random")
    sizes = {"embed_dim": 64, "depth": 2, "num_heads": 1, "mlp_ratio": 48 / 64, "num_classes": 5}
    reference = VisionTransformer(
        (256, 128), 16, 1, global_pool="avg", norm_layer=partial(nn.LayerNorm, eps=1e-6), **sizes
    )
    reference.load_state_dict(conversion.to_official(model), strict=True)
    values = torch.randn(2, 256, 128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(values).logits, reference.eval()(values[:, None]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shifted", [False, True])
def test_window_blocks_with_official_names_are_timms(shifted: bool) -> None:
    """timm carries the block of AudioMAE's decoder, with the logarithm of the inverse temperature."""
    model = build("window", decoder_position_hidden_size=384)
    layer, prefix = model.decoder.layers[int(shifted)], f"decoder_blocks.{int(shifted)}."
    official = conversion.to_official(model)
    weights = {name.removeprefix(prefix): value for name, value in official.items() if name.startswith(prefix)}
    weights["attn.logit_scale"] = -weights.pop("attn.tau").log()
    shift = (2, 0) if shifted else (0, 0)
    reference = SwinTransformerV2CrBlock(16, 2, (16, 4), (4, 4), shift, mlp_ratio=24 / 16)
    for norm in (reference.norm1, reference.norm2):
        norm.eps = 1e-6
    reference.load_state_dict(weights, strict=True)
    tokens = torch.randn(2, TOKENS, 16, generator=torch.Generator().manual_seed(0))
    found = layer(tokens, log_offsets(layer.window), blocked_pairs(layer.grid, layer.window, layer.shift))
    expected = reference.eval()(tokens.view(2, 16, 4, 16)).flatten(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["window", "plain", "classifier"])
def test_official_round_trip(name: str) -> None:
    sizes = {"num_mel_bins": 128, "patch_size": 16, "max_length": 256, "hidden_size": 64, "num_attention_heads": 1}
    decoder = {"decoder_hidden_size": 64}
    changes = {} if name == "classifier" else decoder
    model = build(name, **sizes, **changes, mask_type="random")
    official = conversion.to_official(model)
    assert official["patch_embed.proj.weight"].shape == (64, 1, 16, 16)
    assert official["blocks.1.attn.qkv.bias"].shape == (192,)
    assert official["pos_embed"].shape == (1, 129, 64)
    again = conversion.from_official(official)
    assert again.config.decoder_type == ("window" if name == "window" else "plain")
    assert again.config.max_length == 256
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    given = {"input_values": torch.randn(2, 256, 128)}
    if name != "classifier":
        given["bool_masked_pos"] = masks(model.config, 2)
    assert torch.equal(model(**given).logits, again.eval()(**given).logits)
    with pytest.raises(CheckpointLayoutError, match="extra"):
        conversion.from_official({**official, "extra": torch.zeros(1)}, model.config)
    with pytest.raises(CheckpointLayoutError):
        conversion.from_official({"blocks.0.norm1.weight": torch.zeros(1)})


def test_window_blocks_have_the_official_names() -> None:
    official = conversion.to_official(build("window"))
    names = {name.removeprefix("decoder_blocks.0.") for name in official if name.startswith("decoder_blocks.0.")}
    ends = {f"{part}.{leaf}" for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2") for leaf in ("weight", "bias")}
    inner = ("qkv", "proj", "meta_mlp.fc1", "meta_mlp.fc2")
    assert names == ends | {f"attn.{part}.{leaf}" for part in inner for leaf in ("weight", "bias")} | {"attn.tau"}


def test_maskspec_is_recognised_by_its_grid() -> None:
    fields = {"num_mel_bins": 128, "patch_size": 16, "max_length": 992, "hidden_size": 64, "num_attention_heads": 1}
    model = build("maskspec", **fields, decoder_hidden_size=64, mask_type="random")
    config = conversion.infer_config(conversion.to_official(model))
    assert (config.sampling_rate, config.token_order, config.mask_ratio) == (32000, "frequency", 0.75)
    assert (config.audio_grid, config.build_mask_generator().num_masked) == ((62, 8), 372)
    assert conversion.infer_config(conversion.to_official(model), {"mask_ratio": 0.5}).mask_ratio == 0.5


def test_readme_snippets_run() -> None:
    folder = Path(conversion.__file__).parent
    snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["loss"].isfinite()
    assert names["both"].shape == names["heard"].shape == (1, 3)
