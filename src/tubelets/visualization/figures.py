"""Figures written as PNG files; matplotlib is imported when one is drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Names in a training log that are not results of the model.
BOOKKEEPING = ("step", "epoch", "learning_rate", "clips_per_second", "skipped_videos")


def import_pyplot() -> Any:
    """Matplotlib's pyplot, drawing to files only.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'tubelets[visualization]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save_training_curves(lines: Sequence[Mapping[str, float]], path: str | Path, title: str = "") -> Path:
    """Draw every number of a training log over the steps.

    Args:
        lines: lines of the log, from `tubelets.training.run_log.read_log`.
        path: PNG file to write.
        title: heading.

    Returns:
        The path.

    Raises:
        ValueError: if the log is empty.
    """
    if not lines:
        raise ValueError("the training log has no lines; train for at least run.logging_steps steps")
    pyplot = import_pyplot()
    names = [name for name in lines[-1] if name not in BOOKKEEPING] + ["learning_rate", "clips_per_second"]
    columns = 3
    rows = -(-len(names) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4 * columns, 2.4 * rows), squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        # Evaluations happen less often than lines are written.
        points = [(line["step"], line[name]) for line in lines if name in line]
        axis.plot(*zip(*points, strict=True))
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    return finish_figure(figure, path, title)


def save_masks(
    clip: Tensor, masks: Mapping[str, Tensor], grid: tuple[int, int, int], path: str | Path, title: str = ""
) -> Path:
    """Draw the visible part of a clip under several masks, one row per mask.

    Args:
        clip: uint8 `(frames, 3, height, width)`.
        masks: names to bool `(tokens,)`, True = masked.
        grid: token grid `(time, rows, columns)`.
        path: PNG file to write.
        title: heading.

    Returns:
        The path.
    """
    frames = clip[:: clip.shape[0] // grid[0]]
    strips = {"clip": frames}
    for name, mask in masks.items():
        hidden = _upsample(mask.view(grid).float(), frames) > 0.5
        strips[name] = torch.where(hidden[:, None], torch.full_like(frames, 40), frames)
    return save_strips(strips, path, title)


def save_assignments(
    clip: Tensor,
    mask: Tensor,
    labels: Mapping[str, Tensor],
    grid: tuple[int, int, int],
    path: str | Path,
    title: str = "",
) -> Path:
    """Colour the masked tokens of a clip by their prototype, one row per branch; equal colours are equal prototypes.

    Args:
        clip: uint8 `(frames, 3, height, width)`.
        mask: bool `(tokens,)`, True = masked.
        labels: names to int64 `(masked tokens,)`, in token order.
        grid: token grid `(time, rows, columns)`.
        path: PNG file to write.
        title: heading.

    Returns:
        The path.
    """
    frames = clip[:: clip.shape[0] // grid[0]]
    hidden = _upsample(mask.view(grid).float(), frames) > 0.5
    strips = {
        "clip": frames,
        "what the encoder sees": torch.where(hidden[:, None], torch.full_like(frames, 40), frames),
    }
    palette = _palette(1 + max(int(values.max()) for values in labels.values()))
    for name, values in labels.items():
        tokens = torch.full((mask.numel(),), -1)
        tokens[mask] = values.cpu()
        colours = palette[tokens.clamp_min(0)].view(*grid, 3).permute(0, 3, 1, 2)
        colours = F.interpolate(colours.float(), size=frames.shape[-2:], mode="nearest")
        mixed = (0.7 * colours + 0.3 * frames.float()).to(torch.uint8)
        strips[name] = torch.where(hidden[:, None], mixed, frames)
    return save_strips(strips, path, title)


def _palette(size: int) -> Tensor:
    """Distinct colours `(size, 3)`, uint8: hues a golden-ratio step apart."""
    hues = torch.arange(size) * 0.61803398875 % 1.0
    phases = torch.stack([hues, hues + 1 / 3, hues + 2 / 3], dim=1)
    return (127.5 * (1 + torch.cos(2 * torch.pi * phases))).to(torch.uint8)


def _upsample(values: Tensor, frames: Tensor) -> Tensor:
    """A map for each frame, `(time, rows, columns)` to `(time, height, width)`."""
    return F.interpolate(values[:, None], size=frames.shape[-2:], mode="nearest")[:, 0]


def save_strips(strips: Mapping[str, Tensor], path: str | Path, title: str = "") -> Path:
    """Draw rows of frames.

    Args:
        strips: names to uint8 `(frames, 3, height, width)`, all with the same number of frames.
        path: PNG file to write.
        title: heading.

    Returns:
        The path.

    Raises:
        ValueError: if there are no rows, or their numbers of frames differ.
        ImportError: if matplotlib is not installed.
    """
    if len({len(strip) for strip in strips.values()}) != 1:
        lengths = {name: len(strip) for name, strip in strips.items()}
        raise ValueError(f"expected at least one row, all with the same number of frames, got {lengths}")
    pyplot = import_pyplot()
    count = len(next(iter(strips.values())))
    figure, axes = pyplot.subplots(len(strips), count, figsize=(1.6 * count, 1.75 * len(strips)), squeeze=False)
    for row, (name, strip) in zip(axes, strips.items(), strict=True):
        row[0].set_title(name, fontsize=9, loc="left")
        for axis, frame in zip(row, strip, strict=True):
            axis.imshow(frame.permute(1, 2, 0).numpy())
            axis.axis("off")
    return finish_figure(figure, path, title)


def finish_figure(figure: Any, path: str | Path, title: str) -> Path:
    """Set the heading of a figure, write it and free its memory.

    Args:
        figure: a figure of matplotlib.
        path: PNG file to write; its folder is created.
        title: heading.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    import_pyplot().close(figure)
    return path
