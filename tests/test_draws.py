"""What is drawn for a sample from its own generator does not depend on the batch, to the bit."""

import dataclasses

import pytest
import torch

from tubelets.draws import rand
from tubelets.masking import MASK_TYPES, TRAJECTORY_TYPES, NoiseMaskGenerator, TrajectoryMaskGenerator
from tubelets.masking import build_mask_generator as build
from tubelets.motion import Motion, MotionSettings, sample_motion

GRID, CLIPS = (4, 6, 6), 12
SMALL = {"bank_size": 2, "volume_shape": (8, 16, 16)}
MASKS = {
    **{kind: build(kind, GRID, 0.75, **({} if kind in ("tube", "random") else SMALL)) for kind in MASK_TYPES},
    "whole clip": NoiseMaskGenerator("green3d", GRID, 0.75, per_slot=False, **SMALL),
    "kept floor": NoiseMaskGenerator("tube", GRID, 0.75, count_rule="kept_floor"),
    "spectrogram": NoiseMaskGenerator("regularized_blue", (16, 8), 0.75, bank_size=3),
}
SETTINGS = {
    "smile": MotionSettings.smile(draw_probability=0.5),
    "shear": MotionSettings.tubelet_contrast(path="piecewise", rotation_velocity=0.0, shear_velocity=0.07),
    "three patches": MotionSettings.tubelet_contrast(num_objects=3, opacity=(0.2, 0.9)),
    "locomotion": MotionSettings.locomotion(),
    "one mode": MotionSettings.smile(key_frame_probabilities=(1.0,)),
}


def generators(count: int = CLIPS) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(31 * seed) for seed in range(count)]


@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_a_batch_are_the_masks_drawn_one_by_one(kind: str) -> None:
    batch = MASKS[kind](CLIPS, generator=generators())
    assert torch.equal(batch, torch.cat([MASKS[kind](1, generator=each) for each in generators()]))
    assert len(batch.unique(dim=0)) > 2


@pytest.mark.parametrize("kind", TRAJECTORY_TYPES)
def test_masks_along_paths_are_the_masks_drawn_one_by_one(kind: str) -> None:
    masks = TrajectoryMaskGenerator((4, 14, 14), 0.75, kind=kind)
    boxes = sample_motion(SETTINGS["smile"], CLIPS, 8, (224, 224), generators()).boxes
    alone = [masks(boxes[place : place + 1], generator=each) for place, each in enumerate(generators())]
    assert torch.equal(masks(boxes, generator=generators()), torch.cat(alone))


@pytest.mark.parametrize("name", SETTINGS)
def test_motions_of_a_batch_are_the_motions_drawn_one_by_one(name: str) -> None:
    batch = sample_motion(SETTINGS[name], CLIPS, 8, (96, 128), generators())
    alone = Motion.concatenate([sample_motion(SETTINGS[name], 1, 8, (96, 128), each) for each in generators()])
    for field in dataclasses.fields(Motion):
        value, expected = getattr(batch, field.name), getattr(alone, field.name)
        assert torch.equal(value, expected) if isinstance(value, torch.Tensor) else value == expected, field.name


def test_generators_share_rows_equally() -> None:
    drawn = rand(6, 2, generator=generators(3))
    assert torch.equal(drawn[2:4], rand(2, 2, generator=generators(3)[1]))
    with pytest.raises(ValueError, match="3 generators cannot share 4 rows"):
        rand(4, generator=generators(3))
    with pytest.raises(ValueError, match="0 generators cannot share 4 rows"):
        rand(4, generator=[])
