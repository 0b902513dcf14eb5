"""The three parameterisations of one engine: SMILE, Tubelet-Contrast and LocoMotion."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from tubelets.motion.key_frames import KEY_FRAME_PROBABILITIES, MODE_PROBABILITIES
from tubelets.ranges import Count, Fraction, Natural, NotNegative, Positive, Range, check_ranges

PATHS = ("smooth", "piecewise", "none")
ALPHA_SHAPES = ("rectangle", "ellipse", "rhombus")

REFERENCE_SIDE = 224
"""Lengths in the settings are pixels of a frame whose shorter side is this long; they scale with the frame."""


@dataclass(frozen=True)
class MotionSettings:
    """How motions are drawn. Lengths and speeds are in pixels of a 224-pixel frame and scale with the frame.

    Args:
        num_objects: objects of each clip, at least 1.
        path: "smooth" (Gaussian-filtered random points), "piecewise" (straight between key frames) or "none".
        scales: square roots of the areas that first boxes are drawn from.
        ratios: their ratios of width to height.
        scale_jitter: width and height are multiplied by exp(U(-jitter, jitter)).
        long_side: if given, the longer side is uniform between these shares of the frame's shorter side instead, and
            objects keep their own ratio.
        key_frame_probabilities: of 0, 1, 2 ... inner key frames.
        mode_probabilities: of uniform, accelerated and decelerated intervals.
        shared_key_frames: position, size and angle change at the same key frames, so that phases are visible.
        num_points: random points of a smooth path.
        smoothness: standard deviation of its filter, in points.
        path_span: extent of a smooth path in pixels, at least the first and less than the second.
        location_velocity: largest speed of a piecewise path in pixels per frame along each axis.
        size_velocity: largest change of the logarithm of width and height per frame.
        rotation_velocity: largest change of the angle in degrees per frame; 0 for none.
        shear_velocity: largest change of the shear factors per frame; 0 for none.
        rest_probability: that an object stays where it is in a phase of a piecewise path.
        rotation_probability: that an object rotates at all.
        growth_probability: that a phase changes the size.
        keep_ratio: width and height change by the same factor.
        opacity: lowest and highest opacity at key frames.
        draw_probability: that an object is drawn in a frame; it always is in the first one and in its own.
        soft_edge_probability: that a patch cut from the clip has a soft edge.
        alpha_shape_probabilities: of the outlines in `ALPHA_SHAPES` for patches cut from the clip.
        clip_boxes: clip boxes to the frame, which squeezes patches at the border; otherwise they extend beyond it.
        shift_clipped: see `tubelets.motion.geometry.place`.

    Raises:
        ValueError: if a value is out of its range.

    Example:
        >>> MotionSettings.tubelet_contrast(path="none").rotation_velocity
        6.0
    """

    num_objects: Count = 2
    path: str = "smooth"
    scales: tuple[Positive, ...] = (32.0, 48.0, 56.0, 64.0, 96.0, 128.0)
    ratios: tuple[Positive, ...] = (0.5, 0.67, 0.75, 1.0, 1.33, 1.5, 2.0)
    scale_jitter: NotNegative = 0.18
    long_side: tuple[Fraction, Fraction] | None = None
    key_frame_probabilities: tuple[Fraction, ...] = KEY_FRAME_PROBABILITIES
    mode_probabilities: tuple[Fraction, ...] = MODE_PROBABILITIES
    shared_key_frames: bool = False
    num_points: Count = 48
    smoothness: Annotated[float, Range("(0, 10000]")] = 8.0
    path_span: tuple[Natural, Natural] = (40, 180)
    location_velocity: NotNegative = 12.0
    size_velocity: NotNegative = 0.025
    rotation_velocity: NotNegative = 6.0
    shear_velocity: NotNegative = 0.0
    rest_probability: float = 0.0
    rotation_probability: float = 1.0
    growth_probability: float = 1.0
    keep_ratio: bool = False
    opacity: tuple[Fraction, Fraction] = (1.0, 1.0)
    draw_probability: float = 1.0
    soft_edge_probability: float = 0.5
    alpha_shape_probabilities: tuple[Fraction, ...] = (0.5, 0.35, 0.15)
    clip_boxes: bool = False
    shift_clipped: bool = False

    def __post_init__(self) -> None:
        if self.path not in PATHS:
            raise ValueError(f"path must be one of {PATHS}, got {self.path!r}")
        if self.num_objects < 1 or self.num_points < 2 or not self.smoothness > 0:
            raise ValueError(
                "num_objects must be at least 1, num_points at least 2 and smoothness above 0, got "
                f"{self.num_objects}, {self.num_points} and {self.smoothness}"
            )
        for name in ("scales", "ratios"):
            if not getattr(self, name) or min(getattr(self, name)) <= 0:
                raise ValueError(f"{name} must be positive numbers, at least one, got {getattr(self, name)}")
        for name, count in (
            ("key_frame_probabilities", None),
            ("mode_probabilities", 3),
            ("alpha_shape_probabilities", len(ALPHA_SHAPES)),
        ):
            values = getattr(self, name)
            if not values or min(values) < 0 or abs(sum(values) - 1) > 1e-6 or count not in (None, len(values)):
                raise ValueError(f"{name} must be {count or 'some'} numbers that add up to 1, got {values}")
        for name in ("rest", "rotation", "growth", "draw", "soft_edge"):
            if not 0 <= getattr(self, f"{name}_probability") <= 1:
                raise ValueError(f"{name}_probability must lie in [0, 1], got {getattr(self, f'{name}_probability')}")
        for name in ("path_span", "opacity", "long_side"):
            pair = getattr(self, name)
            if pair is not None and (len(pair) != 2 or not 0 <= pair[0] <= pair[1]):
                raise ValueError(f"{name} must be two ascending numbers from 0 on, got {pair}")
        if self.opacity[1] > 1 or (self.long_side is not None and not 0 < self.long_side[1] < 1):
            raise ValueError(f"opacity and long_side must not pass 1, got {self.opacity} and {self.long_side}")
        check_ranges(self)

    @classmethod
    def smile(cls, **changes: Any) -> "MotionSettings":
        """SMILE: segmented objects that follow smooth paths, rotate and change size (smile.md, section 4)."""
        return dataclasses.replace(cls(), **changes)

    @classmethod
    def tubelet_contrast(cls, **changes: Any) -> "MotionSettings":
        """Tubelet-Contrast: patches of the clip that follow smooth paths and rotate (tubelet_contrast.md, section 5).

        Its linear motion is `path="piecewise", location_velocity=10.0`; its shear `rotation_velocity=0.0,
        shear_velocity=0.066`; its scale transformation `size_velocity=0.025`.
        """
        preset = cls(
            size_velocity=0.0001, location_velocity=10.0, opacity=(0.8, 1.0), clip_boxes=True, shift_clipped=True
        )
        return dataclasses.replace(preset, **changes)

    @classmethod
    def locomotion(cls, **changes: Any) -> "MotionSettings":
        """LocoMotion: one object whose motion has phases that a caption can describe (locomotion.md, section 2.2)."""
        preset = cls(
            num_objects=1,
            path="piecewise",
            long_side=(0.15, 0.45),
            shared_key_frames=True,
            rest_probability=0.15,
            rotation_probability=0.5,
            growth_probability=0.3,
            keep_ratio=True,
        )
        return dataclasses.replace(preset, **changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MotionSettings":
        """Settings from a mapping, for example one that was JSON.

        Args:
            values: fields and their values; lists become tuples.

        Returns:
            The settings.

        Raises:
            ValueError: if a field is unknown or a value out of range.

        Example:
            >>> MotionSettings.from_dict({"num_objects": 3, "path_span": [10, 20]}).path_span
            (10, 20)
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - names):
            raise ValueError(f"motion settings have no field {unknown[0]!r}; they have {', '.join(sorted(names))}")
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**fields)
