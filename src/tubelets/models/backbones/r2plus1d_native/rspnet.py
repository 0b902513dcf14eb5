"""RSPNet's network (Chen et al., AAAI 2021): factorised stem and shortcuts, the widening computed per convolution.

See severe_benchmark.md, section 4.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tubelets.models.backbones.convolutional.checkpointing import CheckpointedBlock
from tubelets.models.backbones.r2plus1d_native.configuration_r2plus1d_native import R2Plus1DNativeConfig
from tubelets.models.backbones.r2plus1d_native.factors import batch_norm, spatial_convolution, temporal_convolution


def middle_size(size_in: int, size_out: int, kernel: tuple[int, int, int]) -> int:
    """Channels between the factors of a convolution of kernel (time, height, width) that keep its number of weights.

    Example:
        >>> middle_size(3, 64, (3, 7, 7)), middle_size(128, 128, (3, 3, 3)), middle_size(64, 128, (1, 1, 1))
        (83, 288, 42)
    """
    time, height, width = kernel
    return (time * height * width * size_in * size_out) // (height * width * size_in + time * size_out)


class FactorizedConvolution(nn.Module):
    """A convolution over space, batch norm, ReLU, and one over time."""

    def __init__(
        self,
        config: R2Plus1DNativeConfig,
        size_in: int,
        size_out: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
    ) -> None:
        super().__init__()
        (time, space), (time_stride, space_stride) = kernel, stride
        middle = middle_size(size_in, size_out, (time, space, space))
        self.spatial = spatial_convolution(size_in, middle, space, space_stride)
        self.norm = batch_norm(config, middle)
        self.temporal = temporal_convolution(middle, size_out, time, time_stride)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform a feature map."""
        return self.temporal(F.relu(self.norm(self.spatial(hidden)), inplace=True))


class RspnetStem(nn.Sequential, CheckpointedBlock):
    """A factorised convolution that halves height and width."""

    def __init__(self, config: R2Plus1DNativeConfig) -> None:
        size = config.hidden_sizes[0]
        convolution = FactorizedConvolution(config, config.num_channels, size, kernel=(3, 7), stride=(1, 2))
        super().__init__(convolution, batch_norm(config, size), nn.ReLU(inplace=True))


class RspnetBlock(CheckpointedBlock):
    """Two factorised convolutions and, where the shape changes, a factorised shortcut."""

    def __init__(self, config: R2Plus1DNativeConfig, size_in: int, size_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = FactorizedConvolution(config, size_in, size_out, (3, 3), (stride, stride))
        self.norm1 = batch_norm(config, size_out)
        self.conv2 = FactorizedConvolution(config, size_out, size_out, (3, 3), (1, 1))
        self.norm2 = batch_norm(config, size_out)
        self.shortcut: nn.Module | None = None
        if stride != 1 or size_in != size_out:
            convolution = FactorizedConvolution(config, size_in, size_out, (1, 1), (stride, stride))
            self.shortcut = nn.Sequential(convolution, batch_norm(config, size_out))

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform a feature map."""
        shortcut = hidden if self.shortcut is None else self.shortcut(hidden)
        hidden = F.relu(self.norm1(self.conv1(hidden)), inplace=True)
        return F.relu(self.norm2(self.conv2(hidden)) + shortcut, inplace=True)
