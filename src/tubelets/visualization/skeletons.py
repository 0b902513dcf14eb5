"""Pictures of skeletons: bones of any layout over time, one body or several, as frames of a clip."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from tubelets.skeletons import SkeletonLayout, ViewSettings, draw_views, normalize_skeletons
from tubelets.skeletons.temporal import crop_resize
from tubelets.visualization.motion import save_gif

# Bones of the left side, the right side and the middle of the first body; further bodies are darker.
LEFT, RIGHT, MIDDLE = (255, 140, 60), (80, 170, 255), (230, 230, 230)
_BACKGROUND = (24, 24, 28)
_MARGIN = 0.08


def draw_skeletons(
    skeletons: Tensor,
    layout: SkeletonLayout,
    *,
    size: int = 224,
    axes: tuple[int, int] = (0, 1),
    upwards: bool = True,
    line: int = 2,
) -> Tensor:
    """Draw the bones of bodies, seen along one axis, with the same scale in all frames.

    Args:
        skeletons: float `(bodies, frames, joints, coordinates)`; joints that are zero in all coordinates are missing,
            and so are their bones.
        layout: of the joints.
        size: side of the frames in pixels.
        axes: coordinates across and along the picture; (0, 2) for skeletons that `normalize_skeletons` turned upright.
        upwards: whether the second coordinate grows upwards; False for pixels of an image.
        line: thickness in pixels.

    Returns:
        Uint8 `(frames, 3, size, size)`.

    Raises:
        ValueError: if the skeletons do not fit the layout, or lack an axis.

    Example:
        >>> from tubelets.skeletons import layout_named
        >>> draw_skeletons(torch.rand(2, 4, 17, 2), layout_named("coco-17"), size=32).shape
        torch.Size([4, 3, 32, 32])
    """
    if skeletons.ndim != 4 or skeletons.shape[2] != layout.num_joints or max(axes) >= skeletons.shape[3]:
        raise ValueError(
            f"skeletons must be (bodies, frames, {layout.num_joints}, coordinates) for layout {layout.name!r} with the "
            f"axes {axes}, got {tuple(skeletons.shape)}"
        )
    there = (skeletons != 0).any(dim=-1)
    places = _places(skeletons[..., list(axes)].double(), there, size, upwards)
    colours = [_colour(layout, child) for child, _ in layout.bones]
    frames = []
    for number in range(skeletons.shape[1]):
        image = Image.new("RGB", (size, size), _BACKGROUND)
        pen = ImageDraw.Draw(image)
        for body, (points, seen) in enumerate(zip(places[:, number].tolist(), there[:, number].tolist(), strict=True)):
            for (child, parent), colour in zip(layout.bones, colours, strict=True):
                if seen[child] and seen[parent]:
                    pen.line([tuple(points[child]), tuple(points[parent])], _shade(colour, body), line)
            for point in (point for point, shown in zip(points, seen, strict=True) if shown):
                pen.ellipse([point[0] - line, point[1] - line, point[0] + line, point[1] + line], _shade(MIDDLE, body))
        frames.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    return torch.stack(frames)


def _places(points: Tensor, there: Tensor, size: int, upwards: bool) -> Tensor:
    """Pixels of joints: the box of all that are there fills the frame."""
    if not bool(there.any()):
        return torch.zeros_like(points)
    shown = points[there]
    low, high = shown.amin(dim=0), shown.amax(dim=0)
    scale = size * (1 - 2 * _MARGIN) / (high - low).max().clamp(min=1e-9)
    moved = (points - (low + high) / 2) * scale
    return moved * torch.tensor([1.0, -1.0 if upwards else 1.0]) + size / 2


def _colour(layout: SkeletonLayout, joint: int) -> tuple[int, int, int]:
    name = layout.joints[joint]
    return LEFT if name.startswith("left_") else RIGHT if name.startswith("right_") else MIDDLE


def _shade(colour: tuple[int, int, int], body: int) -> tuple[int, ...]:
    return tuple(int(value * 0.6 ** min(body, 3)) for value in colour)


def augmentation_panels(
    recording: Tensor, layout: SkeletonLayout, settings: ViewSettings, generator: torch.Generator
) -> dict[str, Tensor]:
    """A recording and a view of it under each augmentation alone, and under all of them.

    Args:
        recording: float `(bodies, frames, joints, coordinates)`.
        layout: of the joints.
        settings: sizes and strengths.
        generator: draws the views.

    Returns:
        Title to skeletons `(bodies, num_frames, joints, coordinates)`.

    Example:
        >>> from tubelets.skeletons import layout_named
        >>> panels = augmentation_panels(
        ...     torch.rand(1, 90, 25, 3), layout_named("kinect-25"), ViewSettings(8), torch.Generator().manual_seed(0)
        ... )
        >>> list(panels), panels["pose"].shape
        (['recording', 'temporal', 'pose', 'jitter', 'all'], torch.Size([1, 8, 25, 3]))
    """
    clip, length = recording[None], torch.tensor([recording.shape[1]])
    panels = {"recording": crop_resize(clip, torch.zeros(1, dtype=torch.long), length, settings.num_frames)[0]}
    for title, names in {**{name: (name,) for name in settings.augmentations}, "all": settings.augmentations}.items():
        chosen = ViewSettings(**{**vars(settings), "augmentations": names})
        plan = draw_views(chosen, length, layout.num_joints, generator)
        panels[title] = plan.apply(clip, settings.num_frames)[0]
    return panels


def save_skeleton_gif(
    panels: Mapping[str, Tensor],
    layout: SkeletonLayout,
    path: str | Path,
    *,
    size: int = 160,
    axes: tuple[int, int] = (0, 1),
    upwards: bool = True,
) -> None:
    """Write an animation of skeletons side by side, such as augmentations of a clip, or a query and its neighbours.

    Args:
        panels: title to skeletons `(bodies, frames, joints, coordinates)`; all with the same number of frames.
        layout: of the joints.
        path: the `.gif` file.
        size: side of a panel in pixels.
        axes: see `draw_skeletons`.
        upwards: see `draw_skeletons`.

    Raises:
        ValueError: if the panels do not fit the layout or have different numbers of frames.
    """
    options = {"size": size, "axes": axes, "upwards": upwards}
    frames = {title: draw_skeletons(values, layout, **options) for title, values in panels.items()}  # type: ignore[arg-type]
    if len({len(each) for each in frames.values()}) != 1:
        raise ValueError(f"panels must have the same number of frames, got {[len(each) for each in frames.values()]}")
    save_gif(frames, Path(path))


def neighbour_panels(
    query: Tensor, neighbours: Sequence[Tensor], titles: Sequence[str], num_frames: int = 64
) -> dict[str, Tensor]:
    """A query and its nearest neighbours, resized to the same number of frames.

    Args:
        query: float `(bodies, frames, joints, coordinates)`.
        neighbours: recordings, the nearest first.
        titles: of the neighbours, such as their classes.
        num_frames: frames of the result.

    Returns:
        Title to skeletons, the query first; a number before the titles keeps equal ones apart.

    Raises:
        ValueError: if there is not one title for each neighbour.

    Example:
        >>> panels = neighbour_panels(torch.rand(1, 9, 25, 3), [torch.rand(1, 30, 25, 3)], ["wave"], num_frames=8)
        >>> {title: panel.shape[1] for title, panel in panels.items()}
        {'query': 8, '1: wave': 8}
    """
    if len(neighbours) != len(titles):
        raise ValueError(f"there are {len(neighbours)} neighbours and {len(titles)} titles; give one for each")
    named = {
        "query": query,
        **{f"{rank}: {t}": n for rank, (t, n) in enumerate(zip(titles, neighbours, strict=True), 1)},
    }
    start = torch.zeros(1, dtype=torch.long)
    return {
        title: crop_resize(values[None], start, torch.tensor([values.shape[1]]), num_frames)[0]
        for title, values in named.items()
    }


def turned_upright(recording: Tensor, layout: SkeletonLayout) -> tuple[Tensor, tuple[int, int]]:
    """A recording as its picture shows it best, and the axes of the picture.

    Args:
        recording: float `(bodies, frames, joints, coordinates)`.
        layout: of the joints.

    Returns:
        Bodies with a spine in three dimensions are turned upright and seen from the front; others stay.

    Example:
        >>> from tubelets.skeletons import layout_named
        >>> turned_upright(torch.rand(1, 9, 25, 3), layout_named("kinect-25"))[1]
        (0, 2)
    """
    spine = ("spine_base", "spine_mid", "left_shoulder", "right_shoulder")
    if recording.shape[-1] != 3 or not layout.has(*spine):
        return recording, (0, 1)
    turned = normalize_skeletons(recording[None], layout)[0]
    # The centre would be zero, and so look missing.
    there = (recording != 0).any(dim=-1, keepdim=True)
    return torch.where((turned == 0) & there, 1e-6, turned), (0, 2)
