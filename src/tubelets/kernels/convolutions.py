"""Faster and more correct 3-D convolutions on CPUs; on other devices they are `nn.Conv3d`.

On a CPU, 3-D kernels with a side of 1 are slow, and so is the gradient of the weights of a convolution over time. They
run here as 2-D convolutions and matrix products with channels last, see `scripts/benchmark_cnn.py`. Full 3-D
kernels are unchanged, except where oneDNN's gradients are wrong in low precision.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LOW_PRECISION = (torch.bfloat16, torch.float16)


class CpuConv3d(nn.Conv3d):
    """An `nn.Conv3d` that chooses its algorithm by the shape of its kernel on CPUs; same parameters, same results.

    Processor time of a training step, one thread of a Zen 4 core, two clips of 16 x 112 x 112, against `nn.Conv3d`: 1.3
    times less for R(2+1)D-18, 1.1 times less for AVID-CMA's network. Clips of 8 x 64 x 64 gain nothing.

    Example:
        >>> layer = CpuConv3d(3, 4, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        >>> layer(torch.zeros(2, 3, 5, 8, 8)).shape
        torch.Size([2, 4, 5, 4, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(B, C, T, H, W)`; where a side of the kernel is 1, the result has its channels last in memory."""
        if input.device.type != "cpu" or not _is_plain(self):
            return super().forward(input)
        sides = tuple(side > 1 for side in self.kernel_size)
        if sides == (False, False, False) and input.is_contiguous(memory_format=torch.channels_last_3d):
            return _pointwise(self, input)
        if sides == (False, True, True) and self.stride[0] == 1:
            return _spatial(self, input)
        if sides == (True, False, False) and self.stride[1:] == (1, 1):
            return _temporal(self, input)
        added = _missing_padding(self, input)
        if not any(added):
            return super().forward(input)
        padded = F.pad(input, [amount for amount in reversed(added) for _ in range(2)])
        left = [padding - amount for padding, amount in zip(self.padding, added, strict=True)]
        return F.conv3d(padded, self.weight, self.bias, self.stride, left, self.dilation, self.groups)


def use_cpu_convolutions(module: nn.Module) -> None:
    """Let every `nn.Conv3d` inside a module choose its algorithm by its kernel on CPUs.

    Args:
        module: changed in place; parameters, their names and subclasses of `nn.Conv3d` are unchanged.

    Example:
        >>> block = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU())
        >>> use_cpu_convolutions(block)
        >>> type(block[0]).__name__
        'CpuConv3d'
    """
    for layer in module.modules():
        if type(layer) is nn.Conv3d:
            layer.__class__ = CpuConv3d


def _is_plain(layer: nn.Conv3d) -> bool:
    """Whether a layer has no bias, groups or circular padding, and pads no axis along which its kernel has size 1."""
    if layer.bias is not None or layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return False
    return not any(padding and side == 1 for padding, side in zip(layer.padding, layer.kernel_size, strict=True))


def _low_precision(input: Tensor) -> bool:
    return input.dtype in LOW_PRECISION or torch.is_autocast_enabled("cpu")


def _missing_padding(layer: nn.Conv3d, input: Tensor) -> list[int]:
    """Zeros to add by hand along each axis.

    oneDNN leaves the gradient of the weights uninitialised in low precision along axes that are shorter than the
    kernel, on processors that multiply in bfloat16 without tiles (torch 2.14): a kernel of 3 over 2 frames with one
    frame of padding on both sides is enough, which the last stages of every video network have.
    """
    if not _low_precision(input):
        return [0, 0, 0]
    axes = zip(input.shape[2:], layer.kernel_size, layer.dilation, layer.padding, strict=True)
    return [padding if length <= (kernel - 1) * dilation else 0 for length, kernel, dilation, padding in axes]


def _spatial(layer: nn.Conv3d, input: Tensor) -> Tensor:
    """A kernel (1, k, k) as a 2-D convolution of every frame."""
    clips, _, time, _, _ = input.shape
    frames = input.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    stride, padding, dilation = layer.stride[1:], layer.padding[1:], layer.dilation[1:]
    result = F.conv2d(frames, layer.weight.squeeze(2), None, stride, padding, dilation)
    return result.unflatten(0, (clips, time)).transpose(1, 2)


def _temporal(layer: nn.Conv3d, input: Tensor) -> Tensor:
    """A kernel (k, 1, 1) as a 2-D convolution over (time, places)."""
    height, width = input.shape[3:]
    places = input.contiguous(memory_format=torch.channels_last_3d).flatten(3)
    kernel = layer.weight[..., 0]
    stride, padding, dilation = layer.stride[0], layer.padding[0], layer.dilation[0]
    # Low precision has kernels of its own, and a stride leaves no contiguous blocks of memory to multiply.
    if _low_precision(input) or dilation != 1 or stride != 1 or 2 * padding != kernel.shape[2] - 1:
        result = F.conv2d(places, kernel, None, (stride, 1), (padding, 0), (dilation, 1))
    else:
        result = _TemporalConvolution.apply(places, kernel)  # type: ignore[no-untyped-call]
    return result.unflatten(3, (height, width))


def _pointwise(layer: nn.Conv3d, input: Tensor) -> Tensor:
    """A kernel of 1 as a matrix product.

    It must not become a 2-D convolution: in the backward pass of one with channels last whose two strides differ,
    oneDNN writes past the end of its memory (torch 2.14).
    """
    time, rows, columns = layer.stride
    kept = input[:, :, ::time, ::rows, ::columns].movedim(1, -1)
    return F.linear(kept, layer.weight.flatten(1)).movedim(-1, 1)


class _TemporalConvolution(torch.autograd.Function):
    """Convolution over the first of two axes, stride 1, same size; its gradients are matrix products.

    Shifting a clip by a number of frames shifts it by contiguous blocks of memory, so that no frame is copied.
    """

    @staticmethod
    def forward(ctx: Any, places: Tensor, kernel: Tensor) -> Tensor:
        """`(B, C, T, P)` with channels last and `(D, C, k, 1)` to `(B, D, T, P)` with channels last."""
        ctx.save_for_backward(places, kernel)
        return F.conv2d(places, kernel, None, 1, (kernel.shape[2] // 2, 0))

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of both arguments that need one."""
        places, kernel = ctx.saved_tensors
        _, _, time, size = places.shape
        x = places.permute(0, 2, 3, 1).flatten(1, 2)  # (B, T * P, C), a view
        g = gradient.permute(0, 2, 3, 1).flatten(1, 2)  # (B, T * P, D)
        taps = kernel[..., 0].permute(2, 0, 1)  # (k, D, C)
        middle = len(taps) // 2
        place_gradient = kernel_gradient = None
        if ctx.needs_input_grad[0]:
            rows = g @ taps[middle]
            for tap, read, written in _shifts(len(taps), time, size):
                rows[:, read].baddbmm_(g[:, written], taps[tap].expand(len(g), -1, -1))
            place_gradient = rows.unflatten(1, (time, size)).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            products = torch.zeros_like(taps, memory_format=torch.contiguous_format)
            products[middle] = g.flatten(0, 1).T @ x.flatten(0, 1)
            for tap, read, written in _shifts(len(taps), time, size):
                products[tap] = torch.bmm(g[:, written].transpose(1, 2), x[:, read]).sum(dim=0)
            kernel_gradient = products.permute(1, 2, 0)[..., None]
        return place_gradient, kernel_gradient


def _shifts(taps: int, time: int, size: int) -> list[tuple[int, slice, slice]]:
    """Rows to read and write for each tap except the middle one, if there are any."""
    found, total = [], time * size
    for tap in range(taps):
        shift = (tap - taps // 2) * size
        if shift and abs(shift) < total:
            read = slice(shift, total) if shift > 0 else slice(0, total + shift)
            written = slice(0, total - shift) if shift > 0 else slice(-shift, total)
            found.append((tap, read, written))
    return found
