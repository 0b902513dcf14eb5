"""What masks look like: their spectra, and how alike the time steps of a clip are."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tubelets.visualization.figures import finish_figure, import_pyplot


def spatial_spectrum(masks: Tensor) -> Tensor:
    """Mean power of masks over frequency, the mean of each time step taken away.

    Args:
        masks: bool `(B, time, rows, columns)`.

    Returns:
        Float32 `(rows, columns)`, zero frequency in the middle; white noise of the same count gives 1 everywhere else.

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
    """Correlation of a mask with itself some time steps later, at the same places.

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
    """Draw an example, the spectrum and the temporal correlation of several kinds of masks, one column a kind.

    Args:
        masks: names to bool `(B, time, rows, columns)`, True = masked; a few hundred draws give smooth pictures.
        path: PNG file to write.
        title: heading.

    Returns:
        The path.

    Raises:
        ValueError: if there is no kind.
    """
    if not masks:
        raise ValueError("there are no masks to draw; name at least one kind")
    pyplot = import_pyplot()
    figure, axes = pyplot.subplots(3, len(masks), figsize=(2.1 * len(masks), 6), squeeze=False)
    for column, (name, drawn) in enumerate(masks.items()):
        example, spectrum, alike = axes[:, column]
        example.imshow(drawn[0, 0].float(), cmap="gray_r", vmin=0, vmax=1)
        example.set_title(name, fontsize=9)
        spectrum.imshow(spatial_spectrum(drawn), cmap="magma", vmin=0)
        correlation = temporal_correlation(drawn)
        alike.plot(correlation, marker=".")
        alike.set_ylim(-0.5, 1.05)
        alike.grid(alpha=0.3)
        alike.tick_params(labelsize=7)
        for axis in (example, spectrum):
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, label in zip(axes[:, 0], ("a mask", "spectrum", "correlation over time"), strict=True):
        axis.set_ylabel(label, fontsize=8)
    return finish_figure(figure, path, title)
