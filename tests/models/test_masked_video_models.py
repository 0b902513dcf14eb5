"""What every masked-video model must do, in every variant of its targets; a new variant is one line in `VARIANTS`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tubelets
from tubelets.models.backbones.video_vit import attention, modeling_video_vit
from tubelets.models.backbones.video_vit.tubes import sinusoid_table

SIZES = {"image_size": 32, "patch_size": 8, "num_frames": 4, "hidden_size": 32, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "intermediate_size": 48, "num_labels": 5, "mask_ratio": 0.75}
SIZES |= {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2}
SIZES |= {"decoder_intermediate_size": 24}
SIGMA = {"num_prototypes": 6, "projection_hidden_sizes": (20,), "projection_size": 12}
DINO = {"target_type": "dino_v1", "num_prototypes": 6, "teacher_hidden_size": 20}
SMILE = {"mask_type": "tube", "num_objects": 0}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "videomae": ("TubeletsVideoMAEModel", {}),
    "videomae-pretraining": ("TubeletsVideoMAEForPreTraining", {}),
    "videomae-classifier": ("TubeletsVideoMAEForVideoClassification", {}),
    "sigma": ("SigmaModel", {}),
    "sigma-mlp": ("SigmaForPreTraining", SIGMA),
    "sigma-pixel": ("SigmaForPreTraining", {"target_type": "pixel"}),
    "sigma-dino": ("SigmaForPreTraining", DINO),
    "sigma-dino-regression": ("SigmaForPreTraining", DINO | {"loss_type": "regression"}),
    "sigma-classifier": ("SigmaForVideoClassification", {}),
    "smile": ("SmileModel", {}),
    "smile-clip": ("SmileForPreTraining", {"teacher_hidden_size": 20, "teacher": "transformers:none"}),
    "smile-pixel": ("SmileForPreTraining", SMILE | {"target_type": "pixel"}),
    "smile-classifier": ("SmileForVideoClassification", {}),
    "structured-noise-video": ("StructuredNoiseVideoForPreTraining", {"mask_options": {"bank_size": 1}}),
}
PRETRAINING = [name for name, (kind, _) in VARIANTS.items() if kind.endswith("ForPreTraining")]
CLASSIFIERS = [name for name, (kind, _) in VARIANTS.items() if kind.endswith("ForVideoClassification")]
CLIPS, TOKENS, MASKED = 3, 32, 24
every_model = pytest.mark.parametrize("name", VARIANTS)


def build(name: str, seed: int = 0, **changes: Any) -> Any:
    kind, fields = VARIANTS[name]
    model_class = getattr(tubelets, kind)
    torch.manual_seed(seed)
    return model_class(model_class.config_class(**{**SIZES, **fields, **changes})).eval()


def scattered(name: str, **changes: Any) -> Any:
    """A model none of whose parameters has the value of an initialisation."""
    model = build(name, **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def inputs(model: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    given: dict[str, Any] = {"pixel_values": torch.randn(CLIPS, 4, 3, 32, 32, generator=generator)}
    if hasattr(model, "decoder"):
        given["bool_masked_pos"] = tubelets.masking.TubeMaskGenerator((2, 4, 4), 0.75)(CLIPS, generator=generator)
    if getattr(model.config, "uses_teacher", False) and hasattr(model, "decoder"):
        given["target_features"] = torch.randn(CLIPS, TOKENS, 20, generator=generator)
    if hasattr(model, "classifier"):
        given["labels"] = torch.tensor([0, 4, 2])
    return given


def loss_of(output: Any) -> Tensor:
    return output.last_hidden_state.sin().mean() if hasattr(output, "last_hidden_state") else output.loss


def tensors(output: Any) -> dict[str, Tensor]:
    return {key: value for key, value in output.items() if isinstance(value, Tensor)}


def assert_same(first: Any, second: Any, tolerance: float = 0.0) -> None:
    first, second = tensors(first), tensors(second)
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(value, second[key], atol=tolerance, rtol=tolerance, msg=lambda t, k=key: f"{k}: {t}")


def gradients(model: Any, **changes: Any) -> dict[str, Tensor | None]:
    model.zero_grad()
    loss_of(model(**inputs(model) | changes)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def save_without(model: Any, folder: Path, keep: Any) -> None:
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {key: value for key, value in weights.items() if keep(key)}, folder / "model.safetensors", {"format": "pt"}
    )


@contextmanager
def nan_in_fresh_memory() -> Iterator[None]:
    """Inside, memory that nobody wrote holds NaN, so that a forgotten initialisation cannot pass by luck."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def assert_whole(model: Any) -> None:
    """Every tensor is finite and off the meta device, and every fixed table holds its values."""
    plain = [each for module in model.modules() for each in vars(module).values() if isinstance(each, Tensor)]
    for tensor in (*model.parameters(), *model.buffers(), *plain):
        assert tensor.device.type == "cpu"
        assert tensor.isfinite().all()
    for table in model.buffers():
        assert torch.equal(table, sinusoid_table(*table.shape[1:]))


@every_model
def test_gradient_reaches_every_trainable_parameter_and_no_frozen_one(name: str) -> None:
    model = scattered(name).train()
    for key, gradient in gradients(model).items():
        assert gradient is not None, key
        assert gradient.isfinite().all(), key
        assert gradient.abs().max() > 0, key
    frozen = getattr(model, "videomae", model).embeddings
    frozen.requires_grad_(False)
    assert all((gradient is None) == ("embeddings" in key) for key, gradient in gradients(model).items())


@every_model
@pytest.mark.parametrize("max_shard_size", ["1GB", "20KB"])
def test_saved_and_loaded_models_are_equal(name: str, max_shard_size: str, tmp_path: Path) -> None:
    model = scattered(name)
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (max_shard_size == "20KB")
    with nan_in_fresh_memory():
        loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert_whole(loaded)
    assert_same(model(**inputs(model)), loaded(**inputs(model)))
    assert not loaded.training


@every_model
def test_missing_weights_are_initialised(name: str, tmp_path: Path) -> None:
    model = scattered(name)
    keys = sorted(model.state_dict())
    for lost in {keys[0], keys[len(keys) // 2], keys[-1], *({"mask_token", "prototypes"} & set(keys))}:
        save_without(model, tmp_path, lambda key, lost=lost: key != lost)
        with nan_in_fresh_memory():
            loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
        assert set(report["missing_keys"]) == {lost}
        assert_whole(loaded)
        assert all(
            torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items() if key != lost
        )
        assert loss_of(loaded(**inputs(loaded))).isfinite()


@every_model
def test_bfloat16_is_finite(name: str, tmp_path: Path) -> None:
    model = build(name)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16)
    for half in (loaded, model.to(torch.bfloat16)):
        output = half(**inputs(half))
        assert all(value.isfinite().all() for value in tensors(output).values())
        loss_of(output).backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss_of(build(name)(**inputs(model))).isfinite()


@every_model
def test_attention_kernels_agree_and_the_decoder_follows_the_choice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls, plain = scattered(name), [], attention.eager_attention_forward
    monkeypatch.setattr(
        attention,
        "eager_attention_forward",
        lambda *args, **kwargs: (calls.append(1), plain(*args, **kwargs))[1],
    )
    fused = model(**inputs(model))
    assert not calls
    model.set_attn_implementation("eager")
    assert_same(fused, model(**inputs(model)), 1e-5)
    assert len(calls) == (4 if hasattr(model, "decoder") else 2)


@every_model
def test_compiles_without_graph_breaks(name: str) -> None:
    model = scattered(name)
    given = inputs(model)
    torch._dynamo.reset()
    if "bool_masked_pos" in given:
        assert torch._dynamo.explain(model)(**given, num_masked=MASKED).graph_break_count == 0
        torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)  # `fullgraph` makes a graph break an error
    assert_same(compiled(**given), model(**given), 1e-5)
    torch._dynamo.reset()


@every_model
def test_activation_checkpointing_gives_equal_gradients(name: str) -> None:
    model = scattered(name, drop_path_rate=0.3).train()
    torch.manual_seed(5)
    expected = {key: gradient.clone() for key, gradient in gradients(model).items()}
    model.gradient_checkpointing_enable()
    layers = [each for each in model.modules() if isinstance(each, modeling_video_vit.TubeletsVideoMAELayer)]
    assert all(layer.gradient_checkpointing for layer in layers)
    torch.manual_seed(5)
    for key, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[key], msg=lambda text, key=key: f"{key}: {text}")


@every_model
def test_hidden_states_attentions_and_tuples(name: str) -> None:
    model = build(name)
    model.set_attn_implementation("eager")
    given = inputs(model)
    output = model(**given, output_hidden_states=True, output_attentions=True)
    seen = TOKENS - MASKED if "bool_masked_pos" in given else TOKENS
    assert [tuple(state.shape) for state in output.hidden_states] == [(CLIPS, seen, 32)] * 3
    assert [tuple(weights.shape) for weights in output.attentions] == [(CLIPS, 4, seen, seen)] * 2
    assert model(**given).get("hidden_states") is None
    values = model(**given, return_dict=False)
    assert isinstance(values, tuple)
    assert torch.equal(values[0], next(iter(model(**given).values())))


@every_model
def test_raw_uint8_video_equals_normalised_video(name: str) -> None:
    model = build(name)
    raw = torch.randint(0, 256, (CLIPS, 4, 3, 32, 32), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (model.config.image_mean, model.config.image_std))
    given = inputs(model)
    expected = model(**given | {"pixel_values": (raw / 255 - mean) / std})
    assert_same(model(**given | {"pixel_values": raw}), expected, 2e-5)


@every_model
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    first, second, other = build(name), build(name), build(name, seed=1)
    assert_same(first(**inputs(first)), second(**inputs(second)))
    assert_same(first(**inputs(first)), first(**inputs(first)))
    assert loss_of(first(**inputs(first))) != loss_of(other(**inputs(other)))


MASK = torch.arange(TOKENS).expand(CLIPS, -1) < MASKED
BAD_VIDEOS = {
    "frames": (torch.zeros(CLIPS, 6, 3, 32, 32), r"\(3, 6, 3, 32, 32\).*4, 3, 32, 32"),
    "channels": (torch.zeros(CLIPS, 4, 1, 32, 32), r"\(3, 4, 1, 32, 32\).*4, 3, 32, 32"),
    "size": (torch.zeros(CLIPS, 4, 3, 32, 40), r"\(3, 4, 3, 32, 40\).*4, 3, 32, 32"),
    "no batch": (torch.zeros(4, 3, 32, 32), r"\(4, 3, 32, 32\)"),
    "integers": (torch.zeros(CLIPS, 4, 3, 32, 32, dtype=torch.int64), "int64"),
}
BAD_MASKS: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"bool_masked_pos": MASK[:, 1:]}, r"\(3, 31\).*32"),
    "grid shape": ({"bool_masked_pos": MASK.view(CLIPS, 2, 4, 4)}, r"\(3, 2, 4, 4\)"),
    "one for all": ({"bool_masked_pos": MASK[:1]}, r"\(1, 32\).*3"),
    "too many": ({"bool_masked_pos": MASK.repeat(2, 1)}, r"\(6, 32\).*3"),
    "unequal": ({"bool_masked_pos": MASK & (torch.arange(CLIPS)[:, None] * 8 <= torch.arange(TOKENS))}, "from 8 to 24"),
    "other count": ({"bool_masked_pos": MASK, "num_masked": 20}, "20 tokens.*24"),
    "all masked": ({"bool_masked_pos": torch.ones_like(MASK)}, "32 masked"),
    "none masked": ({"bool_masked_pos": torch.zeros_like(MASK)}, "0 masked"),
}


@every_model
@pytest.mark.parametrize("case", BAD_VIDEOS)
def test_bad_videos_are_refused_by_value(name: str, case: str) -> None:
    video, named = BAD_VIDEOS[case]
    model = build(name)
    with pytest.raises(ValueError, match=named):
        model(**inputs(model) | {"pixel_values": video})


@pytest.mark.parametrize("name", ["videomae", "sigma", "smile", *PRETRAINING])
@pytest.mark.parametrize("case", BAD_MASKS)
def test_bad_masks_are_refused_by_value(name: str, case: str) -> None:
    model = build(name)
    with pytest.raises(ValueError, match=BAD_MASKS[case][1]):
        model(**inputs(model) | BAD_MASKS[case][0])
