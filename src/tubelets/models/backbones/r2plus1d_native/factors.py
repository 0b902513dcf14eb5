"""The two factors of a convolution, and batch norm, as both networks use them."""

from torch import nn

from tubelets.models.backbones.r2plus1d_native.configuration_r2plus1d_native import R2Plus1DNativeConfig


def batch_norm(config: R2Plus1DNativeConfig, size: int) -> nn.BatchNorm3d:
    """Batch norm with the configured epsilon and momentum."""
    return nn.BatchNorm3d(size, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)


def spatial_convolution(size_in: int, size_out: int, kernel: int = 3, stride: int = 1) -> nn.Conv3d:
    """A convolution over rows and columns."""
    padding = kernel // 2
    return nn.Conv3d(size_in, size_out, (1, kernel, kernel), (1, stride, stride), (0, padding, padding), bias=False)


def temporal_convolution(size_in: int, size_out: int, kernel: int = 3, stride: int = 1) -> nn.Conv3d:
    """A convolution over time."""
    return nn.Conv3d(size_in, size_out, (kernel, 1, 1), (stride, 1, 1), (kernel // 2, 0, 0), bias=False)
