"""Figures of masks of video and sound: over a spectrogram, their spectra, their correlation over time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubelets.visualization.figures import finish_figure, import_pyplot

_LONGEST_LAG = 16  # sounds have many time steps; longer lags are not drawn


def spatial_spectrum(masks: Tensor) -> Tensor:
    """Mean power of masks over frequency, without the mean of each time step.

    Args:
        masks: bool `(B, time, rows, columns)`.

    Returns:
        Float32 `(rows, columns)`, zero frequency in the middle; 1 at all other frequencies for white noise.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> spectrum = spatial_spectrum(torch.rand(512, 1, 8, 8, generator=generator) < 0.5)
        >>> bool((spectrum.flatten()[torch.arange(64) != 36] - 1).abs().max() < 0.3)
        True
    """
    values = masks.float().flatten(0, 1)
    values = values - values.mean(dim=(1, 2), keepdim=True)
    power = torch.fft.fft2(values).abs().square().mean(dim=0)
    return torch.fft.fftshift(power / (values.square().sum(dim=(1, 2)).mean()).clamp_min(1e-12))


def temporal_correlation(masks: Tensor) -> Tensor:
    """Autocorrelation of masks over time.

    Args:
        masks: bool `(B, time, rows, columns)`.

    Returns:
        Float32 `(time,)`, entry k for a lag of k steps; 1 everywhere for tubes, 0 on average for random masks.

    Example:
        >>> tubes = (torch.rand(4, 1, 6, 6) < 0.5).expand(-1, 3, -1, -1)
        >>> temporal_correlation(tubes).round(decimals=3).tolist()
        [1.0, 1.0, 1.0]
    """
    values = masks.float()
    values = values - values.mean(dim=(2, 3), keepdim=True)
    steps = values.shape[1]
    own = values.square().mean().clamp_min(1e-12)
    pairs = [(values[:, : steps - lag] * values[:, lag:]).mean() / own for lag in range(steps)]
    return torch.stack(pairs)


def save_mask_statistics(masks: Mapping[str, Tensor], path: str | Path, title: str = "") -> Path:
    """Draw an example, the spectrum and the temporal correlation of several kinds of masks, one column per kind.

    Args:
        masks: names to bool `(B, time, rows, columns)`, True = masked; a few hundred draws give smooth pictures.
        path: PNG file to write.
        title: heading.

    Returns:
        The path.

    Raises:
        ValueError: if `masks` is empty.
    """
    figure, columns = _statistics_figure(masks, 6.0)
    for (example, spectrum, alike), drawn in zip(columns, masks.values(), strict=True):
        example.imshow(drawn[0, 0].float(), cmap="gray_r", vmin=0, vmax=1)
        spectrum.imshow(spatial_spectrum(drawn), cmap="magma", vmin=0)
        _plot_correlation(alike, temporal_correlation(drawn))
    return finish_figure(figure, path, title)


def save_sound_mask_statistics(masks: Mapping[str, Tensor], path: str | Path, title: str = "") -> Path:
    """The figure of `save_mask_statistics` for masks of spectrograms: time to the right, frequency upwards.

    Args:
        masks: names to bool `(B, time, bands)`, True = masked; a few hundred draws give smooth pictures.
        path: PNG file to write.
        title: heading.

    Returns:
        The path.

    Raises:
        ValueError: if `masks` is empty.
    """
    figure, columns = _statistics_figure(masks, 5.0)
    for (example, spectrum, alike), drawn in zip(columns, masks.values(), strict=True):
        example.imshow(drawn[0].T.float(), cmap="gray_r", vmin=0, vmax=1, origin="lower", aspect="auto")
        # Both axes span -1/2 to 1/2 cycles per patch, for any number of patches.
        power = spatial_spectrum(drawn[:, None]).T
        spectrum.imshow(power, cmap="magma", vmin=0, origin="lower", aspect="auto")
        _plot_correlation(alike, temporal_correlation(drawn[..., None])[: _LONGEST_LAG + 1])
    return finish_figure(figure, path, title)


def save_sound_masks(spectrogram: Tensor, masks: Mapping[str, Tensor], path: str | Path, title: str = "") -> Path:
    """Draw a spectrogram and its visible part under several masks, one row per mask.

    Args:
        spectrogram: float `(frames, bands)`; time is drawn to the right, frequency upwards.
        masks: names to bool `(B, time, bands)`, True = masked, in patches; the first of each is drawn.
        path: PNG file to write.
        title: heading.

    Returns:
        The path.

    Raises:
        ValueError: if `masks` is empty, or the patches do not tile the spectrogram.
    """
    _check_kinds(masks)
    pyplot = import_pyplot()
    figure, axes = pyplot.subplots(1 + len(masks), 1, figsize=(9, 1.5 * (1 + len(masks))), squeeze=False)
    colours = pyplot.get_cmap("magma").with_extremes(bad="0.35")
    low, high = spectrogram.min().item(), spectrogram.max().item()
    rows = {"spectrogram": spectrogram} | {name: _hide(spectrogram, drawn[0]) for name, drawn in masks.items()}
    for axis, (name, values) in zip(axes[:, 0], rows.items(), strict=True):
        axis.imshow(values.T, cmap=colours, vmin=low, vmax=high, origin="lower", aspect="auto", interpolation="none")
        axis.set_title(name, fontsize=9, loc="left")
        axis.axis("off")
    return finish_figure(figure, path, title)


def _hide(spectrogram: Tensor, mask: Tensor) -> Tensor:
    """A spectrogram `(frames, bands)` with NaN where the mask `(time, bands)` of its patches is True."""
    (frames, bands), (time, rows) = spectrogram.shape, mask.shape
    if frames % time or bands % rows:
        raise ValueError(
            f"masks of {(time, rows)} patches do not tile a spectrogram of {(frames, bands)} frames and bands"
        )
    hidden = mask.repeat_interleave(frames // time, 0).repeat_interleave(bands // rows, 1)
    return spectrogram.masked_fill(hidden, torch.nan)


def _check_kinds(masks: Mapping[str, Tensor]) -> None:
    if not masks:
        raise ValueError("no masks to draw; give at least one kind")


def _statistics_figure(masks: Mapping[str, Tensor], height: float) -> tuple[Any, list[Any]]:
    """A figure and, for each kind, its three axes: an example, the spectrum, the correlation."""
    _check_kinds(masks)
    figure, axes = import_pyplot().subplots(3, len(masks), figsize=(2.1 * len(masks), height), squeeze=False)
    for axis, name in zip(axes[0], masks, strict=True):
        axis.set_title(name, fontsize=9)
    for axis, label in zip(axes[:, 0], ("a mask", "spectrum", "correlation over time"), strict=True):
        axis.set_ylabel(label, fontsize=8)
    for axis in axes[:2].flat:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure, list(axes.T)


def _plot_correlation(axis: Any, correlation: Tensor) -> None:
    axis.plot(correlation, marker=".")
    axis.set_ylim(-0.5, 1.05)
    axis.grid(alpha=0.3)
    axis.tick_params(labelsize=7)
    axis.set_xlabel("lag in time steps", fontsize=7)
