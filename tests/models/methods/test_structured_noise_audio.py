"""The audio model of structured-noise masking: against plain computations in NumPy, and what every model must do."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForPreTraining,
)

from tubelets import (
    StructuredNoiseAudioConfig,
    StructuredNoiseAudioForAudioClassification,
    StructuredNoiseAudioForPreTraining,
    StructuredNoiseAudioModel,
)
from tubelets.models.backbones.audio_vit.positions import grid_positions
from tubelets.models.backbones.audio_vit.spectrograms import to_token_order
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.methods.structured_noise.modeling_structured_noise_audio import draw_kept_patches
from tubelets.models.methods.structured_noise.window_decoder import (
    WindowDecoder,
    WindowLayer,
    blocked_pairs,
    log_offsets,
)

# 16 time steps and 4 bands of 4 x 4 values.
SIZES = {
    "max_length": 64, "num_mel_bins": 16, "patch_size": 4, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 48, "decoder_hidden_size": 16, "decoder_num_attention_heads": 2,
    "decoder_num_hidden_layers": 2, "decoder_intermediate_size": 24, "decoder_position_hidden_size": 8,
    "num_labels": 5, "mask_options": {"bank_size": 4},
}  # fmt: skip
CLIPS, TOKENS, MASKED = 3, 64, 52
VARIANTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "model": (StructuredNoiseAudioModel, {}),
    "window": (StructuredNoiseAudioForPreTraining, {}),
    "plain": (StructuredNoiseAudioForPreTraining, {"decoder_type": "plain"}),
    "maskspec": (StructuredNoiseAudioForPreTraining, {"decoder_type": "plain", "token_order": "frequency"}),
    "window-frequency": (StructuredNoiseAudioForPreTraining, {"token_order": "frequency"}),
    "learned": (StructuredNoiseAudioForPreTraining, {"learned_positions": True}),
    "classifier": (StructuredNoiseAudioForAudioClassification, {}),
}
PRETRAINING = [name for name, (kind, _) in VARIANTS.items() if kind is StructuredNoiseAudioForPreTraining]
every_model = pytest.mark.parametrize("name", VARIANTS)


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


def inputs(model: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"input_values": torch.randn(CLIPS, 64, 16, generator=torch.Generator().manual_seed(1))}
    if hasattr(model, "decoder"):
        given["bool_masked_pos"] = masks(model.config)
    if hasattr(model, "classifier"):
        given["labels"] = torch.tensor([0, 4, 2])
    return given


def loss_of(output: Any) -> Tensor:
    return output.last_hidden_state.sin().mean() if hasattr(output, "last_hidden_state") else output.loss


def numpy_patches(values: np.ndarray, patch: int, frequency_major: bool) -> np.ndarray:
    """Patches by slicing, one by one: `(tokens, patch * patch)`."""
    found = values.T if frequency_major else values
    rows, columns = (side // patch for side in found.shape)
    return np.stack(
        [
            found[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch].ravel()
            for row in range(rows)
            for column in range(columns)
        ]
    )


@pytest.mark.parametrize("name", PRETRAINING)
def test_loss_is_the_mean_over_masked_standardised_patches(name: str) -> None:
    model = build(name)
    given = inputs(model)
    output = model(**given)
    assert output.logits.shape == output.targets.shape == (CLIPS, MASKED, 16)
    frequency = model.config.token_order == "frequency"
    errors = []
    for clip in range(CLIPS):
        patches = numpy_patches(given["input_values"][clip].double().numpy(), 4, frequency)
        patches = (patches - patches.mean(1, keepdims=True)) / np.sqrt(patches.var(1, ddof=1, keepdims=True) + 1e-6)
        hidden = np.flatnonzero(given["bool_masked_pos"][clip].numpy())
        errors.append(((output.logits[clip].detach().numpy() - patches[hidden]) ** 2).mean(axis=1))
    assert output.loss.item() == pytest.approx(np.concatenate(errors).mean(), rel=1e-5)


@pytest.mark.parametrize("name", PRETRAINING)
def test_the_encoder_does_not_see_masked_patches(name: str) -> None:
    model = build(name)
    given = inputs(model)
    first = model(**given)
    patch = given["bool_masked_pos"].view(CLIPS, *((4, 16) if model.config.token_order == "frequency" else (16, 4)))
    time_major = patch.transpose(1, 2) if model.config.token_order == "frequency" else patch
    hidden = time_major.repeat_interleave(4, 1).repeat_interleave(4, 2)
    changed = torch.where(hidden, given["input_values"] + 7 * torch.randn(CLIPS, 64, 16), given["input_values"])
    second = model(**{**given, "input_values": changed})
    assert torch.equal(first.logits, second.logits)
    assert not torch.equal(first.targets, second.targets)
    assert not torch.equal(
        model(**{**given, "input_values": given["input_values"] + 1 - hidden.float()}).logits, first.logits
    )


def test_plain_decoding_is_that_of_the_whole_sequence_in_order() -> None:
    """As the official code does it: mask tokens put at their places, all blocks over all tokens."""
    model = build("plain")
    given = inputs(model)
    expected = model(**given)
    tokens = model.encoder_to_decoder(expected.encoder_last_hidden_state)
    whole = model.mask_token.expand(CLIPS, TOKENS, -1).clone()
    for clip in range(CLIPS):
        whole[clip, ~given["bool_masked_pos"][clip]] = tokens[clip, 1:]
    hidden = torch.cat([tokens[:, :1], whole], dim=1) + model.decoder_positions.position_embeddings
    for layer in model.decoder.layers:
        hidden = layer(hidden)
    predictions = model.prediction(model.decoder.norm(hidden))[:, 1:]
    torch.testing.assert_close(
        expected.logits.flatten(0, 1), predictions[given["bool_masked_pos"]], atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("grid", "shift"), [((16, 4), (2, 0)), ((16, 8), (2, 2)), ((4, 8), (2, 0))])
def test_window_attention_is_full_attention_under_a_mask(
    shifted: bool, grid: tuple[int, int], shift: tuple[int, int]
) -> None:
    sizes = {**SIZES, "max_length": 4 * grid[0], "num_mel_bins": 4 * grid[1], "decoder_window_shift": shift}
    config = StructuredNoiseAudioConfig(**sizes)
    torch.manual_seed(0)
    layer = WindowLayer(config, shifted).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    rows, columns = grid
    tokens = torch.randn(2, rows * columns, 16)
    result = layer.attend(tokens, log_offsets(layer.window), blocked_pairs(layer.grid, layer.window, layer.shift))

    attention, moved = layer.attention, layer.shift if shifted else (0, 0)
    # The place of each token on the rolled grid says its window; tokens that came around the edge are apart.
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    rolled = torch.stack([(row - moved[0]) % rows, (column - moved[1]) % columns], dim=-1).flatten(0, 1)
    around = torch.stack([row < moved[0], column < moved[1]], dim=-1).flatten(0, 1)
    window = torch.tensor(layer.window)
    together = ((rolled // window)[:, None] == rolled // window).all(-1) & (around[:, None] == around).all(-1)
    offsets = ((rolled % window)[:, None] - rolled % window).float()
    bias = attention.position_output(F.relu(attention.position_hidden(offsets.sign() * (1 + offsets.abs()).log())))

    query, key, value = (
        each(tokens).unflatten(-1, (2, 8)) for each in (attention.query, attention.key, attention.value)
    )
    cosine = torch.einsum("bnhd,bmhd->bnmh", query, key)
    cosine = cosine / torch.einsum("bnh,bmh->bnmh", query.norm(dim=-1), key.norm(dim=-1))
    scores = cosine / attention.temperature + bias
    weights = scores.masked_fill(~together[:, :, None], float("-inf")).softmax(dim=2)
    expected = attention.output(torch.einsum("bnmh,bmhd->bnhd", weights, value).flatten(2))
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-4)


def test_every_second_block_is_shifted_and_reaches_other_windows() -> None:
    decoder = WindowDecoder(StructuredNoiseAudioConfig(**{**SIZES, "decoder_num_hidden_layers": 4}))
    assert [layer.shifted for layer in decoder.layers] == [False, True, False, True]
    tokens = torch.zeros(1, TOKENS, 16).requires_grad_()
    decoder.eval()(tokens + torch.randn(1, TOKENS, 16))[0, 0, 0].backward()
    reached = tokens.grad[0].abs().sum(dim=1).view(16, 4).sum(dim=1) > 0
    # Two shifts by two places reach past the first window of four time steps, and not to the far end.
    assert reached[:6].all()
    assert not reached[8:14].any()


def test_positions_are_sines_and_cosines_of_column_and_row() -> None:
    table = grid_positions(3, 5, 8)[0].double().numpy()
    for place, row in enumerate(table):
        y, x = divmod(place, 5)
        expected = [f(n * 10000 ** (-j / 2)) for n in (x, y) for f in (math.sin, math.cos) for j in range(2)]
        np.testing.assert_allclose(row, expected, atol=1e-6)
    model = StructuredNoiseAudioModel(StructuredNoiseAudioConfig(**SIZES))
    assert torch.equal(model.embeddings.positions.position_embeddings[:, 1:], grid_positions(16, 4, 32))
    assert not model.embeddings.positions.position_embeddings[:, 0].any()


@every_model
def test_gradient_reaches_every_trainable_parameter(name: str) -> None:
    model = build(name).train()
    loss_of(model(**inputs(model))).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # The softmax of plain attention does not change with the keys' bias.
        if not key.endswith("attention.key.bias"):
            assert parameter.grad.abs().max() > 0, key


@every_model
def test_saved_and_loaded_models_are_equal(name: str, tmp_path: Path) -> None:
    model = build(name)
    model.save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert torch.equal(loss_of(model(**inputs(model))), loss_of(loaded(**inputs(loaded))))
    for key, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key]), key
    assert any("positions" in key for key, _ in loaded.named_parameters()) == (name == "learned")


def test_missing_weights_are_initialised(tmp_path: Path) -> None:
    pretrained = build("window")
    pretrained.save_pretrained(tmp_path)
    classifier, report = StructuredNoiseAudioForAudioClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert {key.split(".")[0] for key in report["missing_keys"]} == {"fc_norm", "classifier"}
    assert not report["unexpected_keys"]
    query = "audio.encoder.layer.1.attention.attention.query.weight"
    assert torch.equal(classifier.state_dict()[query], pretrained.state_dict()[query])
    assert 0 < classifier.classifier.weight.abs().max() < 2e-4
    positions = "audio.embeddings.positions.position_embeddings"
    learned = AutoModelForPreTraining.from_pretrained(tmp_path, learned_positions=True)
    assert torch.equal(dict(learned.named_parameters())[positions], pretrained.state_dict()[positions])
    AutoConfig.for_model("sigma").save_pretrained(tmp_path)
    with pytest.raises(CheckpointLayoutError, match="model type 'sigma'"):
        StructuredNoiseAudioForPreTraining.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["window", "plain", "classifier"])
def test_compiles_without_graph_breaks(name: str) -> None:
    model = build(name, num_hidden_layers=1, time_mask_ratio=0.25)
    given = inputs(model)
    torch._dynamo.reset()
    # `fullgraph` makes a graph break an error.
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(loss_of(compiled(**given)), loss_of(model(**given)), atol=1e-5, rtol=1e-5)
    if name == "classifier":
        assert loss_of(torch.compile(model.train(), backend="eager", fullgraph=True)(**given)).isfinite()
    else:
        assert loss_of(compiled(**given, num_masked=MASKED)).isfinite()
    torch._dynamo.reset()


@every_model
def test_activation_checkpointing_and_bfloat16(name: str) -> None:
    model = build(name).train()
    torch.manual_seed(5)
    loss_of(model(**inputs(model))).backward()
    expected = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad}
    model.zero_grad(set_to_none=True)
    model.gradient_checkpointing_enable()
    torch.manual_seed(5)
    loss_of(model(**inputs(model))).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected[key], msg=lambda text, key=key: f"{key}: {text}")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss_of(model(**inputs(model))).isfinite()
    half = build(name).to(torch.bfloat16)
    given = inputs(half)
    assert loss_of(half(**{**given, "input_values": given["input_values"].bfloat16()})).isfinite()


def test_attention_kernels_agree() -> None:
    model = build("plain")
    fused = model(**inputs(model))
    model.set_attn_implementation("eager")
    eager = model(**inputs(model), output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(fused.logits, eager.logits, atol=1e-5, rtol=1e-4)
    assert [tuple(each.shape) for each in eager.attentions] == [(CLIPS, 4, 13, 13)] * 2
    assert [tuple(each.shape) for each in eager.hidden_states] == [(CLIPS, 13, 32)] * 3


@pytest.mark.parametrize("labels", [torch.tensor([0, 4, 2]), torch.rand(3, 5)])
def test_single_label_loss(labels: Tensor) -> None:
    model = build("classifier")
    output = model(inputs(model)["input_values"], labels=labels)
    logits = output.logits.detach().double().numpy()
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = labels.numpy() if labels.is_floating_point() else np.eye(5)[labels.numpy()]
    assert output.loss.item() == pytest.approx(-(targets * logs).sum(axis=1).mean(), rel=1e-5)


def test_multi_label_loss() -> None:
    model = build("classifier", problem_type="multi_label_classification")
    labels = (torch.rand(3, 5, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    output = model(inputs(model)["input_values"], labels=labels)
    odds = 1 / (1 + np.exp(-output.logits.detach().double().numpy()))
    expected = -(labels.numpy() * np.log(odds) + (1 - labels.numpy()) * np.log(1 - odds)).mean()
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)


def test_classifier_pools_patches_without_the_class_token() -> None:
    model = build("classifier")
    given = inputs(model)
    encoded = model.audio(given["input_values"]).last_hidden_state
    expected = model.classifier(model.fc_norm(encoded[:, 1:].mean(dim=1)))
    torch.testing.assert_close(model(**given).logits, expected)


@pytest.mark.parametrize("order", ["time", "frequency"])
def test_classifier_drops_whole_steps_and_bands_in_training_only(order: str) -> None:
    config = StructuredNoiseAudioConfig(**SIZES, token_order=order, time_mask_ratio=0.2, frequency_mask_ratio=0.3)
    torch.manual_seed(0)
    kept = draw_kept_patches(config, 40, torch.device("cpu"))
    seen = (
        torch.zeros(40, TOKENS, dtype=torch.bool)
        .scatter(1, kept, True)
        .view(40, *((16, 4) if order == "time" else (4, 16)))
    )
    seen = seen if order == "time" else seen.transpose(1, 2)
    steps, bands = seen.any(dim=2), seen.any(dim=1)
    assert (steps.sum(dim=1) == 12).all()
    assert (bands.sum(dim=1) == 2).all()
    assert torch.equal(seen, steps[:, :, None] & bands[:, None])
    assert len(torch.unique(steps, dim=0)) > 20
    model = build("classifier", time_mask_ratio=0.2)
    given = inputs(model)
    assert torch.equal(model(**given).logits, model(**given).logits)
    model.train()
    assert not torch.equal(model(**given).logits, model(**given).logits)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (torch.zeros(2, 60, 16), r"\(2, 60, 16\).*64, 16"),
        (torch.zeros(64, 16), r"\(64, 16\)"),
        (torch.zeros(2, 64, 16, dtype=torch.int64), "int64"),
    ],
)
def test_bad_spectrograms_are_refused_by_value(values: Tensor, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build("model")(values)


def test_bad_masks_are_refused_by_value() -> None:
    model = build("window")
    given = inputs(model)
    with pytest.raises(ValueError, match=r"\(3, 63\).*64"):
        model(given["input_values"], given["bool_masked_pos"][:, 1:])
    with pytest.raises(ValueError, match="same number"):
        model(given["input_values"], torch.arange(TOKENS).expand(CLIPS, -1) < torch.tensor([[10], [20], [30]]))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_length": 62}, "max_length=62"),
        ({"decoder_window_size": (3, 4)}, "does not tile"),
        ({"decoder_window_shift": (4, 0)}, "smaller than"),
        ({"hidden_size": 34}, "hidden_size=34"),
        ({"spectrogram_std": 0.0}, "spectrogram_std"),
        ({"mask_options": {"sigma": 1}}, "do not accept"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"hidden_size": 2**20, "num_attention_heads": 2**10, "intermediate_size": 2**20}, "would hold about"),
        ({"token_order": "random"}, "token_order"),
        ({"num_labels": 2**40}, "num_labels"),
    ],
)
def test_bad_configurations_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(Exception, match=named):
        StructuredNoiseAudioConfig(**{**SIZES, **changes})


@pytest.mark.parametrize("kind", ["regularized_blue", "random", "red2d", "blue2d", "green2d"])
@pytest.mark.parametrize(("rule", "masked"), [("kept_floor", 52), ("masked_floor", 51)])
def test_masks_of_every_kind_have_their_count(kind: str, rule: str, masked: int) -> None:
    generator = StructuredNoiseAudioConfig(**SIZES, mask_type=kind, count_rule=rule).build_mask_generator()
    drawn = generator(6, generator=torch.Generator().manual_seed(0))
    assert drawn.sum(dim=1).tolist() == [masked] * 6
    assert generator.num_masked == masked
    assert len(torch.unique(drawn, dim=0)) > 2


def test_base_sizes() -> None:
    """ViT-B as in AudioMAE: 85.06 million in blocks, plus ends."""
    with torch.device("meta"):
        encoder = StructuredNoiseAudioModel(StructuredNoiseAudioConfig())
        window = StructuredNoiseAudioForPreTraining(StructuredNoiseAudioConfig())
        plain = StructuredNoiseAudioForPreTraining(StructuredNoiseAudioConfig(decoder_type="plain"))
        classifier = StructuredNoiseAudioForAudioClassification(StructuredNoiseAudioConfig(num_labels=527))
    block = lambda width: 12 * width**2 + 13 * width  # noqa: E731
    ends = 256 * 768 + 768 + 768
    assert encoder.num_parameters() == 12 * block(768) + ends + 2 * 768
    outside = 768 * 512 + 512 + 512 + 2 * 512 + 512 * 256 + 256
    assert plain.num_parameters() == encoder.num_parameters() + 8 * block(512) + outside
    bias = 16 + (2 * 384 + 384) + (384 * 16 + 16)
    assert window.num_parameters() == encoder.num_parameters() + 16 * (block(512) + bias) + outside
    assert classifier.num_parameters() == 12 * block(768) + ends + 2 * 768 + 768 * 527 + 527
