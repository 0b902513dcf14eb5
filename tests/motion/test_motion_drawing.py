"""What is drawn stays within what the settings say, comes again for the same seed, and goes through JSON."""

import dataclasses
import json

import pytest
import torch

from motion_by_hand import batch_of, motion_of, record_of, seeded
from tubelets.motion import MODES, Motion, MotionRecord, MotionSettings, alpha_masks, sample_motion
from tubelets.motion.key_frames import interpolate, place_key_frames, sample_key_frames
from tubelets.motion.patches import source_boxes

PRESETS = ("smile", "tubelet_contrast", "locomotion")


def preset(name: str, **changes: object) -> MotionSettings:
    return getattr(MotionSettings, name)(**changes)


def centres_of(motion: Motion) -> torch.Tensor:
    return (motion.boxes[..., :2] + motion.boxes[..., 2:]) / 2


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("size", "frames"), [((224, 224), 16), ((48, 80), 2), ((16, 16), 7)])
def test_every_draw_is_within_its_limits(name: str, size: tuple[int, int], frames: int) -> None:
    settings = preset(name, opacity=(0.3, 0.9))
    motion = sample_motion(settings, 40, frames, size, seeded())
    shape = (40, settings.num_objects, frames)
    assert motion.boxes.shape == (*shape, 4)
    assert motion.angles.shape == motion.opacities.shape == shape
    assert ((motion.boxes[..., 2:] - motion.boxes[..., :2]) >= 1).all()
    limits = torch.tensor([size[1], size[0]])
    centres = centres_of(motion)
    assert (centres >= -0.5).all()
    assert (centres <= limits).all()
    if settings.clip_boxes:
        assert (motion.boxes >= 0).all()
        assert (motion.boxes <= limits.repeat(2)).all()
    assert (motion.angles[:, :, 0] == 0).all()
    assert (motion.angles.diff(dim=2).abs() <= 2 * 6 + 1).all()  # a phase's fastest step is twice its mean
    assert (motion.angles[:, :, -1].abs() <= 6 * (frames - 1)).all()
    assert not motion.shears.any()
    drawn = motion.opacities[motion.opacities > 0]
    assert drawn.min() >= 0.3 - 1e-6
    assert drawn.max() <= 0.9 + 1e-6
    assert ((motion.source_frames >= 0) & (motion.source_frames < frames)).all()
    assert (motion.key_frames[:, 0] == 0).all()
    assert (motion.key_frames[:, -1] == frames - 1).all()
    assert (motion.key_frames.diff(dim=1) >= 0).all()


def test_smooth_paths_span_as_many_pixels_in_both_axes_and_keep_their_centres_inside() -> None:
    settings = MotionSettings.smile(size_velocity=0.0)
    motion = sample_motion(settings, 64, 48, (224, 224), seeded())  # 48 frames: every point of the path
    spans = centres_of(motion).amax(dim=2) - centres_of(motion).amin(dim=2)
    assert (spans >= 39).all()
    assert (spans <= 180).all()
    assert (spans[..., 0] - spans[..., 1]).abs().max() <= 2
    assert (motion.boxes < 0).any()  # boxes themselves may stick out
    assert spans.std() > 20


def test_draws_scale_with_the_frame() -> None:
    areas = {}
    for side in (112, 224):
        motion = sample_motion(MotionSettings.smile(), 256, 16, (side, side), seeded())
        areas[side] = (motion.boxes[..., 2:] - motion.boxes[..., :2]).double().prod(dim=-1).mean().item()
    assert areas[224] / areas[112] == pytest.approx(4, rel=0.1)


def test_objects_keep_their_own_ratio_when_asked() -> None:
    ratios = torch.tensor([[2.0], [0.5]])
    motion = sample_motion(MotionSettings.locomotion(), 2, 16, (224, 224), seeded(), ratios)
    sides = (motion.boxes[..., 2:] - motion.boxes[..., :2]).double()
    found = (sides[..., 0] / sides[..., 1]).mean(dim=2)
    assert torch.allclose(found, ratios.double(), rtol=0.05)


def test_seeds_decide_and_nothing_else_does() -> None:
    draws = [sample_motion(MotionSettings.smile(), 3, 16, (64, 64), seeded(seed)) for seed in (1, 1, 2)]
    for field in dataclasses.fields(Motion):
        first, second = getattr(draws[0], field.name), getattr(draws[1], field.name)
        assert first.equal(second) if isinstance(first, torch.Tensor) else first == second
    assert not draws[0].boxes.equal(draws[2].boxes)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    sample_motion(MotionSettings.smile(), 3, 16, (64, 64), seeded())
    assert torch.get_rng_state().equal(state)


def test_key_frames_and_modes_have_the_published_shares() -> None:
    keys = sample_key_frames(8000, 16, seeded())
    inner = (keys.diff(dim=1) > 0).sum(dim=1) - 1
    shares = torch.bincount(inner, minlength=3).double() / 8000
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), atol=0.02)


def test_interpolation_meets_the_key_frames_and_stays_between_them() -> None:
    keys = place_key_frames(16, torch.tensor([0, 1, 2]), torch.tensor([[0, 0], [-2, 0], [0, 0]]))
    values = torch.rand(3, keys.shape[1], 5, generator=seeded(), dtype=torch.float64)
    values[0, 1:], values[1, 2:] = values[0, 1], values[1, 2]  # repeated key frames are one
    for mode in range(len(MODES)):
        track = interpolate(values, keys, torch.full((3, keys.shape[1] - 1), mode), 16)
        for clip in range(3):
            assert torch.allclose(track[clip, keys[clip]], values[clip])
        assert (track >= values.amin(dim=1, keepdim=True) - 1e-9).all()
        assert (track <= values.amax(dim=1, keepdim=True) + 1e-9).all()


@pytest.mark.parametrize("name", PRESETS)
def test_records_go_through_json_and_back(name: str) -> None:
    motion = sample_motion(preset(name, shear_velocity=0.02), 5, 9, (64, 48), seeded())
    names = [[f"object {clip}"] * motion.boxes.shape[1] for clip in range(5)]
    records = motion.records(names, names)
    again = [MotionRecord.from_dict(json.loads(json.dumps(record.to_dict()))) for record in records]
    assert again == records
    restored = batch_of(again)
    for field in dataclasses.fields(Motion):
        if field.name not in ("key_frames", "modes"):
            before, after = getattr(motion, field.name), getattr(restored, field.name)
            assert before.equal(after) if isinstance(before, torch.Tensor) else before == after
    for clip, record in enumerate(records):
        real = motion.key_frames[clip].unique().tolist()
        assert record.key_frames == real
        assert record.objects == tuple(names[clip])
    assert [record.key_frames for record in restored.records()] == [record.key_frames for record in records]
    assert [record.modes for record in restored.records()] == [record.modes for record in records]


def test_batches_are_cut_and_joined_again() -> None:
    motion = sample_motion(MotionSettings.smile(), 4, 8, (64, 64), seeded())
    joined = Motion.concatenate([motion[:1], motion[1:3], motion[3:]])
    assert len(joined) == 4
    assert joined.boxes.equal(motion.boxes)
    assert joined.records() == motion.records()
    other = sample_motion(MotionSettings.smile(), 1, 8, (64, 32), seeded())
    with pytest.raises(ValueError, match="agree in sizes and settings, got 2 kinds"):
        Motion.concatenate([motion, other])
    with pytest.raises(ValueError, match="got 0 kinds"):
        Motion.concatenate([])


def test_some_of_the_frames_have_the_boxes_of_these_frames() -> None:
    motion = sample_motion(MotionSettings.tubelet_contrast(), 3, 16, (64, 64), seeded())
    picked = motion.at([0, 3, 9, 15])
    assert picked.boxes.equal(motion.boxes[:, :, [0, 3, 9, 15]])
    assert picked.key_frames.max() == 3
    sizes, whole = ((boxes[..., 2:] - boxes[..., :2]) for boxes in (source_boxes(picked), motion.boxes))
    assert (sizes[:, :, None] == whole).all(dim=-1).any(dim=2).all()
    for frames in ([3], [3, 1], [0, 16], [-1, 2], [2, 2]):
        with pytest.raises(ValueError, match="at least two ascending indices up to 15"):
            motion.at(frames)


def test_outlines_have_the_shape_that_their_name_says() -> None:
    sizes, hard = torch.tensor([[41, 41]] * 3), torch.zeros(3)
    rectangle, ellipse, rhombus = alpha_masks(torch.arange(3), hard, sizes)
    assert rectangle.min() == 1
    assert ellipse.mean().item() == pytest.approx(torch.pi / 4, abs=0.03)
    assert rhombus.mean().item() == pytest.approx(0.5, abs=0.03)
    soft = alpha_masks(torch.arange(3), torch.full((3,), 0.3), sizes)
    assert (soft <= torch.stack((rectangle, ellipse, rhombus))).all()
    assert (soft[:, 20, 20] == 1).all()
    assert ((soft > 0) & (soft < 1)).flatten(1).any(dim=1).all()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((0, 16, (64, 64)), "0 clips of 16 frames of 64 x 64"),
        ((1, 1, (64, 64)), "1 clips of 1 frames"),
        ((1, 16, (64, 15)), "64 x 15"),
    ],
)
def test_impossible_clips_are_refused(arguments: tuple[int, int, tuple[int, int]], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        sample_motion(MotionSettings.smile(), *arguments, seeded())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "zigzag"}, r"path must be one of .*got 'zigzag'"),
        ({"num_objects": 0}, "num_objects must be at least 1"),
        ({"smoothness": 0.0}, "smoothness above 0"),
        ({"scales": ()}, "scales must be positive numbers"),
        ({"ratios": (1.0, -2.0)}, r"ratios must be positive numbers.*-2.0"),
        ({"mode_probabilities": (0.5, 0.5)}, "mode_probabilities must be 3 numbers that add up to 1"),
        ({"key_frame_probabilities": (0.5, 0.6)}, "key_frame_probabilities must be some numbers that add up to 1"),
        ({"draw_probability": 1.5}, r"draw_probability must lie in \[0, 1\], got 1.5"),
        ({"opacity": (0.9, 0.2)}, "opacity must be two ascending numbers"),
        ({"opacity": (0.9, 1.2)}, "must not pass 1"),
        ({"path_span": (9,)}, "path_span must be two ascending numbers"),
        ({"long_side": (0.2, 1.0)}, "long_side must not pass 1"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MotionSettings.smile(**changes)


def test_settings_go_through_json_and_unknown_fields_are_named() -> None:
    for name in PRESETS:
        settings = preset(name)
        assert MotionSettings.from_dict(json.loads(json.dumps(dataclasses.asdict(settings)))) == settings
    with pytest.raises(ValueError, match="no field 'speed'"):
        MotionSettings.from_dict({"speed": 3})


def test_records_that_are_not_whole_are_refused() -> None:
    record = record_of([[[1, 2, 9, 9]] * 3])
    values = record.to_dict()
    with pytest.raises(ValueError, match="got version 7"):
        MotionRecord.from_dict({**values, "version": 7})
    with pytest.raises(ValueError, match="boxes"):
        MotionRecord.from_dict({name: value for name, value in values.items() if name != "boxes"})
    with pytest.raises(ValueError, match="angles must have a list of the same 2 or more frames"):
        dataclasses.replace(record, angles=[[0, 0]])
    with pytest.raises(ValueError, match=r"source_frames must have an entry for each of 1 objects, got \[\]"):
        dataclasses.replace(record, source_frames=[])
    with pytest.raises(ValueError, match="got \\['jump'\\]"):
        dataclasses.replace(record, modes=["jump"])
    assert motion_of([[[1, 2, 9, 9]] * 3]).records() == [record]
