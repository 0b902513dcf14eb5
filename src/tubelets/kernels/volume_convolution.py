"""A 3-D convolution whose gradients are right on CPUs in low precision, too."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VolumeConv3d(nn.Conv3d):
    """An `nn.Conv3d` that pads by itself along axes that are shorter than its kernel, on CPUs in low precision.

    oneDNN leaves the gradient of the weights uninitialised there, on processors that multiply in bfloat16 without
    tiles (found with torch 2.14): a kernel of 3 over 2 frames with one frame of padding on both sides is enough, as
    the last stages of every video network have it. Parameters, names and results are those of `nn.Conv3d`.

    Example:
        >>> layer = VolumeConv3d(3, 4, 3, padding=1, bias=False)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     layer(torch.zeros(2, 3, 2, 8, 8)).shape
        torch.Size([2, 4, 2, 8, 8])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(B, C, T, H, W)`."""
        if input.device.type != "cpu" or isinstance(self.padding, str):
            return super().forward(input)
        if input.dtype not in (torch.bfloat16, torch.float16) and not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        axes = zip(input.shape[2:], self.kernel_size, self.dilation, self.padding, strict=True)
        added = [padding if length <= (kernel - 1) * dilation else 0 for length, kernel, dilation, padding in axes]
        if not any(added):
            return super().forward(input)
        padded = F.pad(input, [amount for amount in reversed(added) for _ in range(2)])
        left = [padding - amount for padding, amount in zip(self.padding, added, strict=True)]
        return F.conv3d(padded, self.weight, self.bias, self.stride, left, self.dilation, self.groups)
