"""AGCN, the graph encoder of Skeleton-Contrast, with the parameter names of the official code.

The graph of a block is the sum of the skeleton's bones, of a learned matrix, and of similarities of the joints of the
clip (skeleton_contrast.md, section 3.2).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple

from tubelets.models.backbones.agcn.configuration_agcn import AgcnConfig
from tubelets.models.backbones.convolutional.checkpointing import CheckpointedBlock
from tubelets.models.backbones.skeleton_networks.configuration_graph import NUM_SUBSETS, TEMPORAL_KERNEL
from tubelets.models.backbones.skeleton_networks.modeling_skeleton import (
    SkeletonForClassification,
    SkeletonModel,
    SkeletonPreTrainedModel,
    check_clips,
)
from tubelets.skeletons import as_graph, directed_adjacency

# Similarities are computed with this share of the output channels.
_EMBEDDED_SHARE = 4


class AdaptiveGraphConvolution(nn.Module):
    """Graph convolution over three subsets of neighbours, whose weights depend on the clip.

    Args:
        size_in: channels of the input.
        size_out: channels of the output.
        adjacency: `(3, joints, joints)`, constant; not saved with the weights.

    Example:
        >>> layer = AdaptiveGraphConvolution(3, 8, torch.zeros(3, 5, 5))
        >>> layer(torch.zeros(1, 3, 4, 5)).shape
        torch.Size([1, 8, 4, 5])
    """

    A: Tensor

    def __init__(self, size_in: int, size_out: int, adjacency: Tensor) -> None:
        super().__init__()
        embedded = size_out // _EMBEDDED_SHARE
        self.register_buffer("A", adjacency.clone(), persistent=False)
        self.PA = nn.Parameter(torch.empty_like(adjacency))
        for name, size in (("conv_a", embedded), ("conv_b", embedded), ("conv_d", size_out)):
            setattr(self, name, nn.ModuleList(nn.Conv2d(size_in, size, 1) for _ in range(NUM_SUBSETS)))
        self.bn = nn.BatchNorm2d(size_out)
        self.down = nn.Identity() if size_in == size_out else _pointwise(size_in, size_out)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform joints `(B, channels, frames, joints)`."""
        batch, channels, frames, joints = hidden.shape
        mixed = hidden.reshape(batch, 1, channels * frames, joints) @ self.graph(hidden).to(hidden.dtype)
        # The subsets' convolutions are summed, which is one convolution of their inputs side by side.
        weight = torch.cat([conv.weight for conv in self.conv_d], dim=1)
        bias = torch.stack([conv.bias for conv in self.conv_d]).sum(dim=0)
        mixed = mixed.reshape(batch, NUM_SUBSETS * channels, frames, joints)
        output = nn.functional.conv2d(mixed, weight, bias)
        return nn.functional.relu(self.bn(output) + self.down(hidden))

    def graph(self, hidden: Tensor) -> Tensor:
        """The weights between joints of each clip, `(B, 3, joints, joints)`; columns are the joints that receive."""
        convolutions = [*self.conv_a, *self.conv_b]
        weight = torch.cat([conv.weight for conv in convolutions])
        bias = torch.cat([conv.bias for conv in convolutions])
        embedded = nn.functional.conv2d(hidden, weight, bias).unflatten(1, (2, NUM_SUBSETS, -1))
        rows, columns = embedded.unbind(dim=1)
        rows = rows.permute(0, 1, 4, 2, 3).flatten(3)
        columns = columns.flatten(2, 3)
        return (rows @ (columns / rows.shape[-1])).softmax(dim=-2) + (self.A + self.PA)


class TemporalConvolution(nn.Module):
    """Convolution over frames and batch norm.

    Args:
        size_in: channels of the input.
        size_out: channels of the output.
        kernel_size: frames, odd.
        stride: of the frames.
    """

    def __init__(self, size_in: int, size_out: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(size_in, size_out, (kernel_size, 1), (stride, 1), (kernel_size // 2, 0))
        self.bn = nn.BatchNorm2d(size_out)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform joints `(B, channels, frames, joints)`."""
        return self.bn(self.conv(hidden))


class AgcnBlock(CheckpointedBlock):
    """Graph convolution, temporal convolution, residual.

    Args:
        size_in: channels of the input.
        size_out: channels of the output.
        adjacency: `(3, joints, joints)`.
        stride: of the frames.
        has_residual: add the input, by a convolution if its shape is another.
    """

    residual: nn.Module | None

    def __init__(
        self, size_in: int, size_out: int, adjacency: Tensor, stride: int = 1, has_residual: bool = True
    ) -> None:
        super().__init__()
        self.gcn1 = AdaptiveGraphConvolution(size_in, size_out, adjacency)
        self.tcn1 = TemporalConvolution(size_out, size_out, TEMPORAL_KERNEL, stride)
        self.residual = None
        if has_residual:
            same = size_in == size_out and stride == 1
            self.residual = nn.Identity() if same else TemporalConvolution(size_in, size_out, 1, stride)

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform joints `(B, channels, frames, joints)`."""
        output = self.tcn1(self.gcn1(hidden))
        if self.residual is not None:
            output = output + self.residual(hidden)
        return nn.functional.relu(output)


def _pointwise(size_in: int, size_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(size_in, size_out, 1), nn.BatchNorm2d(size_out))


class _AgcnPreTrainedModel(SkeletonPreTrainedModel):
    supports_gradient_checkpointing = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out")
            init.zeros_(module.bias)
        elif isinstance(module, AdaptiveGraphConvolution):
            init.constant_(module.PA, 1e-6)
            init.constant_(module.bn.weight, 1e-6)
            for conv in module.conv_d:
                init.normal_(conv.weight, std=math.sqrt(2 / (conv.out_channels * conv.in_channels * NUM_SUBSETS)))
            # A buffer that is not saved; a model that is loaded starts without values.
            init.copy_(module.A, directed_adjacency(self.config.skeleton_layout))


class AgcnModel(SkeletonModel, _AgcnPreTrainedModel):
    """AGCN without its classifier.

    Args:
        config: sizes and layout.

    Example:
        >>> output = AgcnModel(AgcnConfig(hidden_sizes=[8, 16]))(torch.zeros(1, 2, 16, 25, 3))
        >>> output.last_hidden_state.shape, output.pooler_output.shape
        (torch.Size([1, 16, 8, 25]), torch.Size([1, 16]))
    """

    l1: AgcnBlock
    config: AgcnConfig
    config_class = AgcnConfig
    _no_split_modules = ["AgcnBlock"]
    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: AgcnConfig) -> None:
        super().__init__(config)
        adjacency = directed_adjacency(config.skeleton_layout)
        self.data_bn = nn.BatchNorm1d(config.frame_size)
        size = config.num_coordinates
        for number, width in enumerate(config.hidden_sizes, start=1):
            stride = 2 if number > 1 and width > size else 1
            setattr(self, f"l{number}", AgcnBlock(size, width, adjacency, stride, has_residual=number > 1))
            size = width
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The first block."""
        return self.l1

    @can_return_tuple
    def forward(self, skeletons: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            skeletons: float `(B, bodies, frames, joints, coordinates)`, any number of frames.
            **kwargs: `return_dict`.

        Returns:
            `last_hidden_state` `(B, feature_size, T, joints)`, the mean over the bodies, and `pooler_output`
            `(B, feature_size)`, the mean over time, joints and bodies.

        Raises:
            ValueError: if the skeletons do not fit the configuration.
        """
        check_clips(skeletons, self.config)
        clip = as_graph(skeletons)
        batch, channels, frames, joints, bodies = clip.shape
        hidden = clip.permute(0, 4, 3, 1, 2).reshape(batch, bodies * joints * channels, frames)
        hidden = self.data_bn(hidden).unflatten(1, (bodies, joints, channels))
        hidden = hidden.permute(0, 1, 3, 4, 2).flatten(0, 1)
        for number in range(1, len(self.config.hidden_sizes) + 1):
            hidden = getattr(self, f"l{number}")(hidden)
        features = hidden.unflatten(0, (batch, bodies)).mean(dim=1)
        return BaseModelOutputWithPooling(last_hidden_state=features, pooler_output=features.mean(dim=(2, 3)))


class AgcnForSkeletonClassification(SkeletonForClassification, _AgcnPreTrainedModel):
    """Skeleton classifier on AGCN.

    Args:
        config: sizes, layout and labels.

    Example:
        >>> model = AgcnForSkeletonClassification(AgcnConfig(hidden_sizes=[8, 16], num_labels=5))
        >>> model(torch.zeros(2, 2, 16, 25, 3)).logits.shape
        torch.Size([2, 5])
    """

    config: AgcnConfig
    config_class = AgcnConfig
    backbone_class = AgcnModel
