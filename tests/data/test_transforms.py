import math

import numpy as np
import pytest
import torch
from PIL import Image

from tubelets.data.transforms.spatial import (
    CenterCrop,
    Compose,
    HorizontalFlip,
    MultiScaleCrop,
    RandomResizedCrop,
    ShortSideResize,
    StretchedCrop,
    multi_scale_crop_candidates,
    normalize,
    three_crops,
)

RANDOM = [
    MultiScaleCrop(32),
    RandomResizedCrop(32),
    StretchedCrop(32),
    HorizontalFlip(0.5),
    Compose((MultiScaleCrop(32), HorizontalFlip())),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_clip(frames=2, height=48, width=64, seed=0):
    return torch.randint(256, (frames, 3, height, width), generator=seeded(seed), dtype=torch.uint8)


def places(height, width):
    """A clip whose channels hold the row and the column of each pixel."""
    rows = torch.arange(height).reshape(-1, 1).expand(height, width)
    columns = torch.arange(width).expand(height, width)
    return torch.stack([rows, columns, columns]).to(torch.uint8)[None]


def pillow(clip, height, width, box=None):
    frames = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in clip]
    resized = [np.array(frame.resize((width, height), Image.Resampling.BILINEAR, box)) for frame in frames]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("transform", RANDOM, ids=lambda transform: type(transform).__name__)
def test_random_transforms_follow_the_generator(transform):
    clip = random_clip()
    outputs = [transform(clip, seeded(seed)) for seed in range(12)]
    assert torch.equal(outputs[0], transform(clip, seeded(0)))
    assert len({output.numpy().tobytes() for output in outputs}) > 1
    assert all(output.dtype == torch.uint8 for output in outputs)


@pytest.mark.parametrize("transform", RANDOM, ids=lambda transform: type(transform).__name__)
def test_random_transforms_treat_all_frames_alike_and_leave_the_input(transform):
    frame = random_clip(1)
    clip = frame.repeat(4, 1, 1, 1)
    output = transform(clip, seeded(1))
    assert all(torch.equal(output[0], other) for other in output)
    assert torch.equal(clip, frame.repeat(4, 1, 1, 1))


@pytest.mark.parametrize("transform", RANDOM, ids=lambda transform: type(transform).__name__)
def test_global_randomness_is_not_touched(transform):
    before = torch.get_rng_state()
    transform(random_clip(), seeded())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("height", "width"), [(223, 300), (48, 64), (5, 5), (300, 226), (2, 9)])
def test_crop_candidates_stay_inside(height, width):
    for (rows, columns), offsets in multi_scale_crop_candidates(height, width, 224):
        assert len(offsets) == 13
        assert all(0 <= top <= height - rows and 0 <= left <= width - columns for top, left in offsets)


def test_crop_candidates_snap_to_the_size_only_when_it_fits():
    sides = [height for (height, _), _ in multi_scale_crop_candidates(226, 300, 224)]
    assert sides[0] == 224
    sides = [height for (height, _), _ in multi_scale_crop_candidates(223, 300, 224)]
    assert sides[0] == 223


def test_multi_scale_crop_draws_only_and_all_candidates():
    clip = places(32, 48)
    expected = {
        (top, left, rows, columns)
        for (rows, columns), offsets in multi_scale_crop_candidates(32, 48, 16, scales=(1, 0.5))
        for top, left in offsets
    }
    seen = set()
    transform, generator = MultiScaleCrop(16, scales=(1, 0.5)), seeded()
    boxes = {transform(clip, generator).numpy().tobytes() for _ in range(1500)}
    for top, left, rows, columns in expected:
        part = clip[:, :, top : top + rows, left : left + columns]
        if (rows, columns) == (16, 16):
            seen.add(part.contiguous().numpy().tobytes())
    assert seen <= boxes
    assert len(boxes) <= len(expected)


@pytest.mark.parametrize(("height", "width", "size"), [(48, 64, 24), (64, 48, 24), (50, 71, 80), (240, 320, 224)])
def test_resizing_follows_pillow(height, width, size):
    clip = random_clip(2, height, width)
    output = ShortSideResize(size)(clip)
    short = min(height, width)
    shape = (int(size * height / short), int(size * width / short))
    assert output.shape[2:] == shape
    assert (output.int() - pillow(clip, *shape).int()).abs().max() <= 1


def test_cropped_pixels_do_not_reach_the_result():
    clip = places(40, 60)
    generator = seeded()
    for _ in range(30):
        state = generator.get_state()
        output = RandomResizedCrop(20, scale=(0.25, 0.5), antialias=True)(clip, generator)
        generator.set_state(state)
        top, left, rows, columns = RandomResizedCrop(20, scale=(0.25, 0.5)).box(40, 60, generator)
        expected = pillow(clip[:, :, top : top + rows, left : left + columns], 20, 20)
        assert (output.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize(("height", "width"), [(60, 80), (80, 60)])
def test_stretched_crop_is_a_part_of_one_of_three_sizes(height, width):
    # tubelet_contrast.md, section 6: 149 x 112, 171 x 128 and 192 x 144, swapped for clips taller than wide.
    clip = random_clip(1, height, width)
    wide = {(112, 149), (128, 171), (144, 192)}
    sizes = wide if width > height else {pair[::-1] for pair in wide}
    resized = {
        size: torch.nn.functional.interpolate(clip.float(), size, mode="bilinear").round().to(torch.uint8)
        for size in sizes
    }
    found = set()
    for seed in range(24):
        crop = StretchedCrop(112)(clip, seeded(seed))
        for size, whole in resized.items():
            # The corner tells where the crop is; the rest has to follow.
            corners = whole[0].unfold(1, 4, 1).unfold(2, 4, 1)[:, : size[0] - 111, : size[1] - 111]
            close = (corners.int() - crop[0, :, None, None, :4, :4].int()).abs().amax(dim=(0, 3, 4)) <= 1
            places = [whole[0, :, top : top + 112, left : left + 112] for top, left in close.nonzero().tolist()]
            if any((place.int() - crop[0].int()).abs().max() <= 1 for place in places):
                found.add(size)
                break
        else:
            raise AssertionError("the crop is part of none of the three")
    assert found == sizes


def test_random_resized_crop_respects_its_bounds():
    crop, generator = RandomResizedCrop(16, scale=(0.25, 0.6), ratio=(0.5, 2.0)), seeded()
    boxes = [crop.box(240, 320, generator) for _ in range(400)]
    areas = [rows * columns / (240 * 320) for _, _, rows, columns in boxes]
    ratios = [columns / rows for _, _, rows, columns in boxes]
    assert all(0 <= top <= 240 - rows and 0 <= left <= 320 - columns for top, left, rows, columns in boxes)
    assert 0.24 < min(areas) < 0.3
    assert 0.55 < max(areas) < 0.61
    assert min(ratios) < 0.6
    assert max(ratios) > 1.7


def test_random_resized_crop_ratios_are_uniform_in_the_logarithm():
    # Areas so small that no ratio has to be refused.
    crop, generator = RandomResizedCrop(16, scale=(0.1, 0.2), ratio=(0.5, 2.0)), seeded()
    ratios = [math.log2(columns / rows) for _, _, rows, columns in (crop.box(240, 320, generator) for _ in range(2000))]
    shares = torch.histc(torch.tensor(ratios), bins=4, min=-1, max=1) / len(ratios)
    assert (shares - 0.25).abs().max() < 0.04


def test_random_resized_crop_falls_back_to_the_centre():
    crop = RandomResizedCrop(16, scale=(1.0, 1.0), ratio=(3 / 4, 4 / 3))
    assert crop.box(30, 300, seeded()) == (0, 130, 30, 40)
    assert crop.box(300, 30, seeded()) == (130, 0, 40, 30)


def test_whole_frame_without_distortion_is_untouched():
    clip = random_clip(2, 32, 32)
    assert torch.equal(RandomResizedCrop(32, scale=(1, 1), ratio=(1, 1))(clip, seeded()), clip)
    assert torch.equal(ShortSideResize(32)(clip), clip)
    assert torch.equal(CenterCrop(32)(clip), clip)


def test_flip_probability():
    clip, generator = random_clip(), seeded()
    flipped = sum(torch.equal(HorizontalFlip(0.3)(clip, generator), clip.flip(-1)) for _ in range(500))
    assert 110 < flipped < 190
    assert torch.equal(HorizontalFlip(0.0)(clip, generator), clip)


def test_center_crop_takes_the_middle():
    output = CenterCrop(4)(places(10, 8))
    assert output[0, 0, :, 0].tolist() == [3, 4, 5, 6]
    assert output[0, 1, 0].tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(("long", "offsets"), [(8, (0, 0, 0)), (13, (0, 2, 5)), (14, (0, 3, 6))])
def test_three_crops_spread_along_the_long_side(long, offsets):
    wide, tall = three_crops(places(8, long), 8), three_crops(places(long, 8), 8)
    assert wide.shape == tall.shape == (3, 1, 3, 8, 8)
    assert tuple(wide[:, 0, 1, 0, 0].tolist()) == offsets
    assert tuple(tall[:, 0, 0, 0, 0].tolist()) == offsets
    assert (wide[:, 0, 0, 0, 0] == 0).all()


def test_compose_applies_in_order():
    clip = places(20, 30)
    steps = Compose((ShortSideResize(10), CenterCrop(6)))
    assert torch.equal(steps(clip, seeded()), CenterCrop(6)(ShortSideResize(10)(clip)))


def test_normalize_matches_the_formula():
    clip = random_clip().reshape(1, 2, 3, 48, 64)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    output = normalize(clip, mean, std)
    expected = (clip.double() / 255 - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(std).reshape(3, 1, 1)
    assert output.dtype == torch.float32
    assert (output - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (ValueError, lambda: CenterCrop(50)(random_clip()), "50 pixels is larger than the 48 x 64 clip"),
        (ValueError, lambda: CenterCrop(0), "size must be at least 1"),
        (ValueError, lambda: three_crops(random_clip(), 40), "shorter side of the clip must be 40, got 48 x 64"),
        (ValueError, lambda: MultiScaleCrop(32, scales=(1.5,))(random_clip(), seeded()), r"in \(0, 1\]"),
        (ValueError, lambda: multi_scale_crop_candidates(1, 9, 4), "leaves no pixel"),
        (ValueError, lambda: multi_scale_crop_candidates(0, 9, 4), "at least 1"),
        (ValueError, lambda: RandomResizedCrop(32, scale=(0.5, 0.2)), r"scale .* got \(0.5, 0.2\)"),
        (ValueError, lambda: RandomResizedCrop(32, ratio=(0, 1)), "ratio"),
        (ValueError, lambda: HorizontalFlip(1.2), "got 1.2"),
        (ValueError, lambda: StretchedCrop(32, sizes=((300, 200),)), "at least 224 pixels"),
        (TypeError, lambda: ShortSideResize(8)(torch.zeros(2, 3, 8, 8)), "must be uint8"),
        (ValueError, lambda: ShortSideResize(8)(torch.zeros(3, 8, 8, dtype=torch.uint8)), r"\(T, C, H, W\)"),
        (ValueError, lambda: normalize(random_clip(), [0.5], [0.5]), "channels"),
        (ValueError, lambda: normalize(random_clip(), [0.5] * 3, [0.5, 0, 0.5]), "positive"),
        (TypeError, lambda: normalize(random_clip().float(), [0.5] * 3, [0.5] * 3), "uint8"),
    ],
)
def test_wrong_input_is_refused(error, call, message):
    with pytest.raises(error, match=message):
        call()
