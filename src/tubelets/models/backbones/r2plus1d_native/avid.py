"""AVID-CMA's network (Morgado et al., CVPR 2021): a full stem with max pooling, factors without widening.

The shortcut is added before the last batch norm (severe_benchmark.md, section 4).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tubelets.models.backbones.convolutional.checkpointing import CheckpointedBlock
from tubelets.models.backbones.r2plus1d_native.configuration_r2plus1d_native import R2Plus1DNativeConfig
from tubelets.models.backbones.r2plus1d_native.factors import batch_norm, spatial_convolution, temporal_convolution


class AvidStem(nn.Sequential, CheckpointedBlock):
    """A full convolution and max pooling, each of which halves height and width."""

    def __init__(self, config: R2Plus1DNativeConfig) -> None:
        size = config.hidden_sizes[0]
        convolution = nn.Conv3d(config.num_channels, size, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        super().__init__(
            convolution,
            batch_norm(config, size),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )


class AvidBlock(CheckpointedBlock):
    """Two factorised convolutions of equal width; the shortcut is added before the last batch norm."""

    def __init__(self, config: R2Plus1DNativeConfig, size_in: int, size_out: int, stride: int) -> None:
        super().__init__()
        self.spatial1, self.spatial_norm1 = (
            spatial_convolution(size_in, size_out, stride=stride),
            batch_norm(config, size_out),
        )
        self.temporal1, self.temporal_norm1 = (
            temporal_convolution(size_out, size_out, stride=stride),
            batch_norm(config, size_out),
        )
        self.spatial2 = spatial_convolution(size_out, size_out)
        self.spatial_norm2 = batch_norm(config, size_out)
        self.temporal2 = temporal_convolution(size_out, size_out)
        self.norm = batch_norm(config, size_out)
        same = stride == 1 and size_in == size_out
        self.shortcut = None if same else nn.Conv3d(size_in, size_out, 1, (stride,) * 3, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform a feature map."""
        shortcut = hidden if self.shortcut is None else self.shortcut(hidden)
        hidden = F.relu(self.spatial_norm1(self.spatial1(hidden)), inplace=True)
        hidden = F.relu(self.temporal_norm1(self.temporal1(hidden)), inplace=True)
        hidden = F.relu(self.spatial_norm2(self.spatial2(hidden)), inplace=True)
        return F.relu(self.norm(self.temporal2(hidden) + shortcut), inplace=True)
