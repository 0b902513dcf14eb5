"""Every golden case of SMILE; what a case checks is read from its own content."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import smile_networks as networks
from cases_io import DEVICE, SECOND, assert_close, case_paths, load_case
from exact_motion import paste, render_exactly, resize_rgba, warp
from tubelets.data.modalities.frame_sampling import (
    dense_clip,
    dense_test_clips,
    dense_test_frames,
    dense_test_starts,
    finetune_clip,
    segment_test_clips,
)
from tubelets.data.transforms.spatial import multi_scale_crop_candidates
from tubelets.masking.trajectory import TrajectoryMaskGenerator, balance, hide_trajectories, trajectory_tokens
from tubelets.motion import MODES, Motion, object_patches, render
from tubelets.motion.geometry import paste_order, place, warp_steps
from tubelets.motion.key_frames import interpolate, place_key_frames, tick_table
from tubelets.motion.paths import (
    centred_boxes,
    cumulative,
    grown_sizes,
    jittered_sizes,
    piecewise_paths,
    rounded_boxes,
    smooth_paths,
)

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def has_examples_with(*keys: str) -> Callable[[Case], bool]:
    """Tells cases whose examples all have these keys."""

    def check(case: Case) -> bool:
        examples = case.get("examples")
        return (
            isinstance(examples, list) and bool(examples) and all(set(keys) <= example.keys() for example in examples)
        )

    return check


def check_clip_sampling(case: Case, tensors: Tensors) -> None:
    for example in case["examples"]:
        frames = example["video_frames"]
        pretrain, finetune, dense = example["pretrain"], example["dense_train"], example["dense_test"]
        assert dense_clip(frames, 16, 4, pretrain["start"]) == pretrain["frames"], frames
        assert finetune_clip(frames, 16, 4, end=finetune["end_used"]) == finetune["frames"], frames
        assert dense_test_frames(frames, 16, 4) == dense["frames"], frames
        for clips, starts in dense["clip_starts"].items():
            assert dense_test_starts(len(dense["frames"]), 16, int(clips)) == starts, (frames, clips)
            expected = [dense["frames"][start : start + 16] for start in starts]
            assert dense_test_clips(frames, 16, 4, int(clips)) == expected, (frames, clips)
        segment = example["segment_test"]
        assert segment_test_clips(frames, 16) == [segment["clip0"], segment["clip1"]], frames
        assert sorted(segment["clip0"] + segment["clip1"]) == segment["frames"], frames


def check_multi_scale_crop(case: Case, tensors: Tensors) -> None:
    for example in case["examples"]:
        size = example["input_size"]
        candidates = multi_scale_crop_candidates(example["image_height"], example["image_width"], size)
        assert [[width, height] for (height, width), _ in candidates] == example["crop_sizes_wh"]
        offsets = [[[left, top] for top, left in places] for _, places in candidates]
        assert offsets == example["offsets_xy_by_crop"]


def named(*names: str) -> Callable[[Case], bool]:
    """Tells cases that have all these tensors."""
    return lambda case: set(names) <= set(case.get("tensors", {}))


def batched(tensors: Tensors, *names: str) -> list[Tensor]:
    """Tensors with a batch dimension of one clip in front."""
    return [tensors[name][None] for name in names]


def check_key_frames(case: Case, tensors: Tensors) -> None:
    for example in case["tick_examples"]:
        frames, inner = example["num_frames"], example["inner_key_frames"]
        _, limits = tick_table(frames, 2)
        if example["jitter_low"] is not None:
            assert (-limits[inner], limits[inner]) == (example["jitter_low"], example["jitter_high_exclusive"])
        jitter = torch.full((1, 2), example["jitter_used"])
        keys = place_key_frames(frames, torch.tensor([inner]), jitter)
        assert keys[0, : inner + 2].tolist() == example["key_frames"]
    values, keys = batched(tensors, "key_values", "key_frames")
    for number, (mode, name) in enumerate(zip(MODES, ("uniform", "accelerate", "decelerate"), strict=True)):
        modes = torch.full((1, keys.shape[1] - 1), number, device=DEVICE)
        found = interpolate(values.double(), keys, modes, len(tensors[name]))
        assert_close(found[0], tensors[name], case["tolerance"], f"{name} ({mode})")
    assert tensors.keys() == {"key_values", "key_frames", "uniform", "accelerate", "decelerate"}


def check_boxes(case: Case, tensors: Tensors, boxes: Tensor) -> None:
    """Boxes `(N, T, 4)`, and their whole pixels except at the border of rounding."""
    assert_close(boxes, tensors["boxes"], case["tolerance"], "boxes")
    sure = ((boxes - boxes.floor() - 0.5).abs() > 1e-4) | (boxes == tensors["boxes"])
    assert torch.equal(rounded_boxes(boxes)[sure], tensors["boxes_rounded"][sure])


def check_smooth_trajectory(case: Case, tensors: Tensors) -> None:
    given, tolerance = case["config"], case["tolerance"]
    frame = (given["frame_size"], given["frame_size"])
    first = jittered_sizes(tensors["anchors"], tensors["anchor_index"], tensors["shape_log_jitter"], frame)
    assert_close(first, tensors["box_shapes"], tolerance, "box_shapes")
    points = torch.stack((tensors["x_points"], tensors["y_points"]), dim=-1)
    centres = smooth_paths(
        points, tensors["path_scale"], tensors["path_shift"], frame, given["num_frames"], given["sigma"]
    )
    assert torch.equal(centres, tensors["centres"])
    values, keys, modes = batched(tensors, "size_key_values", "size_key_frames", "size_modes")
    sizes = interpolate(values.double(), keys, modes, given["num_frames"])[0]
    assert_close(sizes, tensors["sizes"], tolerance, "sizes")
    check_boxes(case, tensors, centred_boxes(centres, sizes.transpose(0, 1)))


def check_linear_trajectory(case: Case, tensors: Tensors) -> None:
    given, tolerance = case["config"], case["tolerance"]
    frames, frame = given["num_frames"], (given["frame_size"], given["frame_size"])
    first = tensors["boxes_first"].double()
    centre, size = (first[:, :2] + first[:, 2:]) / 2, first[:, 2:] - first[:, :2]
    shifts, keys, modes = batched(tensors, "centre_shifts", "centre_key_frames", "centre_modes")
    centres = piecewise_paths(centre[None], size[None], shifts, keys, modes, frame, frames)[0]
    assert_close(centres, tensors["centres"], tolerance, "centres")
    steps, keys, modes = batched(tensors, "size_log_scales", "size_key_frames", "size_modes")
    sizes = grown_sizes(size[None], steps, keys, modes, frames)[0]
    assert_close(sizes, tensors["sizes"], tolerance, "sizes")
    check_boxes(case, tensors, centred_boxes(centres, sizes).transpose(0, 1))


def check_rotation(case: Case, tensors: Tensors) -> None:
    keys, shifts, modes = batched(tensors, "key_frames", "shifts", "modes")
    length = tensors["angles"].shape[1]
    angles = cumulative(torch.zeros(1, shifts.shape[2], device=DEVICE), shifts, keys, modes, length)[0].T
    assert_close(angles, tensors["angles"], case["tolerance"], "angles")
    sure = (angles - angles.round()).abs() > 1e-4
    assert torch.equal(angles.long()[sure], tensors["angles_used"][sure])


def check_trajectory_mask(case: Case, tensors: Tensors) -> None:
    given = case["config"]
    grid = (given["grid"][0], given["grid"][1], given["grid"][2])
    trajectory = trajectory_tokens(tensors["boxes"], grid, given["patch"])
    assert torch.equal(trajectory, tensors["trajectory_patches"].bool())
    visible = tensors["visible_trajectory_patches"].bool()
    before = hide_trajectories(tensors["tube_mask"].bool(), trajectory, visible)
    assert torch.equal(before, tensors["before_balance"].bool())
    masks = TrajectoryMaskGenerator(
        grid, given["mask_ratio"], given["patch"], given["traj_unmask_ratio"], given["sub_type"]
    )
    official = tensors["mask"].bool()
    assert official.sum(dim=1).tolist() == [masks.num_masked] * len(official)
    if DEVICE.type == SECOND:
        pytest.skip("the second device has no generator of random numbers")
    drawn = balance(before, trajectory, masks.num_masked, torch.Generator(DEVICE).manual_seed(0))
    assert drawn.sum(dim=1).tolist() == [masks.num_masked] * len(drawn)
    # Whichever tokens are drawn to balance: as many of either kind change as in the official mask.
    for found in (drawn, official):
        assert not bool(((found & ~before).any(dim=1) & (before & ~found).any(dim=1)).any()), "only one way is needed"
    for part in (trajectory, ~trajectory):
        assert torch.equal((drawn & part).sum(dim=1), (official & part).sum(dim=1))


def overlay_motion(tensors: Tensors) -> Motion:
    boxes, angles = tensors["boxes"][None], tensors["angles_used"][None]
    clips, objects, length = angles.shape
    zeros = torch.zeros(clips, objects, device=DEVICE)
    return Motion(
        frame_size=tuple(tensors["frames"].shape[1:3]),
        boxes=boxes,
        angles=angles,
        shears=torch.zeros(clips, objects, length, 2, device=DEVICE),
        opacities=torch.ones(clips, objects, length, device=DEVICE),
        source_frames=tensors["source_frame"][None],
        alpha_shapes=zeros.long(),
        alpha_edges=zeros,
        key_frames=torch.tensor([[0, length - 1]], device=DEVICE),
        modes=torch.tensor([[0]], device=DEVICE),
    )


def check_overlay(case: Case, tensors: Tensors) -> None:
    motion = overlay_motion(tensors)
    assert torch.equal(paste_order(motion.boxes)[0], tensors["paste_order"])
    objects = [tensors[f"object_{index}"].permute(2, 0, 1) for index in range(len(tensors["boxes"]))]
    patches = object_patches([objects], motion)
    frames = tensors["frames"].permute(0, 3, 1, 2)[None].contiguous()
    expected = tensors["composited"].permute(0, 3, 1, 2)[None].double()
    limits = case["tolerance"]
    exact = render_exactly(frames, motion, patches).double()
    assert (exact - expected).abs().mean().item() <= limits["composited_end_to_end_mean_abs"]
    # The fast way reads each patch once and differs by a few grey levels.
    assert (render(frames, motion, patches).double() - expected).abs().mean().item() <= 2.0
    check_overlay_steps(tensors, motion, limits)


def check_overlay_steps(tensors: Tensors, motion: Motion, limits: dict[str, float]) -> None:
    """Each step from the official result of the one before."""
    result = tensors["frames"].permute(0, 3, 1, 2).contiguous()
    for index in tensors["paste_order"].tolist():
        boxes, angles, shears = motion.boxes[0, index], motion.angles[0, index], motion.shears[0, index]
        sizes = boxes[:, 2:] - boxes[:, :2]
        image = tensors[f"object_{index}"].permute(2, 0, 1)[None]
        own = torch.tensor([[image.shape[3], image.shape[2]]], device=DEVICE)
        source = sizes[motion.source_frames[0, index]][None]
        first = resize_rgba(image, own, source)
        placed = place(boxes, angles, shears, motion.frame_size, motion.shift_clipped)
        for frame in range(len(boxes)):
            now = slice(frame, frame + 1)
            resized = tensors[f"resized_{index}_{frame}"].permute(2, 0, 1)[None]
            found = resize_rgba(first, source, sizes[now])
            assert_close(found, resized, limits["resized"], f"resized_{index}_{frame}")
            turned, size = resized, sizes[now]
            for step in warp_steps(sizes[now], angles[now], shears[now]):
                turned, size = warp(turned, size, step), step.sizes
            rotated = tensors[f"rotated_{index}_{frame}"].permute(2, 0, 1)[None]
            assert_close(turned, rotated, limits["rotated_other_bilinear_max"], f"rotated_{index}_{frame}")
            alpha = rotated[:, 3].double() / 255
            colours, origin = rotated[:, :3], placed.origins[now]
            result[now] = paste(result[now], colours, alpha, placed.sizes[now], origin)
    expected = tensors["composited"].permute(0, 3, 1, 2)
    assert_close(result, expected, limits["composited_from_given_rotated"], "composited from the given patches")


KINDS: list[tuple[Callable[[Case], bool], Callable[[Case, Tensors], None]]] = [
    (has_examples_with("video_frames", "pretrain", "dense_train", "dense_test", "segment_test"), check_clip_sampling),
    (has_examples_with("image_height", "image_width", "crop_sizes_wh", "offsets_xy_by_crop"), check_multi_scale_crop),
    (lambda case: "tick_examples" in case, check_key_frames),
    (named("x_points", "path_scale", "centres"), check_smooth_trajectory),
    (named("centre_shifts", "size_log_scales"), check_linear_trajectory),
    (named("shifts", "angles_used"), check_rotation),
    (named("trajectory_patches", "before_balance"), check_trajectory_mask),
    (named("composited", "paste_order"), check_overlay),
    (lambda case: "keys" in case, networks.check_official_keys),
    (lambda case: "configs" in case, networks.check_schedule),
    (named("pred", "teacher_features"), networks.check_pretraining_features),
    (lambda case: named("pred")(case) and not named("teacher_features")(case), networks.check_pretraining_pixels),
    (named("video", "target", "target_raw"), networks.check_pixel_target),
    (named("features", "target"), networks.check_feature_target),
    (named("logits"), networks.check_classifier),
    (lambda case: "pretrain_state_dict" in case, networks.check_transfer),
    (lambda case: "activation" in case.get("config", {}), networks.check_teacher),
    (named("video_embeddings", "text_embeddings"), networks.check_retrieval),
]


@pytest.mark.parametrize("path", case_paths("smile"), ids=lambda path: path.stem)
def test_case(path):
    case, tensors = load_case(path)
    checks = [check for matches, check in KINDS if matches(case)]
    if not checks:
        pytest.fail(f"unknown kind of case: {path.stem}")
    for check in checks:
        check(case, tensors)
