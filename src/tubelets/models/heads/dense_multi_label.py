"""A multi-label head that classifies every position of a feature map."""

import torch.nn.functional as F
from torch import Tensor, nn


class DenseMultiLabelHead(nn.Module):
    """Sliding average pool, dropout, and a linear layer at every position.

    In evaluation the probabilities of the positions are averaged, not their logits. Source: severe_benchmark.md,
    section 6.

    Args:
        feature_size: channels of the map.
        num_labels: labels.
        spatial_pool: height and width of the pool; the pool is as long as the map.
        dropout: before the linear layer, in [0, 1).

    Example:
        >>> import torch
        >>> head = DenseMultiLabelHead(6, 5).eval()
        >>> head(torch.zeros(2, 6, 4, 9, 8)).shape, head.probabilities(torch.zeros(2, 6, 4, 9, 8)).shape
        (torch.Size([2, 1, 3, 2, 5]), torch.Size([2, 5]))
    """

    def __init__(self, feature_size: int, num_labels: int, spatial_pool: int = 7, dropout: float = 0.5) -> None:
        super().__init__()
        self.spatial_pool = spatial_pool
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(feature_size, num_labels)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Logits of every position.

        Args:
            feature_map: `(B, D, T, H, W)`; height and width are at least those of the pool.

        Returns:
            `(B, 1, H', W', num_labels)`; in training, with maps of the pool's size, one position.
        """
        pool = (feature_map.shape[2], self.spatial_pool, self.spatial_pool)
        pooled = F.avg_pool3d(feature_map, pool, stride=1)
        logits: Tensor = self.projection(self.dropout(pooled.movedim(1, -1)))
        return logits

    def probabilities(self, feature_map: Tensor) -> Tensor:
        """Probabilities of the labels of each clip.

        Args:
            feature_map: `(B, D, T, H, W)`.

        Returns:
            `(B, num_labels)`, in [0, 1].
        """
        return self(feature_map).sigmoid().mean(dim=(1, 2, 3))
