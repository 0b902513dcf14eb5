import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tubelets.data.transforms.augmentations import OPERATIONS, ColorJitter, RandAugment, RandomErasing

RECIPE = "rand-m7-n4-mstd0.5-inc1"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def test_the_recipe_in_words() -> None:
    assert RandAugment.parse(RECIPE) == RandAugment(7.0, 4, 0.5, 0.5)


@pytest.mark.parametrize(
    "text", ["rand-m7-n4-mstd0.5", "augmix-m7-inc1", "rand-q7-inc1", "rand-m7-n4-inc0", "rand-m-inc1"]
)
def test_bad_words_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("rand-m7-n4-mstd0.5-inc1")):
        RandAugment.parse(text)


@pytest.mark.parametrize(
    "arguments",
    [{"magnitude": 11}, {"num_operations": 0}, {"magnitude_std": -1}, {"probability": 1.5}],
    ids=lambda value: next(iter(value)),
)
def test_bad_numbers_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RandAugment(**arguments)


# Level 7 of 10, by hand from the formulas of smile.md, section 6.3.
AT_SEVEN = {
    "AutoContrast": (),
    "Equalize": (),
    "Invert": (),
    "Rotate": (21.0,),
    "PosterizeIncreasing": (2,),
    "SolarizeIncreasing": (77,),
    "SolarizeAdd": (77,),
    "ColorIncreasing": (1.63,),
    "ContrastIncreasing": (1.63,),
    "BrightnessIncreasing": (1.63,),
    "SharpnessIncreasing": (1.63,),
    "ShearX": (0.21,),
    "ShearY": (0.21,),
    "TranslateXRel": (0.315,),
    "TranslateYRel": (0.315,),
}
SIGNED = {
    "Rotate": -21.0,
    "ColorIncreasing": 0.37,
    "ContrastIncreasing": 0.37,
    "BrightnessIncreasing": 0.37,
    "SharpnessIncreasing": 0.37,
    "ShearX": -0.21,
    "ShearY": -0.21,
    "TranslateXRel": -0.315,
    "TranslateYRel": -0.315,
}


def test_levels_of_every_operation() -> None:
    assert set(OPERATIONS) == set(AT_SEVEN)
    for name, (_, argument) in OPERATIONS.items():
        assert argument(0.7, 1) == pytest.approx(AT_SEVEN[name]), name
        expected = (SIGNED[name],) if name in SIGNED else AT_SEVEN[name]
        assert argument(0.7, -1) == pytest.approx(expected), name
        # The strongest level is still valid for every function.
        for sign in (-1, 1):
            assert OPERATIONS[name][0](image(), *argument(1.0, sign)).size == (30, 20), name


def test_draws_follow_the_recipe() -> None:
    augment, random = RandAugment(), generator()
    drawn = [operation for _ in range(4000) for operation in augment.draw(random)]
    # 4 draws, each applied with probability 1/2, uniform over 15 operations.
    assert len(drawn) / 4000 == pytest.approx(2.0, abs=0.06)
    counts = [sum(operation.name == name for operation in drawn) for name in OPERATIONS]
    assert min(counts) > 0.8 * len(drawn) / 15
    assert max(counts) < 1.2 * len(drawn) / 15
    magnitudes = torch.tensor([abs(op.argument[0]) / 3.0 for op in drawn if op.name == "Rotate"])
    assert magnitudes.mean() == pytest.approx(7.0, abs=0.1)
    assert magnitudes.std() == pytest.approx(0.5, abs=0.08)
    signs = torch.tensor([math.copysign(1, op.argument[0]) for op in drawn if op.name == "ShearX"])
    assert abs(float(signs.mean())) < 0.15


def test_magnitudes_are_clipped() -> None:
    augment, random = RandAugment(magnitude=10, magnitude_std=5), generator()
    angles = [abs(op.argument[0]) for _ in range(600) for op in augment.draw(random) if op.name == "Rotate"]
    assert max(angles) == 30.0
    assert min(angles) >= 0


def test_all_frames_get_the_same_operations() -> None:
    frame = torch.randint(256, (3, 24, 32), dtype=torch.uint8, generator=generator())
    clip = frame.expand(5, -1, -1, -1)
    changed = 0
    for seed in range(20):
        augmented = RandAugment()(clip, generator(seed))
        assert augmented.shape == clip.shape
        assert augmented.dtype == torch.uint8
        assert all(torch.equal(augmented[0], other) for other in augmented)
        changed += not torch.equal(augmented, clip)
    assert changed > 10


def test_only_the_given_generator_decides() -> None:
    clip = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8, generator=generator())
    results = []
    for noise in range(3):
        torch.manual_seed(noise)
        np.random.seed(noise)
        results.append(RandAugment()(clip, generator(4)))
    assert all(torch.equal(results[0], other) for other in results)
    states = [generator(1), generator(1)]
    RandAugment()(clip, states[0])
    RandAugment(probability=0.0)(clip, states[1])
    assert torch.equal(states[0].get_state(), states[1].get_state())


def test_grey_comes_into_view() -> None:
    clip = torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    for seed in range(300):
        drawn = RandAugment(num_operations=1, probability=1.0).draw(generator(seed))
        if drawn[0].name == "TranslateXRel":
            moved = RandAugment(num_operations=1, probability=1.0)(clip, generator(seed))
            assert set(moved.flatten().tolist()) == {0, 128}
            return
    pytest.fail("no translation was drawn")


def test_clips_must_be_raw_colour_frames() -> None:
    with pytest.raises(TypeError, match="uint8"):
        RandAugment()(torch.zeros(1, 3, 8, 8), generator())
    with pytest.raises(ValueError, match=r"\(T, 3, H, W\)"):
        RandAugment()(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), generator())


def hidden_box(erased: Tensor, clip: Tensor) -> tuple[int, int, int, int]:
    rows, columns = torch.where((erased != clip).any(dim=0).any(dim=0))
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


def test_erasing_is_one_box_of_fresh_noise() -> None:
    clip = torch.full((4, 3, 40, 60), 7.0)
    erased = RandomErasing(p=1.0)(clip, generator(1))
    top, left, bottom, right = hidden_box(erased, clip)
    inside = erased[:, :, top:bottom, left:right]
    assert bool((inside != 7.0).all())
    assert not any(torch.equal(inside[0], other) for other in inside[1:])
    assert torch.equal(clip, torch.full_like(clip, 7.0)), "the input is not changed"
    outside = erased.clone()
    outside[:, :, top:bottom, left:right] = 7.0
    assert torch.equal(outside, clip)


def test_erased_boxes_have_the_sizes_of_the_recipe() -> None:
    random, erasing = generator(), RandomErasing()
    boxes = [erasing.box(200, 200, random) for _ in range(3000)]
    found = [box for box in boxes if box is not None]
    assert len(found) / len(boxes) == pytest.approx(0.25, abs=0.03)
    shares = [rows * columns / 40000 for _, _, rows, columns in found]
    ratios = [rows / columns for _, _, rows, columns in found]
    assert 0.018 < min(shares) < max(shares) < 0.34
    assert sum(shares) / len(shares) == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    assert 0.28 < min(ratios) < 0.5
    assert 2 < max(ratios) < 3.6
    assert sum(map(math.log, ratios)) / len(ratios) == pytest.approx(0.0, abs=0.1)
    assert all(0 <= top <= 200 - rows and 0 <= left <= 200 - columns for top, left, rows, columns in found)


def test_noise_is_standard_normal() -> None:
    erased = RandomErasing(p=1.0, area=(0.5, 0.5), ratio=1.0)(torch.full((8, 3, 64, 64), 50.0), generator())
    noise = erased[erased != 50.0]
    assert noise.mean() == pytest.approx(0.0, abs=0.02)
    assert noise.std() == pytest.approx(1.0, abs=0.02)


def test_erasing_needs_normalised_clips() -> None:
    with pytest.raises(TypeError, match="normalise"):
        RandomErasing()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), generator())


@pytest.mark.parametrize("arguments", [{"p": 2}, {"area": (0.0, 0.5)}, {"area": (0.5, 0.2)}, {"ratio": 0}])
def test_bad_erasing_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RandomErasing(**arguments)  # type: ignore[arg-type]


def test_colour_jitter_is_drawn_once_for_a_clip_within_its_bounds() -> None:
    frame = torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)
    clip = frame.expand(5, -1, -1, -1)
    means = []
    for seed in range(40):
        changed = ColorJitter(0.4, 0.0, 0.0, 0.0)(clip, torch.Generator().manual_seed(seed))
        assert (changed == changed[:1]).all()
        means.append(float(changed.float().mean()))
    assert min(means) >= 60
    assert max(means) <= 140
    assert max(means) - min(means) > 50
    assert torch.equal(ColorJitter(0.0, 0.0, 0.0, 0.0)(clip, torch.Generator()), clip)
    with pytest.raises(ValueError, match=r"at most 0\.5"):
        ColorJitter(hue=0.6)
