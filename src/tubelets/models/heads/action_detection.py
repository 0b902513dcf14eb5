"""A head that scores the actions of the person in each box of a clip."""

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align


class ActionDetectionHead(nn.Module):
    """Mean over time, RoIAlign, maximum over the region, dropout, linear layer.

    Source: severe_benchmark.md, section 7.2.

    Args:
        feature_size: channels of the feature map.
        num_labels: actions; a box can have several.
        resolution: height and width of a region.
        spatial_scale: pixels of the map for each pixel of the input.
        dropout: before the linear layer, in [0, 1).

    Example:
        >>> import torch
        >>> head = ActionDetectionHead(6, num_labels=5).eval()
        >>> head(torch.zeros(2, 6, 4, 7, 7), torch.tensor([[1.0, 8.0, 8.0, 64.0, 96.0]])).shape
        torch.Size([1, 5])
    """

    def __init__(
        self,
        feature_size: int,
        num_labels: int,
        resolution: int = 7,
        spatial_scale: float = 1 / 16,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.resolution, self.spatial_scale = resolution, spatial_scale
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(feature_size, num_labels)

    def regions(self, feature_map: Tensor, boxes: Tensor) -> Tensor:
        """Features of the region of every box.

        Args:
            feature_map: `(B, D, T, H, W)`.
            boxes: `(N, 5)`: place of the clip in the batch, then x1, y1, x2, y2 in pixels of the input.

        Returns:
            `(N, D, resolution, resolution)`.
        """
        size = (self.resolution, self.resolution)
        scale = self.spatial_scale
        return roi_align(feature_map.mean(dim=2), boxes, size, scale, sampling_ratio=0, aligned=True)

    def forward(self, feature_map: Tensor, boxes: Tensor) -> Tensor:
        """Logits of the actions in every box.

        Args:
            feature_map: `(B, D, T, H, W)`.
            boxes: see `regions`.

        Returns:
            `(N, num_labels)`.
        """
        logits: Tensor = self.projection(self.dropout(self.regions(feature_map, boxes).amax(dim=(2, 3))))
        return logits

    def loss(self, feature_map: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Binary cross entropy, the mean over boxes and actions.

        Args:
            feature_map: `(B, D, T, H, W)`.
            boxes: see `regions`.
            labels: float `(N, num_labels)`, 0 or 1.

        Returns:
            A scalar.
        """
        return F.binary_cross_entropy_with_logits(self(feature_map, boxes), labels)
