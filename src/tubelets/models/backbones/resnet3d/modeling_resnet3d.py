"""R(2+1)D-18 and R3D-18 (Tran et al., CVPR 2018, arXiv 1711.11248), with the parameter names of torchvision.

The epsilon of batch norm and the initial weights are those of the official pretraining code (tubelet_contrast.md,
section 3). The variant of TCLR is not in torchvision (severe_benchmark.md, section 4).
"""

from typing import Any

from torch import Tensor, nn

from tubelets.kernels.convolutions import use_cpu_convolutions
from tubelets.models.backbones.convolutional.checkpointing import CheckpointedBlock
from tubelets.models.backbones.convolutional.modeling_convolutional import (
    ConvolutionalForVideoClassification,
    ConvolutionalModel,
)
from tubelets.models.backbones.resnet3d.configuration_resnet3d import ResNet3DConfig


def middle_size(size_in: int, size_out: int) -> int:
    """Channels between the factors of a 3 x 3 x 3 convolution that keep its number of weights.

    Example:
        >>> [middle_size(*sizes) for sizes in ((64, 64), (64, 128), (128, 128), (256, 512))]
        [144, 230, 288, 921]
    """
    return (size_in * size_out * 27) // (size_in * 9 + 3 * size_out)


def _norm(config: ResNet3DConfig, size: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(size, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)


def _convolution(config: ResNet3DConfig, size_in: int, size_out: int, middle: int, stride: int) -> nn.Module:
    """A 3 x 3 x 3 convolution, or its two factors with batch norm and ReLU between them."""
    if config.convolution == "3d":
        return nn.Conv3d(size_in, size_out, 3, stride, 1, bias=False)
    return nn.Sequential(
        nn.Conv3d(size_in, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        _norm(config, middle),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, size_out, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


class ResNet3DStem(nn.Sequential, CheckpointedBlock):
    """The first convolution, which halves height and width."""

    def __init__(self, config: ResNet3DConfig) -> None:
        channels, width = config.num_channels, config.hidden_sizes[0]
        layers: list[nn.Module]
        if config.convolution == "3d":
            layers = [nn.Conv3d(channels, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)]
        else:
            middle = config.stem_size
            layers = [
                nn.Conv3d(channels, middle, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
                _norm(config, middle),
                nn.ReLU(inplace=True),
                nn.Conv3d(middle, width, (3, 1, 1), (1, 1, 1), (1, 0, 0), bias=False),
            ]
        super().__init__(*layers, _norm(config, width), nn.ReLU(inplace=True))


class ResNet3DBlock(CheckpointedBlock):
    """Two convolutions and a shortcut."""

    def __init__(self, config: ResNet3DConfig, size_in: int, size_out: int, stride: int, dilated: bool = False) -> None:
        super().__init__()
        middle = middle_size(size_in, size_out)
        first, shortcut = _convolution(config, size_in, size_out, middle, stride), (stride, stride, stride)
        if dilated:
            shortcut = (1, stride, stride)
            first = nn.Conv3d(size_in, size_out, 3, shortcut, (2, 1, 1), (2, 1, 1), bias=False)
        self.conv1 = nn.Sequential(first, _norm(config, size_out), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(_convolution(config, size_out, size_out, middle, 1), _norm(config, size_out))
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or size_in != size_out:
            projection = nn.Conv3d(size_in, size_out, 1, shortcut, bias=False)
            self.downsample = nn.Sequential(projection, _norm(config, size_out))

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform a feature map."""
        shortcut = hidden if self.downsample is None else self.downsample(hidden)
        return self.relu(self.conv2(self.conv1(hidden)) + shortcut)


class ResNet3DModel(ConvolutionalModel):
    """A video ResNet without its classifier.

    Args:
        config: sizes and constants.

    Example:
        >>> import torch
        >>> config = ResNet3DConfig(hidden_sizes=(8, 16, 24, 32), stem_size=6)
        >>> output = ResNet3DModel(config)(torch.zeros(1, 8, 3, 32, 32), output_hidden_states=True)
        >>> output.last_hidden_state.shape, output.pooler_output.shape, len(output.hidden_states)
        (torch.Size([1, 32, 1, 2, 2]), torch.Size([1, 32]), 5)
    """

    config: ResNet3DConfig
    config_class = ResNet3DConfig
    _no_split_modules = ["ResNet3DStem", "ResNet3DBlock"]
    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: ResNet3DConfig) -> None:
        super().__init__(config)
        self.stem = ResNet3DStem(config)
        size_in, stages = config.hidden_sizes[0], len(config.depths)
        for stage, (depth, size) in enumerate(zip(config.depths, config.hidden_sizes, strict=True), start=1):
            dilated = config.dilated_last_stage and stage == stages
            blocks: list[Any] = [ResNet3DBlock(config, size_in, size, 1 if stage == 1 else 2, dilated)]
            blocks += [ResNet3DBlock(config, size, size, 1) for _ in range(depth - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            size_in = size
        self.stage_names = ("stem", *(f"layer{stage}" for stage in range(1, stages + 1)))
        use_cpu_convolutions(self)
        self.post_init()


class ResNet3DForVideoClassification(ConvolutionalForVideoClassification):
    """Video classifier on a video ResNet: mean over time and space, dropout, linear layer.

    Args:
        config: sizes, labels and constants.

    Example:
        >>> import torch
        >>> config = ResNet3DConfig(hidden_sizes=(8, 16, 24, 32), stem_size=6, num_labels=5)
        >>> ResNet3DForVideoClassification(config)(torch.zeros(2, 8, 3, 32, 32)).logits.shape
        torch.Size([2, 5])
    """

    config: ResNet3DConfig
    config_class = ResNet3DConfig
    backbone_class = ResNet3DModel
