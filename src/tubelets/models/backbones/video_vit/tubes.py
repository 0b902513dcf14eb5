"""Tensor geometry of tubes: cutting videos into tokens, selecting tokens, position tables."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig, _pair
from tubelets.models.common.batch_checks import check_batch, check_mask


def sinusoid_table(num_positions: int, width: int) -> Tensor:
    """Fixed sine-cosine table over the flat token index (sigma.md, section 2.2).

    Args:
        num_positions: rows.
        width: columns; even columns hold the sine, odd ones the cosine of `n / 10000^(2 * floor(j / 2) / width)`.

    Returns:
        float32 `(1, num_positions, width)`, computed in float64.

    Example:
        >>> sinusoid_table(2, 4)[0, 0]
        tensor([0., 1., 0., 1.])
    """
    position = torch.arange(num_positions, dtype=torch.float64, device="cpu")[:, None]
    column = torch.arange(width, device="cpu")
    angle = position / 10000.0 ** (2 * (column // 2).double() / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()[None]


def position_table(config: TubeletsVideoMAEConfig, width: int) -> Tensor:
    """Fixed positions of a clip's tokens; for frames of another size than in training, those of training interpolated.

    Time is not interpolated: its slots keep their positions in shorter and longer clips.

    Args:
        config: sizes of the frames, and of those that the weights were trained with (`position_grid`).
        width: width of a token.

    Returns:
        float32 `(1, tokens, width)`.

    Example:
        >>> small = TubeletsVideoMAEConfig(image_size=32, num_frames=2, position_grid=(4, 4))
        >>> position_table(small, 8).shape
        torch.Size([1, 4, 8])
    """
    (time, *grid), trained = config.grid, config.position_rows_columns
    table = sinusoid_table(time * trained[0] * trained[1], width)
    if trained == tuple(grid):
        return table
    maps = table.unflatten(1, (time, *trained))[0].permute(0, 3, 1, 2)
    # As `interpolate_pos_encoding` of transformers' models.
    return F.interpolate(maps, size=grid, mode="bicubic", align_corners=False).permute(0, 2, 3, 1).flatten(0, 2)[None]


def check_video(pixel_values: Tensor, config: TubeletsVideoMAEConfig) -> None:
    """Reject a batch whose shape is not the configured one.

    Args:
        pixel_values: `(clips, frames, channels, height, width)`.
        config: the model's configuration.

    Raises:
        ValueError: naming the shape found and the one expected.
    """
    expected = (config.num_frames, config.num_channels, *_pair(config.image_size))
    if pixel_values.ndim != 5 or tuple(pixel_values.shape[1:]) != expected:
        raise ValueError(
            f"pixel_values has shape {tuple(pixel_values.shape)}, expected (clips, frames, channels, height, width) = "
            f"(any, {', '.join(map(str, expected))}); sample and resize the clip, or change the configuration"
        )
    check_batch(pixel_values=pixel_values)


def gather_tubes(pixel_values: Tensor, token_ids: Tensor | None, config: TubeletsVideoMAEConfig) -> Tensor:
    """Cut out the tubes of some tokens, copying only those.

    Args:
        pixel_values: `(clips, frames, channels, height, width)`; copied as a whole first if not contiguous.
        token_ids: int64 `(clips, tokens)`, or None for all tokens in order.
        config: the model's configuration.

    Returns:
        `(clips, tokens, channels, tubelet frames, patch height, patch width)`.

    Example:
        >>> config = TubeletsVideoMAEConfig(image_size=32, num_frames=4)
        >>> gather_tubes(torch.zeros(1, 4, 3, 32, 32), torch.tensor([[0, 5]]), config).shape
        torch.Size([1, 2, 3, 2, 16, 16])
    """
    time, rows, columns = config.grid
    patch_height, patch_width = _pair(config.patch_size)
    if token_ids is None:
        blocks = (
            pixel_values.unflatten(1, (time, -1))
            .unflatten(4, (rows, patch_height))
            .unflatten(6, (columns, patch_width))
        )
        return blocks.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(1, 3)
    # Rows of patches are contiguous; copying whole rows is three times as fast as pixel by pixel on a CPU.
    clips, frames, channels, height, _ = pixel_values.shape
    lines = torch.arange(frames * channels * height * columns, device=token_ids.device)
    lines = lines.view(time, -1, channels, rows, patch_height, columns).permute(0, 3, 5, 2, 1, 4)
    spatial = token_ids % (rows * columns)
    wanted = lines[token_ids // (rows * columns), spatial // columns, spatial % columns]
    wanted = wanted + torch.arange(clips, device=token_ids.device).view(-1, 1, 1, 1, 1) * lines.numel()
    return pixel_values.reshape(-1, patch_width).index_select(0, wanted.flatten()).view(*wanted.shape, patch_width)


def split_tokens(bool_masked_pos: Tensor, num_masked: int) -> tuple[Tensor, Tensor]:
    """Indices of the visible and of the masked tokens, each in token order, from one sort.

    Args:
        bool_masked_pos: bool `(clips, tokens)`, True = masked, `num_masked` True in every row.
        num_masked: masked tokens per clip.

    Returns:
        int64 `(clips, visible)` and int64 `(clips, masked)`.

    Example:
        >>> split_tokens(torch.tensor([[True, False, True]]), 2)
        (tensor([[1]]), tensor([[0, 2]]))
    """
    order = bool_masked_pos.to(torch.uint8).argsort(dim=1, stable=True)
    num_visible = bool_masked_pos.shape[1] - num_masked
    return order[:, :num_visible], order[:, num_visible:]


def count_masked(bool_masked_pos: Tensor, num_masked: int | None, default: int, num_clips: int, num_tokens: int) -> int:
    """The common number of masked tokens, checked without a synchronisation where possible.

    Args:
        bool_masked_pos: bool `(num_clips, num_tokens)`, True = masked.
        num_masked: the count, as the collators of this package pass it, or None to count.
        default: the configured count, used while compiling when `num_masked` is None.
        num_clips: clips of the batch.
        num_tokens: tokens of a clip.

    Returns:
        Masked tokens per clip.

    Raises:
        ValueError: if the mask has the wrong shape, or the clips have different counts. On an accelerator a given count
            is checked asynchronously, and a wrong one raises at the next synchronisation.
    """
    check_mask(bool_masked_pos)
    if tuple(bool_masked_pos.shape) != (num_clips, num_tokens):
        raise ValueError(
            f"bool_masked_pos has shape {tuple(bool_masked_pos.shape)}, expected ({num_clips}, {num_tokens}): one "
            "value per token of each clip, True = masked"
        )
    counts = bool_masked_pos.sum(dim=1)
    if torch.compiler.is_compiling() or (num_masked is not None and bool_masked_pos.device.type != "cpu"):
        expected = default if num_masked is None else num_masked
        torch._assert_async((counts == expected).all(), "a clip of bool_masked_pos does not mask num_masked tokens")
        return expected
    low, high = int(counts.min()), int(counts.max())
    if low != high or (num_masked is not None and low != num_masked):
        raise ValueError(
            f"every clip must mask {'the same number of' if num_masked is None else num_masked} tokens, got "
            f"counts from {low} to {high}; draw masks with tubelets.masking, which fixes the count"
        )
    if not 0 < low < num_tokens:
        raise ValueError(f"a mask must hide some of the {num_tokens} tokens and leave some visible, got {low} masked")
    return low
