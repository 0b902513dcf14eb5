"""I3D: Inception-v1 inflated to video, with the parameter names of the official pretraining code.

Padding follows TensorFlow's "same" rule for one fixed input size: it depends only on kernel and stride
(tubelet_contrast.md, section 3.3).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tubelets.models.backbones.convolutional.checkpointing import CheckpointedBlock
from tubelets.models.backbones.convolutional.modeling_convolutional import (
    ConvolutionalForVideoClassification,
    ConvolutionalModel,
)
from tubelets.models.backbones.i3d.configuration_i3d import I3DConfig

# Channels of the branches of each mixed layer: 1 x 1, 1 x 1 and 3 x 3, 1 x 1 and 3 x 3, 1 x 1 after pooling.
MIXED = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
POOLS = {
    "maxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "maxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "maxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "maxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
STAGES = (
    "conv3d_1a_7x7", "maxPool3d_2a_3x3", "conv3d_2b_1x1", "conv3d_2c_3x3", "maxPool3d_3a_3x3", "mixed_3b", "mixed_3c",
    "maxPool3d_4a_3x3", "mixed_4b", "mixed_4c", "mixed_4d", "mixed_4e", "mixed_4f", "maxPool3d_5a_2x2", "mixed_5b",
    "mixed_5c",
)  # fmt: skip


def same_padding(kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """Zeros before and after each axis, last axis first, in the order of `F.pad`.

    Example:
        >>> same_padding((7, 7, 7), (2, 2, 2)), same_padding((1, 3, 3), (1, 2, 2))
        ((2, 3, 2, 3, 2, 3), (0, 1, 0, 1, 0, 0))
    """
    result: list[int] = []
    for size, step in zip(reversed(kernel), reversed(stride), strict=True):
        total = max(size - step, 0)
        result += [total // 2, total - total // 2]
    return tuple(result)


class I3DUnit(nn.Module):
    """Padding, convolution, batch norm, ReLU."""

    def __init__(self, config: I3DConfig, size_in: int, size_out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.padding = same_padding((kernel,) * 3, (stride,) * 3)
        self.conv3d = nn.Conv3d(size_in, size_out, kernel, stride, bias=False)
        self.batch3d = nn.BatchNorm3d(size_out, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform a feature map."""
        if any(self.padding):
            hidden = F.pad(hidden, self.padding)
        return F.relu(self.batch3d(self.conv3d(hidden)), inplace=True)


class I3DStage(I3DUnit, CheckpointedBlock):
    """A unit that is a stage of its own, and not part of a mixed layer."""


class I3DMaxPool(nn.Module):
    """Max pooling with zero padding; windows that extend beyond the border count."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.padding = same_padding(kernel, stride)
        self.pool = nn.MaxPool3d(kernel, stride, ceil_mode=True)

    def forward(self, hidden: Tensor) -> Tensor:
        """Pool a feature map."""
        return self.pool(F.pad(hidden, self.padding))


class I3DMixed(CheckpointedBlock):
    """Four branches side by side."""

    def __init__(self, config: I3DConfig, size_in: int, sizes: Sequence[int]) -> None:
        super().__init__()
        a, b, c, d, e, f = map(config.width, sizes)
        self.branch_0 = I3DUnit(config, size_in, a)
        self.branch_1 = nn.Sequential(I3DUnit(config, size_in, b), I3DUnit(config, b, c, 3))
        self.branch_2 = nn.Sequential(I3DUnit(config, size_in, d), I3DUnit(config, d, e, 3))
        self.branch_3 = nn.Sequential(I3DMaxPool((3, 3, 3), (1, 1, 1)), I3DUnit(config, size_in, f))
        self.size = a + c + e + f

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform a feature map."""
        branches: list[Any] = [self.branch_0, self.branch_1, self.branch_2, self.branch_3]
        return torch.cat([branch(hidden) for branch in branches], dim=1)


class I3DModel(ConvolutionalModel):
    """I3D without its classifier.

    Args:
        config: sizes and constants.

    Example:
        >>> output = I3DModel(I3DConfig(width_multiplier=0.125)).eval()(torch.zeros(1, 8, 3, 32, 32))
        >>> output.last_hidden_state.shape, output.pooler_output.shape
        (torch.Size([1, 128, 1, 1, 1]), torch.Size([1, 128]))
    """

    config: I3DConfig
    config_class = I3DConfig
    stage_names = STAGES
    _no_split_modules = ["I3DStage", "I3DMixed"]
    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: I3DConfig) -> None:
        super().__init__(config)
        first, second = config.width(64), config.width(192)
        self.conv3d_1a_7x7 = I3DStage(config, config.num_channels, first, 7, 2)
        self.conv3d_2b_1x1 = I3DStage(config, first, first)
        self.conv3d_2c_3x3 = I3DStage(config, first, second, 3)
        for name, (kernel, stride) in POOLS.items():
            setattr(self, name, I3DMaxPool(kernel, stride))
        size = second
        for name, sizes in MIXED.items():
            layer = I3DMixed(config, size, sizes)
            setattr(self, name, layer)
            size = layer.size
        self.post_init()


class I3DForVideoClassification(ConvolutionalForVideoClassification):
    """Video classifier on I3D: mean over time and space, dropout, linear layer.

    Args:
        config: sizes, labels and constants.

    Example:
        >>> config = I3DConfig(width_multiplier=0.125, num_labels=5)
        >>> I3DForVideoClassification(config)(torch.zeros(2, 8, 3, 32, 32)).logits.shape
        torch.Size([2, 5])
    """

    config: I3DConfig
    config_class = I3DConfig
    backbone_class = I3DModel
