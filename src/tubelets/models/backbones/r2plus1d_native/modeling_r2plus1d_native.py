"""AVID-CMA's and RSPNet's own factorised video ResNets (severe_benchmark.md, section 4).

Both papers call theirs R(2+1)D; neither is torchvision's network of that name (`resnet3d`). Stages have its names
here: `stem`, `layer1` to `layer4`.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tubelets.kernels.factorized_convolutions import PointwiseConv3d, SpatialConv3d, TemporalConv3d
from tubelets.kernels.volume_convolution import VolumeConv3d
from tubelets.models.backbones.convolutional.modeling_convolutional import (
    ConvolutionalForVideoClassification,
    ConvolutionalModel,
)
from tubelets.models.backbones.r2plus1d_native.configuration_r2plus1d_native import R2Plus1DNativeConfig


def middle_size(size_in: int, size_out: int, kernel: tuple[int, int, int]) -> int:
    """Channels between the factors of a convolution of kernel (time, height, width), so that no weights are gained.

    Example:
        >>> middle_size(3, 64, (3, 7, 7)), middle_size(128, 128, (3, 3, 3)), middle_size(64, 128, (1, 1, 1))
        (83, 288, 42)
    """
    time, height, width = kernel
    return (time * height * width * size_in * size_out) // (height * width * size_in + time * size_out)


def _norm(config: R2Plus1DNativeConfig, size: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(size, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)


def _spatial(size_in: int, size_out: int, kernel: int = 3, stride: int = 1) -> SpatialConv3d:
    return SpatialConv3d(
        size_in, size_out, (1, kernel, kernel), (1, stride, stride), (0, kernel // 2, kernel // 2), bias=False
    )


def _temporal(size_in: int, size_out: int, kernel: int = 3, stride: int = 1) -> TemporalConv3d:
    return TemporalConv3d(size_in, size_out, (kernel, 1, 1), (stride, 1, 1), (kernel // 2, 0, 0), bias=False)


class AvidStem(nn.Sequential):
    """A full convolution and max pooling, each of which halves height and width."""

    def __init__(self, config: R2Plus1DNativeConfig) -> None:
        size = config.hidden_sizes[0]
        convolution = VolumeConv3d(config.num_channels, size, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        super().__init__(
            convolution,
            _norm(config, size),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )


class AvidBlock(nn.Module):
    """Two factorised convolutions of equal width; the shortcut is added before the last batch norm."""

    def __init__(self, config: R2Plus1DNativeConfig, size_in: int, size_out: int, stride: int) -> None:
        super().__init__()
        self.spatial1, self.spatial_norm1 = _spatial(size_in, size_out, stride=stride), _norm(config, size_out)
        self.temporal1, self.temporal_norm1 = _temporal(size_out, size_out, stride=stride), _norm(config, size_out)
        self.spatial2, self.spatial_norm2 = _spatial(size_out, size_out), _norm(config, size_out)
        self.temporal2 = _temporal(size_out, size_out)
        self.norm = _norm(config, size_out)
        same = stride == 1 and size_in == size_out
        self.shortcut = None if same else PointwiseConv3d(size_in, size_out, 1, (stride,) * 3, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform a feature map."""
        shortcut = hidden if self.shortcut is None else self.shortcut(hidden)
        hidden = F.relu(self.spatial_norm1(self.spatial1(hidden)), inplace=True)
        hidden = F.relu(self.temporal_norm1(self.temporal1(hidden)), inplace=True)
        hidden = F.relu(self.spatial_norm2(self.spatial2(hidden)), inplace=True)
        return F.relu(self.norm(self.temporal2(hidden) + shortcut), inplace=True)


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
        self.spatial = _spatial(size_in, middle, space, space_stride)
        self.norm = _norm(config, middle)
        self.temporal = _temporal(middle, size_out, time, time_stride)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform a feature map."""
        return self.temporal(F.relu(self.norm(self.spatial(hidden)), inplace=True))


class RspnetStem(nn.Sequential):
    """A factorised convolution that halves height and width."""

    def __init__(self, config: R2Plus1DNativeConfig) -> None:
        size = config.hidden_sizes[0]
        convolution = FactorizedConvolution(config, config.num_channels, size, kernel=(3, 7), stride=(1, 2))
        super().__init__(convolution, _norm(config, size), nn.ReLU(inplace=True))


class RspnetBlock(nn.Module):
    """Two factorised convolutions and, where the shape changes, a factorised shortcut."""

    def __init__(self, config: R2Plus1DNativeConfig, size_in: int, size_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = FactorizedConvolution(config, size_in, size_out, (3, 3), (stride, stride))
        self.norm1 = _norm(config, size_out)
        self.conv2 = FactorizedConvolution(config, size_out, size_out, (3, 3), (1, 1))
        self.norm2 = _norm(config, size_out)
        self.shortcut: nn.Module | None = None
        if stride != 1 or size_in != size_out:
            convolution = FactorizedConvolution(config, size_in, size_out, (1, 1), (stride, stride))
            self.shortcut = nn.Sequential(convolution, _norm(config, size_out))

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform a feature map."""
        shortcut = hidden if self.shortcut is None else self.shortcut(hidden)
        hidden = F.relu(self.norm1(self.conv1(hidden)), inplace=True)
        return F.relu(self.norm2(self.conv2(hidden)) + shortcut, inplace=True)


PARTS: dict[str, tuple[Any, Any]] = {"avid_cma": (AvidStem, AvidBlock), "rspnet": (RspnetStem, RspnetBlock)}


class R2Plus1DNativeModel(ConvolutionalModel):
    """The network of AVID-CMA or of RSPNet without its classifier.

    Args:
        config: variant and sizes.

    Example:
        >>> import torch
        >>> model = R2Plus1DNativeModel(R2Plus1DNativeConfig(variant="rspnet", hidden_sizes=(8, 16, 24, 32)))
        >>> model(torch.zeros(1, 8, 3, 32, 32)).last_hidden_state.shape
        torch.Size([1, 32, 1, 2, 2])
    """

    config: R2Plus1DNativeConfig
    config_class = R2Plus1DNativeConfig
    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: R2Plus1DNativeConfig) -> None:
        super().__init__(config)
        stem, block = PARTS[config.variant]
        self.stem = stem(config)
        size_in, depths = config.hidden_sizes[0], config.depths or ()
        for stage, (depth, size) in enumerate(zip(depths, config.hidden_sizes, strict=True), start=1):
            blocks = [block(config, size_in, size, 1 if stage == 1 else 2)]
            blocks += [block(config, size, size, 1) for _ in range(depth - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            size_in = size
        self.stage_names = ("stem", *(f"layer{stage}" for stage in range(1, len(depths) + 1)))
        self.post_init()

    def pool(self, hidden: Tensor) -> Tensor:
        """One vector for each clip: the maximum for AVID-CMA, else the mean over time and place."""
        return hidden.amax(dim=(2, 3, 4)) if self.config.variant == "avid_cma" else super().pool(hidden)


class R2Plus1DNativeForVideoClassification(ConvolutionalForVideoClassification):
    """Video classifier on the network of AVID-CMA or of RSPNet: pooled feature, dropout, linear layer.

    Args:
        config: variant, sizes and labels.

    Example:
        >>> import torch
        >>> config = R2Plus1DNativeConfig(hidden_sizes=(8, 16, 24, 32), num_labels=5)
        >>> R2Plus1DNativeForVideoClassification(config)(torch.zeros(2, 8, 3, 64, 64)).logits.shape
        torch.Size([2, 5])
    """

    config: R2Plus1DNativeConfig
    config_class = R2Plus1DNativeConfig
    backbone_class = R2Plus1DNativeModel
