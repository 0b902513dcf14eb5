"""Reading captions of the plain grammar back into phases (locomotion.md, section 6.1)."""

import re

from tubelets.motion.captions import DIRECTION_PHRASES, ING
from tubelets.motion.phases import UNTOLD, Phase

_VERBS = {**{verb: verb for verb in ING}, **{ing: verb for verb, ing in ING.items()}}
_DIRECTIONS = {phrase: direction for direction, phrase in DIRECTION_PHRASES.items() if phrase}
_JOINS = re.compile(r", then | and then | before |\. It then ")
_OBJECTS = re.compile(r" while (?=an? )")
_VERB = "|".join(ING)
# Longer phrases first: "to the left" is part of "diagonally up to the left".
_PHRASE = "|".join(sorted(_DIRECTIONS, key=len, reverse=True))
_START = re.compile(rf"(?:An?|an?) (?P<noun>.+?) (?P<rest>(?:{_VERB})\b.*)", re.DOTALL)
_CLAUSE = re.compile(
    rf"(?P<verb>{'|'.join(_VERBS)})(?: (?P<speed>slowly|quickly))?(?: (?P<direction>{_PHRASE}))?"
    r"(?: (?P<sense>clockwise|anticlockwise))?(?P<change>, speeding up|, slowing down)?"
    r"(?: while (?P<extra>.+))?"
)
_EXTRA = re.compile(r"(?:(?P<turn>rotating|spinning) (?P<sense>\w+))?(?: and )?(?P<scale>growing|shrinking)?")


def parse(caption: str) -> list[tuple[str, list[Phase]]]:
    """Recover nouns and phases from a caption of the plain grammar.

    Args:
        caption: as `tubelets.motion.captions.caption` writes it, with any joins.

    Returns:
        For each object its noun and its phases.

    Raises:
        ValueError: if the sentence is not of the grammar, quoting the part that is not.

    Example:
        >>> parse("An owl moves quickly to the left before staying still.")[0]
        ('owl', [Phase(direction='left', speed='fast', ...), Phase(direction='none', ...)])
    """
    found = []
    for part in _OBJECTS.split(caption.removesuffix(".")):
        start = _START.fullmatch(part)
        if start is None:
            raise ValueError(f"{part!r} has no object and verb of the plain grammar; its verbs are {', '.join(ING)}")
        found.append((start["noun"], [_phase(clause) for clause in _JOINS.split(start["rest"])]))
    return found


def _phase(text: str) -> Phase:
    found = _CLAUSE.fullmatch(text)
    extra = None if found is None else _EXTRA.fullmatch(found["extra"] or "")
    if found is None or extra is None:
        raise ValueError(f"{text!r} is not a clause of the plain grammar")
    verb = _VERBS[found["verb"]]
    moves = verb == "moves"
    scale = {"grows": "growing", "shrinks": "shrinking"}.get(verb, extra["scale"] or "none")
    return Phase(
        direction=_DIRECTIONS[found["direction"]] if found["direction"] else UNTOLD if moves else "none",
        speed={"slowly": "slow", "quickly": "fast", None: "medium"}[found["speed"]] if moves else "none",
        acceleration={", speeding up": "accelerate", ", slowing down": "decelerate"}.get(found["change"], "none"),
        rotation=found["sense"] or extra["sense"] or "none",
        spins=verb == "spins" or extra["turn"] == "spinning",
        scale=scale,
    )
