"""Captions of motions: sentences of a plain grammar, and sentences with varied verbs (locomotion.md, section 6).

Captions name descriptors of `tubelets.motion.phases`; `tubelets.motion.parsing` reads those of the plain grammar back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from tubelets.motion import verbs
from tubelets.motion.phases import DESCRIBED, UNTOLD, Phase, described, draw, phases, wrong_phases
from tubelets.motion.records import MotionRecord
from tubelets.ranges import Fraction, check_ranges

Choice = TypeVar("Choice")

__all__ = ["SLOT", "CaptionSettings", "Phase", "caption", "clause", "motion_caption", "phases", "with_article"]

SLOT = "{object}"
"""Stands for the object, with its article, in templates and paraphrases."""

DIRECTION_PHRASES = {
    "right": "to the right",
    "left": "to the left",
    "up": "upward",
    "down": "downward",
    "up_right": "diagonally up to the right",
    "up_left": "diagonally up to the left",
    "down_right": "diagonally down to the right",
    "down_left": "diagonally down to the left",
    UNTOLD: "",
}
ING = {
    "moves": "moving",
    "stays still": "staying still",
    "rotates": "rotating",
    "spins": "spinning",
    "grows": "growing",
    "shrinks": "shrinking",
}
JOINS = ("{first}, then {next}", "{first} and then {next}", "{first} before {next_ing}", "{first}. It then {next}")


@dataclass(frozen=True)
class CaptionSettings:
    """What captions say, and how.

    Attributes:
        verb_variation: vary verbs, adverbs and connectors; False keeps to the plain grammar.
        template_probability: share of captions in the plain grammar all the same.
        describe: descriptors that are named, some of `DESCRIBED`.

    Raises:
        ValueError: if a number or a name is out of range.

    Example:
        >>> CaptionSettings(describe=("direction",)).verb_variation
        True
    """

    verb_variation: bool = True
    template_probability: Fraction = 0.25
    describe: tuple[str, ...] = DESCRIBED

    def __post_init__(self) -> None:
        check_ranges(self)
        if unknown := [name for name in self.describe if name not in DESCRIBED]:
            raise ValueError(f"describe must name some of {', '.join(DESCRIBED)}, got {unknown[0]!r}")


def clause(phase: Phase, ing: bool = False) -> str:
    """A phase in the words of the plain grammar, with the main verb in the third person or as "-ing".

    Example:
        >>> clause(Phase(direction="left", speed="fast"))
        'moves quickly to the left'
    """
    verb = _plain_verb(phase)
    words = [ING[verb] if ing else verb]
    if phase.moves:
        words += [{"slow": "slowly", "fast": "quickly"}.get(phase.speed, ""), DIRECTION_PHRASES[phase.direction]]
    turn = f"{'spinning' if phase.spins else 'rotating'} {phase.rotation}"
    if verb in ("rotates", "spins"):
        words.append(phase.rotation)
    extra = [turn] if phase.rotation != "none" and verb not in ("rotates", "spins") else []
    extra += [phase.scale] if phase.scale != "none" and verb not in ("grows", "shrinks") else []
    suffix = {"accelerate": ", speeding up", "decelerate": ", slowing down"}.get(phase.acceleration, "")
    sentence = " ".join(word for word in words if word) + suffix
    return f"{sentence} while {' and '.join(extra)}" if extra else sentence


def _plain_verb(phase: Phase) -> str:
    if phase.moves:
        return "moves"
    if phase.rotation != "none":
        return "spins" if phase.spins else "rotates"
    return {"growing": "grows", "shrinking": "shrinks"}.get(phase.scale, "stays still")


def with_article(noun: str) -> str:
    """A noun with "a" or "an".

    Example:
        >>> with_article("octopus"), with_article("red circle")
        ('an octopus', 'a red circle')
    """
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def caption(record: MotionRecord, nouns: Sequence[str] | None = None, generator: torch.Generator | None = None) -> str:
    """A sentence of the plain grammar about the motion of a clip.

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
    names = nouns_of(record, nouns)
    found = [phases(record, index) for index in range(len(names))]
    return _sentence(names, [plain_clauses(each, generator, sentences=len(names) == 1) for each in found])


def nouns_of(record: MotionRecord, nouns: Sequence[str] | None = None) -> list[str]:
    """The nouns of a clip's objects: those given, the record's names, or "patch".

    Raises:
        ValueError: if their number is not that of the objects.
    """
    names = list(nouns) if nouns is not None else list(record.objects) or ["patch"] * len(record.boxes)
    if len(names) != len(record.boxes):
        raise ValueError(f"expected a noun for each of {len(record.boxes)} objects, got {names}")
    return names


def plain_clauses(found: Sequence[Phase], generator: torch.Generator | None, sentences: bool = True) -> str:
    """The clauses of all phases in the plain grammar.

    Args:
        found: the phases.
        generator: see `caption`.
        sentences: whether a join may begin a new sentence.

    Example:
        >>> plain_clauses([Phase("up", "medium"), Phase()], None)
        'moves upward, then stays still'
    """
    text = ""
    for number, phase in enumerate(found):
        if generator is not None and phase.acceleration != "none" and draw(2, generator):
            phase = replace(phase, acceleration="none")
        if number == 0:
            text = clause(phase)
            continue
        join = JOINS[0 if generator is None else draw(len(JOINS) if sentences else len(JOINS) - 1, generator)]
        text = join.format(first=text, next=clause(phase), next_ing=clause(phase, ing=True))
    return text


def _sentence(nouns: Sequence[str], clauses: Sequence[str]) -> str:
    text = " while ".join(f"{with_article(noun)} {each}" for noun, each in zip(nouns, clauses, strict=True))
    return f"{text[0].upper()}{text[1:]}."


def motion_caption(
    record: MotionRecord,
    nouns: Sequence[str] | None = None,
    seed: int = 0,
    settings: CaptionSettings | None = None,
    paraphrases: Mapping[str, Sequence[str]] | None = None,
    wrong: bool = False,
) -> str:
    """A caption of the motion of a clip, a pure function of its arguments.

    Args:
        record: the motion.
        nouns: nouns for the objects; by default the record's names, or "patch".
        seed: decides every choice, whatever the process; derive it from data-set seed, sample and epoch.
        settings: what is said and how; by default everything with varied verbs.
        paraphrases: template with `SLOT` for the object to its paraphrases; they are preferred to varied verbs.
        wrong: describe a motion of which one descriptor is changed, see `tubelets.motion.phases.wrong_phases`.

    Returns:
        One or two sentences.

    Raises:
        ValueError: if the number of nouns is not that of the objects.

    Example:
        >>> from tubelets.motion import MotionSettings, sample_motion
        >>> motion = sample_motion(MotionSettings.locomotion(), 1, 16, (64, 64), torch.Generator().manual_seed(1))
        >>> record = motion.records()[0]
        >>> motion_caption(record, ["fox"], seed=1) == motion_caption(record, ["fox"], seed=1)
        True
        >>> motion_caption(record, ["fox"], seed=1) == motion_caption(record, ["fox"], seed=1, wrong=True)
        False
    """
    settings = settings or CaptionSettings()
    names = nouns_of(record, nouns)
    generator = torch.Generator().manual_seed(seed)
    found = [described(phases(record, index), settings.describe) for index in range(len(names))]
    if wrong:
        place = draw(len(found), generator)
        found[place] = wrong_phases(found[place], generator, settings.describe)
    # A template is looked up in one form: joined with "then", and complete.
    known = (paraphrases or {}).get(template(found[0]), ()) if len(found) == 1 else ()
    varies = settings.verb_variation or bool(known)
    if not varies or float(torch.rand((), generator=generator)) < settings.template_probability:
        return _sentence(names, [plain_clauses(each, generator, sentences=len(names) == 1) for each in found])
    if known:
        return _filled(known[draw(len(known), generator)], names[0])
    return _sentence(names, [varied_clauses(each, generator) for each in found])


def template(found: Sequence[Phase]) -> str:
    """The plain sentence of an object's phases, with `SLOT` for the object.

    Example:
        >>> template([Phase("left", "slow")])
        '{object} moves slowly to the left.'
    """
    return f"{SLOT} {plain_clauses(found, None)}."


def _filled(text: str, noun: str) -> str:
    filled = text.replace(SLOT, with_article(noun))
    return f"{filled[0].upper()}{filled[1:]}"


def varied_clauses(found: Sequence[Phase], generator: torch.Generator) -> str:
    """The clauses of all phases with varied verbs, adverbs and connectors.

    Args:
        found: the phases.
        generator: draws the words.

    Returns:
        The predicate of one sentence, without a full stop.

    Example:
        >>> varied_clauses([Phase("up", "fast"), Phase()], torch.Generator().manual_seed(0))
        'goes up quickly before staying still'
    """
    text = varied_clause(found[0], generator)
    for phase in found[1:]:
        join = verbs.CONNECTORS[draw(len(verbs.CONNECTORS), generator)]
        following = varied_clause(phase, generator, ing="{next_ing}" in join)
        text = join.format(first=text, next=following, next_ing=following)
    return text


def varied_clause(phase: Phase, generator: torch.Generator, ing: bool = False) -> str:
    """A phase in varied words.

    Args:
        phase: the phase.
        generator: draws the words.
        ing: the main verb as "-ing" instead of the third person.

    Example:
        >>> varied_clause(Phase("down_left", "fast"), torch.Generator().manual_seed(2), ing=True)
        'travelling quickly diagonally down to the left'
    """
    verb, extra = _main_verb(phase, generator)
    words = [verb.ing if ing else verb.third]
    if phase.moves:
        if phase.speed in verbs.ADVERBS and not (verb.speed and draw(2, generator)):
            words.append(_one(verbs.ADVERBS[phase.speed], generator))
        words.append(_direction(phase.direction, verb, generator))
    if phase.rotation != "none" and "rotation" not in extra:
        words.append(phase.rotation)
    text = " ".join(word for word in words if word)
    if phase.acceleration != "none" and draw(2, generator):
        text += f", {_one(verbs.ACCELERATIONS[phase.acceleration], generator)}"
    also = []
    if "rotation" in extra:
        also.append(f"{_one(verbs.turning(phase), generator).ing} {phase.rotation}")
    if "scale" in extra:
        also.append(_one(verbs.scaling(phase), generator).ing)
    return f"{text} while {' and '.join(also)}" if also else text


def _main_verb(phase: Phase, generator: torch.Generator) -> tuple[verbs.Verb, set[str]]:
    """The verb, and the descriptors that it leaves to a clause with "while"."""
    turns, scales = phase.rotation != "none", phase.scale != "none"
    extra = {name for name, said in (("rotation", turns), ("scale", scales)) if said}
    if phase.moves:
        rolling, travelling = verbs.rolling(phase), verbs.travelling(phase)
        place = draw(len(rolling) + len(travelling), generator)
        if place < len(rolling):
            return rolling[place], extra - {"rotation"}
        return travelling[place - len(rolling)], extra
    if turns:
        return _one(verbs.turning(phase), generator), extra - {"rotation"}
    if scales:
        return _one(verbs.scaling(phase), generator), extra - {"scale"}
    return _one(verbs.STILL, generator), extra


def _direction(direction: str, verb: verbs.Verb, generator: torch.Generator) -> str:
    """The phrase of a direction, without what the verb says alone: always if it says "up" or "down", or in half."""
    says_so = verb.implies and verb.third.endswith(f" {verb.implies}")
    if not verb.implies or not (says_so or draw(2, generator)):
        return DIRECTION_PHRASES[direction]
    _, _, side = direction.partition("_")
    return f"diagonally to the {side}" if side else ""


def _one(words: Sequence[Choice], generator: torch.Generator) -> Choice:
    return words[draw(len(words), generator)]
