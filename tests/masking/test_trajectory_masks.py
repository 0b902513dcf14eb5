"""Trajectory-guided masks: exact counts and shares for drawn and for extreme boxes, many seeds."""

import pytest
import torch
from torch import Tensor

from tubelets.masking.generators import TubeMaskGenerator
from tubelets.masking.trajectory import (
    TRAJECTORY_TYPES,
    TrajectoryMaskGenerator,
    balance,
    trajectory_tokens,
)
from tubelets.motion import MotionSettings, sample_motion

GRID = (8, 14, 14)
EXTREME = {
    "everything": [-50, -50, 400, 400],
    "nothing": [300, 300, 340, 340],
    "left of the frame": [-90, 40, -20, 90],
    "one pixel": [17, 17, 18, 18],
    "a corner": [-30, -30, 5, 5],
    "the last corner": [220, 220, 260, 260],
    "a stripe": [0, 100, 224, 108],
    "all but a column": [0, 0, 190, 224],
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn_boxes(clips: int, seed: int) -> Tensor:
    return sample_motion(MotionSettings.smile(), clips, 16, (224, 224), seeded(seed)).boxes


def still(box: list[int], clips: int = 4) -> Tensor:
    return torch.tensor(box).expand(clips, 1, 16, 4)


@pytest.mark.parametrize("kind", TRAJECTORY_TYPES)
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.8, 0.95])
def test_counts_are_exact_for_any_boxes(kind: str, ratio: float) -> None:
    masks = TrajectoryMaskGenerator(GRID, ratio, kind=kind)
    assert masks.num_masked == 8 * int(ratio * 196)
    batches = [drawn_boxes(8, seed) for seed in range(5)] + [still(box) for box in EXTREME.values()]
    for seed, boxes in enumerate(batches):
        mask = masks(boxes, generator=seeded(seed))
        assert mask.dtype == torch.bool
        assert mask.shape == (len(boxes), 8 * 196)
        assert mask.sum(dim=1).tolist() == [masks.num_masked] * len(boxes)


def test_a_tenth_of_the_trajectory_is_visible() -> None:
    masks = TrajectoryMaskGenerator(GRID, 0.8)
    for seed in range(20):
        boxes = drawn_boxes(16, seed)
        trajectory = trajectory_tokens(boxes, GRID)
        counts = trajectory.sum(dim=1)
        # Otherwise tokens of the trajectory have to help out with the count.
        free = counts - (0.1 * counts.double()).floor().long() <= masks.num_masked
        free &= (0.1 * counts.double()).floor().long() + (~trajectory).sum(dim=1) >= 8 * 196 - masks.num_masked
        visible = (trajectory & ~masks(boxes, generator=seeded(seed))).sum(dim=1)
        assert free.sum() > 12
        assert visible[free].equal((0.1 * counts[free].double()).floor().long())


def test_tokens_are_those_that_boxes_touch_and_one_more_row_and_column() -> None:
    for seed in range(5):
        boxes = drawn_boxes(3, seed)
        found = trajectory_tokens(boxes, GRID).view(3, *GRID)
        for clip in range(3):
            expected = torch.zeros(GRID, dtype=torch.bool)
            for track in boxes[clip]:
                for time in range(8):
                    pair = track[2 * time : 2 * time + 2]
                    (left, top), (right, bottom) = pair[:, :2].amin(0).tolist(), pair[:, 2:].amax(0).tolist()
                    rows = slice(max(top // 16, 0), max(0, min(-(-bottom // 16) + 1, 14)))
                    columns = slice(max(left // 16, 0), max(0, min(-(-right // 16) + 1, 14)))
                    expected[time, rows, columns] = True
            assert found[clip].equal(expected)


def test_boxes_out_of_sight_leave_a_tube_mask() -> None:
    boxes = still(EXTREME["nothing"])
    assert not trajectory_tokens(boxes, GRID).any()
    for kind in TRAJECTORY_TYPES:
        mask = TrajectoryMaskGenerator(GRID, 0.8, kind=kind)(boxes, generator=seeded()).view(4, 8, 196)
        assert (mask == mask[:, :1]).all()
        assert mask.equal(TubeMaskGenerator(GRID, 0.8)(4, generator=seeded()).view(4, 8, 196))


def test_other_kinds_spare_one_time_step() -> None:
    # Few enough tokens that the count is balanced with others alone.
    boxes = still([64, 64, 120, 120], clips=12)
    trajectory = trajectory_tokens(boxes, GRID).view(12, 8, 196)
    on = {}
    for kind in ("tube", "tube+picked_frame_visible"):
        mask = TrajectoryMaskGenerator(GRID, 0.8, kind=kind)(boxes, generator=seeded(1)).view(12, 8, 196)
        on[kind] = (mask & trajectory).sum(dim=2)
    whole = trajectory[0, 0].sum()
    for counts in on.values():
        assert ((counts == whole).sum(dim=1) >= 7).all()
    assert (on["tube+picked_frame_visible"].amin(dim=1) == 0).all()
    assert (on["tube"].amin(dim=1) > 0).all()


def test_balancing_takes_tokens_off_the_trajectory_first() -> None:
    generator = seeded()
    for _ in range(200):
        mask, trajectory = (torch.rand(4, 40, generator=generator) < share for share in (0.5, 0.4))
        target = int(torch.randint(41, (), generator=generator))
        result = balance(mask, trajectory, target, generator)
        assert (result.sum(dim=1) == target).all()
        added, taken = result & ~mask, mask & ~result
        for clip in range(4):
            assert not (added[clip].any() and taken[clip].any())
            if (added[clip] & trajectory[clip]).any():
                assert result[clip][~trajectory[clip]].all()
            if (taken[clip] & trajectory[clip]).any():
                assert not result[clip][~trajectory[clip]].any()


def test_the_seed_decides_and_masks_differ_between_clips() -> None:
    masks = TrajectoryMaskGenerator(GRID, 0.8)
    boxes = still(EXTREME["a stripe"], clips=6)
    first, again, other = (masks(boxes, generator=seeded(seed)) for seed in (3, 3, 4))
    assert first.equal(again)
    assert not first.equal(other)
    assert len(first.unique(dim=0)) == 6


def test_other_grids_and_patches() -> None:
    masks = TrajectoryMaskGenerator((2, 4, 6), 0.5, patch_size=8, visible_ratio=0.25)
    boxes = torch.tensor([-4, 3, 20, 19]).expand(5, 2, 6, 4)
    mask = masks(boxes, generator=seeded())
    assert mask.sum(dim=1).tolist() == [24] * 5
    touched = trajectory_tokens(boxes, (2, 4, 6), 8).view(5, 2, 4, 6)[0, 0]
    assert touched.nonzero().tolist() == [[row, column] for row in range(4) for column in range(4)]


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of .*got 'tubes'"):
        TrajectoryMaskGenerator(GRID, kind="tubes")
    with pytest.raises(ValueError, match=r"visible_ratio lie in \[0, 1\], got 16 and 1.1"):
        TrajectoryMaskGenerator(GRID, visible_ratio=1.1)
    with pytest.raises(ValueError, match="patch_size must be at least 1"):
        TrajectoryMaskGenerator(GRID, patch_size=0)
    with pytest.raises(ValueError, match=r"a multiple of 8 frames, got \(4, 1, 12, 4\)"):
        TrajectoryMaskGenerator(GRID)(still([0, 0, 9, 9])[:, :, :12], generator=seeded())
    with pytest.raises(ValueError, match="between 0 and 3 tokens, got 4"):
        balance(torch.zeros(1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool), 4, seeded())
