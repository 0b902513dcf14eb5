"""HCN, the image encoder of Skeleton-Contrast, with the parameter names of the official code.

A clip is a picture of frames and joints whose colours are coordinates; in the middle of the network the joints become
its channels (skeleton_contrast.md, section 3.3).
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import can_return_tuple

from tubelets.models.backbones.hcn.configuration_hcn import HcnConfig
from tubelets.models.backbones.skeleton_networks.modeling_skeleton import (
    SkeletonForClassification,
    SkeletonModel,
    SkeletonPreTrainedModel,
    check_clips,
)


class _HcnPreTrainedModel(SkeletonPreTrainedModel):
    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class HcnModel(SkeletonModel, _HcnPreTrainedModel):
    """HCN without its classifier.

    Args:
        config: sizes and layout.

    Example:
        >>> output = HcnModel(HcnConfig(width=4, num_frames=16))(torch.zeros(1, 2, 16, 25, 3))
        >>> output.last_hidden_state.shape, output.pooler_output.shape
        (torch.Size([1, 16, 1, 1]), torch.Size([1, 16]))
    """

    conv1: nn.Sequential
    config: HcnConfig
    config_class = HcnConfig
    _keys_to_ignore_on_load_unexpected = [r"^classifier\."]

    def __init__(self, config: HcnConfig) -> None:
        super().__init__(config)
        width, window = config.width, config.num_frames

        def drop() -> nn.Module:
            return nn.Dropout2d(config.dropout)

        # Positions, and with an "m" motion.
        for branch in ("", "m"):
            first = nn.Sequential(nn.Conv2d(config.num_coordinates, width, 1), nn.ReLU())
            setattr(self, f"conv1{branch}", first)
            setattr(self, f"conv2{branch}", nn.Conv2d(width, window, (3, 1), padding=(1, 0)))
            third = nn.Sequential(nn.Conv2d(config.num_joints, width // 2, 3, padding=1), nn.MaxPool2d(2))
            setattr(self, f"conv3{branch}", third)
            fourth = nn.Sequential(nn.Conv2d(width // 2, width, 3, padding=1), drop(), nn.MaxPool2d(2))
            setattr(self, f"conv4{branch}", fourth)
        for number, (size_in, size_out) in {5: (2 * width, 2 * width), 6: (2 * width, 4 * width)}.items():
            layer = nn.Sequential(nn.Conv2d(size_in, size_out, 3, padding=1), nn.ReLU(), drop(), nn.MaxPool2d(2))
            setattr(self, f"conv{number}", layer)
        self.fc7: nn.Module | None = None
        if config.hidden_size is not None:
            self.fc7 = nn.Sequential(
                nn.Linear(config.map_size, config.hidden_size), nn.ReLU(), nn.Dropout(config.dropout)
            )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The first convolution of the positions."""
        return self.conv1

    @can_return_tuple
    def forward(self, skeletons: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Encode clips.

        Args:
            skeletons: float `(B, bodies, num_frames, joints, coordinates)`.
            **kwargs: `return_dict`.

        Returns:
            `last_hidden_state` `(B, channels, T, width)`, the maximum over the bodies, and `pooler_output`
            `(B, feature_size)`.

        Raises:
            ValueError: if the skeletons do not fit the configuration.
        """
        check_clips(skeletons, self.config, self.config.num_frames)
        batch, bodies = skeletons.shape[:2]
        # Bodies share the weights.
        image = skeletons.flatten(0, 1).permute(0, 3, 1, 2)
        motion = nn.functional.interpolate(
            image[:, :, 1:] - image[:, :, :-1], size=image.shape[2:], mode="bilinear", align_corners=False
        )
        hidden = torch.cat([self.branch(image, ""), self.branch(motion, "m")], dim=1)
        hidden = self.conv6(self.conv5(hidden)).unflatten(0, (batch, bodies)).amax(dim=1)
        features = hidden.flatten(1)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden, pooler_output=features if self.fc7 is None else self.fc7(features)
        )

    def branch(self, image: Tensor, name: str) -> Tensor:
        """The features `(B, width, T / 4, T / 4)` of positions ("") or motion ("m") `(B, coordinates, T, joints)`."""
        first, second, third, fourth = (getattr(self, f"conv{number}{name}") for number in range(1, 5))
        hidden = second(first(image)).permute(0, 3, 2, 1)
        return fourth(third(hidden))


class HcnForSkeletonClassification(SkeletonForClassification, _HcnPreTrainedModel):
    """Skeleton classifier on HCN.

    Args:
        config: sizes, layout and labels.

    Example:
        >>> model = HcnForSkeletonClassification(HcnConfig(width=4, num_frames=16, num_labels=5))
        >>> model(torch.zeros(2, 2, 16, 25, 3)).logits.shape
        torch.Size([2, 5])
    """

    config: HcnConfig
    config_class = HcnConfig
    backbone_class = HcnModel
