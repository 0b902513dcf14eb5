"""Everything random of a pair of clips, drawn as Tubelet-Contrast's code draws it (tubelet_contrast.md, 5.9)."""

import random

import numpy as np
import torch
from torch import Tensor

from tubelets.motion import Motion
from tubelets.motion.key_frames import KEY_FRAME_PROBABILITIES, MODE_PROBABILITIES, interpolate, tick_table
from tubelets.motion.paths import (
    box_anchors,
    centred_boxes,
    cumulative,
    grown_sizes,
    jittered_sizes,
    rounded_boxes,
    smooth_paths,
)

TUBELETS, POINTS = 2, 48
SCALES = {112: (16, 24, 28, 32, 48, 64), 224: (32, 48, 56, 64, 96, 128)}
SPANS = {112: (20, 90), 224: (40, 180)}
RATIOS = (0.5, 0.67, 0.75, 1.0, 1.33, 1.5, 2.0)
SIZE_VELOCITY, ROTATION_VELOCITY = 0.0001, 6.0


class OfficialDraws:
    """The two generators of the official code; draws come in its order."""

    def __init__(self, seed: int, size: int, frames: int) -> None:
        self.numbers, self.others = np.random.RandomState(seed), random.Random(seed)
        self.size, self.frames = size, frames

    def motion(self) -> Motion:
        """Two rotating tubelets on smooth paths."""
        boxes = self.boxes()
        tubelets = [self.tubelet() for _ in range(TUBELETS)]
        angles = cumulative(torch.zeros(1, TUBELETS), *self.steps(ROTATION_VELOCITY, TUBELETS), self.frames)
        return Motion(
            frame_size=(self.size, self.size),
            boxes=boxes,
            angles=angles.transpose(1, 2).long(),
            shears=torch.zeros(1, TUBELETS, self.frames, 2),
            opacities=torch.stack([opacity for _, _, _, opacity in tubelets])[None].float(),
            source_frames=torch.tensor([[source for source, _, _, _ in tubelets]]),
            alpha_shapes=torch.tensor([[shape for _, shape, _, _ in tubelets]]),
            alpha_edges=torch.tensor([[edge for _, _, edge, _ in tubelets]]),
            key_frames=torch.tensor([[0, self.frames - 1]]),
            modes=torch.zeros(1, 1, dtype=torch.long),
            shift_clipped=True,
        )

    def boxes(self) -> Tensor:
        """Int64 `(1, tubelets, frames, 4)`."""
        anchors = box_anchors(SCALES[self.size], RATIOS)
        index = self.numbers.randint(0, len(anchors), TUBELETS)
        jitter = self.numbers.uniform(-0.18, 0.18, (TUBELETS, 2))
        frame = (self.size, self.size)
        sizes = jittered_sizes(anchors, torch.from_numpy(index), torch.from_numpy(jitter), frame)
        paths = [self.path(size.tolist()) for size in sizes]
        points, spans, shifts = (torch.stack(values) for values in zip(*paths, strict=True))
        centres = smooth_paths(points, spans, shifts, frame, self.frames)
        grown = grown_sizes(sizes[None], *self.steps(SIZE_VELOCITY, TUBELETS, 2), self.frames).transpose(1, 2)
        return rounded_boxes(centred_boxes(centres, grown, clip_to=frame))

    def path(self, box: list[float]) -> tuple[Tensor, Tensor, Tensor]:
        """Points, span and shift of a smooth path."""
        points = [self.numbers.uniform(1 + side / 2, self.size - 1 - side / 2, POINTS) for side in box]
        span = self.numbers.randint(*SPANS[self.size])
        shift = [self.numbers.randint(0, self.size - span) for _ in range(2)]
        return torch.from_numpy(np.stack(points, axis=-1)), torch.tensor(span), torch.tensor(shift)

    def key_frames(self) -> Tensor:
        """Int64 `(1, K)`."""
        inner = self.numbers.choice(3, p=KEY_FRAME_PROBABILITIES)
        table, limits = tick_table(self.frames, 2)
        ticks, limit = table[inner, :inner].numpy(), int(limits[inner])
        if limit > 0:
            ticks = ticks + self.numbers.randint(-limit, limit, size=inner)
        return torch.from_numpy(np.unique([0, *ticks, self.frames - 1]))[None]

    def steps(self, velocity: float, *shape: int) -> tuple[Tensor, Tensor, Tensor]:
        """Steps `(1, K - 1, ...)` between key frames, the key frames and the modes of the intervals."""
        keys = self.key_frames()
        gaps = keys[0].diff().tolist()
        steps = np.stack([self.numbers.uniform(-velocity * gap, velocity * gap, shape) for gap in gaps])
        modes = [self.numbers.choice(3, p=MODE_PROBABILITIES) for _ in gaps]
        return torch.from_numpy(steps)[None], keys, torch.tensor(np.array(modes))[None]

    def tubelet(self) -> tuple[int, int, float, Tensor]:
        """Source frame, outline, where its soft edge begins (0 for a hard one) and opacity in each frame."""
        source = self.others.randint(0, self.frames - 1)
        shape = int(self.numbers.choice(3, p=(0.5, 0.35, 0.15)))
        edge = self.others.uniform(0.3, 0.45) if self.others.random() < 0.5 else 0.0
        keys = self.key_frames()
        values = torch.from_numpy(self.numbers.uniform(0.8, 1.0, keys.shape))
        self.numbers.uniform(size=self.frames)  # whether a frame is drawn into; always, with the published settings
        return source, shape, edge, interpolate(values, keys, torch.zeros_like(keys[:, 1:]), self.frames)[0]
