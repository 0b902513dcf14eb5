"""Descriptors of motions: phases of an object's path, and phases with one descriptor changed (locomotion.md, 2.3).

Descriptors come from the realised boxes and angles, not from what was drawn: a path that the frame's border stopped is
described as it appears. Speeds are per step of a timeline of 16, for any number of frames.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch

from tubelets.motion.records import MotionRecord

DIRECTIONS = ("right", "up_right", "up", "up_left", "left", "down_left", "down", "down_right")
DESCRIBED = ("direction", "speed", "rotation", "scale")
"""What captions describe; acceleration belongs to the speed."""
FLIPS = ("direction", "order", "speed", "rotation")
"""Descriptors of which a wrong caption gets one wrong."""

UNTOLD = "untold"
"""Direction of a phase that changes in a way which is not described."""

# Mirrored left and right, or up and down; both for diagonals.
_MIRRORED = {
    "right": ("left",),
    "left": ("right",),
    "up": ("down",),
    "down": ("up",),
    "up_right": ("up_left", "down_right"),
    "up_left": ("up_right", "down_left"),
    "down_right": ("down_left", "up_right"),
    "down_left": ("down_right", "up_left"),
}
_OTHER_SPEEDS = {"slow": ("fast",), "fast": ("slow",), "medium": ("slow", "fast")}
_OTHER_SENSE = {"clockwise": "anticlockwise", "anticlockwise": "clockwise"}

_TIMELINE_STEPS = 15
_STILL = 0.05  # shares of the frame's shorter side
_SLOW, _FAST = 0.012, 0.03  # shares per step
_TURNED, _SPUN = 15.0, 60.0  # degrees
_GROWN, _SHRUNK = 1.15, 0.87


@dataclass(frozen=True)
class Phase:
    """The motion of an object between two key frames.

    Attributes:
        direction: one of `DIRECTIONS`, "none", or `UNTOLD`.
        speed: "slow", "medium" or "fast"; "none" without a direction.
        acceleration: "accelerate", "decelerate" or "none".
        rotation: "clockwise", "anticlockwise" or "none".
        spins: whether it rotates by more than 60 degrees.
        scale: "growing", "shrinking" or "none".

    Example:
        >>> Phase(direction="left", speed="fast").is_still, Phase().is_still
        (False, True)
    """

    direction: str = "none"
    speed: str = "none"
    acceleration: str = "none"
    rotation: str = "none"
    spins: bool = False
    scale: str = "none"

    @property
    def moves(self) -> bool:
        """Whether the object changes its place, or something that is not described."""
        return self.direction != "none"

    @property
    def is_still(self) -> bool:
        """Whether nothing changes."""
        return self.direction == self.rotation == self.scale == "none"


def phases(record: MotionRecord, index: int = 0) -> list[Phase]:
    """Describe the motion of an object by phases, merging equal neighbours.

    Args:
        record: the motion of a clip.
        index: which object.

    Returns:
        The phases, at least one.

    Raises:
        IndexError: if the index is out of range.

    Example:
        >>> from tubelets.motion import MotionSettings, sample_motion
        >>> settings = MotionSettings.locomotion(path="none", rotation_probability=0.0, growth_probability=0.0)
        >>> motion = sample_motion(settings, 1, 16, (64, 64), torch.Generator().manual_seed(0))
        >>> [phase.is_still for phase in phases(motion.records()[0])]
        [True]
    """
    if not 0 <= index < len(record.boxes):
        raise IndexError(f"object {index} does not exist; the motion has {len(record.boxes)} objects")
    bounds = zip(record.key_frames, record.key_frames[1:], record.modes, strict=False)
    return merged([_describe(record, index, first, last, mode) for first, last, mode in bounds])


def merged(found: Sequence[Phase]) -> list[Phase]:
    """Join equal neighbours; a joined phase does not mention acceleration.

    Example:
        >>> len(merged([Phase("left", "slow"), Phase("left", "slow", "accelerate"), Phase()]))
        2
    """
    kept: list[Phase] = []
    for phase in found:
        if kept and replace(kept[-1], acceleration="none") == replace(phase, acceleration="none"):
            kept[-1] = replace(phase, acceleration="none")
        else:
            kept.append(phase)
    return kept


def _describe(record: MotionRecord, index: int, first: int, last: int, mode: str) -> Phase:
    start, end = record.boxes[index][first], record.boxes[index][last]
    side = min(record.frame_size)
    dx, dy = (((end[i] + end[i + 2]) - (start[i] + start[i + 2])) / 2 / side for i in (0, 1))
    distance = math.hypot(dx, dy)
    moves = distance >= _STILL
    steps = (last - first) * _TIMELINE_STEPS / (len(record.boxes[index]) - 1)
    speed = distance / steps
    turn = record.angles[index][last] - record.angles[index][first]
    growth = math.sqrt(_area(end) / _area(start))
    return Phase(
        direction=DIRECTIONS[round(math.atan2(-dy, dx) / (math.pi / 4)) % 8] if moves else "none",
        speed=("slow" if speed < _SLOW else "fast" if speed > _FAST else "medium") if moves else "none",
        acceleration=mode if moves and mode != "uniform" else "none",
        rotation="none" if abs(turn) < _TURNED else "clockwise" if turn > 0 else "anticlockwise",
        spins=abs(turn) > _SPUN,
        scale="growing" if growth > _GROWN else "shrinking" if growth < _SHRUNK else "none",
    )


def _area(box: Sequence[int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def described(found: Sequence[Phase], names: Collection[str] = DESCRIBED) -> list[Phase]:
    """Leave out descriptors that captions shall not mention.

    Args:
        found: phases.
        names: some of `DESCRIBED`.

    Returns:
        Phases without the others, equal neighbours joined. A phase in which only others change keeps an `UNTOLD`
        direction: it must not be called still.

    Example:
        >>> described([Phase("left", "fast", rotation="clockwise")], ["rotation"])[0].direction
        'untold'
    """
    return merged([_without(phase, names) for phase in found])


def _without(phase: Phase, names: Collection[str]) -> Phase:
    kept = phase
    if "direction" not in names and phase.moves:
        kept = replace(kept, direction=UNTOLD)
    if "speed" not in names:
        kept = replace(kept, speed="medium" if phase.moves else "none", acceleration="none")
    if "rotation" not in names:
        kept = replace(kept, rotation="none", spins=False)
    if "scale" not in names:
        kept = replace(kept, scale="none")
    return replace(kept, direction=UNTOLD, speed="medium") if kept.is_still and not phase.is_still else kept


def flipped(found: Sequence[Phase], kind: str, generator: torch.Generator) -> list[Phase] | None:
    """Phases with one descriptor changed, for a caption that is wrong in it.

    Args:
        found: the phases of an object.
        kind: one of `FLIPS`: a direction mirrored, two phases swapped, a speed or a sense of rotation changed.
        generator: draws which phase is changed, and how.

    Returns:
        The phases, or None if nothing of that kind can be changed.

    Raises:
        ValueError: if the kind is unknown.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> flipped([Phase("left", "fast")], "direction", generator)[0].direction
        'right'
        >>> flipped([Phase("left", "fast")], "order", generator) is None
        True
    """
    if kind not in FLIPS:
        raise ValueError(f"kind must be one of {', '.join(FLIPS)}, got {kind!r}")
    changed = [each for each in _changes(list(found), kind) if merged(each) != list(found)]
    return merged(changed[draw(len(changed), generator)]) if changed else None


def _changes(found: list[Phase], kind: str) -> list[list[Phase]]:
    """Every way of changing one descriptor."""
    if kind == "order":
        swaps = [(first, second) for second in range(len(found)) for first in range(second)]
        return [_swapped(found, *pair) for pair in swaps if found[pair[0]] != found[pair[1]]]
    changes = []
    for place, phase in enumerate(found):
        others: list[Phase] = []
        if kind == "direction":
            others = [replace(phase, direction=other) for other in _MIRRORED.get(phase.direction, ())]
        elif kind == "speed":
            others = [replace(phase, speed=other) for other in _OTHER_SPEEDS.get(phase.speed, ())]
        elif phase.rotation != "none":
            others = [replace(phase, rotation=_OTHER_SENSE[phase.rotation])]
        changes += [[*found[:place], other, *found[place + 1 :]] for other in others]
    return changes


def _swapped(found: list[Phase], first: int, second: int) -> list[Phase]:
    swapped = found.copy()
    swapped[first], swapped[second] = found[second], found[first]
    return swapped


def wrong_phases(found: Sequence[Phase], generator: torch.Generator, names: Collection[str] = DESCRIBED) -> list[Phase]:
    """Phases with one descriptor changed, whichever can be; a still object moves.

    Args:
        found: the phases of an object, see `described`.
        generator: draws what is changed, and how.
        names: descriptors that captions mention, some of `DESCRIBED`; others are not changed.

    Returns:
        Other phases than `found`.

    Example:
        >>> wrong_phases([Phase()], torch.Generator().manual_seed(0))[0].moves
        True
    """
    kinds = [kind for kind in FLIPS if kind in (*names, "order")]
    for place in torch.randperm(len(kinds), generator=generator, device=generator.device).tolist():
        changed = flipped(found, kinds[place], generator)
        if changed is not None:
            return changed
    # Nothing that is described moves or turns: what grows is said to shrink, what is still to move, and what moves in a
    # way that is not described to be still.
    first = found[0]
    if first.scale != "none":
        other = replace(first, scale="shrinking" if first.scale == "growing" else "growing")
    elif first.moves:
        other = Phase()
    else:
        other = Phase(DIRECTIONS[draw(len(DIRECTIONS), generator)] if "direction" in names else UNTOLD, "medium")
    return merged([other, *found[1:]])


def draw(stop: int, generator: torch.Generator) -> int:
    """An integer from 0 to `stop - 1`.

    Example:
        >>> draw(1, torch.Generator())
        0
    """
    return int(torch.randint(stop, (), generator=generator, device=generator.device))
