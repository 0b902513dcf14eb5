"""Draw random motions for a whole batch at once."""

import torch
from torch import Tensor

from tubelets.draws import Generators, categorical, device_of, rand, randint
from tubelets.motion.key_frames import gaps, interpolate, sample_key_frames, sample_modes
from tubelets.motion.paths import (
    box_anchors,
    centred_boxes,
    cumulative,
    grown_sizes,
    jittered_sizes,
    piecewise_paths,
    rounded_boxes,
    smooth_paths,
    with_area,
)
from tubelets.motion.records import Motion
from tubelets.motion.settings import REFERENCE_SIDE, MotionSettings


def sample_motion(
    settings: MotionSettings,
    clips: int,
    num_frames: int,
    frame_size: tuple[int, int],
    generator: Generators,
    aspect_ratios: Tensor | None = None,
) -> Motion:
    """Draw the motions of a batch of clips.

    Args:
        settings: ranges and probabilities of the motions.
        clips: number of clips, at least 1.
        num_frames: frames of each, at least 2.
        frame_size: height and width of the frames in pixels, at least 16.
        generator: one random generator, or one for each clip, whose motion then does not depend on the batch; its
            device is that of the result.
        aspect_ratios: width over height of the objects `(clips, objects)`, for settings that keep them; default 1.

    Returns:
        The motions.

    Raises:
        ValueError: if a size is out of range.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> motion = sample_motion(MotionSettings.tubelet_contrast(), 2, 16, (112, 112), generator)
        >>> motion.boxes.shape, int(motion.boxes.min()) >= 0, int(motion.boxes.max()) <= 112
        (torch.Size([2, 2, 16, 4]), True, True)
    """
    if clips < 1 or num_frames < 2 or min(frame_size) < 16:
        raise ValueError(
            "motion needs at least 1 clip, 2 frames and frames of 16 x 16 pixels, got "
            f"{clips} clips of {num_frames} frames of {frame_size[0]} x {frame_size[1]}"
        )
    draw = _Draw(settings, clips, num_frames, frame_size, generator)
    boxes, keys, modes = draw.boxes(aspect_ratios)
    source_frames = draw.integers(num_frames, clips, settings.num_objects)
    shapes, edges = draw.alpha_masks()
    return Motion(
        frame_size=frame_size,
        boxes=boxes,
        angles=draw.angles(keys, modes),
        shears=draw.shears(),
        opacities=draw.opacities(source_frames),
        source_frames=source_frames,
        alpha_shapes=shapes,
        alpha_edges=edges,
        key_frames=keys,
        modes=modes,
        shift_clipped=settings.shift_clipped,
        settings=settings,
    )


class _Draw:
    """Draws of one batch; tracks over frames have the shape `(clips, objects, frames, ...)`."""

    def __init__(
        self,
        settings: MotionSettings,
        clips: int,
        num_frames: int,
        frame_size: tuple[int, int],
        generator: Generators,
    ) -> None:
        self.settings, self.clips, self.num_frames = settings, clips, num_frames
        self.frame_size, self.generator = frame_size, generator
        self.scale = min(frame_size) / REFERENCE_SIDE
        self.device = device_of(generator)
        self.extent = torch.tensor([frame_size[1], frame_size[0]], dtype=torch.float64, device=self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Float64 in [0, 1)."""
        return rand(*shape, generator=self.generator, device=self.device, dtype=torch.float64)

    def spread(self, *shape: int) -> Tensor:
        """Float64 in [-1, 1)."""
        return 2 * self.uniform(*shape) - 1

    def integers(self, stop: int, *shape: int) -> Tensor:
        """Int64 from 0 to stop - 1."""
        return randint(stop, *shape, generator=self.generator, device=self.device)

    def happens(self, probability: float, *shape: int) -> Tensor:
        return self.uniform(*shape) < probability

    def key_frames(self) -> tuple[Tensor, Tensor]:
        """Key frames and the modes of their intervals."""
        settings = self.settings
        keys = sample_key_frames(self.clips, self.num_frames, self.generator, settings.key_frame_probabilities)
        return keys, sample_modes(keys, self.generator, settings.mode_probabilities)

    def boxes(self, aspect_ratios: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes in whole pixels, and key frames that bound the phases of the motion."""
        settings = self.settings
        sizes = self.first_sizes(aspect_ratios)
        keys, modes = self.key_frames()
        grown = self.sizes_over_time(sizes, keys, modes)
        if settings.path == "smooth":
            centres = self.smooth_centres(sizes)
            # Smooth paths do not have phases, so thirds of the clip serve as phases.
            thirds = torch.linspace(0, self.num_frames - 1, 4, device=keys.device).round().long()
            keys, modes = thirds.expand(self.clips, 4), torch.zeros_like(keys[:, :1]).expand(self.clips, 3)
        else:
            path_keys, path_modes = (keys, modes) if settings.shared_key_frames else self.key_frames()
            largest = grown.amax(dim=2) if settings.shared_key_frames else sizes
            centres = self.piecewise_centres(largest, path_keys, path_modes)
            keys, modes = path_keys, path_modes
        clip_to = self.frame_size if settings.clip_boxes else None
        boxes = rounded_boxes(centred_boxes(centres, grown, clip_to))
        return with_area(boxes, clip_to), keys, modes

    def first_sizes(self, aspect_ratios: Tensor | None) -> Tensor:
        """Float64 `(clips, objects, 2)`."""
        settings = self.settings
        shape = (self.clips, settings.num_objects)
        if settings.long_side is not None:
            low, high = settings.long_side
            side = (low + (high - low) * self.uniform(*shape)) * min(self.frame_size)
            ratio = torch.ones_like(side) if aspect_ratios is None else aspect_ratios.to(side)
            return torch.stack((side * ratio.clamp_max(1), side / ratio.clamp_min(1)), dim=-1).clamp_min(1)
        anchors = box_anchors([scale * self.scale for scale in settings.scales], settings.ratios)
        index = self.integers(len(anchors), *shape)
        jitter = settings.scale_jitter * self.spread(*shape, 2)
        return jittered_sizes(anchors.to(jitter.device), index, jitter, self.frame_size)

    def sizes_over_time(self, sizes: Tensor, keys: Tensor, modes: Tensor) -> Tensor:
        """Float64 `(clips, objects, frames, 2)`."""
        settings = self.settings
        phases = keys.shape[1] - 1
        steps = self.spread(self.clips, phases, settings.num_objects, 2)
        if settings.keep_ratio:
            steps = steps[..., :1].expand_as(steps)
        steps = steps * settings.size_velocity * gaps(keys)[..., None, None]
        grows = self.happens(settings.growth_probability, self.clips, phases, settings.num_objects, 1)
        return grown_sizes(sizes, steps * grows, keys, modes, self.num_frames).transpose(1, 2)

    def smooth_centres(self, sizes: Tensor) -> Tensor:
        """Int64 `(clips, objects, frames, 2)`."""
        settings = self.settings
        shape = (self.clips, settings.num_objects)
        low = 1 + sizes[..., None, :] / 2
        points = low + (self.extent - 2 * low) * self.uniform(*shape, settings.num_points, 2)
        first, last = (round(span * self.scale) for span in settings.path_span)
        # A span as long as the frame would leave no room for the shift.
        last = min(last, min(self.frame_size))
        span = min(first, last - 1) + self.integers(max(1, last - first), *shape)
        shift = (self.uniform(*shape, 2) * (self.extent - span[..., None])).floor()
        return smooth_paths(points, span, shift, self.frame_size, self.num_frames, settings.smoothness)

    def piecewise_centres(self, sizes: Tensor, keys: Tensor, modes: Tensor) -> Tensor:
        """Float64 `(clips, objects, frames, 2)`; boxes of `sizes` start and stay inside the frame."""
        settings = self.settings
        sizes = torch.minimum(sizes, self.extent)
        start = sizes / 2 + (self.extent - sizes) * self.uniform(self.clips, settings.num_objects, 2)
        phases = keys.shape[1] - 1
        velocity = settings.location_velocity * self.scale if settings.path == "piecewise" else 0.0
        shifts = velocity * gaps(keys)[..., None, None] * self.spread(self.clips, phases, settings.num_objects, 2)
        moves = ~self.happens(settings.rest_probability, self.clips, phases, settings.num_objects, 1)
        return piecewise_paths(start, sizes, shifts * moves, keys, modes, self.frame_size, self.num_frames).transpose(
            1, 2
        )

    def angles(self, phase_keys: Tensor, phase_modes: Tensor) -> Tensor:
        """Int64 `(clips, objects, frames)`, truncated degrees."""
        settings = self.settings
        keys, modes = (phase_keys, phase_modes) if settings.shared_key_frames else self.key_frames()
        steps = settings.rotation_velocity * gaps(keys)[..., None]
        steps = steps * self.spread(self.clips, keys.shape[1] - 1, settings.num_objects)
        steps = steps * self.happens(settings.rotation_probability, self.clips, 1, settings.num_objects)
        return cumulative(torch.zeros_like(steps[:, 0]), steps, keys, modes, self.num_frames).transpose(1, 2).long()

    def shears(self) -> Tensor:
        """Float32 `(clips, objects, frames, 2)`; each clip shears along x, along y or along both."""
        settings = self.settings
        tracks = []
        for _ in range(2):  # each factor has its own key frames
            keys, modes = self.key_frames()
            steps = settings.shear_velocity * gaps(keys)[..., None]
            steps = steps * self.spread(self.clips, keys.shape[1] - 1, settings.num_objects)
            tracks.append(cumulative(torch.zeros_like(steps[:, 0]), steps, keys, modes, self.num_frames))
        kind = self.integers(3, self.clips, 1, 1, 1)
        used = torch.cat((kind != 1, kind != 0), dim=-1)
        return (torch.stack(tracks, dim=-1) * used).transpose(1, 2).float()

    def opacities(self, source_frames: Tensor) -> Tensor:
        """Float32 `(clips, objects, frames)`; 0 where an object is not drawn."""
        settings = self.settings
        low, high = settings.opacity
        per_object = self.clips * settings.num_objects
        # Opacities have key frames for each object, so objects are treated as clips.
        keys = sample_key_frames(per_object, self.num_frames, self.generator, settings.key_frame_probabilities)
        values = low + (high - low) * self.uniform(*keys.shape)
        # Repeated key frames are one frame: it must have one value.
        values = values.gather(1, torch.searchsorted(keys, keys))
        opacity = interpolate(values, keys, torch.zeros_like(keys[:, 1:]), self.num_frames)
        drawn = self.happens(settings.draw_probability, per_object, self.num_frames)
        drawn[:, 0] = True
        drawn.scatter_(1, source_frames.view(-1, 1), True)
        return (opacity * drawn).view(self.clips, settings.num_objects, self.num_frames).float()

    def alpha_masks(self) -> tuple[Tensor, Tensor]:
        """Outlines int64 `(clips, objects)` and where their soft edges begin, float32, 0 for hard ones."""
        settings = self.settings
        count = self.clips * settings.num_objects
        shapes = categorical(settings.alpha_shape_probabilities, count, generator=self.generator)
        begin = 0.30 + 0.15 * self.uniform(count)
        edges = torch.where(self.happens(settings.soft_edge_probability, count), begin, 0.0)
        return shapes.view(self.clips, -1), edges.view(self.clips, -1).float()
