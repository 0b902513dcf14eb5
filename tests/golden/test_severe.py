"""Every golden case of the SEVERE benchmark; what a case checks is read from its own content."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import convolutional_networks as networks
from cases_io import assert_close, case_paths, load_case
from native_networks import check_native_network
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


KINDS: list[tuple[set[str], Callable[[Case, Tensors], None]]] = [
    ({"clip_logits", "confidence", "per_class"}, check_video_accuracy),
    ({"view_scores", "ap_per_class", "map"}, check_multi_label_map),
    ({"clip", "feature_map", "layer1_mean_per_channel"}, networks.check_severe_layout),
    ({"clip", "conv1", "conv5x", "pooled"}, check_native_network),
    ({"clip", "conv5", "logits"}, check_native_network),
]


@pytest.mark.parametrize("path", case_paths("severe"), ids=lambda path: path.stem)
def test_case(path):
    case, tensors = load_case(path)
    checks = [check for names, check in KINDS if names <= tensors.keys()]
    if not checks:
        pytest.fail(f"unknown kind of case: {path.stem}")
    for check in checks:
        check(case, tensors)
