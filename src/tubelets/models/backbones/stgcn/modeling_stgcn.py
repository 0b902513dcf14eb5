"""ST-GCN with the parameter names of its public code (skeleton_contrast.md, section 3.4)."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple

from tubelets.models.backbones.convolutional.checkpointing import CheckpointedBlock
from tubelets.models.backbones.skeleton_networks.configuration_graph import NUM_SUBSETS, TEMPORAL_KERNEL
from tubelets.models.backbones.skeleton_networks.modeling_skeleton import (
    SkeletonForClassification,
    SkeletonModel,
    SkeletonPreTrainedModel,
    check_clips,
)
from tubelets.models.backbones.stgcn.configuration_stgcn import StgcnConfig
from tubelets.skeletons import distance_adjacency

_STD = 0.02


class GraphConvolution(nn.Module):
    """Pointwise convolution for each subset of neighbours, and their sum.

    Args:
        size_in: channels of the input.
        size_out: channels of the output.

    Example:
        >>> GraphConvolution(3, 8)(torch.zeros(1, 3, 4, 5), torch.zeros(3, 5, 5)).shape
        torch.Size([1, 8, 4, 5])
    """

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(size_in, NUM_SUBSETS * size_out, 1)

    def forward(self, hidden: Tensor, adjacency: Tensor) -> Tensor:
        """Transform joints `(B, channels, frames, joints)` with weights `(3, joints, joints)`."""
        subsets = self.conv(hidden).unflatten(1, (NUM_SUBSETS, -1))
        return torch.einsum("bkctv,kvw->bctw", subsets, adjacency.to(subsets.dtype))


class StgcnBlock(CheckpointedBlock):
    """Graph convolution, temporal convolution, residual.

    Args:
        size_in: channels of the input.
        size_out: channels of the output.
        stride: of the frames.
        dropout: in [0, 1).
        has_residual: add the input, by a convolution if its shape is another.
    """

    residual: nn.Module | None

    def __init__(self, size_in: int, size_out: int, stride: int, dropout: float, has_residual: bool = True) -> None:
        super().__init__()
        self.gcn = GraphConvolution(size_in, size_out)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(size_out),
            nn.ReLU(),
            nn.Conv2d(size_out, size_out, (TEMPORAL_KERNEL, 1), (stride, 1), (TEMPORAL_KERNEL // 2, 0)),
            nn.BatchNorm2d(size_out),
            nn.Dropout(dropout),
        )
        self.residual = None
        if has_residual:
            same = size_in == size_out and stride == 1
            convolution = nn.Conv2d(size_in, size_out, 1, (stride, 1))
            self.residual = nn.Identity() if same else nn.Sequential(convolution, nn.BatchNorm2d(size_out))

    def forward(self, hidden: Tensor, adjacency: Tensor) -> Tensor:
        """Transform joints `(B, channels, frames, joints)` with weights `(3, joints, joints)`."""
        output = self.tcn(self.gcn(hidden, adjacency))
        if self.residual is not None:
            output = output + self.residual(hidden)
        return nn.functional.relu(output)


class _StgcnPreTrainedModel(SkeletonPreTrainedModel):
    supports_gradient_checkpointing = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.normal_(module.weight, std=_STD)
            init.zeros_(module.bias)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            init.normal_(module.weight, mean=1, std=_STD)
        elif isinstance(module, StgcnModel):
            init.copy_(module.A, distance_adjacency(self.config.skeleton_layout))
            for importance in module.edge_importance:
                init.ones_(importance)


class StgcnModel(SkeletonModel, _StgcnPreTrainedModel):
    """ST-GCN without its classifier.

    Args:
        config: sizes and layout.

    Example:
        >>> output = StgcnModel(StgcnConfig(hidden_sizes=[8, 16]))(torch.zeros(1, 2, 16, 25, 3))
        >>> output.last_hidden_state.shape, output.pooler_output.shape
        (torch.Size([1, 16, 8, 25]), torch.Size([1, 16]))
    """

    A: Tensor
    config: StgcnConfig
    config_class = StgcnConfig
    _no_split_modules = ["StgcnBlock"]
    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: StgcnConfig) -> None:
        super().__init__(config)
        adjacency = distance_adjacency(config.skeleton_layout)
        self.register_buffer("A", adjacency)
        self.data_bn = nn.BatchNorm1d(config.num_joints * config.num_coordinates)
        blocks = []
        size = config.num_coordinates
        for number, width in enumerate(config.hidden_sizes):
            stride = 2 if number and width > size else 1
            dropout = config.dropout if number else 0.0
            blocks.append(StgcnBlock(size, width, stride, dropout, has_residual=number > 0))
            size = width
        self.st_gcn_networks = nn.ModuleList(blocks)
        self.edge_importance = nn.ParameterList(torch.ones_like(adjacency) for _ in blocks)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The first block."""
        return self.st_gcn_networks[0]

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
        batch, bodies, frames, joints, channels = skeletons.shape
        hidden = skeletons.permute(0, 1, 3, 4, 2).reshape(batch * bodies, joints * channels, frames)
        hidden = self.data_bn(hidden).unflatten(1, (joints, channels)).permute(0, 2, 3, 1)
        for block, importance in zip(self.st_gcn_networks, self.edge_importance, strict=True):
            hidden = block(hidden, self.A * importance)
        features = hidden.unflatten(0, (batch, bodies)).mean(dim=1)
        return BaseModelOutputWithPooling(last_hidden_state=features, pooler_output=features.mean(dim=(2, 3)))


class StgcnForSkeletonClassification(SkeletonForClassification, _StgcnPreTrainedModel):
    """Skeleton classifier on ST-GCN.

    Args:
        config: sizes, layout and labels.

    Example:
        >>> model = StgcnForSkeletonClassification(StgcnConfig(hidden_sizes=[8, 16], num_labels=5))
        >>> model(torch.zeros(2, 2, 16, 25, 3)).logits.shape
        torch.Size([2, 5])
    """

    config: StgcnConfig
    config_class = StgcnConfig
    backbone_class = StgcnModel
