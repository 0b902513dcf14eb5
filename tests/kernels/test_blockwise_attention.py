"""Attention block by block on CPU, and where it is chosen."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tiny import SIZES, masked_clips
from tubelets import TubeletsVideoMAEConfig, TubeletsVideoMAEForPreTraining, kernels
from tubelets.kernels import blockwise_attention as blockwise
from tubelets.kernels.blockwise_attention import blockwise_attention
from tubelets.models.backbones.video_vit import attention


def attend(query, key, value):
    return blockwise_attention(nn.Identity(), query, key, value, None, scaling=0.3)[0].transpose(1, 2)


def tensors(dtype, queries=7, keys=10, factor=1.0):
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 3, queries, 8), (2, 3, keys, 8), (2, 3, keys, 8))
    return [(factor * torch.randn(size, generator=generator, dtype=dtype)).requires_grad_() for size in sizes]


# One row a block, blocks that divide the rows, that do not, one block; scores that need no shift, and that do.
@pytest.mark.parametrize("factor", [1.0, 4.0])
@pytest.mark.parametrize("entries", [1, 30, 41, 10_000])
def test_gradients_are_right(monkeypatch, entries, factor):
    monkeypatch.setattr(blockwise, "BLOCK_ENTRIES", entries)
    monkeypatch.setattr(blockwise, "SAFE_SCORE", 20.0)
    assert torch.autograd.gradcheck(attend, tensors(torch.float64, factor=factor), fast_mode=True)


@pytest.mark.parametrize("factor", [1.0, 4.0, 30.0])
@pytest.mark.parametrize("entries", [1, 60, 10_000])
def test_equals_the_fused_kernel_in_float32(monkeypatch, entries, factor):
    monkeypatch.setattr(blockwise, "BLOCK_ENTRIES", entries)
    ours = tensors(torch.float32, 20, 30, factor)
    exact = [tensor.detach().double().requires_grad_() for tensor in ours]
    result, expected = attend(*ours), F.scaled_dot_product_attention(*exact, scale=0.3)
    torch.testing.assert_close(result, expected.float(), rtol=1e-4, atol=1e-3 * factor)
    wanted = torch.autograd.grad(expected.square().sum(), exact)
    for found, right in zip(torch.autograd.grad(result.square().sum(), ours), wanted, strict=True):
        assert (found - right).norm() <= 1e-3 * right.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_scores_beyond_the_range_of_powers(dtype):
    query = torch.tensor([[[[200.0], [-200.0], [0.0]]]], dtype=dtype, requires_grad=True)
    key = torch.tensor([[[[2.0], [-3.0]]]], dtype=dtype)
    value = torch.tensor([[[[1.0], [5.0]]]], dtype=dtype)
    result = attend(query, key, value)
    assert result.flatten().tolist() == [1.0, 5.0, 3.0]
    result.sum().backward()
    torch.testing.assert_close(query.grad.flatten(), torch.tensor([0.0, 0.0, -1.5], dtype=dtype), rtol=0, atol=2e-3)


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
    with pytest.raises(ValueError, match=r"float16 on cpu.*supports bfloat16"):
        attend(*tensors(torch.float16))


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_it_replaces_sdpa_only_where_it_was_measured_to_be_faster(monkeypatch, has_bfloat16):
    monkeypatch.setattr(kernels, "_is_amd_with_bfloat16", lambda: has_bfloat16)

    def chosen(length, dtype, implementation="sdpa", dropout=0.0):
        key = torch.empty(1, 1, length, 4, dtype=dtype)
        return attention.attention_function(implementation, key, dropout).__name__

    assert chosen(300, torch.bfloat16) == ("blockwise_attention" if has_bfloat16 else "sdpa_attention_forward")
    assert chosen(100, torch.bfloat16) == chosen(600, torch.float32) == "sdpa_attention_forward"
    assert chosen(600, torch.bfloat16, dropout=0.1) == "sdpa_attention_forward"
    assert chosen(600, torch.bfloat16, "eager") == "eager_attention_forward"
    assert chosen(5, torch.float32, "blockwise") == "blockwise_attention"


def test_a_model_that_asks_for_it_has_the_gradients_of_sdpa(monkeypatch):
    torch.manual_seed(0)
    model = TubeletsVideoMAEForPreTraining(TubeletsVideoMAEConfig(**SIZES)).train()
    clips, mask = masked_clips()

    def gradients(implementation):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        model(clips, bool_masked_pos=mask).loss.backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    plain, blockwise = gradients("sdpa"), gradients("blockwise")
    for name, expected in plain.items():
        assert (blockwise[name] - expected).norm() <= 1e-4 * expected.norm() + 1e-8, name
        assert not torch.equal(blockwise[name], expected) or not expected.any(), name
