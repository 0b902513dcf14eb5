"""Pasting: what stays, what is copied, what is cut off, and how near the fast way is to the exact one."""

import json

import pytest
import torch
from torch import Tensor

from exact_motion import render_exactly
from motion_by_hand import batch_of, disc, motion_of, noise, record_of, seeded, smooth_picture
from tubelets.motion import (
    Motion,
    MotionRecord,
    MotionSettings,
    crop_patches,
    object_masks,
    object_patches,
    render,
    sample_motion,
)
from tubelets.motion.patches import weighted_by_alpha

# Frames are written in words of 8, 4, 2 or 1 pixels, whichever divides the width.
WIDTHS = (64, 60, 58, 57)


def drawn(settings: MotionSettings, clips: int, frame_size: tuple[int, int], seed: int = 0, frames: int = 8) -> Motion:
    return sample_motion(settings, clips, frames, frame_size, seeded(seed))


def discs(clips: int, count: int = 2) -> list[list[Tensor]]:
    return [[disc(40 + 8 * index, seed=clip * count + index) for index in range(count)] for clip in range(clips)]


def smile_batch(clips: int, size: tuple[int, int] = (64, 64), seed: int = 0) -> tuple[Tensor, Motion]:
    return noise(clips, 8, 3, *size, seed=seed), drawn(MotionSettings.smile(), clips, size, seed)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_transparent_leaves_frames_as_they_are(width: int) -> None:
    frames, motion = smile_batch(3, (48, width))
    objects = [[torch.cat((noise(3, 20, 30), torch.zeros(1, 20, 30, dtype=torch.uint8)))] * 2] * 3
    patches = object_patches(objects, motion)
    assert render(frames, motion, patches).equal(frames)
    assert not object_masks(motion, patches).any()


def test_an_object_that_is_not_drawn_in_a_frame_changes_only_the_others() -> None:
    motion = motion_of([[[10, 10, 30, 26]] * 4], opacities=[[1.0, 0.0, 1.0, 0.0]])
    frames = torch.zeros(1, 4, 3, 64, 64, dtype=torch.uint8)
    result = render(frames, motion, object_patches([[disc()]], motion))
    assert result.flatten(2).any(dim=2).tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("corner", [(9, 13), (-7, -5), (47, 30), (-30, 10), (200, 10), (3, -90)])
def test_an_opaque_upright_patch_is_copied_and_cut_at_the_border(corner: tuple[int, int], width: int) -> None:
    (left, top), rows, columns = corner, 21, 18
    motion = motion_of([[[left + t, top, left + t + columns, top + rows] for t in range(3)]], (48, width))
    colours = noise(3, rows, columns, seed=1)
    patch = torch.cat((colours, torch.full((1, rows, columns), 255, dtype=torch.uint8)))
    frames = noise(1, 3, 3, 48, width)
    expected = torch.nn.functional.pad(frames, (100, 300, 100, 100))
    for t in range(3):
        expected[0, t, :, top + 100 : top + 100 + rows, left + t + 100 : left + t + 100 + columns] = colours
    expected = expected[..., 100:148, 100 : 100 + width]
    assert render(frames, motion, object_patches([[patch]], motion)).equal(expected)


def test_half_an_opacity_is_half_a_blend_truncated() -> None:
    motion = motion_of([[[0, 0, 16, 16]] * 2], opacities=[[0.5, 0.25]])
    patch = torch.full((4, 16, 16), 255, dtype=torch.uint8)
    result = render(torch.full((1, 2, 3, 64, 64), 100, dtype=torch.uint8), motion, object_patches([[patch]], motion))
    assert result[0, 0, :, :16, :16].unique().tolist() == [177]  # 100 / 2 + 255 / 2 = 177.5
    assert result[0, 1, :, :16, :16].unique().tolist() == [138]  # 138.75
    assert result[..., 16:].unique().tolist() == [100]


def test_quarter_turns_move_every_pixel_to_its_place() -> None:
    angles = [0, 90, 180, 270]
    motion = motion_of([[[20, 20, 40, 40]] * 4], angles=[angles])
    colours = noise(3, 20, 20)
    patch = torch.cat((colours, torch.full((1, 20, 20), 255, dtype=torch.uint8)))
    result = render(torch.zeros(1, 4, 3, 64, 64, dtype=torch.uint8), motion, object_patches([[patch]], motion))
    for frame in range(4):
        # Clockwise with y down; the patch turns about its corner-based centre, which moves it by up to a pixel.
        turned = torch.rot90(colours, -frame, dims=(1, 2))
        found = max(
            (result[0, frame, :, y : y + 20, x : x + 20] == turned).double().mean().item()
            for y in (20, 21)
            for x in (20, 21)
        )
        assert found > 0.9


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_words_of_any_length_write_the_same_pixels(width: int) -> None:
    frames, motion = smile_batch(4, (64, 64), seed=3)
    narrow = Motion(**{**vars(motion), "frame_size": (64, width)})
    patches = object_patches(discs(4), motion)
    whole = render(frames, motion, patches)[..., :width]
    part = render(frames[..., :width].contiguous(), narrow, patches)
    assert (whole != frames[..., :width]).double().mean() > 0.05
    assert (whole.int() - part.int()).abs().max() <= 1
    assert (whole != part).double().mean() < 1e-3


def test_frames_that_begin_anywhere_in_memory_can_be_written_into() -> None:
    frames, motion = smile_batch(2)
    patches = object_patches(discs(2), motion)
    expected = render(frames, motion, patches)
    memory = torch.cat((torch.zeros(3, dtype=torch.uint8), frames.flatten()))
    odd = memory[3:].view(frames.shape)
    assert render(odd, motion, patches, inplace=True) is odd
    assert (odd.int() - expected.int()).abs().max() <= 1
    assert not memory[:3].any()


def test_frames_are_copied_unless_asked_otherwise() -> None:
    frames, motion = smile_batch(2)
    before, patches = frames.clone(), object_patches(discs(2), motion)
    result = render(frames, motion, patches)
    assert frames.equal(before)
    assert not result.equal(before)
    assert render(frames, motion, patches, inplace=True).equal(result)
    assert frames.equal(result)


def test_the_same_seed_gives_the_same_clip_and_another_does_not() -> None:
    clips = []
    for seed in (5, 5, 6):
        frames, motion = noise(2, 8, 3, 64, 64), drawn(MotionSettings.smile(), 2, (64, 64), seed)
        clips.append(render(frames, motion, object_patches(discs(2), motion)))
    assert clips[0].equal(clips[1])
    assert not clips[0].equal(clips[2])


@pytest.mark.parametrize("preset", ["smile", "tubelet_contrast", "locomotion"])
def test_a_record_replays_to_the_same_pixels_and_masks(preset: str) -> None:
    settings = getattr(MotionSettings, preset)(shear_velocity=0.05, opacity=(0.6, 1.0), draw_probability=0.8)
    motion, frames = drawn(settings, 3, (64, 64)), noise(3, 8, 3, 64, 64)
    texts = [json.dumps(record.to_dict()) for record in motion.records()]
    again = batch_of([MotionRecord.from_dict(json.loads(text)) for text in texts])
    results = []
    for one in (motion, again):
        cut = settings.clip_boxes
        patches = crop_patches(frames, one) if cut else object_patches(discs(3, settings.num_objects), one)
        results.append((render(frames, one, patches), object_masks(one, patches)))
    for first, second in zip(*results, strict=True):
        assert first.equal(second)
    assert (results[0][0] != frames).any()


def test_a_batch_is_what_its_clips_are_one_by_one() -> None:
    frames, motion = smile_batch(5)
    objects = discs(5)
    patches = object_patches(objects, motion)
    together, masks = render(frames, motion, patches), object_masks(motion, patches)
    for clip in range(5):
        own = object_patches(objects[clip : clip + 1], motion[clip : clip + 1])
        for index in range(2):
            assert own.image(0, index).equal(patches.image(clip, index))
        alone = render(frames[clip : clip + 1], motion[clip : clip + 1], own)
        difference = (alone[0].int() - together[clip].int()).abs()
        assert difference.max() <= 2
        assert (difference > 0).double().mean() < 5e-3
        assert (object_masks(motion[clip : clip + 1], own)[0].int() - masks[clip].int()).abs().max() <= 1


def test_masks_are_where_white_falls_on_black() -> None:
    motion = drawn(MotionSettings.smile(num_objects=1), 4, (64, 64), seed=2)
    white = disc()
    white[:3] = 255
    patches = object_patches([[white]] * 4, motion)
    pasted = render(torch.zeros(4, 8, 3, 64, 64, dtype=torch.uint8), motion, patches)[:, :, 0].int()
    masks = object_masks(motion, patches)[:, 0].int()
    # Colours darken towards transparent pixels, as in the papers' code, so that edges are darker than the mask.
    assert (pasted <= masks + 1).all()
    assert (pasted[masks == 255] == 255).all()
    assert (masks == 255).sum() > 500
    assert ((masks > 128) <= (pasted > 64)).all()


def test_the_smaller_object_lies_on_top_and_hides_the_other() -> None:
    motion = motion_of([[[24, 24, 40, 40]] * 2, [[10, 10, 54, 54]] * 2])
    full = torch.full((4, 8, 8), 255, dtype=torch.uint8)
    dark = full.clone()
    dark[:3] = 50
    patches = object_patches([[full, dark]], motion)
    result = render(torch.zeros(1, 2, 3, 64, 64, dtype=torch.uint8), motion, patches)
    assert result[0, 0, 0, 32, 32] == 255
    assert result[0, 0, 0, 12, 12] == 50
    assert (result[:, :, 0] == 255).sum() == 2 * 16 * 16
    assert (result[:, :, 0] == 50).sum() == 2 * (44 * 44 - 16 * 16)


@pytest.mark.parametrize("velocity", [0.0, 6.0])
def test_the_fast_way_agrees_with_the_exact_one_for_objects(velocity: float) -> None:
    settings = MotionSettings.smile(rotation_velocity=velocity)
    motion = drawn(settings, 3, (112, 112), seed=4)
    frames = smooth_picture(3, 112, 112).expand(3, 8, 3, 112, 112).contiguous()
    patches = object_patches(discs(3), motion)
    fast, exact = render(frames, motion, patches).int(), render_exactly(frames, motion, patches).int()
    moved = exact != frames.int()
    difference = (fast - exact).abs()
    assert moved.double().mean() > 0.05
    assert difference[moved].double().mean() < 1.5
    assert (difference > 12).double().mean() < 0.01


@pytest.mark.parametrize("changes", [{}, {"rotation_velocity": 0.0, "shear_velocity": 0.066}])
def test_the_fast_way_agrees_with_the_exact_one_for_crops(changes: dict[str, float]) -> None:
    motion = drawn(MotionSettings.tubelet_contrast(soft_edge_probability=1.0, **changes), 3, (112, 112), seed=5)
    frames = torch.stack([smooth_picture(3, 112, 112, seed) for seed in range(24)]).view(3, 8, 3, 112, 112)
    patches = crop_patches(frames, motion)
    fast = render(frames, motion, patches).int()
    exact = render_exactly(frames, motion, patches, smooth=False).int()
    moved = exact != frames.int()
    assert moved.double().mean() > 0.05
    assert (fast - exact).abs()[moved].double().mean() < 3


def test_frames_that_a_motion_was_not_drawn_for_are_refused() -> None:
    frames, motion = smile_batch(2)
    patches = object_patches(discs(2), motion)
    with pytest.raises(ValueError, match=r"\(2, 8, 3, 64, 64\), got torch.float32 \(2, 8, 3, 64, 64\)"):
        render(frames.float(), motion, patches)
    with pytest.raises(ValueError, match=r"got torch.uint8 \(2, 7, 3, 64, 64\)"):
        render(frames[:, :7], motion, patches)
    with pytest.raises(ValueError, match="must be contiguous"):
        render(frames.transpose(3, 4), motion, patches, inplace=True)
    with pytest.raises(ValueError, match=r"patches for 2 clips of 2 objects, got \(1, 2\)"):
        render(frames, motion, object_patches(discs(1), motion[:1]))


def test_boxes_without_area_are_refused() -> None:
    flat = motion_of([[[5, 5, 25, 25], [5, 5, 5, 25]]])
    frames = noise(1, 2, 3, 64, 64)
    with pytest.raises(ValueError, match=r"at least 1 x 1 pixels, got one of \[0, 20\]"):
        render(frames, flat, object_patches([[disc()]], flat))


def test_objects_that_do_not_fit_are_refused() -> None:
    motion = motion_of([[[5, 5, 25, 25]] * 2])
    with pytest.raises(ValueError, match=r"1 objects for each of 1 clips, got \[2\]"):
        object_patches([[disc(), disc()]], motion)
    for image in (disc().float(), disc()[:3], disc()[:, :0]):
        with pytest.raises(ValueError, match="uint8 RGBA"):
            object_patches([[image]], motion)
        with pytest.raises(ValueError, match="uint8 RGBA"):
            weighted_by_alpha(image)
    outside = motion_of([[[-3, 5, 25, 25]] * 2])
    with pytest.raises(ValueError, match="inside the frame; draw motions with clip_boxes=True"):
        crop_patches(noise(1, 2, 3, 64, 64), outside)


def test_colours_under_transparent_pixels_do_not_shine_through() -> None:
    image = torch.zeros(4, 40, 40, dtype=torch.uint8)
    image[0] = 255  # red, where nothing is to be seen
    image[:, 10:30, 10:30] = torch.tensor([0, 255, 0, 255], dtype=torch.uint8)[:, None, None]
    motion = motion_of([[[5, 5, 18, 18]] * 2])
    result = render(torch.zeros(1, 2, 3, 64, 64, dtype=torch.uint8), motion, object_patches([[image]], motion))
    assert result[:, :, 0].max() <= 1
    assert result[:, :, 1].max() == 255
    assert record_of([[[5, 5, 18, 18]] * 2]).boxes == motion.boxes[0].tolist()
