"""Patches of spectrograms in a model's token order, and tokens by index."""

from torch import Tensor

from tubelets.models.backbones.audio_vit.sizes import AudioVitSizes
from tubelets.models.common.batch_checks import check_batch


def token_grid(config: AudioVitSizes) -> tuple[int, int]:
    """Rows and columns of a spectrogram's patches in token order: `(time, bands)` or `(bands, time)`."""
    time, bands = config.audio_grid
    return (time, bands) if config.token_order == "time" else (bands, time)


def to_token_order(masks: Tensor, config: AudioVitSizes) -> Tensor:
    """Reorder time-major masks to the order of a model's tokens.

    Args:
        masks: `(B, time * bands)`.
        config: the model's configuration.

    Returns:
        Same shape.

    Example:
        >>> from tubelets import StructuredNoiseAudioConfig
        >>> sizes = {"max_length": 32, "num_mel_bins": 48, "decoder_type": "plain", "token_order": "frequency"}
        >>> to_token_order(torch.arange(6)[None], StructuredNoiseAudioConfig(**sizes))
        tensor([[0, 3, 1, 4, 2, 5]])
    """
    if config.token_order == "time":
        return masks
    return masks.unflatten(1, config.audio_grid).transpose(1, 2).flatten(1)


def check_spectrogram(input_values: Tensor, config: AudioVitSizes) -> None:
    """Reject a batch of another shape than the configured one.

    Args:
        input_values: `(B, frames, bands)`.
        config: the model's configuration.

    Raises:
        ValueError: naming the shape found and the one expected.
    """
    expected = (config.max_length, config.num_mel_bins)
    if input_values.ndim != 3 or tuple(input_values.shape[1:]) != expected:
        raise ValueError(
            f"input_values has shape {tuple(input_values.shape)}, expected (clips, frames, mel bins) = (any, "
            f"{expected[0]}, {expected[1]}); make spectrograms with the model's feature extractor"
        )
    check_batch(input_values=input_values)
    if not input_values.is_floating_point():
        raise ValueError(f"input_values must be float spectrograms, got {input_values.dtype}; extract features first")


def spectrogram_patches(input_values: Tensor, config: AudioVitSizes) -> Tensor:
    """Cut spectrograms into patches.

    Args:
        input_values: `(B, frames, bands)`.
        config: the model's configuration.

    Returns:
        `(B, tokens, patch_size ** 2)` in token order, the values of a patch in the order of the same two axes.

    Example:
        >>> from tubelets import StructuredNoiseAudioConfig
        >>> config = StructuredNoiseAudioConfig(max_length=64, num_mel_bins=32)
        >>> spectrogram_patches(torch.zeros(1, 64, 32), config).shape
        torch.Size([1, 8, 256])
    """
    grid = token_grid(config)
    values = input_values if config.token_order == "time" else input_values.transpose(1, 2)
    blocks = values.unflatten(2, (grid[1], -1)).unflatten(1, (grid[0], -1))
    return blocks.transpose(2, 3).flatten(3).flatten(1, 2)


def take_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Select tokens by index.

    Args:
        tokens: `(B, N, width)`, or `(1, N, width)` for a table shared by all clips.
        ids: int64 `(B, M)`.

    Returns:
        `(B, M, width)`.

    Example:
        >>> take_tokens(torch.arange(3.0).view(1, 3, 1), torch.tensor([[2, 0]]))[0, :, 0]
        tensor([2., 0.])
    """
    return tokens.expand(len(ids), -1, -1).gather(1, ids[:, :, None].expand(-1, -1, tokens.shape[2]))
