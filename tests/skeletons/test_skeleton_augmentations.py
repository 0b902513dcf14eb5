"""Views, temporal crops and normalisation of skeletons, vectorised over a batch."""

import itertools

import pytest
import torch
from torch import Tensor

from tubelets.ranges import RangeError
from tubelets.skeletons import (
    AUGMENTATIONS,
    ViewSettings,
    as_image,
    as_sequence,
    crop_resize,
    draw_views,
    fill_gaps,
    layout_named,
    mirror,
    normalize_skeletons,
    pad_clips,
    random_crops,
)

LENGTHS = torch.tensor([300, 40, 64, 101, 1])


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def clips(*lengths: int, joints: int = 25, coordinates: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return pad_clips([torch.randn(2, length, joints, coordinates, generator=generator) for length in lengths])


def test_views_of_a_batch_are_those_of_its_clips_one_by_one() -> None:
    skeletons, lengths = clips(*LENGTHS.tolist())
    together = draw_views(ViewSettings(), lengths, 25, seeded(*range(5))).apply(skeletons, 64)
    for place in range(5):
        one = slice(place, place + 1)
        alone = draw_views(ViewSettings(), lengths[one], 25, seeded(place)).apply(skeletons[one], 64)
        assert torch.equal(together[one], alone)


def test_crops_follow_the_official_rule() -> None:
    lengths = LENGTHS.repeat(400)
    starts, frames = random_crops(lengths, torch.Generator().manual_seed(0))
    assert torch.all((starts >= 0) & (starts + frames <= lengths))
    assert torch.equal(frames[lengths <= 64], lengths[lengths <= 64])
    assert torch.all(frames[lengths > 64] >= 64)
    long = frames[lengths == 300]
    assert abs(long.double().mean().item() - (64 * (64 - 30) / 270 + sum(range(64, 300)) / 270)) < 8
    shortest = starts[(lengths == 300) & (frames == 64)]
    assert shortest.min() < 24
    assert shortest.max() > 212


def test_every_subset_of_augmentations_changes_what_it_names() -> None:
    count = 400
    for size in range(len(AUGMENTATIONS) + 1):
        for names in itertools.combinations(AUGMENTATIONS, size):
            lengths = torch.full((count,), 200)
            plan = draw_views(ViewSettings(augmentations=names), lengths, 25, torch.Generator().manual_seed(1))
            assert bool((plan.lengths < 200).any()) == ("temporal" in names)
            same = (plan.matrices == torch.eye(3)).all(dim=(1, 2))
            jittered = ~plan.joints.all(dim=1)
            assert bool(same.all()) == (not {"pose", "jitter"} & {*names})
            share = 0.5 if {"pose", "jitter"} <= {*names} else float("jitter" in names)
            assert abs(jittered.double().mean().item() - share) < 0.08
            assert set(plan.joints[jittered].sum(dim=1).tolist()) <= {15}
            zero = (plan.matrices == 0).all(dim=(1, 2))
            assert not zero[~jittered].any()
            if "jitter" in names:
                assert abs(zero[jittered].double().mean().item() - 0.5) < 0.12


def test_resizing_is_linear_interpolation_without_aligned_corners() -> None:
    skeletons, lengths = clips(100, 20)
    found = crop_resize(skeletons, torch.tensor([10, 0]), torch.tensor([80, 20]), 64)
    for place, (start, length) in enumerate(((10, 80), (0, 20))):
        crop = skeletons[place, :, start : start + length].flatten(2).transpose(1, 2)
        expected = torch.nn.functional.interpolate(crop, size=64, mode="linear", align_corners=False)
        torch.testing.assert_close(found[place], expected.transpose(1, 2).unflatten(2, (25, 3)))
    assert lengths.tolist() == [100, 20]


def filled_by_hand(body: list[float]) -> list[float]:
    if not any(body):
        return body
    if not body[0]:
        body = [value for value in body if value] + [0.0] * sum(not value for value in body)
    last = max(place for place, value in enumerate(body) if value) + 1
    return [body[place % last] if place >= last else body[place] for place in range(len(body))]


def test_gaps_are_filled_as_by_hand() -> None:
    bodies = list(itertools.product([0.0, 1.0, 2.0], repeat=5))
    found = fill_gaps(torch.tensor(bodies).view(1, len(bodies), 5, 1, 1)).flatten(2)[0]
    assert found.tolist() == [filled_by_hand(list(body)) for body in bodies]


def test_normalised_bodies_stand_upright_and_face_the_front() -> None:
    layout = layout_named("kinect-25")
    skeletons, _ = clips(12, 12)
    skeletons[1, 1] = 0
    found = normalize_skeletons(skeletons, layout)
    base, middle = found[:, 0, 0, layout.index("spine_base")], found[:, 0, 0, layout.index("spine_mid")]
    assert middle.abs().max() == 0
    shoulders = found[:, 0, 0, layout.index("right_shoulder")] - found[:, 0, 0, layout.index("left_shoulder")]
    assert shoulders[:, 1:].abs().max() < 1e-5
    assert shoulders[:, 0].min() > 0
    assert base.norm(dim=-1).min() > 0
    assert not found[1, 1].any()
    # Distances between joints of a body do not change.
    torch.testing.assert_close(torch.cdist(found[0, 0], found[0, 0]), torch.cdist(skeletons[0, 0], skeletons[0, 0]))
    with pytest.raises(ValueError, match=r"coco-17.* lacks spine_base, spine_mid"):
        normalize_skeletons(torch.zeros(1, 1, 4, 17, 3), layout_named("coco-17"))
    with pytest.raises(ValueError, match="use center_skeletons for two coordinates"):
        normalize_skeletons(torch.zeros(1, 1, 4, 25, 2), layout)


def test_confidences_and_representations_survive() -> None:
    skeletons, lengths = clips(30, 50, joints=17, coordinates=3)
    settings = ViewSettings(16, num_dimensions=2, jitter_joints=40)
    plan = draw_views(settings, lengths, 17, torch.Generator().manual_seed(3))
    whole = draw_views(ViewSettings(16, (), num_dimensions=2), lengths, 17, torch.Generator())
    views = plan.apply(skeletons, 16)
    resized = crop_resize(skeletons, plan.starts, plan.lengths, 16)
    assert torch.equal(views[..., 2], resized[..., 2])
    assert not torch.equal(views[..., :2], resized[..., :2])
    assert torch.equal(whole.apply(skeletons, 16)[..., :2], crop_resize(skeletons, *_whole(lengths), 16)[..., :2])
    assert as_sequence(views)[1, 3, 5 * 6 + 2 * 2 + 1] == views[1, 1, 3, 5, 2]
    assert as_image(views)[1, 2, 3, 5, 1] == views[1, 1, 3, 5, 2]


def _whole(lengths: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(lengths), lengths


def test_mirroring_twice_changes_nothing() -> None:
    layout = layout_named("mediapipe-33")
    skeletons, _ = clips(5, 5, joints=33)
    chosen = torch.tensor([True, False])
    once = mirror(skeletons, layout, chosen)
    assert torch.equal(once[1], skeletons[1])
    assert torch.equal(once[0, :, :, layout.index("left_knee"), 0], -skeletons[0, :, :, layout.index("right_knee"), 0])
    assert torch.equal(mirror(once, layout, chosen), skeletons)


def test_wrong_settings_and_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="augmentations must be some of temporal, pose, jitter, got"):
        ViewSettings(augmentations=("flip",))
    with pytest.raises(RangeError):
        ViewSettings(min_crop_ratio=1.5)
    with pytest.raises(ValueError, match="every clip must have a frame"):
        draw_views(ViewSettings(), torch.tensor([3, 0]), 25, torch.Generator())
    with pytest.raises(ValueError, match="convert them to one layout"):
        pad_clips([torch.zeros(1, 4, 17, 3), torch.zeros(1, 4, 25, 3)])
