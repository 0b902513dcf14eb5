"""Layouts, graphs and the conversion between layouts."""

import pytest
import torch

from tubelets.skeletons import (
    LAYOUTS,
    SkeletonLayout,
    convert_layout,
    directed_adjacency,
    distance_adjacency,
    layout_named,
    missing_joints,
)

every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)


@every_layout
def test_layouts_are_trees_whose_sides_mirror_each_other(layout: SkeletonLayout) -> None:
    assert int(layout.name.split("-")[-1]) == layout.num_joints
    # A tree: one bone fewer than joints, and every joint can be reached.
    assert len(layout.bones) == layout.num_joints - 1
    reached = {layout.centre}
    for _ in layout.bones:
        reached |= {joint for bone in layout.bones for joint in bone if reached & {*bone}}
    assert len(reached) == layout.num_joints
    mirrored = layout.mirrored
    assert [mirrored[mirrored[joint]] for joint in range(layout.num_joints)] == [*range(layout.num_joints)]
    middle = [name for name in layout.joints if not name.startswith(("left_", "right_"))]
    assert [joint for joint in range(layout.num_joints) if mirrored[joint] == joint] == [*map(layout.index, middle)]


@every_layout
def test_partitions_of_the_graph_cover_every_bone_once(layout: SkeletonLayout) -> None:
    itself, inward, outward = directed_adjacency(layout)
    assert torch.equal(itself, torch.eye(layout.num_joints))
    assert torch.equal(inward > 0, outward.T > 0)
    assert int((inward > 0).sum()) == len(layout.bones)
    distances = distance_adjacency(layout)
    assert int((distances > 0).sum(dim=0).max()) == 1
    assert torch.equal(distances.sum(dim=0) > 0, (itself + inward + outward) > 0)


def test_mediapipe_becomes_kinect_by_the_documented_rules() -> None:
    source, target = layout_named("mediapipe-33"), layout_named("kinect-25")
    points = torch.rand(2, 1, 3, 33, 3, generator=torch.Generator().manual_seed(0))
    found = convert_layout(points, source, target)

    def middle(*landmarks: int) -> torch.Tensor:
        return points[..., list(landmarks), :].mean(dim=-2)

    top, base, head = middle(11, 12), middle(23, 24), middle(7, 8)
    expected = {1: base, 21: top, 2: (base + top) / 2, 4: head, 3: (top + head) / 2, 8: middle(17, 19)}
    expected[12] = middle(18, 20)
    copied = {5: 11, 6: 13, 7: 15, 9: 12, 10: 14, 11: 16, 13: 23, 14: 25, 15: 27, 16: 31, 17: 24, 18: 26, 19: 28}
    copied |= {20: 32, 22: 19, 23: 21, 24: 20, 25: 22}
    expected |= {joint: points[..., landmark, :] for joint, landmark in copied.items()}
    assert len(expected) == 25
    for joint, value in expected.items():
        torch.testing.assert_close(found[..., joint - 1, :], value, msg=target.joints[joint - 1])


def test_joints_that_need_a_missing_one_are_missing() -> None:
    source, target = layout_named("coco-17"), layout_named("kinect-25")
    points = torch.rand(1, 1, 2, 17, 3) + 0.1
    points[0, 0, 1, source.index("left_hip")] = 0
    found = convert_layout(points, source, target, has_confidence=True)
    lost = {target.joints[joint] for joint in range(25) if not found[0, 0, 1, joint].any()}
    assert lost - set(missing_joints(source, target)) == {"spine_base", "spine_mid", "left_hip"}
    hips = points[0, 0, 0, [source.index("left_hip"), source.index("right_hip")], 2]
    assert found[0, 0, 0, target.index("spine_base"), 2] == hips.min()  # the lower confidence


def test_every_pair_of_body_layouts_converts() -> None:
    bodies = [layout for layout in LAYOUTS.values() if layout.has("left_knee")]
    for source in bodies:
        for target in bodies:
            found = convert_layout(torch.ones(1, 1, 1, source.num_joints, 2), source, target)
            given = [joint for joint in target.joints if joint not in missing_joints(source, target)]
            assert found.sum(dim=-1).flatten().tolist() == [2.0 * (joint in given) for joint in target.joints]
            assert {"left_knee", "right_wrist", "left_shoulder"} <= {*given}


@pytest.mark.parametrize(
    ("joints", "bones", "message"),
    [
        ([], [], "1 to 1024 joints"),
        (["a", "a"], [], "different names, got 2 with 1"),
        (["a", "b"], [(0, 2)], r"joints 0 to 1.*\[2\]"),
        (["a", "b"], [("a", "c")], "no joint 'c'; its joints are a, b"),
        (["a", "b"], [(1, 1)], "must connect two joints"),
    ],
)
def test_impossible_layouts_are_refused(joints: list[str], bones: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SkeletonLayout.of("mine", joints, bones)


def test_wrong_layouts_are_named() -> None:
    with pytest.raises(ValueError, match="'kinect-20' is not built in; choose one of kinect-25"):
        layout_named("kinect-20")
    kinect, coco = layout_named("kinect-25"), layout_named("coco-17")
    with pytest.raises(ValueError, match=r"'coco-17' must be \(..., 17, coordinates\), got \(1, 25, 3\)"):
        convert_layout(torch.zeros(1, 25, 3), coco, kinect)
