"""CPU convolutions compute what `nn.Conv3d` computes, with correct gradients in bfloat16."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tubelets.kernels.convolutions import CpuConv3d, use_cpu_convolutions
from tubelets.models.backbones.r2plus1d_native.configuration_r2plus1d_native import R2Plus1DNativeConfig
from tubelets.models.backbones.r2plus1d_native.modeling_r2plus1d_native import R2Plus1DNativeModel
from tubelets.models.backbones.resnet3d.configuration_resnet3d import ResNet3DConfig
from tubelets.models.backbones.resnet3d.modeling_resnet3d import ResNet3DModel

LAYERS = {
    "spatial": ((1, 3, 3), (1, 1, 1), (0, 1, 1)),
    "spatial, strided": ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    "stem": ((1, 7, 7), (1, 2, 2), (0, 3, 3)),
    "temporal": ((3, 1, 1), (1, 1, 1), (1, 0, 0)),
    "temporal, strided": ((3, 1, 1), (2, 1, 1), (1, 0, 0)),
    "temporal, long": ((5, 1, 1), (1, 1, 1), (2, 0, 0)),
    "temporal, unpadded": ((3, 1, 1), (1, 1, 1), (0, 0, 0)),
    "temporal, single": ((1, 1, 1), (2, 1, 1), (0, 0, 0)),
    "spatial, single": ((1, 1, 1), (1, 2, 2), (0, 0, 0)),
    "pointwise": ((1, 1, 1), (1, 1, 1), (0, 0, 0)),
    "pointwise, strided": ((1, 1, 1), (2, 2, 2), (0, 0, 0)),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
FORMATS = (torch.contiguous_format, torch.channels_last_3d)


def pair(name: str) -> tuple[nn.Conv3d, nn.Conv3d]:
    """The fast layer and the plain one with its weights, in float32 and float64."""
    shape = LAYERS[name]
    torch.manual_seed(0)
    fast = CpuConv3d(5, 7, *shape, bias=False)
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
    assert fast(clip(4, torch.channels_last_3d)).is_contiguous(memory_format=torch.channels_last_3d)


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


def test_kernels_of_one_are_never_2d_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    # oneDNN damages the heap in the backward pass of such a convolution; the crash itself is rare.
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a kernel of 1 became a 2-D convolution")

    monkeypatch.setattr(torch.nn.functional, "conv2d", refuse)
    for stride in ((2, 1, 1), (1, 2, 2), (1, 1, 1)):
        layer = CpuConv3d(2, 6, 1, stride, bias=False)
        layer(torch.randn(2, 2, 8, 16, 16)).sum().backward()
        assert layer.weight.grad is not None


SIZES = [
    # frames, side, kernel, stride, padding, dilation
    (2, 7, 3, 1, 1, 1),
    (1, 7, 3, (1, 2, 2), 1, 1),
    (2, 1, 3, 2, 1, 1),
    (4, 1, 3, 2, 1, 1),
    (2, 6, 3, (1, 2, 2), (2, 1, 1), (2, 1, 1)),
    (4, 6, 3, 1, 1, 1),
]


def gradients(layer, clips, weights):
    layer.zero_grad()
    clips.grad = None
    result = layer(clips)
    (result.float() * weights).sum().backward()
    return result.detach().float(), layer.weight.grad.float().clone(), clips.grad.float().clone()


@pytest.mark.parametrize(("frames", "side", "kernel", "stride", "padding", "dilation"), SIZES)
def test_full_kernels_equal_a_plain_convolution(frames, side, kernel, stride, padding, dilation):
    torch.manual_seed(0)
    layer = CpuConv3d(16, 24, kernel, stride, padding, dilation, bias=False)
    plain = nn.Conv3d(16, 24, kernel, stride, padding, dilation, bias=False)
    plain.load_state_dict(layer.state_dict())
    clips = torch.randn(4, 16, frames, side, side, requires_grad=True)
    weights = torch.randn_like(plain(clips))
    expected = gradients(plain, clips, weights)
    for found, right in zip(gradients(layer, clips, weights), expected, strict=True):
        assert torch.equal(found, right)  # nothing changes in full precision
    for _ in range(3):  # uninitialised memory differs from run to run
        dirt = torch.full((1 << 20,), torch.nan)
        del dirt
        with torch.autocast("cpu", torch.bfloat16):
            made = gradients(layer, clips, weights)
        for found, right in zip(made, expected, strict=True):
            assert (found - right).norm() <= 0.02 * right.norm()


@pytest.mark.parametrize(
    ("bias", "groups", "padding", "mode"), [(True, 1, 1, "zeros"), (False, 5, 1, "zeros"), (False, 1, 1, "circular")]
)
def test_other_layers_stay_plain_convolutions(bias: bool, groups: int, padding: int, mode: str) -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(5, 5, (1, 3, 3), padding=(0, padding, padding), bias=bias, groups=groups, padding_mode=mode)
    fast = CpuConv3d(5, 5, (1, 3, 3), padding=(0, padding, padding), bias=bias, groups=groups, padding_mode=mode)
    fast.load_state_dict(plain.state_dict())
    assert torch.equal(fast(clip(4)), plain(clip(4)))


def test_padding_along_a_side_of_one_is_kept() -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(5, 7, 1, padding=1, bias=False)
    fast = CpuConv3d(5, 7, 1, padding=1, bias=False)
    fast.load_state_dict(plain.state_dict())
    torch.testing.assert_close(fast(clip(4)), plain(clip(4)))


@pytest.mark.parametrize(
    "model",
    [
        lambda: ResNet3DModel(ResNet3DConfig(convolution="3d", hidden_sizes=(8, 16, 16), depths=(1, 1, 1))),
        lambda: ResNet3DModel(ResNet3DConfig(hidden_sizes=(8, 16), depths=(1, 1), stem_size=6)),
        lambda: R2Plus1DNativeModel(R2Plus1DNativeConfig(hidden_sizes=(8, 16), depths=(1, 1))),
        lambda: R2Plus1DNativeModel(R2Plus1DNativeConfig(variant="rspnet", hidden_sizes=(8, 16), depths=(1, 1))),
    ],
)
def test_backbones_use_them_everywhere(model: Callable[[], nn.Module]) -> None:
    layers = [layer for layer in model().modules() if isinstance(layer, nn.Conv3d)]
    assert layers
    assert all(type(layer) is CpuConv3d for layer in layers)


def test_subclasses_are_left_alone() -> None:
    class Own(nn.Conv3d):
        pass

    block = nn.Sequential(Own(3, 4, 1), nn.Conv3d(4, 4, 1))
    use_cpu_convolutions(block)
    assert [type(layer) for layer in block] == [Own, CpuConv3d]
