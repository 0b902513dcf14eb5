"""The parts of a factorised 3-D convolution, fast on CPUs: 2-D convolutions and matrix products with channels last.

Each class is an `nn.Conv3d` with its parameters, names and results. On other devices, whose libraries have kernels for
these shapes, it is nothing else. On a CPU, 3-D kernels with a side of 1 are slow, and so is the gradient of the weights
of a convolution over time; see `scripts/benchmark_cnn.py`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class SpatialConv3d(nn.Conv3d):
    """A convolution of kernel (1, k, k) without bias: a 2-D convolution of every frame.

    Example:
        >>> layer = SpatialConv3d(3, 4, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        >>> layer(torch.zeros(2, 3, 5, 8, 8)).shape
        torch.Size([2, 4, 5, 4, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(B, C, T, H, W)`; on a CPU the result has its channels last in memory."""
        if input.device.type != "cpu":
            return super().forward(input)
        if self.kernel_size == (1, 1, 1):
            return _pointwise(self, input)
        clips, _, time, _, _ = input.shape
        frames = input.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        result = F.conv2d(frames, self.weight.squeeze(2), None, self.stride[1:], self.padding[1:], self.dilation[1:])
        return result.unflatten(0, (clips, time)).transpose(1, 2)


class TemporalConv3d(nn.Conv3d):
    """A convolution of kernel (k, 1, 1) without bias: a 2-D convolution over (time, places).

    Example:
        >>> layer = TemporalConv3d(3, 4, (3, 1, 1), (2, 1, 1), (1, 0, 0), bias=False)
        >>> layer(torch.zeros(2, 3, 6, 8, 8)).shape
        torch.Size([2, 4, 3, 8, 8])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(B, C, T, H, W)`; on a CPU the result has its channels last in memory."""
        if input.device.type != "cpu":
            return super().forward(input)
        if self.kernel_size == (1, 1, 1):
            return _pointwise(self, input)
        height, width = input.shape[3:]
        places = input.contiguous(memory_format=torch.channels_last_3d).flatten(3)
        kernel = self.weight[..., 0]
        stride, padding = self.stride[0], self.padding[0]
        # Lower precisions have kernels of their own, and a stride leaves no whole blocks of memory to multiply.
        plain = (
            input.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled("cpu") or self.dilation[0] != 1
        )
        if plain or stride != 1 or 2 * padding != kernel.shape[2] - 1:
            result = F.conv2d(places, kernel, None, (stride, 1), (padding, 0), (self.dilation[0], 1))
        else:
            result = _TemporalConvolution.apply(places, kernel)  # type: ignore[no-untyped-call]
        return result.unflatten(3, (height, width))


class PointwiseConv3d(nn.Conv3d):
    """A convolution of kernel 1 without bias or padding, as shortcuts have: a matrix product.

    Example:
        >>> PointwiseConv3d(3, 4, 1, (2, 2, 2), bias=False)(torch.zeros(2, 3, 6, 8, 8)).shape
        torch.Size([2, 4, 3, 4, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(B, C, T, H, W)`; on a CPU the result has its channels last in memory."""
        if input.device.type != "cpu":
            return super().forward(input)
        return _pointwise(self, input)


def _pointwise(layer: nn.Conv3d, input: Tensor) -> Tensor:
    """A convolution of kernel 1 without padding, as a product.

    Kernels of 1 must not become 2-D convolutions: oneDNN writes past the end of its memory in the backward pass of one
    with channels last whose two strides differ (found with torch 2.14).
    """
    time, rows, columns = layer.stride
    kept = input[:, :, ::time, ::rows, ::columns].movedim(1, -1)
    return F.linear(kept, layer.weight.flatten(1)).movedim(-1, 1)


class _TemporalConvolution(torch.autograd.Function):
    """Convolution over the first of two axes, stride 1, same size; its gradients are products of matrices.

    Moving a clip by a number of frames is moving it by whole blocks of memory, so that no frame is copied.
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
            for tap, seen, made in _shifts(len(taps), time, size):
                rows[:, seen].baddbmm_(g[:, made], taps[tap].expand(len(g), -1, -1))
            place_gradient = rows.unflatten(1, (time, size)).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            products = torch.zeros_like(taps, memory_format=torch.contiguous_format)
            products[middle] = g.flatten(0, 1).T @ x.flatten(0, 1)
            for tap, seen, made in _shifts(len(taps), time, size):
                products[tap] = torch.bmm(g[:, made].transpose(1, 2), x[:, seen]).sum(dim=0)
            kernel_gradient = products.permute(1, 2, 0)[..., None]
        return place_gradient, kernel_gradient


def _shifts(taps: int, time: int, size: int) -> list[tuple[int, slice, slice]]:
    """For each tap beside the middle one, the rows it sees and the rows it makes, if it sees any."""
    found = []
    for tap in range(taps):
        shift = (tap - taps // 2) * size
        if shift and abs(shift) < time * size:
            total = time * size
            seen = slice(shift, total) if shift > 0 else slice(0, total + shift)
            made = slice(0, total - shift) if shift > 0 else slice(-shift, total)
            found.append((tap, seen, made))
    return found
