"""Checks of repetition counting: frames of a state, network, targets, decoder, metrics."""

from typing import Any

import torch
from torch import Tensor

from cases_io import DEVICE, assert_close
from convolutional_networks import frames_first, weights_of
from tubelets.models.backbones.resnet3d.conversion_resnet3d import from_official
from tubelets.models.heads.repetition_counting import RepetitionCounter, RepetitionCountingHead
from tubelets.objectives.counting import CyclePrediction, counting_loss, cycle_targets, offsets_at
from tubelets.tasks.repetition_counting.decoder import count_repetitions
from tubelets.tasks.repetition_counting.metrics import counting_metrics
from tubelets.tasks.repetition_counting.states import gather_frames, input_frames

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def check_network(case: Case, tensors: Tensors) -> None:
    weights = weights_of(case["state_dict_shapes"], case["salt"])
    head = {name.removeprefix("fc."): value for name, value in weights.items() if name.startswith("fc.")}
    network = RepetitionCounter(from_official({name: w for name, w in weights.items() if not name.startswith("fc.")}))
    network.head.load_state_dict(head)
    with torch.no_grad():
        past, coming = network.to(DEVICE).eval()(frames_first(tensors["clip"]))
    found = {"cls_1": past.logits, "box_1": past.boxes, "cls_2": coming.logits, "box_2": coming.boxes}
    assert found.keys() | {"clip"} == tensors.keys()
    for name, value in found.items():
        # The case's tolerance: 1e-4 relative to the largest value.
        assert_close(value, tensors[name], 1e-4 * float(tensors[name].abs().max()), name)


def check_targets_loss(case: Case, tensors: Tensors) -> None:
    tolerance, ratios = float(case["suggested_tolerance"]), (case["iou_upper"], case["iou_lower"])
    predictions, targets = [], []
    for stream in (1, 2):
        frames, lengths = tensors[f"state_{stream}"].unbind(dim=1)
        labels = tensors["label"].expand(len(frames), -1)
        offsets = offsets_at(labels, frames, torch.full_like(frames, case["sample_len"]))
        found = cycle_targets(offsets, lengths, tuple(case["anchors"]), *ratios)
        assert_close(found.classes, tensors[f"gt_cls_{stream}"], tolerance, f"gt_cls_{stream}")
        # The reference marks a box without a target by -1, ours by its class.
        boxes = torch.where(found.classes == 1, found.boxes, -1.0)
        assert_close(boxes, tensors[f"gt_box_{stream}"], tolerance, f"gt_box_{stream}")
        targets.append(found)
        predictions.append(CyclePrediction(tensors[f"cls_{stream}"], tensors[f"box_{stream}"]))
    loss, classes, boxes = counting_loss((predictions[0], predictions[1]), (targets[0], targets[1]))
    for name, value in {"loss": loss, "loss_cls": classes, "loss_box": boxes}.items():
        assert_close(value, tensors[name], {"rel": tolerance, "abs": tolerance}, name)


def check_input_sampling(case: Case, tensors: Tensors) -> None:
    states, half = tensors["state_f64"], case["basic_duration"] // 2
    frames = input_frames(states, half, case["l_context_ratio"] + 1, case["r_context_ratio"])
    assert_close(frames, tensors["frame_indices"], 0.0, "frame_indices")
    expected = tensors["inputs_first4"].transpose(1, 2)
    videos = tensors["video"].transpose(0, 1).expand(len(expected), -1, -1, -1, -1)
    lengths = tensors["sample_len"][: len(expected)]
    clips = gather_frames(videos, frames[: len(expected), None], lengths, tuple(case["padding_colour"]))
    assert_close(clips[:, 0], expected, 0.0, "inputs_first4")


def check_decoder(case: Case, tensors: Tensors) -> None:
    frames = next(iter(case["state_dict_shapes"].values()))[1]
    head = RepetitionCountingHead(frames)
    head.load_state_dict(weights_of(case["state_dict_shapes"], case["salt"]))
    head.to(DEVICE).eval()
    calls = []

    def network(clips: Tensor) -> tuple[CyclePrediction, CyclePrediction]:
        calls.append(len(clips))
        past, coming = head(6 * clips.mean(dim=(2, 3, 4)))
        return past, coming

    assert case["merge_level"] == 5
    videos, lengths = tensors["videos"].transpose(1, 2), tensors["sample_len"]
    given = {"min_cycles": case["min_cycles"], "weight": case["merge_w"], "padding": tuple(case["padding_colour"])}
    found = count_repetitions(network, videos, lengths, **given, batch_size=len(videos) * 32)
    exact = {
        "initial_half_period": found.half_periods,
        "mid_points": found.centres,
        "left_final": found.left,
        "right_final": found.right,
        "counts": found.counts,
    }
    for name, value in exact.items():
        assert_close(value, tensors[name], 0.0, name)
    assert len(calls) <= 13, "states of a level, of all scales and of all videos go through the network together"
    # One by one, the same.
    pairs = zip(videos.split(1), lengths.split(1), strict=True)
    alone = [count_repetitions(network, *pair, **given).counts for pair in pairs]
    assert torch.equal(torch.cat(alone), found.counts)
    metrics = counting_metrics(found.counts, tensors["gt_counts"])
    names = ("mae", "obo_accuracy", "mae_std", "mae_over", "mae_under")
    assert_close(torch.tensor([metrics[name] for name in names]), tensors["metrics"], 1e-6, "metrics")


def check_metrics(case: Case, tensors: Tensors) -> None:
    metrics = counting_metrics(tensors["counts"], tensors["gt_counts"])
    assert metrics.keys() | {"counts", "gt_counts"} == tensors.keys()
    for name, value in metrics.items():
        assert_close(torch.tensor(value), tensors[name], float(case["suggested_tolerance"]), name)
