"""Words for motions made by hand: what is said is what the boxes and angles do."""

import pytest

from motion_by_hand import record_of, seeded
from tubelets.motion import MotionSettings, sample_motion
from tubelets.motion.captions import caption, phases, with_article


def track(start: tuple[int, int], step: tuple[int, int], side: int = 12, growth: int = 0) -> list[list[int]]:
    """Boxes of 16 frames."""
    boxes = []
    for frame in range(16):
        x, y = start[0] + step[0] * frame, start[1] + step[1] * frame
        reach = (side + growth * frame) // 2
        boxes.append([x - reach, y - reach, x + reach, y + reach])
    return boxes


STILL = track((32, 32), (0, 0))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ((2, 0), "to the right"),
        ((-2, 0), "to the left"),
        ((0, -2), "upward"),
        ((0, 2), "downward"),
        ((2, -2), "diagonally up to the right"),
        ((-2, 2), "diagonally down to the left"),
    ],
)
def test_directions_are_as_they_are_seen(step: tuple[int, int], words: str) -> None:
    text = caption(record_of([track((32, 32), step)]), ["dog"])
    assert text.startswith("A dog moves")
    assert text.endswith(f"{words}.")


def test_speed_growth_and_turns_are_told() -> None:
    assert "slowly" not in caption(record_of([track((5, 32), (3, 0))]))
    assert "quickly to the right" in caption(record_of([track((5, 32), (3, 0))]))
    creeping = [[10 + frame // 2, 20, 22 + frame // 2, 32] for frame in range(16)]
    assert "slowly to the right" in caption(record_of([creeping]))
    assert caption(record_of([track((32, 32), (0, 0), growth=1)]), ["owl"]) == "An owl grows."
    assert caption(record_of([track((32, 32), (0, 0), side=32, growth=-1)]), ["owl"]) == "An owl shrinks."
    turned = record_of([STILL], angles=[[3 * frame for frame in range(16)]])
    assert caption(turned, ["key"]) == "A key rotates clockwise."
    spun = record_of([STILL], angles=[[-5 * frame for frame in range(16)]])
    assert caption(spun, ["key"]) == "A key spins anticlockwise."


def test_each_object_has_its_part_of_the_sentence() -> None:
    record = record_of([track((5, 32), (1, 0)), STILL], objects=("guitar", "apple"))
    assert caption(record) == "A guitar moves to the right while an apple stays still."
    with pytest.raises(ValueError, match=r"a noun for each of 2 objects, got \['cat'\]"):
        caption(record, ["cat"])
    with pytest.raises(IndexError, match="object 2 does not exist; the motion has 2 objects"):
        phases(record, 2)


def test_captions_of_drawn_motions_are_sentences_that_a_seed_decides() -> None:
    motion = sample_motion(MotionSettings.locomotion(), 30, 16, (64, 64), seeded())
    plain = [caption(record, ["fox"]) for record in motion.records()]
    for text in plain:
        assert text.startswith("A fox ")
        assert text.endswith(".")
        assert "  " not in text
    assert len(set(plain)) > 20
    drawn = [[caption(record, ["fox"], seeded(seed)) for record in motion.records()] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_articles() -> None:
    assert with_article("owl") == "an owl"
    assert with_article("tree") == "a tree"
