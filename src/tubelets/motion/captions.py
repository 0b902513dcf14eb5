"""Captions of motions: descriptors of phases, and sentences (locomotion.md 2.3 and 6.1).

Descriptors come from the realised boxes and angles, not from what was drawn: a path that the frame's border stopped is
described as it appears. Speeds are per step of a timeline of 16, for any number of frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from tubelets.motion.records import MotionRecord

DIRECTIONS = ("right", "up_right", "up", "up_left", "left", "down_left", "down", "down_right")

_DIRECTION_PHRASES = {
    "right": "to the right",
    "left": "to the left",
    "up": "upward",
    "down": "downward",
    "up_right": "diagonally up to the right",
    "up_left": "diagonally up to the left",
    "down_right": "diagonally down to the right",
    "down_left": "diagonally down to the left",
}
_ING = {
    "moves": "moving",
    "stays still": "staying still",
    "rotates": "rotating",
    "spins": "spinning",
    "grows": "growing",
    "shrinks": "shrinking",
}
_JOINS = ("{first}, then {next}", "{first} and then {next}", "{first} before {next_ing}", "{first}. It then {next}")

_TIMELINE_STEPS = 15
_STILL = 0.05  # shares of the frame's shorter side
_SLOW, _FAST = 0.012, 0.03  # shares per step
_TURNED, _SPUN = 15.0, 60.0  # degrees
_GROWN, _SHRUNK = 1.15, 0.87


@dataclass(frozen=True)
class Phase:
    """The motion of an object between two key frames.

    Attributes:
        direction: one of `DIRECTIONS`, or "none".
        speed: "slow", "medium" or "fast"; "none" without a direction.
        acceleration: "accelerate", "decelerate" or "none".
        rotation: "clockwise", "anticlockwise" or "none".
        spins: whether it rotates by more than 60 degrees.
        scale: "growing", "shrinking" or "none".

    Example:
        >>> Phase(direction="left", speed="fast").clause()
        'moves quickly to the left'
    """

    direction: str = "none"
    speed: str = "none"
    acceleration: str = "none"
    rotation: str = "none"
    spins: bool = False
    scale: str = "none"

    def clause(self, ing: bool = False) -> str:
        """The phase in words, with the main verb in the third person or as "-ing"."""
        verb = self._verb()
        words = [_ING[verb] if ing else verb]
        if self.direction != "none":
            words += [{"slow": "slowly", "fast": "quickly"}.get(self.speed, ""), _DIRECTION_PHRASES[self.direction]]
        turn = f"{'spinning' if self.spins else 'rotating'} {self.rotation}"
        if verb in ("rotates", "spins"):
            words.append(self.rotation)
        extra = [turn] if self.rotation != "none" and verb not in ("rotates", "spins") else []
        extra += [self.scale] if self.scale != "none" and verb not in ("grows", "shrinks") else []
        suffix = {"accelerate": ", speeding up", "decelerate": ", slowing down"}.get(self.acceleration, "")
        sentence = " ".join(word for word in words if word) + suffix
        return f"{sentence} while {' and '.join(extra)}" if extra else sentence

    def _verb(self) -> str:
        if self.direction != "none":
            return "moves"
        if self.rotation != "none":
            return "spins" if self.spins else "rotates"
        return {"growing": "grows", "shrinking": "shrinks"}.get(self.scale, "stays still")


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
        >>> [phase.clause() for phase in phases(motion.records()[0])]
        ['stays still']
    """
    if not 0 <= index < len(record.boxes):
        raise IndexError(f"object {index} does not exist; the motion has {len(record.boxes)} objects")
    found: list[Phase] = []
    for first, last, mode in zip(record.key_frames, record.key_frames[1:], record.modes, strict=False):
        phase = _describe(record, index, first, last, mode)
        if found and replace(found[-1], acceleration="none") == replace(phase, acceleration="none"):
            # Equal phases are merged; the merged phase does not mention acceleration.
            found[-1] = replace(phase, acceleration="none")
        else:
            found.append(phase)
    return found


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


def with_article(noun: str) -> str:
    """A noun with "a" or "an".

    Example:
        >>> with_article("octopus"), with_article("red circle")
        ('an octopus', 'a red circle')
    """
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def caption(record: MotionRecord, nouns: Sequence[str] | None = None, generator: torch.Generator | None = None) -> str:
    """A sentence about the motion of a clip.

    Args:
        record: the motion.
        nouns: nouns for the objects; by default the record's names, or "patch".
        generator: draws how phases are joined, and omits half of the words on acceleration; without one they are
            joined with "then" and nothing is omitted.

    Returns:
        One sentence, or two if a join splits it; several objects are joined with "while".

    Raises:
        ValueError: if the number of nouns is not that of the objects.

    Example:
        >>> from tubelets.motion import MotionSettings, sample_motion
        >>> settings = MotionSettings.locomotion(rest_probability=1.0, rotation_probability=0.0, growth_probability=0.0)
        >>> motion = sample_motion(settings, 1, 16, (64, 64), torch.Generator().manual_seed(0))
        >>> caption(motion.records()[0], ["octopus"])
        'An octopus stays still.'
    """
    names = list(nouns) if nouns is not None else list(record.objects) or ["patch"] * len(record.boxes)
    if len(names) != len(record.boxes):
        raise ValueError(f"expected a noun for each of {len(record.boxes)} objects, got {names}")
    parts = []
    for index, noun in enumerate(names):
        joined = _joined(phases(record, index), generator, sentences=len(names) == 1)
        parts.append(f"{with_article(noun)} {joined}")
    sentence = " while ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _joined(found: Sequence[Phase], generator: torch.Generator | None, sentences: bool) -> str:
    """Clauses of all phases; a join may begin a new sentence only where `sentences` allows it."""
    text = ""
    for number, phase in enumerate(found):
        if generator is not None and phase.acceleration != "none" and _draw(2, generator):
            phase = replace(phase, acceleration="none")
        if number == 0:
            text = phase.clause()
            continue
        join = _JOINS[0 if generator is None else _draw(len(_JOINS) if sentences else len(_JOINS) - 1, generator)]
        text = join.format(first=text, next=phase.clause(), next_ing=phase.clause(ing=True))
    return text


def _draw(stop: int, generator: torch.Generator) -> int:
    return int(torch.randint(stop, (), generator=generator, device=generator.device))
