"""Every golden case of the SEVERE benchmark; what a case checks is read from its own content."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import convolutional_networks as networks
import repetition_counting as counting
from cases_io import DEVICE, assert_close, case_paths, load_case
from native_networks import check_native_network
from tubelets.data.modalities.frame_sampling import dense_test_starts
from tubelets.evaluation.severe.subsets import few_sample_subset
from tubelets.models.heads.action_detection import ActionDetectionHead
from tubelets.models.heads.dense_multi_label import DenseMultiLabelHead
from tubelets.tasks.action_detection.metrics import frame_average_precision
from tubelets.tasks.metrics import (
    average_precision,
    mean_average_precision,
    mean_class_accuracy,
    per_class_accuracy,
    top_k_accuracy,
)
from tubelets.tasks.views import merge_views

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def percent(fraction: float) -> Tensor:
    return torch.tensor(100 * fraction)


def check_video_accuracy(case: Case, tensors: Tensors) -> None:
    tolerance, labels = float(case["suggested_tolerance"]), tensors["labels"]
    confidence = merge_views(tensors["clip_logits"].softmax(dim=-1), "mean")
    measured = {
        "confidence": confidence,
        "top1": percent(top_k_accuracy(confidence, labels, 1))[None],
        "top5": percent(top_k_accuracy(confidence, labels, 5))[None],
        "mean_class_top1": percent(mean_class_accuracy(confidence, labels, absent="zero")),
        "mean_class_top1_present": percent(mean_class_accuracy(confidence, labels)),
        # The reference counts a class without a video as 0, ours says NaN.
        "per_class": 100 * per_class_accuracy(confidence, labels).nan_to_num(0.0),
    }
    assert measured.keys() | {"clip_logits", "labels"} == tensors.keys()
    for name, value in measured.items():
        assert_close(value, tensors[name], tolerance, name)


def check_multi_label_map(case: Case, tensors: Tensors) -> None:
    tolerance, labels, views = float(case["suggested_tolerance"]), tensors["labels"], tensors["view_scores"]
    scores = merge_views(views, "max")
    measured = {
        "video_scores": scores,
        # The reference marks a class without a positive by -1, ours by NaN.
        "ap_per_class": average_precision(scores, labels).nan_to_num(-1.0),
        "map": torch.tensor(mean_average_precision(scores, labels)),
        "map_single_view": torch.tensor(mean_average_precision(views[:, 0], labels)),
    }
    assert measured.keys() | {"view_scores", "labels"} == tensors.keys()
    for name, value in measured.items():
        assert_close(value, tensors[name], tolerance, name)


def load_head(head: Any, case: Case) -> Any:
    head.load_state_dict(networks.weights_of(case["state_dict_shapes"], case["salt"]))
    return head.to(DEVICE).eval()


def check_multi_label_head(case: Case, tensors: Tensors) -> None:
    labels, width = case["state_dict_shapes"]["projection.weight"]
    head = load_head(DenseMultiLabelHead(width, labels), case)
    with torch.no_grad():
        found = {"logits": head(tensors["features"]), "probabilities": head.probabilities(tensors["features"])}
    assert found.keys() | {"features"} == tensors.keys()
    for name, value in found.items():
        assert_close(value, tensors[name], float(case["suggested_tolerance"]), name)


def check_detection_head(case: Case, tensors: Tensors) -> None:
    assert (case["temporal_pool"], case["aligned"]) == (tensors["features"].shape[2], True)
    assert case["sampling_ratio"] == 0
    labels, width = case["state_dict_shapes"]["projection.weight"]
    head = load_head(ActionDetectionHead(width, labels, case["roi_resolution"], case["spatial_scale"]), case)
    given = tensors["features"], tensors["boxes"]
    with torch.no_grad():
        found = {
            "roi_features": head.regions(*given),
            "probabilities": head(*given).sigmoid(),
            "loss": head.loss(*given, tensors["labels"]),
        }
    assert found.keys() | {"features", "boxes", "labels"} == tensors.keys()
    for name, value in found.items():
        assert_close(value, tensors[name], float(case["suggested_tolerance"]), name)


def check_frame_map(case: Case, tensors: Tensors) -> None:
    truth, boxes, frames = tensors["gt"], tensors["det_boxes"], tensors["det_meta"]
    given = (truth[:, 2:6], truth[:, :2].long(), truth[:, 6].long() - 1, boxes, frames, tensors["det_scores"])
    tolerance = float(case["suggested_tolerance"])
    values = frame_average_precision(*given, excluded=tensors["excluded"])
    # The reference marks a class without a true box by -1, ours by NaN.
    assert_close(values.nan_to_num(-1.0), tensors["ap_per_class"], tolerance, "ap_per_class")
    assert_close(values.nanmean(), tensors["map"], tolerance, "map")
    everything = frame_average_precision(*given).nanmean()
    assert_close(everything, tensors["map_without_exclusion"], tolerance, "map_without_exclusion")


def check_subsets(case: Case, tensors: Tensors) -> None:
    labels = tensors.pop("labels").tolist()
    assert tensors
    for name, expected in tensors.items():
        size, seed = name.removeprefix("subset_").split("_seed")
        assert few_sample_subset(labels, int(size), int(seed)) == expected.tolist(), name


def check_clip_starts(case: Case, tensors: Tensors) -> None:
    for name, expected in tensors.items():
        frames, chunk, clips = (int("".join(filter(str.isdigit, part))) for part in name.split("_"))
        assert dense_test_starts(frames, chunk, clips) == expected.tolist(), name


def is_clip_starts(names: set[str]) -> bool:
    return bool(names) and all(name.startswith("nf") and "_chunk" in name for name in names)


KINDS: list[tuple[set[str], Callable[[Case, Tensors], None]]] = [
    ({"clip_logits", "confidence", "per_class"}, check_video_accuracy),
    ({"view_scores", "ap_per_class", "map"}, check_multi_label_map),
    ({"clip", "feature_map", "layer1_mean_per_channel"}, networks.check_severe_layout),
    ({"clip", "conv1", "conv5x", "pooled"}, check_native_network),
    ({"clip", "conv5", "logits"}, check_native_network),
    ({"features", "logits", "probabilities"}, check_multi_label_head),
    ({"features", "boxes", "roi_features"}, check_detection_head),
    ({"gt", "det_boxes", "ap_per_class"}, check_frame_map),
    ({"clip", "cls_1", "box_1"}, counting.check_network),
    ({"state_1", "gt_cls_1", "loss"}, counting.check_targets_loss),
    ({"videos", "counts", "mid_points"}, counting.check_decoder),
    ({"state_f64", "frame_indices"}, counting.check_input_sampling),
    ({"counts", "gt_counts", "mae"}, counting.check_metrics),
]


def checks_of(names: set[str]) -> list[Callable[[Case, Tensors], None]]:
    if is_clip_starts(names):
        return [check_clip_starts]
    if "labels" in names and any(name.startswith("subset_") for name in names):
        return [check_subsets]
    return [check for needed, check in KINDS if needed <= names]


@pytest.mark.parametrize("path", case_paths("severe"), ids=lambda path: path.stem)
def test_case(path):
    case, tensors = load_case(path)
    checks = checks_of(set(tensors))
    if not checks:
        pytest.fail(f"unknown kind of case: {path.stem}")
    for check in checks:
        check(case, tensors)
