"""3D-ResNeXt-101, 3D-ResNet-18 and 50 of the 3D-ResNets family (Hara et al., CVPR 2018, arXiv 1711.09577).

Source: feature_supervised_transfer.md, section 3. Not torchvision's R3D-18: the stem is another one and pools.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

from tubelets.kernels.convolutions import use_cpu_convolutions
from tubelets.models.backbones.convolutional.checkpointing import CheckpointedBlock
from tubelets.models.backbones.convolutional.modeling_convolutional import (
    ConvolutionalForVideoClassification,
    ConvolutionalModel,
    ConvolutionalPreTrainedModel,
)
from tubelets.models.backbones.resnext3d.configuration_resnext3d import EXPANSION, ResNeXt3DConfig


def _norm(config: ResNeXt3DConfig, size: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(size, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)


class ResNeXt3DStem(nn.Sequential, CheckpointedBlock):
    """The first convolution, which halves height and width, and a pool that halves time as well."""

    def __init__(self, config: ResNeXt3DConfig) -> None:
        super().__init__(
            nn.Conv3d(config.num_channels, config.stem_size, 7, (1, 2, 2), 3, bias=False),
            _norm(config, config.stem_size),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(3, 2, 1),
        )


class PaddedShortcut(nn.Module):
    """A strided shortcut without weights: missing channels are zero."""

    def __init__(self, stride: int, size_out: int) -> None:
        super().__init__()
        self.stride, self.size_out = stride, size_out

    def forward(self, hidden: Tensor) -> Tensor:
        """Take every `stride`-th place, and add channels."""
        taken = hidden[:, :, :: self.stride, :: self.stride, :: self.stride]
        return F.pad(taken, (0, 0, 0, 0, 0, 0, 0, self.size_out - taken.shape[1]))


class ResNeXt3DBlock(CheckpointedBlock):
    """Two or three convolutions and a shortcut."""

    def __init__(self, config: ResNeXt3DConfig, size_in: int, size: int, stride: int) -> None:
        super().__init__()
        size_out = EXPANSION[config.block] * size
        if config.block == "basic":
            shapes = [(size_in, size, 3, stride, 1), (size, size_out, 3, 1, 1)]
        else:
            groups = config.cardinality if config.block == "resnext" else 1
            middle = groups * (size // groups)
            shapes = [(size_in, middle, 1, 1, 1), (middle, middle, 3, stride, groups), (middle, size_out, 1, 1, 1)]
        self.num_convolutions = len(shapes)
        for number, (channels, width, kernel, step, groups) in enumerate(shapes, start=1):
            convolution = nn.Conv3d(channels, width, kernel, step, kernel // 2, groups=groups, bias=False)
            self.add_module(f"conv{number}", convolution)
            self.add_module(f"bn{number}", _norm(config, width))
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or size_in != size_out:
            self.downsample = (
                PaddedShortcut(stride, size_out)
                if config.shortcut == "A"
                else nn.Sequential(nn.Conv3d(size_in, size_out, 1, stride, bias=False), _norm(config, size_out))
            )

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform a feature map."""
        shortcut = hidden if self.downsample is None else self.downsample(hidden)
        for number in range(1, self.num_convolutions + 1):
            hidden = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(hidden))
            if number < self.num_convolutions:
                hidden = self.relu(hidden)
        return self.relu(hidden + shortcut)


class ResNeXt3DPreTrainedModel(ConvolutionalPreTrainedModel):
    """Base class of the networks: their initial weights."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv3d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class ResNeXt3DModel(ResNeXt3DPreTrainedModel, ConvolutionalModel):
    """A network of the 3D-ResNets family without its classifier.

    Args:
        config: sizes and constants.

    Example:
        >>> config = ResNeXt3DConfig(hidden_sizes=(8, 16), depths=(1, 1), stem_size=4, cardinality=4)
        >>> output = ResNeXt3DModel(config)(torch.zeros(1, 8, 3, 32, 32), output_hidden_states=True)
        >>> output.last_hidden_state.shape, output.pooler_output.shape, len(output.hidden_states)
        (torch.Size([1, 32, 2, 4, 4]), torch.Size([1, 32]), 3)
    """

    config: ResNeXt3DConfig
    config_class = ResNeXt3DConfig
    _no_split_modules = ["ResNeXt3DStem", "ResNeXt3DBlock"]
    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: ResNeXt3DConfig) -> None:
        super().__init__(config)
        self.stem = ResNeXt3DStem(config)
        size_in = config.stem_size
        for stage, (depth, size) in enumerate(zip(config.depths, config.hidden_sizes, strict=True), start=1):
            size_out = EXPANSION[config.block] * size
            blocks = [ResNeXt3DBlock(config, size_in, size, 1 if stage == 1 else 2)]
            blocks += [ResNeXt3DBlock(config, size_out, size, 1) for _ in range(depth - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            size_in = size_out
        self.stage_names = ("stem", *(f"layer{stage}" for stage in range(1, len(config.depths) + 1)))
        use_cpu_convolutions(self)
        self.post_init()


class ResNeXt3DForVideoClassification(ResNeXt3DPreTrainedModel, ConvolutionalForVideoClassification):
    """Video classifier on a network of the 3D-ResNets family: mean over time and space, dropout, linear layer.

    Args:
        config: sizes, labels and constants.

    Example:
        >>> config = ResNeXt3DConfig(hidden_sizes=(8, 16), depths=(1, 1), stem_size=4, cardinality=4, num_labels=5)
        >>> ResNeXt3DForVideoClassification(config)(torch.zeros(2, 8, 3, 32, 32)).logits.shape
        torch.Size([2, 5])
    """

    config: ResNeXt3DConfig
    config_class = ResNeXt3DConfig
    backbone_class = ResNeXt3DModel
