"""Captions with varied verbs, wrong captions, and the plain grammar read back."""

import itertools
import re
from dataclasses import replace

import pytest
import torch

from motion_by_hand import record_of, seeded
from tubelets.motion import MotionSettings, sample_motion, verbs
from tubelets.motion.captions import (
    SLOT,
    CaptionSettings,
    caption,
    clause,
    motion_caption,
    phases,
    plain_clauses,
    template,
    varied_clause,
)
from tubelets.motion.parsing import parse
from tubelets.motion.phases import DIRECTIONS, FLIPS, UNTOLD, Phase, described, flipped, merged, wrong_phases

TURNS = [("none", False), ("clockwise", False), ("clockwise", True), ("anticlockwise", False), ("anticlockwise", True)]


def every_phase() -> list[Phase]:
    """All combinations of descriptors."""
    combinations = itertools.product(
        (*DIRECTIONS, UNTOLD, "none"), ("slow", "medium", "fast"), ("none", "accelerate", "decelerate"), TURNS,
        ("none", "growing", "shrinking"),
    )  # fmt: skip
    found = [Phase(way, speed, change, *turn, scale) for way, speed, change, turn, scale in combinations]
    return list(dict.fromkeys(
        phase if phase.moves else replace(phase, speed="none", acceleration="none") for phase in found
    ))  # fmt: skip


PHASES = every_phase()


def test_every_phase_is_read_back() -> None:
    assert len(PHASES) == 9 * 3 * 3 * 5 * 3 + 5 * 3
    for phase in PHASES:
        assert parse(f"A red fox {clause(phase)}.") == [("red fox", [phase])]
        assert parse(f"An owl stays still before {clause(phase, ing=True)}.") == [("owl", [Phase(), phase])]


def test_sequences_and_pairs_of_objects_are_read_back() -> None:
    generator = seeded(3)
    for _ in range(300):
        chosen = [PHASES[int(torch.randint(len(PHASES), (), generator=generator))] for _ in range(6)]
        parts = [merged([replace(each, acceleration="none") for each in half]) for half in (chosen[:3], chosen[3:])]
        one = f"A cat {plain_clauses(parts[0], generator)}."
        assert parse(one) == [("cat", parts[0])], one
        two = " while ".join(
            f"a {noun} {plain_clauses(part, generator, sentences=False)}"
            for noun, part in zip(("cat", "red ball"), parts, strict=True)
        )
        assert parse(f"{two[0].upper()}{two[1:]}.") == [("cat", parts[0]), ("red ball", parts[1])], two


def test_captions_of_drawn_motions_are_read_back() -> None:
    motion = sample_motion(MotionSettings.locomotion(num_objects=2), 40, 16, (64, 64), seeded())
    for record in motion.records():
        expected = [phases(record, index) for index in range(2)]
        found = parse(caption(record, ["fox", "egg"]))
        assert [noun for noun, _ in found] == ["fox", "egg"]
        assert [each for _, each in found] == expected


@pytest.mark.parametrize("text", ["A cat sleeps.", "A cat moves sideways.", "Moves to the left.", ""])
def test_other_sentences_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="plain grammar"):
        parse(text)


def test_verbs_agree_with_direction_speed_and_rotation() -> None:
    of = {
        verb.third: verb for table in (verbs.UP, verbs.DOWN, verbs.LATERAL, verbs.DIAGONAL, verbs.ANY) for verb in table
    }
    for phase in PHASES:
        if not phase.moves:
            continue
        chosen = verbs.travelling(phase)
        assert chosen
        assert all(verb.speed in ("", phase.speed) for verb in chosen)
        names = {verb.third for verb in chosen}
        for table, fits in (
            (verbs.UP, "up" in phase.direction), (verbs.DOWN, "down" in phase.direction),
            (verbs.DIAGONAL, "_" in phase.direction),
        ):  # fmt: skip
            if not fits:
                assert not names & ({verb.third for verb in table} - {verb.third for verb in verbs.ANY})
        assert names <= of.keys()
        if phase.rotation == "none":
            assert not verbs.rolling(phase)
    spun = replace(Phase("left", "medium"), rotation="clockwise", spins=True)
    assert "cartwheels" in {verb.third for verb in verbs.rolling(spun)}
    assert verbs.rolling(Phase("up", "fast", rotation="clockwise")) == ()
    forms = [form for verb in of.values() for form in (verb.third, verb.ing, verb.base)]
    assert all(forms)
    assert all(verb.ing.split()[0].endswith("ing") for verb in of.values())


def test_varied_clauses_keep_every_descriptor() -> None:
    """What a phase says is in the words: its direction or a verb that implies it, its sense, its growth."""
    generator = seeded(5)
    up = {word for verb in verbs.UP for word in (verb.third, verb.ing)}
    down = {word for verb in verbs.DOWN for word in (verb.third, verb.ing)} | {"spirals down"}
    grows = {verb.ing for verb in verbs.GROWING} | {verb.third for verb in verbs.GROWING}
    for phase in PHASES:
        text = varied_clause(phase, generator)
        assert "  " not in text
        assert not re.search(r"\b(\w+) \1\b", text), text
        for side in ("left", "right"):
            assert (side in text) == (side in phase.direction), text
        for way, implied in (("up", up), ("down", down)):
            said = way in re.split(r"\W", text.replace("upward", "up").replace("downward", "down").partition(",")[0])
            implies = any(text.startswith(word) for word in implied)
            if way in phase.direction:
                assert said or implies, text
            else:
                assert not implies, text
        assert ("clockwise" in text.replace("anticlockwise", "")) == (phase.rotation == "clockwise"), text
        assert ("anticlockwise" in text) == (phase.rotation == "anticlockwise"), text
        if phase.scale == "growing":
            assert any(word in text for word in grows), text


def test_a_caption_is_a_pure_function_of_record_and_seed() -> None:
    motion = sample_motion(MotionSettings.locomotion(), 40, 16, (64, 64), seeded())
    state = torch.random.get_rng_state()
    first = [motion_caption(record, ["fox"], seed) for seed, record in enumerate(motion.records())]
    torch.manual_seed(9)
    again = [motion_caption(record, ["fox"], seed) for seed, record in reversed([*enumerate(motion.records())])]
    assert first == again[::-1]
    torch.random.set_rng_state(state)
    plain = CaptionSettings(verb_variation=False)
    assert all(parse(motion_caption(record, ["fox"], 3, plain))[0][0] == "fox" for record in motion.records())
    shares = []
    for seed, record in enumerate(motion.records() * 5):
        text = motion_caption(record, ["fox"], seed, CaptionSettings(template_probability=0.25))
        shares.append(
            text.startswith(("A fox moves ", "A fox stays still", "A fox rotates", "A fox spins", "A fox grows"))
        )
    assert 0.25 < sum(shares) / len(shares) < 0.6


def test_descriptors_that_are_switched_off_are_not_named() -> None:
    phase = Phase("left", "fast", "accelerate", "clockwise", True, "growing")
    assert described([phase], ["direction"]) == [Phase("left", "medium")]
    assert described([phase], ["rotation"]) == [Phase(UNTOLD, "medium", rotation="clockwise", spins=True)]
    assert clause(described([Phase(rotation="clockwise")], ["direction"])[0]) == "moves"
    assert described([Phase()], []) == [Phase()]
    # Phases that differ in what is not named become one.
    assert described([Phase("left", "slow"), Phase("left", "fast")], ["direction"]) == [Phase("left", "medium")]
    record = sample_motion(MotionSettings.locomotion(), 1, 16, (64, 64), seeded(4)).records()[0]
    only = CaptionSettings(describe=("direction",))
    for seed in range(20):
        text = motion_caption(record, ["fox"], seed, only)
        assert not re.search(r"ly\b|clockwise|grow|shrink|rapid|swift", text.replace("diagonally", "")), text
    with pytest.raises(ValueError, match=r"describe must name some of direction.*got 'colour'"):
        CaptionSettings(describe=("colour",))


def test_flips_change_one_descriptor() -> None:
    generator = seeded(1)
    for phase in PHASES:
        for kind in FLIPS:
            other = flipped([phase], kind, generator)
            if kind == "order":
                assert other is None
                continue
            name = "direction" if kind == "direction" else kind
            possible = getattr(phase, name) not in ("none", UNTOLD)
            assert (other is not None) == possible, (phase, kind)
            if other is not None:
                assert replace(other[0], **{name: getattr(phase, name)}) == phase
                assert getattr(other[0], name) != getattr(phase, name)
        assert wrong_phases([phase], generator) != [phase]
    left, up = Phase("left", "slow"), Phase("up", "slow")
    assert flipped([left, up], "order", generator) == [up, left]
    assert flipped([Phase("left", "fast")], "direction", generator) == [Phase("right", "fast")]
    with pytest.raises(ValueError, match="kind must be one of"):
        flipped([left], "colour", generator)


@pytest.mark.parametrize("names", [["direction"], ["speed"], ["rotation"], ["scale"], []])
def test_wrong_captions_change_what_captions_mention(names: list[str]) -> None:
    generator = seeded(2)
    for phase in PHASES:
        told = described([phase], names)
        wrong = wrong_phases(told, generator, names)
        assert wrong != told
        assert described(wrong, names) == wrong, (phase, names)


def test_wrong_captions_are_wrong() -> None:
    motion = sample_motion(MotionSettings.locomotion(), 60, 16, (64, 64), seeded())
    plain = CaptionSettings(verb_variation=False)
    for seed, record in enumerate(motion.records()):
        right = parse(motion_caption(record, ["fox"], seed, plain))[0][1]
        wrong = parse(motion_caption(record, ["fox"], seed, plain, wrong=True))[0][1]
        bare = [[replace(phase, acceleration="none") for phase in each] for each in (right, wrong)]
        assert bare[0] != bare[1]


def test_paraphrases_replace_templates() -> None:
    boxes = [[[10 + 2 * frame, 20, 22 + 2 * frame, 32] for frame in range(16)]]
    record = record_of(boxes)
    known = {template(phases(record)): [f"Toward the right edge {SLOT} is going."]}
    texts = {motion_caption(record, ["owl"], seed, paraphrases=known) for seed in range(30)}
    assert texts == {"Toward the right edge an owl is going.", "An owl moves quickly to the right."}
