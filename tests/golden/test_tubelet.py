"""Numbers of the official Tubelet-Contrast code (tubelet_contrast.md, section 12)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import convolutional_networks as networks
from cases_io import DEVICE, assert_close, case_paths, load_case
from exact_motion import alpha_steps, paste, render_exactly, resize_bilinear, warp
from tubelet_draws import OfficialDraws
from tubelets.motion import MODES, alpha_masks, crop_patches, render
from tubelets.motion.colours import change_brightness, change_contrast, change_hue_saturation
from tubelets.motion.geometry import place, warp_steps
from tubelets.motion.key_frames import interpolate
from tubelets.motion.paths import centred_boxes, grown_sizes, piecewise_paths, rounded_boxes, smooth_paths

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def kind_of(case: Case, tensors: Tensors) -> str:
    if "keys" in case:
        return "keys"
    for kind, names in {
        "interpolation": {"values", "key_frames", "expected_uniform"},
        "gaussian": {"x_raw_0", "scale_shift_0", "expected_rois"},
        "linear": {"shift_0", "location_key_frames", "expected_boxes"},
        "colour": {"frames_bgr", "after_hue_saturation"},
        "paste": {"clip_1", "rois", "patch_0_0"},
        "alpha": {"sizes", "crop_index", "mask0_smooth0_expected_0"},
        "backbone": {"input", "output", "pooled"},
        "contrast_step": {"imgs", "imgs_k", "logits"},
        "contrast_loss": {"q", "k", "queue", "grad_q"},
        "generator": {"traj_rois", "expected_frames", "expected_frame_means"},
    }.items():
        if names <= tensors.keys():
            return kind
    return "unknown"


def stacked(tensors: Tensors, prefix: str, dim: int = 0) -> Tensor:
    """Tensors `prefix0`, `prefix1` ... along a new dimension."""
    found = [name for name in tensors if name.startswith(prefix) and name[len(prefix) :].isdigit()]
    return torch.stack([tensors[f"{prefix}{index}"] for index in range(len(found))], dim=dim)


def check_interpolation(case: Case, tensors: Tensors) -> None:
    values, keys = tensors["values"][None].double(), tensors["key_frames"][None]
    for number, name in enumerate(("uniform", "accelerate", "decelerate")):
        modes = torch.full((1, keys.shape[1] - 1), number, device=DEVICE)
        found = interpolate(values, keys, modes, case["hyper_parameters"]["num_frames"])
        assert_close(found[0], tensors[f"expected_{name}"], 1e-6, f"{name} ({MODES[number]})")


def sizes_of(tensors: Tensors, start: Tensor, modes: str, frames: int) -> Tensor:
    """Sizes `(objects, frames, 2)` that grow from key frame to key frame."""
    steps = stacked(tensors, "log_size_step_")[None]
    grown = grown_sizes(start[None], steps, tensors["size_key_frames"][None], tensors[modes][None].long(), frames)
    return grown[0].transpose(0, 1)


def check_gaussian(case: Case, tensors: Tensors) -> None:
    given = case["hyper_parameters"]
    frame, frames = (given["image_size"],) * 2, given["num_frames"]
    points = torch.stack((stacked(tensors, "x_raw_"), stacked(tensors, "y_raw_")), dim=-1)
    drawn = stacked(tensors, "scale_shift_")
    centres = smooth_paths(points, drawn[:, 0], drawn[:, 1:], frame, frames, given["sigma"])
    sizes = sizes_of(tensors, tensors["box_shapes"], "interpolation", frames)
    boxes = centred_boxes(centres, sizes, clip_to=frame)
    assert_close(boxes, tensors["expected_boxes"], 1e-4, "expected_boxes")
    unclipped = centred_boxes(centres, sizes)
    assert_close(unclipped[:, 0], tensors["expected_first_boxes"], 1e-4, "expected_first_boxes")
    assert torch.equal(rounded_boxes(boxes).clamp(0, given["image_size"]), tensors["expected_rois"])


def check_linear(case: Case, tensors: Tensors) -> None:
    given = case["hyper_parameters"]
    frame, frames = (given["image_size"],) * 2, given["num_frames"]
    first = tensors["boxes"].double()
    centre, size = (first[:, :2] + first[:, 2:]) / 2, first[:, 2:] - first[:, :2]
    centres = piecewise_paths(
        centre[None],
        size[None],
        stacked(tensors, "shift_")[None],
        tensors["location_key_frames"][None],
        tensors["location_interpolation"][None].long(),
        frame,
        frames,
    )[0].transpose(0, 1)
    sizes = sizes_of(tensors, size, "size_interpolation", frames)
    assert_close(centred_boxes(centres, sizes, clip_to=frame), tensors["expected_boxes"], 1e-4, "expected_boxes")


def check_colour(case: Case, tensors: Tensors) -> None:
    given = case["hyper_parameters"]

    def value(name: str) -> Tensor:
        return torch.tensor([given[name]], device=DEVICE)

    def rgb(name: str) -> Tensor:
        return tensors[name].flip(-1).permute(0, 3, 1, 2)[None].float()

    brighter = change_brightness(rgb("frames_bgr"), value("brightness_delta"))
    assert_close(brighter, rgb("after_brightness"), 1e-3, "after_brightness")
    contrasted = change_contrast(brighter, value("contrast_factor"))
    assert_close(contrasted, rgb("after_contrast"), 1e-3, "after_contrast")
    found = change_hue_saturation(contrasted, value("hue_delta"), value("saturation_factor"))
    near = (found - rgb("after_hue_saturation")).abs() <= 4  # the case's note: 97 % of values within 4 grey levels
    assert near.double().mean() >= 0.97


def pasted(tensors: Tensors, clip: str, angles: Tensor, shears: Tensor) -> Tensor:
    """A clip `(T, H, W, 3)` after its tubelets were pasted, in their order."""
    result = tensors[clip].permute(0, 3, 1, 2).contiguous()
    for index, rois in enumerate(tensors["rois"]):
        for frame, roi in enumerate(rois):
            patch = tensors[f"patch_{index}_{frame}"].permute(2, 0, 1)[None]
            alpha = tensors[f"alpha_{index}_{frame}"][None, None]
            now, turn, shear = slice(frame, frame + 1), angles[index, frame][None], shears[index, frame][None]
            size = torch.tensor([[patch.shape[3], patch.shape[2]]], device=DEVICE)
            steps = zip(warp_steps(size, turn, shear), alpha_steps(size, turn, shear), strict=True)
            alpha_size = size
            for step, alpha_step in steps:
                patch, alpha = warp(patch, size, step), warp(alpha, alpha_size, alpha_step)
                size, alpha_size = step.sizes, alpha_step.sizes
            placed = place(roi[None], turn, shear, (result.shape[2], result.shape[3]), shift_clipped=True)
            result[now] = paste(result[now], patch, alpha[:, 0], placed.sizes, placed.origins)
    return result.permute(0, 2, 3, 1)


def check_paste(case: Case, tensors: Tensors) -> None:
    zeros = torch.zeros(tensors["rois"].shape[:2], device=DEVICE)
    angles = tensors.get("angles", zeros).long()
    along = torch.stack((tensors.get("shear_x", zeros), tensors.get("shear_y", zeros)), dim=-1)
    # Both axes are sheared, or one of them; the suffix of the expected clip says which.
    axes = torch.eye(2, device=DEVICE)
    variants = {"": along, "_type0": along * axes[0], "_type1": along * axes[1]}
    variants["_type2"] = along
    checked = 0
    for suffix, shears in variants.items():
        for number in (1, 2):
            if (expected := tensors.get(f"expected_{number}{suffix}")) is None:
                continue
            found = pasted(tensors, f"clip_{number}", angles, shears)
            difference = (found.int() - expected.int()).abs()
            limit = 1 if case["hyper_parameters"]["patch_transformation"] == "none" else 8
            assert difference.max() <= limit, f"expected_{number}{suffix}: {difference.max()}"
            assert (difference <= 2).double().mean() >= 0.99
            checked += 1
    assert checked == sum(name.startswith("expected_") for name in tensors)


def check_alpha(case: Case, tensors: Tensors) -> None:
    sizes, crop = tensors["sizes"], int(tensors["crop_index"])
    checked = 0
    for name in [name for name in tensors if name.endswith("_turning_point")]:
        prefix = name.removesuffix("turning_point")
        shape, smooth = torch.tensor([int(prefix[4])], device=DEVICE), "smooth1" in prefix
        edge = tensors[name] if smooth else torch.zeros(1, device=DEVICE)
        drawn = alpha_masks(shape, edge, sizes[crop][None])[:, None]
        values, keys = tensors[f"{prefix}key_alphas"][None], tensors[f"{prefix}key_frames"][None]
        modes = torch.zeros(1, keys.shape[1] - 1, dtype=torch.long, device=DEVICE)
        opacity = interpolate(values.double(), keys, modes, len(sizes))[0]
        for frame, size in enumerate(sizes):
            resized = resize_bilinear(drawn, sizes[crop][None], size[None])[0, 0]
            expected = tensors[f"{prefix}expected_{frame}"]
            assert_close(resized * opacity[frame].float(), expected, 1e-5, f"{prefix}expected_{frame}")
            checked += 1
    assert checked == sum("_expected_" in name for name in tensors)


def check_generator(case: Case, tensors: Tensors) -> None:
    given = case["hyper_parameters"]
    assert given["patch_transformation"] == "rotation"
    size, frames = given["size"], given["frames"]
    motion = OfficialDraws(given["seed"], size, frames).motion().to(DEVICE)
    assert torch.equal(motion.boxes[0], tensors["traj_rois"])

    clip, time = torch.arange(2).view(2, 1, 1, 1), torch.arange(frames).view(1, frames, 1, 1)
    y, x = torch.arange(size)[:, None], torch.arange(size)
    channels = (
        3 * x + 5 * y + 7 * time + 40 * clip,
        x * y // 7 + 11 * time + 90 * clip,
        2 * x + 3 * y + x * x // 31 + 5 * time + 130 * clip,
    )
    clips = torch.stack(channels, dim=2).remainder(256).to(DEVICE, torch.uint8)
    patches = crop_patches(clips[:1], motion)
    expected = tensors["expected_frames"].permute(0, 3, 1, 2).int()
    stored = [frame for start in (0, frames) for frame in (start, start + 7, start + 15)]
    exact = torch.cat([render_exactly(part, motion, patches, smooth=False) for part in clips.split(1)])
    difference = (exact.flatten(0, 1)[stored].int() - expected).abs()
    assert difference.max() <= 8
    assert (difference <= 2).double().mean() >= 0.99
    means = exact.flatten(0, 1).double().mean(dim=(1, 2, 3))
    assert_close(means, tensors["expected_frame_means"], 0.05, "expected_frame_means")
    # The fast way reads each patch once instead of resizing and turning it; patterns this fine show the difference.
    fast = torch.cat([render(part, motion, patches) for part in clips.split(1)])
    assert (fast.flatten(0, 1)[stored].int() - expected).abs().double().mean() <= 2.0


CHECKS: dict[str, Callable[[Case, Tensors], None]] = {
    "interpolation": check_interpolation,
    "gaussian": check_gaussian,
    "linear": check_linear,
    "colour": check_colour,
    "paste": check_paste,
    "alpha": check_alpha,
    "generator": check_generator,
    "keys": networks.check_keys,
    "backbone": networks.check_backbone,
    "contrast_step": networks.check_contrast_step,
    "contrast_loss": networks.check_contrast_loss,
}


@pytest.mark.parametrize("path", case_paths("tubelet"), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case, tensors = load_case(path)
    kind = kind_of(case, tensors)
    assert kind in CHECKS, f"unknown kind of case: {path.name}"
    CHECKS[kind](case, tensors)
