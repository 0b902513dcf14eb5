"""Motions made by hand and pictures to move, for the tests of motion."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tubelets.motion import ALPHA_SHAPES, MODES, Motion, MotionRecord


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def record_of(
    boxes: Sequence[Sequence[Sequence[int]]],
    frame_size: tuple[int, int] = (64, 64),
    angles: Sequence[Sequence[int]] | None = None,
    opacities: Sequence[Sequence[float]] | None = None,
    objects: tuple[str, ...] = (),
) -> MotionRecord:
    """A clip whose objects have the given boxes, lists over objects and frames; one uniform phase."""
    count, frames = len(boxes), len(boxes[0])
    return MotionRecord(
        frame_size=frame_size,
        boxes=[[list(box) for box in track] for track in boxes],
        angles=[list(track) for track in angles] if angles is not None else [[0] * frames] * count,
        shears=[[[0.0, 0.0]] * frames] * count,
        opacities=[list(track) for track in opacities] if opacities is not None else [[1.0] * frames] * count,
        source_frames=[0] * count,
        alpha_shapes=["rectangle"] * count,
        alpha_edges=[0.0] * count,
        key_frames=[0, frames - 1],
        modes=["uniform"],
        shift_clipped=False,
        objects=objects,
    )


def motion_of(
    boxes: Sequence[Sequence[Sequence[int]]],
    frame_size: tuple[int, int] = (64, 64),
    angles: Sequence[Sequence[int]] | None = None,
    opacities: Sequence[Sequence[float]] | None = None,
) -> Motion:
    """`record_of` as a batch of one clip."""
    return batch_of([record_of(boxes, frame_size, angles, opacities)])


def batch_of(records: Sequence[MotionRecord]) -> Motion:
    """The motions that records of clips of equal sizes, frames and numbers of objects were made from."""
    first, most = records[0], max(len(record.key_frames) for record in records)
    missing = [most - len(record.key_frames) for record in records]
    settings = {record.settings for record in records}
    return Motion(
        frame_size=first.frame_size,
        boxes=torch.tensor([r.boxes for r in records]),
        angles=torch.tensor([r.angles for r in records]),
        shears=torch.tensor([r.shears for r in records], dtype=torch.float32),
        opacities=torch.tensor([r.opacities for r in records], dtype=torch.float32),
        source_frames=torch.tensor([r.source_frames for r in records]),
        alpha_shapes=torch.tensor([[ALPHA_SHAPES.index(shape) for shape in r.alpha_shapes] for r in records]),
        alpha_edges=torch.tensor([r.alpha_edges for r in records], dtype=torch.float32),
        key_frames=torch.tensor([r.key_frames + r.key_frames[-1:] * n for r, n in zip(records, missing, strict=True)]),
        modes=torch.tensor(
            [[MODES.index(mode) for mode in r.modes] + [0] * n for r, n in zip(records, missing, strict=True)]
        ),
        shift_clipped=first.shift_clipped,
        settings=settings.pop() if len(settings) == 1 else None,
    )


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Uint8 noise."""
    return torch.randint(256, shape, generator=seeded(seed), dtype=torch.uint8)


def smooth_picture(channels: int, rows: int, columns: int, seed: int = 0) -> Tensor:
    """Uint8 colours without sharp edges, `(channels, rows, columns)`."""
    coarse = torch.rand(1, channels, 4, 4, generator=seeded(seed))
    fine = torch.nn.functional.interpolate(coarse, (rows, columns), mode="bilinear", align_corners=True)
    return (255 * fine[0]).round().to(torch.uint8)


def disc(size: int = 48, seed: int = 0) -> Tensor:
    """A smoothly coloured disc with a soft edge, uint8 RGBA `(4, size, size)`."""
    unit = (torch.arange(size) + 0.5) * (2 / size) - 1
    radius = (unit[:, None] ** 2 + unit**2).sqrt()
    alpha = (255 * ((1 - radius) * size / 12).clamp(0, 1)).round().to(torch.uint8)
    return torch.cat((smooth_picture(3, size, size, seed), alpha[None]))
