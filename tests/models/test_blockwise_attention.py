"""Attention that is made of matrix products, block by block, on CPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tiny import SIZES, masked_clips
from tubelets import TubeletsVideoMAEConfig, TubeletsVideoMAEForPreTraining
from tubelets.kernels import blockwise_attention as blockwise
from tubelets.kernels import products
from tubelets.kernels.blockwise_attention import blockwise_attention
from tubelets.models.backbones.video_vit import attention


def attend(query, key, value):
    return blockwise_attention(nn.Identity(), query, key, value, None, scaling=0.3)[0].transpose(1, 2)


def tensors(dtype, queries=7, keys=10, factor=1.0):
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 3, queries, 8), (2, 3, keys, 8), (2, 3, keys, 8))
    return [(factor * torch.randn(size, generator=generator, dtype=dtype)).requires_grad_() for size in sizes]


@pytest.fixture
def onednn(monkeypatch):
    """Float32 goes through oneDNN, whatever the processor is."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("PyTorch was built without oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)


# One row a block, blocks that divide the rows, that do not, one block; scores that need no shift, and that do.
@pytest.mark.parametrize("factor", [1.0, 4.0])
@pytest.mark.parametrize("entries", [1, 30, 41, 10_000])
def test_gradients_are_right(monkeypatch, entries, factor):
    monkeypatch.setattr(blockwise, "BLOCK_ENTRIES", entries)
    monkeypatch.setattr(blockwise, "SAFE_SCORE", 20.0)
    assert torch.autograd.gradcheck(attend, tensors(torch.float64, factor=factor))


@pytest.mark.parametrize("factor", [1.0, 4.0, 30.0])
@pytest.mark.parametrize("entries", [1, 60, 10_000])
def test_equals_the_fused_kernel_in_float32(monkeypatch, onednn, entries, factor):
    monkeypatch.setattr(blockwise, "ONEDNN_BLOCK_ENTRIES", entries)
    ours = tensors(torch.float32, 20, 30, factor)
    assert products.takes_onednn(*ours)
    exact = [tensor.detach().double().requires_grad_() for tensor in ours]
    result, expected = attend(*ours), F.scaled_dot_product_attention(*exact, scale=0.3)
    torch.testing.assert_close(result, expected.float(), rtol=1e-4, atol=1e-3 * factor)
    wanted = torch.autograd.grad(expected.square().sum(), exact)
    for found, right in zip(torch.autograd.grad(result.square().sum(), ours), wanted, strict=True):
        assert (found - right).norm() <= 1e-3 * right.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_scores_beyond_the_range_of_powers(onednn, dtype):
    query = torch.tensor([[[[200.0], [-200.0], [0.0]]]], dtype=dtype, requires_grad=True)
    key = torch.tensor([[[[2.0], [-3.0]]]], dtype=dtype)
    value = torch.tensor([[[[1.0], [5.0]]]], dtype=dtype)
    result = attend(query, key, value)
    assert result.flatten().tolist() == [1.0, 5.0, 3.0]
    result.sum().backward()
    torch.testing.assert_close(query.grad.flatten(), torch.tensor([0.0, 0.0, -1.5], dtype=dtype), rtol=0, atol=2e-3)


def test_training_after_inference_uses_the_same_memory():
    blockwise._workspace.memory = None
    with torch.inference_mode():
        attend(*tensors(torch.bfloat16))
    memory = blockwise._workspace.memory
    first, second = (attend(*tensors(torch.bfloat16)) for _ in range(2))
    assert torch.equal(first, second)
    first.sum().backward()
    assert blockwise._workspace.memory is memory


def test_equals_the_fused_kernel_in_bfloat16(monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK_ENTRIES", 200)
    ours = tensors(torch.bfloat16, 64, 96)
    exact = [tensor.detach().float().requires_grad_() for tensor in ours]
    result, expected = attend(*ours), F.scaled_dot_product_attention(*exact, scale=0.3)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
    (result * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(result.float(), expected, rtol=0.02, atol=0.02)
    for tensor, reference in zip(ours, exact, strict=True):
        error = (tensor.grad.float() - reference.grad).norm() / reference.grad.norm()
        assert error < 0.01


def test_gradients_that_come_in_stay_as_they_are():
    states = tensors(torch.bfloat16)
    gradient = torch.ones(2, 3, 7, 8, dtype=torch.bfloat16)
    attend(*states).backward(gradient)
    assert (gradient == 1).all()


def test_queries_that_lie_apart_in_memory():
    ours = [
        tensor.transpose(1, 2).contiguous().transpose(1, 2).detach().requires_grad_()
        for tensor in tensors(torch.float64)
    ]
    expected = F.scaled_dot_product_attention(*ours, scale=0.3)
    wanted = torch.autograd.grad(expected.square().sum(), ours)
    for found, right in zip(torch.autograd.grad(attend(*ours).square().sum(), ours), wanted, strict=True):
        torch.testing.assert_close(found, right)


def test_masks_dropout_and_float16_are_refused():
    states = tensors(torch.float32)
    with pytest.raises(ValueError, match="neither a mask nor dropout"):
        blockwise_attention(nn.Identity(), *states, None, scaling=1.0, dropout=0.1)
    with pytest.raises(ValueError, match="does not take float16"):
        attend(*tensors(torch.float16))


def test_what_takes_it_is_on_cpu_long_without_dropout_and_slow_otherwise(monkeypatch):
    config = TubeletsVideoMAEConfig(attn_implementation="sdpa")
    layer = attention.TubeletsVideoMAESelfAttention(config)
    config._attn_implementation = "sdpa"

    def chosen(length, dtype, dropout=0.0):
        states = torch.empty(1, 1, length, 4, dtype=dtype)
        return layer.attention_function(states, states, dropout).__name__

    assert chosen(300, torch.bfloat16) == "blockwise_attention"
    assert chosen(100, torch.bfloat16) == "eager_attention_forward"
    assert chosen(600, torch.bfloat16, dropout=0.1) == "sdpa_attention_forward"
    for faster in (True, False):
        monkeypatch.setattr(products, "onednn_is_faster", lambda answer=faster: answer)
        expected = "blockwise_attention" if faster else "sdpa_attention_forward"
        assert chosen(600, torch.float32) == expected
        assert chosen(300, torch.float32) == chosen(600, torch.float64) == "sdpa_attention_forward"


def test_a_model_learns_the_same_with_and_without(monkeypatch):
    torch.manual_seed(0)
    model = TubeletsVideoMAEForPreTraining(TubeletsVideoMAEConfig(**SIZES)).train()
    clips, mask = masked_clips()

    calls = []
    monkeypatch.setattr(
        attention, "blockwise_attention", lambda *a, **k: calls.append(a) or blockwise_attention(*a, **k)
    )

    def gradients(short_sequence):
        monkeypatch.setattr(attention, "SHORT_IN_BFLOAT16", short_sequence)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(clips, bool_masked_pos=mask).loss
        loss.backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    plain, blockwise = gradients(512), gradients(0)
    assert len(calls) == 4  # two blocks of the encoder, two of the decoder
    for name, expected in plain.items():
        assert (blockwise[name] - expected).norm() <= 0.05 * expected.norm() + 2e-6, name
