"""Fast factorised convolutions are the 3-D convolutions they stand for."""

import pytest
import torch
from torch import Tensor, nn

from tubelets.kernels.factorized_convolutions import PointwiseConv3d, SpatialConv3d, TemporalConv3d

LAYERS = {
    "spatial": (SpatialConv3d, (1, 3, 3), (1, 1, 1), (0, 1, 1)),
    "spatial, strided": (SpatialConv3d, (1, 3, 3), (1, 2, 2), (0, 1, 1)),
    "stem": (SpatialConv3d, (1, 7, 7), (1, 2, 2), (0, 3, 3)),
    "temporal": (TemporalConv3d, (3, 1, 1), (1, 1, 1), (1, 0, 0)),
    "temporal, strided": (TemporalConv3d, (3, 1, 1), (2, 1, 1), (1, 0, 0)),
    "temporal, long": (TemporalConv3d, (5, 1, 1), (1, 1, 1), (2, 0, 0)),
    "temporal, unpadded": (TemporalConv3d, (3, 1, 1), (1, 1, 1), (0, 0, 0)),
    "temporal, single": (TemporalConv3d, (1, 1, 1), (2, 1, 1), (0, 0, 0)),
    "spatial, single": (SpatialConv3d, (1, 1, 1), (1, 2, 2), (0, 0, 0)),
    "pointwise": (PointwiseConv3d, (1, 1, 1), (1, 1, 1), (0, 0, 0)),
    "pointwise, strided": (PointwiseConv3d, (1, 1, 1), (2, 2, 2), (0, 0, 0)),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
FORMATS = (torch.contiguous_format, torch.channels_last_3d)


def pair(name: str) -> tuple[nn.Conv3d, nn.Conv3d]:
    """The fast layer and the plain one with its weights, in float32 and float64."""
    kind, *shape = LAYERS[name]
    torch.manual_seed(0)
    fast = kind(5, 7, *shape, bias=False)
    plain = nn.Conv3d(5, 7, *shape, bias=False).double()
    plain.load_state_dict(fast.state_dict())
    return fast, plain


def clip(frames: int, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    values = torch.randn(2, 5, frames, 6, 8, generator=torch.Generator().manual_seed(frames))
    return values.contiguous(memory_format=memory_format)


@every_layer
@pytest.mark.parametrize("frames", [3, 4, 7])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_results_and_gradients_are_those_of_a_3d_convolution(
    name: str, frames: int, memory_format: torch.memory_format
) -> None:
    fast, plain = pair(name)
    x = clip(frames, memory_format).requires_grad_()
    exact = x.detach().double().requires_grad_()
    found, expected = fast(x), plain(exact)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad.double(), exact.grad, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(fast.weight.grad.double(), plain.weight.grad, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 2])
def test_kernels_longer_than_the_clip(frames: int) -> None:
    for name in ("temporal", "temporal, long"):
        fast, plain = pair(name)
        x = clip(frames).requires_grad_()
        exact = x.detach().double().requires_grad_()
        fast(x).sin().sum().backward()
        plain(exact).sin().sum().backward()
        torch.testing.assert_close(x.grad.double(), exact.grad, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(fast.weight.grad.double(), plain.weight.grad, atol=1e-4, rtol=1e-5)


@every_layer
def test_only_the_gradients_that_are_asked_for(name: str) -> None:
    fast, _ = pair(name)
    fast(clip(4)).sum().backward()
    assert fast.weight.grad is not None
    fast.zero_grad()
    fast.requires_grad_(False)
    x = clip(4).requires_grad_()
    fast(x).sum().backward()
    assert fast.weight.grad is None
    assert x.grad is not None


@every_layer
def test_chains_stay_channels_last(name: str) -> None:
    fast, _ = pair(name)
    assert fast(clip(4)).is_contiguous(memory_format=torch.channels_last_3d)


@every_layer
def test_lower_precision(name: str) -> None:
    fast, plain = pair(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fast(clip(4))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), plain(clip(4).double()), atol=0.05, rtol=0.05)
    found.sum().backward()
    assert fast.weight.grad.dtype == torch.float32
    half = fast.to(torch.bfloat16)(clip(4).to(torch.bfloat16))
    torch.testing.assert_close(half.double(), plain(clip(4).double()), atol=0.05, rtol=0.05)


@every_layer
def test_compiles_without_graph_breaks(name: str) -> None:
    fast, _ = pair(name)
    torch._dynamo.reset()
    compiled = torch.compile(fast, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(clip(4)), fast(clip(4)), atol=1e-5, rtol=1e-5)
    torch._dynamo.reset()


@every_layer
def test_exact_gradients(name: str) -> None:
    fast, _ = pair(name)
    x = clip(3)[:, :, :, :2, :2].double().requires_grad_()
    assert torch.autograd.gradcheck(fast.double(), (x,))


@pytest.mark.parametrize("kind", [SpatialConv3d, TemporalConv3d])
def test_kernels_of_one_are_never_2d_convolutions(kind: type[nn.Conv3d], monkeypatch: pytest.MonkeyPatch) -> None:
    # oneDNN damages the heap in the backward pass of such a convolution; the crash itself comes only now and then.
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a kernel of 1 became a 2-D convolution")

    monkeypatch.setattr(torch.nn.functional, "conv2d", refuse)
    for stride in ((2, 1, 1), (1, 2, 2), (1, 1, 1)):
        layer = kind(2, 6, 1, stride, bias=False)
        layer(torch.randn(2, 2, 8, 16, 16)).sum().backward()
        assert layer.weight.grad is not None
