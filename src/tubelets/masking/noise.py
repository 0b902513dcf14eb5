"""Coloured noise: white noise filtered exactly, with periodic borders, in Fourier space."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# Number of standard deviations per colour: one low-pass filter, or the difference of two.
COLORS = {"red": 1, "blue": 1, "green": 2, "purple": 2}


def gaussian_response(shape: Sequence[int], sigma: float | Sequence[float]) -> Tensor:
    """Response of a Gaussian low-pass filter to each frequency of a grid.

    Args:
        shape: sides of the grid.
        sigma: standard deviation in grid cells, for all axes or one for each.

    Returns:
        float32 of that shape, in the order of `torch.fft.fftn`; 1 at frequency 0.

    Raises:
        ValueError: if the number of deviations differs from that of the axes, or one is not positive.

    Example:
        >>> gaussian_response((4,), 0.0001).round(decimals=3)
        tensor([1., 1., 1., 1.])

    Source: structured_noise_masking.md, section 3.2.
    """
    sigmas = [float(sigma)] * len(shape) if isinstance(sigma, (int, float)) else [float(value) for value in sigma]
    if len(sigmas) != len(shape) or not all(0 < value < math.inf for value in sigmas):
        raise ValueError(
            f"sigma must be positive and finite, one number or one for each of {len(shape)} axes, got {sigma!r}"
        )
    response = torch.ones(tuple(shape), dtype=torch.float64)
    for axis, (side, value) in enumerate(zip(shape, sigmas, strict=True)):
        along = torch.exp(-2 * (math.pi * value * torch.fft.fftfreq(side, dtype=torch.float64)) ** 2)
        response = response * along.view(-1, *[1] * (len(shape) - axis - 1))
    return response.float()


def color_noise(
    white: Tensor, color: str, sigma_low: float | Sequence[float], sigma_high: float | Sequence[float] | None = None
) -> Tensor:
    """Filter white noise and standardise it over the grid.

    Red keeps low frequencies (large blobs), blue the high ones (fine, spread out), green a band between (mid-sized
    blobs) and purple the rest.

    Args:
        white: floating point `(*grid)`, or `(B, *grid)` with `sigma_low` for each axis of the grid.
        color: a name in `COLORS`.
        sigma_low: standard deviation of the (first) Gaussian in grid cells, for all axes or one for each.
        sigma_high: of the second, wider Gaussian; green and purple only.

    Returns:
        float32 of the same shape, with mean 0 and standard deviation 1 over the grid.

    Raises:
        ValueError: if the colour is unknown, needs a different number of deviations, or the second is not the wider.

    Example:
        >>> noise = color_noise(torch.randn(8, 14, 14), "green", 0.5, 2.0)
        >>> bool(noise.mean().abs() < 1e-5), round(noise.std(correction=0).item(), 3)
        (True, 1.0)

    Source: structured_noise_masking.md, sections 3.1 and 3.2.
    """
    if color not in COLORS:
        raise ValueError(f"color must be one of {', '.join(COLORS)}, got {color!r}")
    if (sigma_high is not None) != (COLORS[color] == 2):
        needed = "needs a sigma_high" if COLORS[color] == 2 else "has no sigma_high"
        raise ValueError(f"{color} noise {needed}, got {sigma_high!r}")
    if sigma_high is not None:
        _check_band(sigma_low, sigma_high)
    axes = white.ndim if isinstance(sigma_low, (int, float)) else len(sigma_low)
    dims = tuple(range(white.ndim - axes, white.ndim))
    shape = white.shape[-axes:]
    response = gaussian_response(shape, sigma_low)
    if sigma_high is not None:
        response = response - gaussian_response(shape, sigma_high)
    if color in ("blue", "purple"):
        response = 1 - response
    spectrum = torch.fft.fftn(white.float(), dim=dims) * response.to(white.device)
    noise = torch.fft.ifftn(spectrum, dim=dims).real
    noise = noise - noise.mean(dim=dims, keepdim=True)
    return noise / noise.std(dim=dims, correction=0, keepdim=True)


def _check_band(low: float | Sequence[float], high: float | Sequence[float]) -> None:
    """Reject a second Gaussian that is not wider on any axis: the band between them would be empty."""
    firsts, seconds = ([each] if isinstance(each, (int, float)) else list(each) for each in (low, high))
    axes = max(len(firsts), len(seconds))
    firsts, seconds = (each * axes if len(each) == 1 else each for each in (firsts, seconds))
    if len(firsts) == len(seconds) and not any(high > low for low, high in zip(firsts, seconds, strict=True)):
        raise ValueError(f"sigma_high must be larger than sigma_low, got {high!r} and {low!r}; exchange them")


def threshold_noise(noise: Tensor, num_visible: int) -> Tensor:
    """Masks that leave the strongest values visible.

    Args:
        noise: floating point `(..., L)`.
        num_visible: values of each row that stay visible, in [0, L]; among equal values the first.

    Returns:
        bool `(..., L)`, True = masked.

    Raises:
        ValueError: if `num_visible` is out of range.

    Example:
        >>> threshold_noise(torch.tensor([0.5, 2.0, 2.0, -1.0]), 1)
        tensor([ True, False,  True,  True])

    Source: structured_noise_masking.md, sections 4.1 and 4.2.
    """
    length = noise.shape[-1]
    if not 0 <= num_visible <= length:
        raise ValueError(f"num_visible must lie in [0, {length}], got {num_visible}")
    if 0 < num_visible < length and noise.device.type == "cpu" and noise.dtype == torch.float32:
        # Partitioning a row costs a tenth of sorting it.
        values = noise.detach().numpy()
        least = np.partition(values, length - num_visible, axis=-1)[..., length - num_visible, None]
        masked = torch.from_numpy(values < least)
        if bool((masked.sum(dim=-1) == length - num_visible).all()):
            return masked
    # Ties: the order of the positions decides.
    strongest = noise.argsort(dim=-1, descending=True, stable=True)[..., :num_visible]
    return torch.ones_like(noise, dtype=torch.bool).scatter_(-1, strongest, False)
