"""Numbers of the official Skeleton-Contrast code (skeleton_contrast.md)."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import skeleton_networks as networks
from cases_io import DEVICE, assert_close, case_paths, load_case
from tubelets.data.build.skeleton_sets import NtuName, missing_ntu_samples
from tubelets.data.modalities.skeleton_files import body_energy, read_ntu_slots, read_recording
from tubelets.evaluation.neighbours import weighted_knn
from tubelets.skeletons import (
    ViewPlan,
    as_sequence,
    central_crops,
    crop_resize,
    directed_adjacency,
    layout_named,
    normalize_skeletons,
    transform_joints,
)
from tubelets.skeletons.temporal import crops_of

Case = dict[str, Any]
Tensors = dict[str, Tensor]
KINECT = layout_named("kinect-25")


def kind_of(case: Case, tensors: Tensors) -> str:
    if any(isinstance(value, dict) and "module.encoder_q.fc.0.bias" in value for value in case.values()):
        return "keys"
    if "ntu60" in case and "ntu120" in case:
        return "left_out"
    if networks.layout_of(case) is not None:
        return "network"
    for kind, names in {
        "jitter": {"input", "joints", "output_zero", "output_jitter"},
        "shear": {"input", "shear", "output"},
        "layout": {"clip", "sequence"},
        "graph": {"A"},
        "views": {"inter.0.view1", "input.0"},
        "block": {"input", "gcn_out", "output"},
        "step": {"view1", "view2", "logits_q"},
        "inter_loss": {"q", "k", "r", "l", "queue_S1"},
        "intra_loss": {"q", "k", "queue"},
        "ntu_file": {"file_bytes", "data", "body_energy"},
        "retrieval": {"train", "test", "train_labels", "test_labels"},
    }.items():
        if names <= tensors.keys():
            return kind
    if tensors.keys() == {"input", "output"} and not case.get("state_dict"):
        return "normalization"
    if tensors and all(name.endswith((".input_valid", ".output", ".params")) for name in tensors):
        return "random_crop" if "hyper" in case else "central_crop"
    return "unknown"


def bodies_first(clip: Tensor) -> Tensor:
    """The official order `(..., C, T, V, M)` as ours, `(..., M, T, V, C)`."""
    return clip.transpose(-1, -4)


def check_jitter(case: Case, tensors: Tensors) -> None:
    clip = bodies_first(tensors["input"])[None]
    joints = torch.zeros(1, clip.shape[3], dtype=torch.bool, device=DEVICE)
    joints[0, tensors["joints"]] = True
    matrix = tensors["matrix"].T[None]
    for name, used in {"output_zero": torch.zeros_like(matrix), "output_jitter": matrix}.items():
        assert_close(bodies_first(transform_joints(clip, used, joints)[0]), tensors[name], case["tolerance"], name)


def check_shear(case: Case, tensors: Tensors) -> None:
    found = transform_joints(bodies_first(tensors["input"])[None], tensors["shear"][None])[0]
    assert_close(bodies_first(found), tensors["output"], case["tolerance"], "output")


def check_layout(case: Case, tensors: Tensors) -> None:
    assert_close(
        as_sequence(bodies_first(tensors["clip"])[None])[0], tensors["sequence"], case["tolerance"], "sequence"
    )


def check_graph(case: Case, tensors: Tensors) -> None:
    assert_close(directed_adjacency(KINECT), tensors["A"], case["tolerance"], "A")


def check_normalization(case: Case, tensors: Tensors) -> None:
    found = normalize_skeletons(bodies_first(tensors["input"]), KINECT)
    assert_close(bodies_first(found), tensors["output"], case["tolerance"], "output")


def crop_names(tensors: Tensors) -> list[str]:
    return [name.removesuffix(".params") for name in tensors if name.endswith(".params")]


def check_random_crop(case: Case, tensors: Tensors) -> None:
    ratio, least = case["hyper"]["l_ratio"][0], case["hyper"]["min_crop"]
    for name in crop_names(tensors):
        frames, share, start, length, out = tensors[f"{name}.params"].double()
        # The case states where the crop starts, so its place is not drawn.
        starts, lengths = crops_of(frames[None].long(), share[None], torch.zeros_like(share[None]), ratio, least)
        assert lengths.tolist() == [int(length)], name
        assert starts.tolist() == [0]
        clip = bodies_first(tensors[f"{name}.input_valid"])[None]
        found = crop_resize(clip, start[None].long(), lengths, int(out))[0]
        assert_close(bodies_first(found), tensors[f"{name}.output"], case["tolerance"], name)


def check_central_crop(case: Case, tensors: Tensors) -> None:
    for name in crop_names(tensors):
        frames, share, out = tensors[f"{name}.params"].double().tolist()
        crop = central_crops(torch.tensor([int(frames)]), round(share, 6))
        found = crop_resize(bodies_first(tensors[f"{name}.input_valid"])[None], *crop, int(out))[0]
        assert_close(bodies_first(found), tensors[f"{name}.output"], case["tolerance"], name)


def official_view(frames: int, inter: bool, settings: dict[str, Any]) -> ViewPlan:
    """One view's draws in the order of the official code, from the two global generators (section 5.4)."""
    share = torch.from_numpy(np.random.rand(1))
    low = settings["l_ratio"][0]
    length = min(max(int(frames * (share.item() * (1 - low) + low)), settings["out"]), frames)
    start = np.random.randint(0, frames - length + 1)
    joints = torch.ones(1, 25, dtype=torch.bool)
    if (random.random() < 0.5) == inter:
        matrix = torch.eye(3, dtype=torch.float64)
        for row, column in ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)):
            matrix[row, column] = random.uniform(-1, 1)
    else:
        zero = random.random() < 0.5
        joints[:] = False
        joints[0, np.random.choice(25, 15, replace=False)] = True
        # The zero branch draws no matrix.
        entries = [[0.0] * 3] * 3 if zero else [[random.uniform(-1, 1) for _ in range(3)] for _ in range(3)]
        matrix = torch.tensor(entries, dtype=torch.float64).T
    return ViewPlan(torch.tensor([start]), torch.tensor([length]), matrix[None], joints)


def check_views(case: Case, tensors: Tensors) -> None:
    settings = case["hyper"]
    for framework in ("inter", "intra"):
        random.seed(settings["seed"])
        np.random.seed(settings["seed"])
        for number, frames in enumerate(settings["num_frames"]):
            clip = bodies_first(tensors[f"input.{number}"])[None]
            for view in ("view1", "view2"):
                plan = official_view(frames, framework == "inter", settings)
                found = bodies_first(plan.apply(clip, settings["out"])[0])[:, ::8]
                name = f"{framework}.{number}.{view}"
                assert_close(found, tensors[name], case["tolerance"], name)


def check_ntu_file(case: Case, tensors: Tensors) -> None:
    text = tensors["file_bytes"].cpu().numpy().tobytes()
    energy = torch.from_numpy(body_energy(read_ntu_slots(text, "case")))
    assert_close(energy, tensors["body_energy"], case["tolerance"], "body_energy")
    recording = read_recording(text, "case.skeleton")
    assert recording.layout == KINECT
    found = bodies_first(torch.from_numpy(recording.joints))
    assert_close(found, tensors["data"], case["tolerance"], "data")


def check_left_out(case: Case, tensors: Tensors) -> None:
    assert missing_ntu_samples() == {*case["ntu60"], *case["ntu120"]}
    early = {name for name in missing_ntu_samples() if NtuName.of(name).setup <= 17}  # type: ignore[union-attr]
    assert early == {*case["ntu60"]}


def check_retrieval(case: Case, tensors: Tensors) -> None:
    train, test = (tensors[name].cpu() for name in ("train", "test"))
    train_labels, test_labels = (tensors[f"{name}_labels"].cpu() for name in ("train", "test"))
    counts = [int(name.removeprefix("pred_k")) for name in tensors if name.startswith("pred_k")]
    for count in counts:
        # The majority of equal votes: a temperature that makes all weights 1.
        scores = weighted_knn(test, train, train_labels, int(train_labels.max()) + 1, k=count, temperature=1e9)
        predicted = scores.argmax(dim=1)
        assert torch.equal(predicted, tensors[f"pred_k{count}"].cpu())
        accuracy = (predicted == test_labels).double().mean()[None]
        assert_close(accuracy, tensors[f"acc_k{count}"], 1e-6, f"acc_k{count}")
    assert counts


CHECKS: dict[str, Callable[[Case, Tensors], None]] = {
    "jitter": check_jitter,
    "shear": check_shear,
    "layout": check_layout,
    "graph": check_graph,
    "normalization": check_normalization,
    "random_crop": check_random_crop,
    "central_crop": check_central_crop,
    "views": check_views,
    "network": networks.check_network,
    "block": networks.check_block,
    "step": networks.check_step,
    "inter_loss": networks.check_inter_loss,
    "intra_loss": networks.check_intra_loss,
    "keys": networks.check_keys,
    "retrieval": check_retrieval,
    "ntu_file": check_ntu_file,
    "left_out": check_left_out,
}


@pytest.mark.parametrize("path", case_paths("skeleton"), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case, tensors = load_case(path)
    kind = kind_of(case, tensors)
    assert kind in CHECKS, f"unknown kind of case: {path.name}"
    CHECKS[kind](case, tensors)
