"""Pixels: normalisation of the input, and the targets of masked tubes."""

from functools import lru_cache

import torch
from torch import Tensor

from tubelets.data.transforms.constants import device_vector
from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig
from tubelets.models.backbones.video_vit.tubes import gather_tubes
from tubelets.objectives import standardize_tubes_

# Added to the deviation of a tube's pixels on the scale [0, 1] (sigma.md, section 3).
PIXEL_EPS = 1e-6

# Tubes per clip whose targets are computed at a time on CPUs; some hundred kilobytes.
CPU_BLOCK_TOKENS = 128


def _channel_statistics(config: TubeletsVideoMAEConfig, like: Tensor, channel_dim: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the channels, float32, shaped to broadcast against a tensor."""
    values = tuple(config.image_mean), tuple(config.image_std)
    # Do not cache traced tensors; compiled code folds the values into its kernels.
    make = _on_device.__wrapped__ if torch.compiler.is_compiling() else _on_device
    shape = [-1 if dim == channel_dim else 1 for dim in range(like.ndim)]
    mean, std = (make(each, like.device).view(shape) for each in values)
    return mean, std


@lru_cache(maxsize=64)
def _on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A vector on a device, made once."""
    with torch.inference_mode(False):  # or training could not reuse tensors cached during evaluation
        return device_vector(values, device)


def normalize_pixels(pixels: Tensor, config: TubeletsVideoMAEConfig, channel_dim: int) -> Tensor:
    """Normalise raw uint8 pixels with the configured mean and standard deviation; return float pixels unchanged.

    Args:
        pixels: any shape, uint8 in [0, 255] or normalised float.
        config: holds `image_mean` and `image_std`.
        channel_dim: the dimension of the colour channels.

    Returns:
        float, same shape.
    """
    if pixels.dtype != torch.uint8:
        return pixels
    mean, std = _channel_statistics(config, pixels, channel_dim)
    return (pixels - 255 * mean) / (255 * std)


@torch.no_grad()
def pixel_targets(pixel_values: Tensor, masked_ids: Tensor, config: TubeletsVideoMAEConfig) -> Tensor:
    """Pixels of the masked tubes, on the scale [0, 1], standardised per tube and channel if `norm_pix_loss`.

    Args:
        pixel_values: `(B, num_frames, channels, height, width)`, normalised float or raw uint8.
        masked_ids: int64 `(B, M)`.
        config: the model's configuration.

    Returns:
        float32 `(B, M, pixels_per_tube)`, ordered frame, row, column, channel with the channel fastest.
    """
    if pixel_values.device.type == "cpu" and not torch.compiler.is_compiling():
        # A few tubes at a time stay in the processor's cache, which is faster than memory for all of them.
        pixel_values = pixel_values.contiguous()  # once, instead of in every block
        blocks = masked_ids.split(CPU_BLOCK_TOKENS, dim=1)
        targets = torch.empty(*masked_ids.shape, config.pixels_per_tube, dtype=torch.float32)
        for block, ids in zip(targets.split(CPU_BLOCK_TOKENS, dim=1), blocks, strict=True):
            block.copy_(_tube_targets(pixel_values, ids, config))
        return targets
    return _tube_targets(pixel_values, masked_ids, config)


def _tube_targets(pixel_values: Tensor, masked_ids: Tensor, config: TubeletsVideoMAEConfig) -> Tensor:
    """Targets of some tubes; see `pixel_targets`."""
    # Standardised in place and in the video's own layout, frames before pixels.
    tubes = gather_tubes(pixel_values, masked_ids, config).float().flatten(4)  # (B, M, channels, frames, pixels)
    raw = pixel_values.dtype == torch.uint8
    mean, std = _channel_statistics(config, tubes, channel_dim=2)
    if config.norm_pix_loss:
        # Undoing the normalisation would only rescale the deviation: `eps` is rescaled instead of the pixels.
        tubes = standardize_tubes_(tubes, PIXEL_EPS * 255 if raw else PIXEL_EPS / std)
    else:
        tubes = tubes / 255 if raw else tubes * std + mean
    return tubes.permute(0, 1, 3, 4, 2).flatten(2)
