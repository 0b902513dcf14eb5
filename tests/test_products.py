"""Products of float32 matrices by oneDNN, on every machine whose PyTorch has it, and products under autocast."""

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from tiny import SIZES, masked_clips
from tubelets import SigmaConfig, SigmaForPreTraining
from tubelets.kernels import products
from tubelets.kernels.products import (
    MIN_OPERATIONS,
    Linear,
    cast_once,
    linear,
    onednn_product,
    replace_linear,
    takes_onednn,
)

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")


@pytest.fixture
def chosen(monkeypatch):
    """Everything goes through oneDNN, whatever the processor is; yields what did."""
    calls = []

    def count(*arguments):
        calls.append(arguments)
        return onednn_product(*arguments)

    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "MIN_OPERATIONS", 1)
    monkeypatch.setattr(products, "onednn_product", count)
    return calls


@pytest.fixture
def recast(monkeypatch):
    """Layers of any size cast their weights again under autocast; yields the types of what those are cast for."""
    types = []

    def count(weight, like):
        types.append(like.dtype)
        return lowered(weight, like)

    lowered = products._lowered
    monkeypatch.setattr(products, "MIN_OPERATIONS", 1)
    monkeypatch.setattr(products, "_lowered", count)
    return types


def layer(*shape, bias=True):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(*shape, 5, generator=generator, requires_grad=True)
    weight = torch.randn(4, 5, generator=generator, requires_grad=True)
    return (states, weight, torch.randn(4, generator=generator, requires_grad=True)) if bias else (states, weight)


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1, 3)])
def test_values_and_gradients_are_those_of_pytorch(chosen, shape, bias):
    tensors = layer(*shape, bias=bias)
    result, expected = linear(*tensors), F.linear(*tensors)
    assert len(chosen) == 1
    torch.testing.assert_close(result, expected)
    found = torch.autograd.grad(result.square().sum(), tensors)
    for each, right in zip(found, torch.autograd.grad(expected.square().sum(), tensors), strict=True):
        torch.testing.assert_close(each, right)
    assert len(chosen) == 3  # also both products of the backward pass


@needs_onednn
@pytest.mark.parametrize(("rows", "out", "turned"), [(40, 64, "states"), (3, 64, "gradient"), (40, 4, "gradient")])
def test_gradients_of_weights_turn_the_smaller_factor(chosen, rows, out, turned):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(rows, 5, generator=generator)
    weight = torch.randn(out, 5, generator=generator, requires_grad=True)
    result = linear(states, weight)
    chosen.clear()
    (found,) = torch.autograd.grad(result.square().sum(), weight, create_graph=True)
    assert len(chosen[0][0]) == (5 if turned == "states" else out)
    (right,) = torch.autograd.grad(F.linear(states, weight).square().sum(), weight, create_graph=True)
    assert found.is_contiguous()
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)
    second = [torch.autograd.grad(first.pow(3).sum(), weight)[0] for first in (found, right)]
    torch.testing.assert_close(*second, rtol=1e-3, atol=1e-3)


@needs_onednn
def test_second_derivatives(chosen):
    tensors = layer(2, 3)

    def penalty(function):
        first = torch.autograd.grad(function(*tensors).pow(3).sum(), tensors, create_graph=True)
        return torch.autograd.grad(sum(each.square().sum() for each in first), tensors)

    for found, right in zip(penalty(linear), penalty(F.linear), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-3)


@needs_onednn
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_function_transforms(chosen):
    states, weight, bias = (tensor.detach() for tensor in layer(3))

    def transformed(function):
        def loss(*arguments):
            return function(*arguments).square().sum()

        pushed = torch.func.jvp(function, (states, weight, bias), (2 * states, 3 * weight, 4 * bias))[1]
        only_bias = torch.func.jvp(lambda each: function(states, weight, each), (bias,), (bias,))[1]
        each_gradient = torch.func.vmap(torch.func.grad(loss), (0, None, None))(states[:, None], weight, bias)
        return pushed, only_bias, each_gradient

    for found, right in zip(transformed(linear), transformed(F.linear), strict=True):
        torch.testing.assert_close(found, right)


@needs_onednn
def test_tensors_in_any_layout(chosen):
    states, weight, bias = layer(6, 2)
    for kept in (states.transpose(0, 1), states[::2], states[:1].expand(6, -1, -1)):
        torch.testing.assert_close(linear(kept, weight, bias), F.linear(kept, weight, bias))
    turned = weight.t().contiguous().t()
    torch.testing.assert_close(linear(states, turned, bias), F.linear(states, weight, bias))


@needs_onednn
@pytest.mark.parametrize("turned", [False, True])
def test_weights_with_gaps_are_copied_first(chosen, turned):
    # oneDNN's own way with them takes a thousand times as long.
    class Recorder(TorchDispatchMode):
        dense = None

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.mkldnn._linear_pointwise.default:
                self.dense = args[1].is_contiguous() or args[1].t().is_contiguous()
            return function(*args, **(kwargs or {}))

    wide = torch.randn(4, 7) if not turned else torch.randn(5, 6)
    weight = wide[:, :5] if not turned else wide[:, :4].t()
    states = torch.randn(3, 5)
    with Recorder() as recorder:
        result = linear(states, weight)
    assert recorder.dense
    torch.testing.assert_close(result, F.linear(states, weight))


def test_factors_are_cast_once_to_what_autocast_would_make_of_them():
    states = torch.randn(3, 5)
    assert cast_once(states) is states
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cast_once(states), states.bfloat16())
        assert cast_once(states.double()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cast", [True, False])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1, 3)])
def test_values_and_gradients_are_those_of_autocast(recast, shape, cast, bias, dtype):
    tensors = layer(*shape, bias=bias)

    def run(function):
        with torch.autocast("cpu", dtype):
            states = cast_once(tensors[0]) if cast else tensors[0]
            result = function(states, *tensors[1:])
        return result, torch.autograd.grad(result.float().square().sum(), tensors)

    (found, found_gradients), (result, gradients) = run(linear), run(F.linear)
    assert recast == [dtype, dtype]
    torch.testing.assert_close(found, result)
    for each, right in zip(found_gradients, gradients, strict=True):
        assert each.dtype == torch.float32
        torch.testing.assert_close(each, right, rtol=1e-2, atol=1e-2)


def test_no_copy_of_a_weight_is_kept_under_autocast(recast):
    states, weight, bias = layer(3)
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        linear(states, weight, bias)
    assert any(tensor is weight for tensor in kept)
    assert [tensor.dtype for tensor in kept if tensor.shape == weight.shape] == [torch.float32]


def test_layers_under_autocast_share_memory_and_not_results(recast):
    # Two layers of other sizes and types follow each other before either goes back.
    first, second = layer(3), layer(7)
    wide = second[1].detach().repeat(3, 1).requires_grad_()
    gradients = []
    for function in (linear, F.linear):
        with torch.autocast("cpu", torch.bfloat16):
            one = function(*first)
        with torch.autocast("cpu", torch.float16):
            two = function(second[0], wide)
        total = one.float().square().sum() + two.float().square().sum()
        gradients.append(torch.autograd.grad(total, [*first, second[0], wide]))
    for found, right in zip(*gradients, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-2, atol=1e-2)


def test_only_what_is_asked_for_has_a_gradient_under_autocast(recast):
    states, weight, bias = layer(3)
    for asked in ((states,), (weight,), (bias,)):
        for tensor in (states, weight, bias):
            tensor.requires_grad_(any(tensor is each for each in asked)).grad = None
        with torch.autocast("cpu", torch.bfloat16):
            linear(states, weight, bias).sum().backward()
        assert [tensor.grad is not None for tensor in (states, weight, bias)] == [
            tensor.requires_grad for tensor in (states, weight, bias)
        ]


def test_second_derivatives_under_autocast(recast):
    tensors = layer(2, 3)

    def penalty(function):
        with torch.autocast("cpu", torch.bfloat16):
            result = function(*tensors)
        first = torch.autograd.grad(result.float().pow(3).sum(), tensors, create_graph=True)
        return torch.autograd.grad(sum(each.square().sum() for each in first), tensors)

    for found, right in zip(penalty(linear), penalty(F.linear), strict=True):
        assert (found - right).norm() <= 2e-2 * right.norm()
    assert recast


@needs_onednn
@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("autocast", [False, True])
def test_many_gradients_at_a_time(chosen, recast, autocast):
    def jacobians(function, vectorize):
        def run(*tensors):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                return function(*tensors).float()

        return torch.autograd.functional.jacobian(run, layer(3), vectorize=vectorize)

    for found, right in zip(jacobians(linear, True), jacobians(F.linear, False), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-2, atol=1e-2)
    assert recast if autocast else chosen


def test_what_autocast_is_left_to(recast):
    class Tagged(torch.Tensor):
        pass

    states, weight, bias = (tensor.detach() for tensor in layer(3))
    assert linear(states, weight, bias).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        linear(states.as_subclass(Tagged), weight, bias)
        linear(states, weight.bfloat16())
        torch.func.vmap(linear, (None, 0))(states, torch.stack([weight, weight]))
        torch.func.jvp(lambda each: linear(each, weight, bias), (states,), (states,))
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(linear(forward_ad.make_dual(states, states), weight, bias)).tangent
        compiled = torch.compile(Linear(5, 4), fullgraph=True, backend="eager")
        assert compiled(states).dtype == torch.bfloat16
    assert not recast
    torch.testing.assert_close(tangent.float(), F.linear(states, weight), rtol=2e-2, atol=2e-2)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_what_onednn_is_not_asked_for(chosen):
    class Tagged(torch.Tensor):
        pass

    tensor = torch.zeros(2, 2)
    assert takes_onednn(tensor, nn.Parameter(tensor))
    assert not takes_onednn(tensor, tensor.double())
    assert not takes_onednn(tensor.bfloat16())
    assert not takes_onednn(tensor.to("meta"))
    assert not takes_onednn(tensor.as_subclass(Tagged))
    with torch.autocast("cpu", torch.bfloat16):
        assert not takes_onednn(tensor)
    with torch.backends.mkldnn.flags(enabled=False):
        assert not takes_onednn(tensor)
    torch.set_float32_matmul_precision("medium")
    try:
        assert not takes_onednn(tensor)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert linear(torch.ones(5), torch.ones(4, 5)).shape == (4,)
    assert not chosen


def test_small_products_are_left_to_pytorch(chosen, recast, monkeypatch):
    monkeypatch.setattr(products, "MIN_OPERATIONS", 3 * 5 * 4 + 1)
    for autocast in (nullcontext(), torch.autocast("cpu", torch.bfloat16)):
        with autocast:
            assert linear(*layer(3)).shape == (3, 4)
            assert linear(*layer(0)).shape == (0, 4)
    assert not chosen
    assert not recast


def test_layers_compile_without_a_break(chosen):
    module, states = Linear(5, 4), torch.randn(3, 5)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(states), module(states))


def test_exported_layers_take_any_number_of_rows():
    # What their size decides must not become a condition of the program.
    rows = torch.export.Dim("rows", min=2)
    exported = torch.export.export(Linear(64, 64), (torch.randn(3, 64),), dynamic_shapes={"input": {0: rows}})
    assert exported.module()(torch.randn(2 * MIN_OPERATIONS // 64**2, 64)).shape[1] == 64


def test_replaced_layers_keep_parameters_and_draw_no_random_numbers():
    class Own(nn.Linear):
        pass

    block = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4, bias=False)), Own(4, 2))
    state, parameters = torch.get_rng_state(), list(block.parameters())
    replace_linear(block)
    assert torch.equal(torch.get_rng_state(), state)
    assert [type(block[0]), type(block[1][0]), type(block[2])] == [Linear, Linear, Own]
    assert all(new is old for new, old in zip(block.parameters(), parameters, strict=True))
    assert block[1][0].bias is None


@needs_onednn
def test_a_model_learns_the_same_with_and_without(chosen, monkeypatch):
    torch.manual_seed(0)
    ours = SigmaForPreTraining(SigmaConfig(**SIZES)).train()
    plain = copy.deepcopy(ours)
    clips, mask = masked_clips()
    ours(clips, bool_masked_pos=mask).loss.backward()
    # Four blocks of six layers, each with a product forward and at least one back, are not all that there is.
    assert len(chosen) > 2 * 6 * 4
    monkeypatch.setattr(products, "onednn_is_faster", lambda: False)
    chosen.clear()
    plain(clips, bool_masked_pos=mask).loss.backward()
    assert not chosen
    for (name, parameter), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_a_model_learns_the_same_under_autocast_with_and_without(recast, monkeypatch):
    torch.manual_seed(0)
    ours = SigmaForPreTraining(SigmaConfig(**SIZES)).train()
    plain = copy.deepcopy(ours)
    clips, mask = masked_clips()

    def learn(model):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(clips, bool_masked_pos=mask).loss
        loss.backward()

    learn(ours)
    assert len(recast) > 2 * 6 * 4
    monkeypatch.setattr(products, "_takes_autocast", lambda *tensors: False)
    recast.clear()
    learn(plain)
    assert not recast
    for (name, parameter), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert (parameter.grad - other.grad).norm() <= 1e-2 * other.grad.norm() + 1e-6, name
