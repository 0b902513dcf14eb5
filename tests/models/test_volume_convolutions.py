"""3-D convolutions whose gradients are right in bfloat16 on CPUs, too."""

import pytest
import torch
from torch import nn

from tubelets.kernels.volume_convolution import VolumeConv3d
from tubelets.models.backbones.resnet3d.configuration_resnet3d import ResNet3DConfig
from tubelets.models.backbones.resnet3d.modeling_resnet3d import ResNet3DModel

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
def test_equals_a_plain_convolution(frames, side, kernel, stride, padding, dilation):
    torch.manual_seed(0)
    layer = VolumeConv3d(16, 24, kernel, stride, padding, dilation, bias=False)
    plain = nn.Conv3d(16, 24, kernel, stride, padding, dilation, bias=False)
    plain.load_state_dict(layer.state_dict())
    clips = torch.randn(4, 16, frames, side, side, requires_grad=True)
    weights = torch.randn_like(plain(clips))
    expected = gradients(plain, clips, weights)
    for found, right in zip(gradients(layer, clips, weights), expected, strict=True):
        assert torch.equal(found, right)  # nothing changes in full precision
    for _ in range(3):  # what is left uninitialised differs from time to time
        dirt = torch.full((1 << 20,), torch.nan)
        del dirt
        with torch.autocast("cpu", torch.bfloat16):
            made = gradients(layer, clips, weights)
        for found, right in zip(made, expected, strict=True):
            assert (found - right).norm() <= 0.02 * right.norm()


def test_a_backbone_uses_it_wherever_a_kernel_has_three_sides():
    model = ResNet3DModel(ResNet3DConfig(convolution="3d", hidden_sizes=(8, 16, 16), depths=(1, 1, 1)))
    wide = [layer for layer in model.modules() if isinstance(layer, nn.Conv3d) and min(layer.kernel_size) > 1]
    assert wide
    assert all(isinstance(layer, VolumeConv3d) for layer in wide)
