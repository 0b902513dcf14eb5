"""Figures of synthetic motion: boxes and paths, masked clips, animations."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

# Of the first, second ... object; they repeat for further ones.
BOX_COLOURS = ((255, 220, 0), (0, 220, 255), (255, 80, 200), (120, 255, 60))
MASK_GREY = 40
_GAP, _HEADING = 4, 14


def draw_boxes(frames: Tensor, boxes: Tensor, line: int = 2) -> Tensor:
    """Draw the box of each object into each frame, and the path of its centre up to there.

    Args:
        frames: uint8 `(T, 3, H, W)`.
        boxes: int64 `(N, T, 4)` as `(x1, y1, x2, y2)` in pixels, the last column and row excluded; they may extend
            beyond the frame.
        line: thickness in pixels.

    Returns:
        Uint8 `(T, 3, H, W)`; the input is not changed.

    Raises:
        ValueError: if the number of boxes differs from that of the frames.

    Example:
        >>> black = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
        >>> drawn = draw_boxes(black, torch.tensor([4, 4, 12, 12]).expand(1, 2, 4), line=1)
        >>> drawn[0, :, 4, 4].tolist(), drawn[0, :, 4, 12].tolist()
        ([255, 220, 0], [0, 0, 0])
    """
    _check(frames)
    if boxes.dim() != 3 or tuple(boxes.shape[1:]) != (len(frames), 4):
        raise ValueError(f"boxes must be (objects, {len(frames)}, 4) for these frames, got {tuple(boxes.shape)}")
    centres = ((boxes[..., :2] + boxes[..., 2:] - 1) / 2).tolist()
    drawn = []
    for number, frame in enumerate(frames):
        image = _image(frame)
        pen = ImageDraw.Draw(image)
        for index, (x1, y1, x2, y2) in enumerate(boxes[:, number].tolist()):
            colour = BOX_COLOURS[index % len(BOX_COLOURS)]
            pen.line([tuple(centre) for centre in centres[index][: number + 1]], colour, line)
            pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=line)
        drawn.append(_tensor(image))
    return torch.stack(drawn)


def hide_tokens(frames: Tensor, mask: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Grey out the masked tokens of a clip.

    Args:
        frames: uint8 `(T, 3, H, W)`.
        mask: bool `(tokens,)`, True = masked; time outermost, then rows, then columns.
        grid: token grid `(time, rows, columns)`; its sides divide T, H and W.

    Returns:
        Uint8 `(T, 3, H, W)`.

    Raises:
        ValueError: if frames, mask and grid disagree.

    Example:
        >>> white = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
        >>> hide_tokens(white, torch.tensor([True, False, False, False]), (1, 2, 2))[1, 0].tolist()
        [[40, 40, 255, 255], [40, 40, 255, 255], [255, 255, 255, 255], [255, 255, 255, 255]]
    """
    _check(frames)
    sides = (len(frames), *frames.shape[2:])
    time, rows, columns = grid
    if any(side % part for side, part in zip(sides, grid, strict=True)) or mask.numel() != time * rows * columns:
        raise ValueError(
            f"a grid of {grid} needs {time * rows * columns} tokens and frames whose number, height and width it "
            f"divides, got {mask.numel()} tokens and {sides}"
        )
    hidden = mask.view(grid)
    for dim, (side, part) in enumerate(zip(sides, grid, strict=True)):
        hidden = hidden.repeat_interleave(side // part, dim=dim)
    return torch.where(hidden[:, None], torch.full_like(frames, MASK_GREY), frames)


def save_gif(panels: Mapping[str, Tensor], path: str | Path, frames_per_second: float = 8.0) -> Path:
    """Write an animation of clips side by side, with their names.

    Args:
        panels: names to uint8 `(T, 3, H, W)`, all of one shape.
        path: GIF file to write; its folder is created.
        frames_per_second: speed, above 0 and up to 50.

    Returns:
        The path.

    Raises:
        ValueError: if `panels` is empty, shapes differ, or the speed is out of range.
    """
    shapes = {tuple(panel.shape) for panel in panels.values()}
    if len(shapes) != 1 or not 0 < frames_per_second <= 50:
        raise ValueError(
            "an animation needs panels of one shape and a speed in (0, 50] frames per second, got "
            f"{sorted(shapes)} at {frames_per_second}"
        )
    count, _, height, width = shapes.pop()
    pictures = []
    for number in range(count):
        sheet = Image.new("RGB", (len(panels) * (width + _GAP) - _GAP, height + _HEADING), "white")
        pen = ImageDraw.Draw(sheet)
        for place, (name, panel) in enumerate(panels.items()):
            left = place * (width + _GAP)
            _check(panel)
            pen.text((left + 2, 1), name, fill="black")
            sheet.paste(_image(panel[number]), (left, _HEADING))
        pictures.append(sheet)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    duration = round(1000 / frames_per_second)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    return path


def _check(frames: Tensor) -> None:
    if frames.dtype != torch.uint8 or frames.dim() != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 (frames, 3, height, width), got {frames.dtype} {tuple(frames.shape)}")


def _image(frame: Tensor) -> Image.Image:
    return Image.fromarray(frame.permute(1, 2, 0).contiguous().cpu().numpy())


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
