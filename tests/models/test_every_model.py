"""What every registered model must do, whatever its type and Auto class; sizes and batches are in `tiny_models`."""

import copy
import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tiny_models import BATCH, CASES, FIELDS, LABELS, batch_of, is_unused, loss_of, outputs_of, tiny_config, tiny_model
from tubelets.models.common.auto import MODELS, inference_processor
from tubelets.models.common.auto_classes import auto_class_named

every_model = pytest.mark.parametrize(("model_type", "auto_class"), CASES)
_CLASSIFIERS = [case for case in CASES if case[1].endswith("Classification")]
# SIGMA, SMILE and the pixel baseline share one classifier, and `tests/hub` exports the CNNs and the audio models.
EXPORTED = [case for case in _CLASSIFIERS if case[0] in ("sigma", "tubelet_contrast", "r2plus1d_native", "locomotion")]
# Adapters are for encoders and classifiers; a momentum encoder follows the weights that they leave alone.
ADAPTED = [case for case in CASES if case[1] != "AutoModelForPreTraining"]
# SIGMA's first forward rounds its prototypes to unit length again.
SAME = 1e-5


def assert_same(first: Any, second: Any, tolerance: float = 0.0) -> None:
    first, second = outputs_of(first), outputs_of(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(
            value, second[name], atol=tolerance, rtol=tolerance, msg=lambda t, n=name: f"{n} {t}"
        )


def test_every_type_has_tiny_sizes() -> None:
    assert FIELDS.keys() == {name for name, entry in MODELS.items() if entry.package.startswith("tubelets.")}


@every_model
def test_forward_gives_finite_outputs_of_the_right_shape(model_type: str, auto_class: str) -> None:
    model = tiny_model(model_type, auto_class)
    output = model(**batch_of(model, auto_class))
    assert all(value.isfinite().all() for value in outputs_of(output).values() if value.is_floating_point())
    assert loss_of(output).ndim == 0
    if auto_class == "AutoModel":
        assert output.pooler_output.ndim == 2
        assert len(output.pooler_output) == len(output.last_hidden_state) == BATCH
    if "Classification" in auto_class:
        assert output.logits.shape == (BATCH, LABELS)
    assert_same(output, model(**batch_of(model, auto_class)), SAME)


@every_model
def test_gradient_reaches_every_trainable_parameter_and_no_frozen_one(model_type: str, auto_class: str) -> None:
    model = tiny_model(model_type, auto_class).train()
    loss_of(model(**batch_of(model, auto_class))).backward()
    for name, parameter in model.named_parameters():
        used = parameter.requires_grad and not is_unused(model_type, auto_class, name)
        assert (parameter.grad is not None) == used, name
        if used:
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name
    assert any(parameter.requires_grad for parameter in model.parameters())
    frozen, rest = model.base_model, [name for name, _ in model.named_parameters()]
    if frozen is model:
        return
    model.zero_grad()
    frozen.requires_grad_(False)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    loss_of(model(**batch_of(model, auto_class))).backward()
    assert trained
    assert {name for name in rest if model.get_parameter(name).grad is not None} <= trained


@every_model
def test_saved_and_loaded_models_are_equal(model_type: str, auto_class: str, tmp_path: Path) -> None:
    model = tiny_model(model_type, auto_class)
    model.save_pretrained(tmp_path)
    loaded, report = auto_class_named(auto_class).from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is type(model)
    assert not any(report.values()), report
    assert not loaded.training
    assert_same(model(**batch_of(model, auto_class)), loaded(**batch_of(loaded, auto_class)), SAME)


@every_model
def test_copies_are_equal(model_type: str, auto_class: str) -> None:
    model = tiny_model(model_type, auto_class)
    expected = model(**batch_of(model, auto_class))
    # A model is also used before it is copied: what a forward leaves behind must not stand in the way.
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)
    for each in copies:
        assert_same(expected, each(**batch_of(each, auto_class)), SAME)
        assert {name for name, parameter in each.named_parameters() if parameter.requires_grad} == {
            name for name, parameter in model.named_parameters() if parameter.requires_grad
        }


@every_model
def test_bfloat16_autocast_is_finite(model_type: str, auto_class: str) -> None:
    model = tiny_model(model_type, auto_class).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch_of(model, auto_class))
        loss = loss_of(output)
    assert all(value.isfinite().all() for value in outputs_of(output).values())
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not is_unused(model_type, auto_class, name):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@every_model
def test_compiles_without_graph_breaks(model_type: str, auto_class: str) -> None:
    model = tiny_model(model_type, auto_class)
    batch = batch_of(model, auto_class)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)  # `fullgraph` makes a graph break an error
    assert_same(model(**batch), compiled(**batch), SAME)
    torch._dynamo.reset()


@pytest.mark.parametrize(("model_type", "auto_class"), ADAPTED)
def test_low_rank_adapters_of_peft_learn_and_merge(model_type: str, auto_class: str) -> None:
    model = tiny_model(model_type, auto_class)
    batch = batch_of(model, auto_class)
    before = model(**batch)
    parts = dict(model.named_modules())
    linear = [name for name, part in parts.items() if isinstance(part, nn.Linear)]
    blocks = [name for name in linear if re.search(r"layers?\.\d+\.", name)]
    # PEFT builds its factors with the class of the layer, so that a class of other sizes than these cannot be adapted.
    convolutions = [name for name, part in parts.items() if type(part) is nn.Conv3d]
    if not blocks and not convolutions:
        pytest.skip("no linear layer in blocks and no plain convolution: PEFT has nothing to adapt")
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=blocks or convolutions))
    assert_same(before, adapted(**batch), 1e-5)  # the second factor starts with zeros
    trained = [(name, parameter) for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert all("lora_" in name for name, _ in trained)
    optimizer = torch.optim.AdamW([parameter for _, parameter in trained], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(adapted(**batch)).backward()
        optimizer.step()
    # Behind a ReLU that is zero everywhere a factor has no gradient.
    reached = [name for name, parameter in trained if parameter.grad is not None and parameter.grad.abs().max() > 0]
    assert len(reached) > 0.5 * len(trained), sorted({name for name, _ in trained} - {*reached})
    learned = adapted(**batch)
    assert not torch.equal(loss_of(learned), loss_of(before))
    if not blocks:
        return  # PEFT cannot merge the factors of a 3-D convolution
    merged = adapted.merge_and_unload()
    assert type(merged) is type(tiny_model(model_type, auto_class))
    assert_same(learned, merged(**batch), 1e-3)


class Logits(nn.Module):
    """The logits alone, with inputs by position, as ONNX has them."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, values, strict=True))).logits


@pytest.mark.parametrize(("model_type", "auto_class"), EXPORTED)
def test_classifiers_become_onnx(model_type: str, auto_class: str, tmp_path: Path) -> None:
    """Pretraining networks are not exported: nothing outside of training runs them. Encoders are inside these."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = tiny_model(model_type, auto_class)
    batch = {name: value for name, value in batch_of(model, auto_class).items() if name != "labels"}
    wrapped = Logits(model, list(batch)).eval()
    path = str(tmp_path / "model.onnx")
    torch.onnx.export(wrapped, tuple(batch.values()), path, input_names=list(batch), dynamo=True, verbose=False)
    (found,) = onnxruntime.InferenceSession(path).run(None, {name: value.numpy() for name, value in batch.items()})
    np.testing.assert_allclose(found, wrapped(*batch.values()).detach().numpy(), atol=1e-4)


@every_model
def test_bad_inputs_are_refused_by_shape(model_type: str, auto_class: str) -> None:
    model = tiny_model(model_type, auto_class)
    batch = batch_of(model, auto_class)
    media = [name for name, value in batch.items() if isinstance(value, torch.Tensor) and value.dtype != torch.bool]
    for name in set(media) - {"labels"}:
        # The number of clips is not compared: SMILE repeats each clip for each of its masks before.
        empty = [batch[name][:, :, :0]] if batch[name].ndim > 2 else []
        for bad in (batch[name][0], batch[name][None], *empty):
            with pytest.raises(ValueError, match=re.escape(", ".join(map(str, bad.shape[1:]))) or name):
                model(**batch | {name: bad})
    if "labels" in batch:
        with pytest.raises(ValueError, match=rf"\[0, {LABELS}\).*{LABELS}"):
            model(**batch | {"labels": torch.tensor([0, LABELS])})


@every_model
def test_wrong_types_and_numbers_of_clips_are_refused(model_type: str, auto_class: str) -> None:
    model = tiny_model(model_type, auto_class)
    batch = batch_of(model, auto_class)
    tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    empty = {name: value[:0] for name, value in tensors.items()}
    with pytest.raises(ValueError, match="no clips; pass at least one"):
        model(**batch | empty)
    for name, value in tensors.items():
        if value.dtype == torch.bool:
            with pytest.raises(ValueError, match=r"must be bool, True = masked, got torch\.float32"):
                model(**batch | {name: value.float()})
        elif name == "labels":
            for wrong in (value.int(), value.float(), value[:1], value[:, None]):
                with pytest.raises(ValueError, match="labels must "):
                    model(**batch | {"labels": wrong})
        elif value.dtype == torch.int64:  # words and numbers
            with pytest.raises(ValueError, match=rf"{name} must be int64.*got torch\.float32"):
                model(**batch | {name: value.float()})
        else:
            with pytest.raises(ValueError, match=rf"{name.removeprefix('key_')} must be .*got torch\.int64"):
                model(**batch | {name: value.long()})
        if len(tensors) > 1:
            with pytest.raises(ValueError, match=r"different numbers of clips|expected|a row for each of"):
                model(**batch | {name: value[:1]})


def test_frames_that_are_not_square_are_not_filled_with_black() -> None:
    frames = torch.full((4, 3, 40, 40), 200, dtype=torch.uint8)
    processor = inference_processor(tiny_config("sigma", image_size=(32, 64)))
    pixels = processor(frames, return_tensors="pt").pixel_values
    assert pixels.shape == (1, 4, 3, 32, 64)
    assert pixels.std(dim=(-2, -1)).max() < 1e-5
