"""The two-stream head that judges the lengths of two neighbouring cycles, and the network around it."""

from typing import Any

from torch import Tensor, nn

from tubelets.models.backbones.adapters import as_backbone
from tubelets.objectives.counting import ANCHORS, CyclePrediction


class RepetitionCountingHead(nn.Module):
    """Four linear layers on a pooled feature: classes and boxes of the past and the coming cycle.

    Source: severe_benchmark.md, section 8.1. The names of its weights are those of the reference.

    Args:
        feature_size: width of the feature.

    Example:
        >>> import torch
        >>> past, coming = RepetitionCountingHead(16)(torch.zeros(3, 16))
        >>> past.logits.shape, coming.boxes.shape
        (torch.Size([3, 2, 7]), torch.Size([3, 7]))
    """

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.fc_cls_1 = nn.Linear(feature_size, 2 * len(ANCHORS))
        self.fc_box_1 = nn.Linear(feature_size, len(ANCHORS))
        self.fc_cls_2 = nn.Linear(feature_size, 2 * len(ANCHORS))
        self.fc_box_2 = nn.Linear(feature_size, len(ANCHORS))

    def forward(self, features: Tensor) -> tuple[CyclePrediction, CyclePrediction]:
        """Judge cycles.

        Args:
            features: `(B, feature_size)`.

        Returns:
            The predictions of the past and of the coming cycle.
        """
        logits = (layer(features).unflatten(1, (2, len(ANCHORS))) for layer in (self.fc_cls_1, self.fc_cls_2))
        boxes = (layer(features) for layer in (self.fc_box_1, self.fc_box_2))
        past, coming = (CyclePrediction(*pair) for pair in zip(logits, boxes, strict=True))
        return past, coming


class RepetitionCounter(nn.Module):
    """A counting head on any video backbone.

    Args:
        backbone: anything that `tubelets.models.backbones.adapters.as_backbone` accepts.

    Raises:
        TypeError: if the model is not a backbone.

    Example:
        >>> import torch
        >>> from tubelets import ResNet3DConfig, ResNet3DModel
        >>> backbone = ResNet3DModel(ResNet3DConfig(hidden_sizes=(8, 16), depths=(1, 1), stem_size=6))
        >>> past, coming = RepetitionCounter(backbone)(torch.zeros(2, 8, 3, 32, 32))
        >>> past.boxes.shape
        torch.Size([2, 7])
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = as_backbone(backbone)
        self.head = RepetitionCountingHead(self.backbone.feature_size)

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> tuple[CyclePrediction, CyclePrediction]:
        """Judge the two cycles of clips.

        Args:
            pixel_values: `(B, T, C, H, W)`, the first half from the past cycle, the second from the coming one.
            **kwargs: further arguments of the backbone.

        Returns:
            The predictions of the past and of the coming cycle.
        """
        past, coming = self.head(self.backbone(pixel_values, **kwargs).pooler_output)
        return past, coming
