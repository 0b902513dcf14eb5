"""Recomputed activations, compiled models and the settings of data parallelism change nothing but speed and memory."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import DistributedType
from torch import nn
from torch._dynamo.testing import CompileCounter

from tiny_models import CASES, batch_of, loss_of, tiny_config, tiny_model
from tubelets import R2Plus1DNativeForVideoClassification
from tubelets.training.acceleration import (
    choose_convolutions,
    compile_model,
    computes_bfloat16,
    enable_checkpointing,
    take_over_checkpointing,
)

TRAINED = [case for case in CASES if case[1] != "AutoModel"]


def assert_equal_steps(plain: Any, other: Any, batch: dict[str, Any]) -> None:
    """Equal gradients and equal buffers after a training step: batch-norm statistics and their counts, queues."""
    for model in (plain, other):
        torch.manual_seed(1)
        loss_of(model(**batch)).backward()
    for (name, parameter), twin in zip(plain.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(twin.grad, parameter.grad, msg=lambda text, n=name: f"{n}: {text}")
    for (name, buffer), twin in zip(plain.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(buffer, twin), name


@pytest.mark.parametrize(("model_type", "auto_class"), TRAINED)
def test_recomputed_activations_give_equal_gradients_and_statistics(model_type: str, auto_class: str) -> None:
    plain = tiny_model(model_type, auto_class).train()
    other = copy.deepcopy(plain)
    if not any(hasattr(module, "gradient_checkpointing") for module in plain.modules()):
        # Networks of skeletons without blocks that could be recomputed say so.
        with pytest.raises(ValueError, match=r"not (support|compatible)"):
            enable_checkpointing(other)
        return
    enable_checkpointing(other)
    blocks = {type(module).__name__ for module in other.modules() if getattr(module, "gradient_checkpointing", False)}
    assert blocks & set(other._no_split_modules)
    assert_equal_steps(plain, other, batch_of(plain, auto_class))


def test_recomputed_activations_of_rspnets_network() -> None:
    plain = R2Plus1DNativeForVideoClassification(tiny_config("r2plus1d_native", variant="rspnet")).train()
    other = copy.deepcopy(plain)
    enable_checkpointing(other)
    assert_equal_steps(plain, other, batch_of(plain, "AutoModelForVideoClassification"))


def test_blocks_are_really_recomputed() -> None:
    model = tiny_model("resnet3d", "AutoModelForVideoClassification").train()
    enable_checkpointing(model)
    passes: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(lambda module, inputs, output: passes.append(module))
    loss = loss_of(model(**batch_of(model, "AutoModelForVideoClassification")))
    once = len(passes)
    loss.backward()
    assert len(passes) > 1.5 * once


def test_a_launchers_checkpointing_is_left_to_the_models() -> None:
    plugin = SimpleNamespace(activation_checkpointing=True)
    accelerator: Any = SimpleNamespace(distributed_type=DistributedType.FSDP, state=SimpleNamespace(fsdp_plugin=plugin))
    assert take_over_checkpointing(accelerator)
    assert not plugin.activation_checkpointing
    assert not take_over_checkpointing(accelerator)
    accelerator.distributed_type = DistributedType.MULTI_GPU
    assert not take_over_checkpointing(accelerator)


def test_a_compiled_model_is_compiled_once_and_keeps_its_names() -> None:
    """One process; `test_sharded_training` compiles in two."""
    auto_class = "AutoModelForPreTraining"
    plain = tiny_model("sigma", auto_class).train()
    compiled = copy.deepcopy(plain)
    torch._dynamo.reset()
    counter = CompileCounter()
    compile_model(compiled, backend=counter)
    counts = []
    for model in (plain, compiled):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        for step in range(3):
            optimizer.param_groups[0]["lr"] = 1e-3 / (step + 1)
            loss_of(model(**batch_of(model, auto_class))).backward()
            optimizer.step()
            optimizer.zero_grad()
            counts.append(counter.frame_count)
    torch._dynamo.reset()
    assert counts == [0, 0, 0, 1, 1, 1]
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict(), rtol=1e-3, atol=1e-5)


def test_cudnn_measures_for_convolutional_networks_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    network = tiny_model("tubelet_contrast", "AutoModelForPreTraining")
    transformer = tiny_model("sigma", "AutoModelForPreTraining")
    assert not choose_convolutions(network, torch.device("cpu"))
    assert not choose_convolutions(transformer, torch.device("cuda"))
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    assert not choose_convolutions(network, torch.device("cuda"))
    assert not torch.backends.cudnn.benchmark
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    assert choose_convolutions(network, torch.device("cuda"))
    assert torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    ("found", "expected"), [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({"bf16": True}, True)]
)
def test_bfloat16_needs_instructions_of_the_processor(
    found: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert computes_bfloat16() is expected
