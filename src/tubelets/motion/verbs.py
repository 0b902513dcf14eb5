"""Verbs of motion with their inflections, and what may be said with them (locomotion.md, section 6.3).

Inflections are stored, not derived: English has too many exceptions.
"""

from dataclasses import dataclass

from tubelets.motion.phases import UNTOLD, Phase


@dataclass(frozen=True)
class Verb:
    """A verb.

    Attributes:
        third: third person, "rises".
        ing: "rising".
        base: "rise".
        speed: "slow" or "fast" if it says so itself, otherwise empty.
        implies: the direction that it says itself: "up", "down" or empty.

    Example:
        >>> UP[0].third, UP[0].ing, UP[0].base, UP[0].implies
        ('rises', 'rising', 'rise', 'up')
    """

    third: str
    ing: str
    base: str
    speed: str = ""
    implies: str = ""


def _verbs(table: str, implies: str = "") -> tuple[Verb, ...]:
    """Lines "third, ing, base", and "third, ing, base, speed"."""
    rows = [[word.strip() for word in line.split(",")] for line in table.strip().splitlines()]
    return tuple(Verb(row[0], row[1], row[2], row[3] if len(row) > 3 else "", implies) for row in rows)


UP = _verbs(
    """
    rises, rising, rise
    ascends, ascending, ascend
    lifts, lifting, lift
    climbs, climbing, climb
    goes up, going up, go up
    floats up, floating up, float up, slow
    drifts up, drifting up, drift up, slow
    soars, soaring, soar, fast
    shoots up, shooting up, shoot up, fast
    leaps, leaping, leap, fast
    """,
    "up",
)
DOWN = _verbs(
    """
    falls, falling, fall
    descends, descending, descend
    drops, dropping, drop
    goes down, going down, go down
    sinks, sinking, sink, slow
    settles, settling, settle, slow
    plunges, plunging, plunge, fast
    dives, diving, dive, fast
    plummets, plummeting, plummet, fast
    """,
    "down",
)
LATERAL = _verbs(
    """
    slides, sliding, slide
    shifts, shifting, shift
    travels, travelling, travel
    passes, passing, pass
    goes, going, go
    drifts, drifting, drift, slow
    glides, gliding, glide, slow
    creeps, creeping, creep, slow
    dashes, dashing, dash, fast
    darts, darting, dart, fast
    rushes, rushing, rush, fast
    races, racing, race, fast
    zooms, zooming, zoom, fast
    """
)
DIAGONAL = _verbs(
    """
    swoops, swooping, swoop, fast
    sweeps, sweeping, sweep
    veers, veering, veer
    cuts across, cutting across, cut across, fast
    slants, slanting, slant
    """
)
ANY = _verbs(
    """
    moves, moving, move
    travels, travelling, travel
    heads, heading, head
    wanders, wandering, wander, slow
    crawls, crawling, crawl, slow
    hurries, hurrying, hurry, fast
    flies, flying, fly, fast
    speeds, speeding, speed, fast
    """
)
TURNING = _verbs(
    """
    rotates, rotating, rotate
    turns, turning, turn
    twists, twisting, twist
    swivels, swivelling, swivel
    """
)
SPINNING = _verbs(
    """
    spins, spinning, spin
    twirls, twirling, twirl
    whirls, whirling, whirl
    """
)
ROLLING = _verbs(
    """
    rolls, rolling, roll
    tumbles, tumbling, tumble
    """
)
CARTWHEELING = _verbs("cartwheels, cartwheeling, cartwheel")
# Something can also tumble sideways: the verb alone does not say "down".
TUMBLING_DOWN = (
    *_verbs("tumbles, tumbling, tumble"),
    *_verbs("spirals down, spiralling down, spiral down", "down"),
)
GROWING = _verbs(
    """
    grows, growing, grow
    expands, expanding, expand
    swells, swelling, swell
    gets bigger, getting bigger, get bigger
    approaches, approaching, approach
    """
)
SHRINKING = _verbs(
    """
    shrinks, shrinking, shrink
    contracts, contracting, contract
    gets smaller, getting smaller, get smaller
    recedes, receding, recede
    """
)
STILL = _verbs(
    """
    stays still, staying still, stay still
    rests, resting, rest
    hovers, hovering, hover
    remains in place, remaining in place, remain in place
    pauses, pausing, pause
    """
)
ADVERBS = {"slow": ("slowly", "gently", "gradually"), "fast": ("quickly", "rapidly", "swiftly")}
ACCELERATIONS = {
    "accelerate": ("speeding up", "accelerating", "picking up speed"),
    "decelerate": ("slowing down", "decelerating", "easing off"),
}
CONNECTORS = (
    "{first}, then {next}",
    "{first} and then {next}",
    "{first}, after which it {next}",
    "{first} before {next_ing}",
    "{first}, followed by {next_ing}",
)


def travelling(phase: Phase) -> tuple[Verb, ...]:
    """Verbs for a phase with a direction that say nothing of a rotation: those of its direction and speed.

    Args:
        phase: a phase that moves.

    Returns:
        The verbs, at least one.

    Example:
        >>> [verb.third for verb in travelling(Phase("up", "slow"))][:5]
        ['rises', 'ascends', 'lifts', 'climbs', 'goes up']
    """
    found = ANY
    if phase.direction != UNTOLD:
        found += UP if "up" in phase.direction else ()
        found += DOWN if "down" in phase.direction else ()
        found += LATERAL if is_lateral(phase) else ()
        found += DIAGONAL if "_" in phase.direction else ()
    order = (*found[len(ANY) :], *ANY)
    # The same verb may stand in two tables.
    return tuple(dict.fromkeys(verb for verb in order if verb.speed in ("", phase.speed)))


def rolling(phase: Phase) -> tuple[Verb, ...]:
    """Verbs for a phase with a direction and a rotation that say both; possibly none.

    Example:
        >>> [verb.third for verb in rolling(Phase("left", "medium", rotation="clockwise"))]
        ['rolls', 'tumbles']
    """
    if phase.rotation == "none" or not phase.moves or phase.direction == UNTOLD:
        return ()
    down = TUMBLING_DOWN if "down" in phase.direction else ()
    if not is_lateral(phase):
        return down
    return (*ROLLING, *(CARTWHEELING if phase.spins else ()), *down)


def turning(phase: Phase) -> tuple[Verb, ...]:
    """Verbs for a rotation.

    Example:
        >>> [verb.ing for verb in turning(Phase(rotation="clockwise", spins=True))]
        ['spinning', 'twirling', 'whirling']
    """
    return SPINNING if phase.spins else TURNING


def scaling(phase: Phase) -> tuple[Verb, ...]:
    """Verbs for a change of size.

    Example:
        >>> scaling(Phase(scale="shrinking"))[0].third
        'shrinks'
    """
    return GROWING if phase.scale == "growing" else SHRINKING


def is_lateral(phase: Phase) -> bool:
    """Whether a direction goes to the left or the right.

    Example:
        >>> is_lateral(Phase("up_left", "slow")), is_lateral(Phase("up", "slow"))
        (True, False)
    """
    return "left" in phase.direction or "right" in phase.direction


def caption_words() -> list[str]:
    """Every word that captions of motions use, apart from nouns; for the vocabulary of a small model.

    Returns:
        The words, sorted, in lower case.

    Example:
        >>> {"rising", "clockwise", "diagonally"} <= set(caption_words())
        True
    """
    tables = (
        *(UP, DOWN, LATERAL, DIAGONAL, ANY, TURNING, SPINNING, ROLLING, CARTWHEELING, TUMBLING_DOWN),
        *(GROWING, SHRINKING, STILL),
    )
    texts = [form for table in tables for verb in table for form in (verb.third, verb.ing, verb.base)]
    texts += [word for words in (*ADVERBS.values(), *ACCELERATIONS.values()) for word in words]
    texts += ["a an it then and before while after which followed by to the left right upward downward up down"]
    texts += ["diagonally clockwise anticlockwise straight"]
    return sorted({word for text in texts for word in text.split()})
