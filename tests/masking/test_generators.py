"""Exact counts, tubes, uniformity and seeds of the mask generators."""

import math
from typing import Any

import pytest
import torch

from tubelets.masking import (
    MASK_TYPES,
    VIDEO_NOISE,
    NoiseMaskGenerator,
    RandomMaskGenerator,
    TubeMaskGenerator,
    build_mask_generator,
)

PLAIN = ("random", "tube")
GRID = (8, 14, 14)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("mask_type", "grid", "ratio", "expected"),
    [
        ("tube", GRID, 0.9, 8 * 176),
        ("tube", GRID, 0.75, 8 * 147),
        ("tube", (8, 14, 14), 0.95, 8 * 186),
        ("tube", (1, 3, 5), 0.5, 7),
        ("tube", (2, 2, 2), 0, 0),
        ("random", GRID, 0.9, 1411),
        ("random", (2, 3, 5), 0.5, 15),
        ("random", (1, 1, 2), 0.99, 1),
    ],
)
def test_counts_are_exact_in_every_clip(
    mask_type: str, grid: tuple[int, int, int], ratio: float, expected: int
) -> None:
    generator = build_mask_generator(mask_type, grid, ratio)
    mask = generator(5, generator=seeded())
    assert mask.dtype == torch.bool
    assert mask.shape == (5, math.prod(grid))
    assert generator.num_masked == expected
    assert mask.sum(dim=1).tolist() == [expected] * 5  # True = masked


def test_default_tube_mask_leaves_twenty_positions_of_each_slot_visible() -> None:
    mask = TubeMaskGenerator(GRID)(3, generator=seeded()).view(3, 8, 196)
    assert ((~mask).sum(dim=2) == 20).all()


def test_tubes_are_constant_over_time_and_random_masks_are_not() -> None:
    tubes = TubeMaskGenerator(GRID, 0.9)(4, generator=seeded()).view(4, 8, 196)
    assert (tubes == tubes[:, :1]).all()
    random = RandomMaskGenerator(GRID, 0.9)(4, generator=seeded()).view(4, 8, 196)
    assert not (random == random[:, :1]).all()


@pytest.mark.parametrize("mask_type", PLAIN)
def test_clips_of_a_batch_and_successive_draws_differ(mask_type: str) -> None:
    draw, generator = build_mask_generator(mask_type, GRID, 0.9), seeded()
    masks = torch.cat([draw(8, generator=generator), draw(8, generator=generator)])
    assert len(masks.unique(dim=0)) == 16


@pytest.mark.parametrize("mask_type", PLAIN)
def test_a_seed_decides_the_mask_and_the_global_generator_is_left_alone(mask_type: str) -> None:
    draw = build_mask_generator(mask_type, GRID, 0.9)
    before = torch.get_rng_state()
    first, again, other = (draw(4, generator=seeded(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mask_type", PLAIN)
def test_every_position_is_masked_equally_often(mask_type: str) -> None:
    draws, ratio = 20_000, 0.75
    mask = build_mask_generator(mask_type, (2, 4, 4), ratio)(draws, generator=seeded())
    deviation = math.sqrt(ratio * (1 - ratio) / draws)
    assert (mask.float().mean(dim=0) - ratio).abs().max() < 5 * deviation


def test_pairs_of_positions_are_masked_together_as_often_as_chance_says() -> None:
    draws, masked, positions = 20_000, 12, 16
    mask = TubeMaskGenerator((1, 4, 4), 0.75)(draws, generator=seeded()).float()
    together = mask.T @ mask / draws
    expected = masked * (masked - 1) / (positions * (positions - 1))
    pairs = together[~torch.eye(positions, dtype=torch.bool)]
    assert (pairs - expected).abs().max() < 5 * math.sqrt(expected * (1 - expected) / draws)


@pytest.mark.parametrize("mask_type", PLAIN)
def test_masks_are_made_on_the_device_asked_for(mask_type: str) -> None:
    draw = build_mask_generator(mask_type, (2, 4, 4), 0.5)
    assert draw(2).device.type == "cpu"
    assert draw(2, device="cpu").device.type == "cpu"
    assert draw(2, device=torch.device("meta")).device.type == "meta"


@pytest.mark.parametrize("mask_type", PLAIN)
@pytest.mark.parametrize(
    ("grid", "ratio", "named"),
    [
        ((8, 14), 0.9, r"grid.*\(8, 14\)"),
        ((8, 0, 14), 0.9, r"grid.*\(8, 0, 14\)"),
        ((8, -1, 14), 0.9, r"grid.*-1"),
        ((8, 14, 14.0), 0.9, r"grid.*14\.0"),
        (GRID, 1.0, r"mask_ratio.*1\.0"),
        (GRID, -0.1, r"mask_ratio.*-0\.1"),
        (GRID, 90, r"mask_ratio.*90"),
        (GRID, float("nan"), r"mask_ratio.*nan"),
    ],
)
def test_bad_grids_and_ratios_are_refused_by_value(mask_type: str, grid: Any, ratio: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build_mask_generator(mask_type, grid, ratio)


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"\['blue2d', .*'random', .*'tube'\], got 'block'"):
        build_mask_generator("block", GRID, 0.9)


def test_every_kind_of_video_noise_is_a_mask_type() -> None:
    assert {*PLAIN, *VIDEO_NOISE} == set(MASK_TYPES)
    for name in VIDEO_NOISE:
        options: dict[str, Any] = {"bank_size": 2, "volume_shape": (8, 16, 16), "seed": 3}
        made = build_mask_generator(name, (4, 8, 8), 0.75, **options)
        direct = NoiseMaskGenerator(name, (4, 8, 8), 0.75, **options)
        assert made.num_masked == 4 * 48
        assert torch.equal(made(3, generator=seeded()), direct(3, generator=seeded()))


@pytest.mark.parametrize(("name", "options"), [("green3d", {"colour": 1}), ("tube", {"bank_size": 2})])
def test_options_that_a_generator_does_not_have_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{name}.*{next(iter(options))}"):
        build_mask_generator(name, GRID, 0.9, **options)
