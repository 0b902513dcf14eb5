"""Checks of modality transfer and distillation: 3D-ResNets, losses, intervals and segments."""

from typing import Any

import torch
from torch import Tensor

from cases_io import DEVICE, assert_close
from convolutional_networks import frames_first, weights_of
from tubelets.models.backbones.resnext3d.conversion_resnext3d import from_official, infer_config, to_official
from tubelets.models.backbones.resnext3d.modeling_resnext3d import ResNeXt3DForVideoClassification
from tubelets.objectives import intervals
from tubelets.objectives.distillation import distillation_losses, divergence, ensemble, hard_label_loss, mutual_loss
from tubelets.objectives.feature_supervision import block_distance, clips_of_video, feature_distance, video_feature
from tubelets.tasks.temporal_detection.metrics import (
    clip_segments,
    pku_average_precision,
    segment_average_precision,
)

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def compare(found: dict[str, Tensor], case: Case, tensors: Tensors) -> None:
    """Compare everything that a case expects."""
    assert set(case["expected"]) == found.keys()
    for name, value in found.items():
        expected = tensors[name]
        assert_close(value.reshape(expected.shape), expected, case["tolerance"][name], name)


def check_residual_network(case: Case, tensors: Tensors) -> None:
    weights = weights_of(case["state_dict"], case["salt"])
    model = from_official(weights)
    back = to_official(model)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    with torch.no_grad():
        video = frames_first(tensors["input"])
        encoded = model.to(DEVICE).eval().backbone(video, output_hidden_states=True)
        found = {"logits": model(video).logits, "avgpool": encoded.pooler_output}
    stages = dict(zip(model.backbone.stage_names, encoded.hidden_states, strict=True))
    # Maps keep every eighth channel.
    found |= {name: value[:, ::8] for name, value in stages.items()}
    for name in tensors.keys() - {"input"}:
        tolerance = case["tolerance"] if isinstance(case["tolerance"], float) else case["tolerance"][name]
        assert_close(found[name], tensors[name], tolerance, name)


def gradient(loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, inputs, retain_graph=True)


def check_clip_supervision(case: Case, tensors: Tensors) -> None:
    own, clips = tensors["student_clip_features"].requires_grad_(), tensors["teacher_clip_features"]
    num_clips = clips_of_video(tensors["num_frames"], case["hyper"]["clip_length"])
    video = video_feature(clips, num_clips)
    clip = clips[torch.arange(len(clips)), tensors["clip_index"].long()]
    found: dict[str, Tensor] = {"num_clips": num_clips, "teacher_video_features": video}
    for name, target in (("clip_to_clip", clip), ("video_to_clip", video)):
        pairs = zip(own.split(1), target.split(1), strict=True)
        found[f"distance_{name}"] = torch.stack([feature_distance(a, b) for a, b in pairs])
        for kind in ("cosine", "mse"):
            found[f"{kind}_{name}"] = feature_distance(own, target, kind)
    for kind in ("cosine", "mse"):
        found[f"{kind}_combined"] = found[f"{kind}_clip_to_clip"] + found[f"{kind}_video_to_clip"]
    blocks = range(sum(name.startswith("student_block.") for name in tensors))
    sides = ([tensors[f"{side}_block.{number}"] for number in blocks] for side in ("student", "teacher"))
    found["cosine_all_blocks"] = found["cosine_clip_to_clip"] + block_distance(*sides)
    for name in ("cosine_clip_to_clip", "cosine_video_to_clip", "cosine_combined", "mse_combined"):
        (found[f"grads_{name}"],) = gradient(found[name], own)
    compare(found, case, tensors)


def check_sequence_supervision(case: Case, tensors: Tensors) -> None:
    names = ("student_sequence_features", "projection_weight", "projection_bias", "student_same_width_features")
    own, weight, bias, same = (tensors[name].requires_grad_() for name in names)
    num_clips = clips_of_video(tensors["num_frames"], case["hyper"]["clip_length"])
    video = video_feature(tensors["teacher_clip_features"], num_clips)
    projected = torch.nn.functional.linear(own, weight, bias)
    cosine, alike = feature_distance(projected, video), feature_distance(same, video)
    found = {
        "num_clips": num_clips,
        "teacher_video_features": video,
        "projected_features": projected,
        "cosine_video_to_video": cosine,
        "mse_video_to_video": feature_distance(projected, video, "mse"),
        "cosine_video_to_video_same_width": alike,
    }
    found |= dict(zip([f"grads_{name}" for name in names[:3]], gradient(cosine, own, weight, bias), strict=True))
    (found[f"grads_{names[3]}"],) = gradient(alike, same)
    compare(found, case, tensors)


def check_distillation(case: Case, tensors: Tensors) -> None:
    given = case["hyper"]
    teacher, labels = tensors["teacher_logits"], tensors["labels"].long()
    students = tensors["student_logits"].requires_grad_()
    assert len(students) == given["num_students"]
    options = {"temperature": given["temperature"], "mutual_weight": given["mutual_weight"]}
    taught, mutual = distillation_losses(students, teacher, **options)
    softened, _ = distillation_losses(students, teacher, hard_labels=False, **options)
    together = {how: ensemble(students, how) for how in ("average", "max")}
    found = {
        "hard_labels": teacher.argmax(dim=1),
        "ce": taught,
        "ce_labels": hard_label_loss(students, labels),
        **{f"kl_teacher_tau{tau}": divergence(students, teacher, tau) for tau in (1, 2, 10)},
        "mutual": mutual,
        "mutual_tau1": mutual_loss(students, 1.0),
        "loss_hard_ce": taught + mutual,
        "loss_kl": softened + mutual,
        "total_hard_ce": (taught + mutual).sum(),
        "total_kl": (softened + mutual).sum(),
        **{f"ensemble_{how}": scores for how, scores in together.items()},
        **{f"prediction_{how}": scores.argmax(dim=1) for how, scores in together.items()},
    }
    for name in ("ce", "mutual", "loss_hard_ce", "loss_kl"):
        (found[f"grads_{name}"],) = gradient(found[name].sum(), students)
    compare(found, case, tensors)


def check_anchor_detection(case: Case, tensors: Tensors) -> None:
    given, truth = case["hyper"], tensors["ground_truth"]
    frames, stride = given["buffer_frames"], given["feature_stride"]
    anchors = intervals.make_anchors(frames // stride, given["anchor_scales"], stride).to(truth.device)
    overlap = given["positive_overlap"], given["negative_overlap"]
    labels, matched = intervals.label_anchors(anchors, truth, frames, *overlap)
    targets = intervals.encode(anchors, truth[matched])
    proposals = intervals.decode(anchors, tensors["anchor_deltas"], frames)
    sampled = tensors["sampled"]
    predicted = tensors["anchor_logits"][sampled], tensors["anchor_deltas"][sampled]
    rpn = intervals.proposal_losses(*predicted, labels[sampled], targets[sampled])
    deviations = truth.new_tensor(given["delta_std"])
    spans, roi_labels = tensors["roi_spans"], tensors["roi_labels"]
    roi_targets = intervals.encode(spans, truth[tensors["roi_matched"]]) / deviations
    head = intervals.head_losses(tensors["roi_logits"], tensors["roi_deltas"], roi_labels, roi_targets)
    thresholds, classes = given["average_precision_overlaps"], given["num_classes"]
    precision = segment_average_precision(tensors["segments"], tensors["detections"], classes, thresholds)
    found = {
        "anchors": anchors,
        "anchor_inside": ((anchors[:, 0] >= 0) & (anchors[:, 1] <= frames)).long(),
        "anchor_overlaps": intervals.overlaps(anchors, truth),
        "anchor_labels": labels,
        "anchor_matched": matched,
        "anchor_targets": targets,
        "proposals": proposals,
        "rpn_loss_cls": rpn[0],
        "rpn_loss_segment": rpn[1],
        "roi_targets": roi_targets,
        "head_loss_cls": head[0],
        "head_loss_segment": head[1],
        "roi_decoded": intervals.decode(spans[:, None], tensors["roi_deltas"] * deviations, frames),
        "roi_pooled": intervals.pool_regions(tensors["feature_map"], spans, tuple(given["pool_size"]), stride),
        # The case marks a class without a segment by -1, ours by NaN.
        "average_precision": precision.nan_to_num(-1.0),
        "mean_average_precision": precision.nanmean(dim=1),
    }
    for name in case["expected"]:
        if name.startswith("kept_"):
            threshold, shortest = float(name.removeprefix("kept_")), given["min_proposal_length"]
            found[name] = intervals.suppress(proposals, tensors["anchor_scores"], threshold, shortest)
    compare(found, case, tensors)


def check_pku_map(case: Case, tensors: Tensors) -> None:
    given, tolerance = case["hyper"], case["tolerance"]
    options = {"threshold": given["activity_threshold"], "step": given["step_size"]}
    options |= {"frames": given["n_frames"], "downsample": given["downsample"]}
    videos = range(sum(name.startswith("scores.") for name in tensors))
    segments = [clip_segments(tensors[f"scores.{number}"], **options) for number in videos]
    for number, found in enumerate(segments):
        assert_close(found, tensors[f"segments.{number}"], {"abs": tolerance, "rel": tolerance}, f"segments.{number}")
    truth = [tensors[f"ground_truth.{number}"] for number in videos]
    names = [name for name in tensors if name.startswith("map_")]
    assert names
    for name in names:
        threshold = float(name.removeprefix("map_"))
        values = pku_average_precision(truth, segments, given["classes"], threshold)
        assert_close(values.mean()[None], tensors[name], tolerance, name)


def check_official_keys(case: Case, tensors: Tensors) -> None:
    """Full-size residual networks have the names and shapes of the public files."""
    checked = 0
    for name, shapes in case.items():
        plain = {key.removeprefix("module."): tuple(shape) for key, shape in shapes.items()}
        if "conv1.weight" not in plain or len(plain["conv1.weight"]) != 5:
            continue
        with torch.device("meta"):
            config = infer_config({key: torch.empty(shape) for key, shape in shapes.items()})
            model = ResNeXt3DForVideoClassification(config)
        assert {key: tuple(value.shape) for key, value in to_official(model).items()} == plain, name
        checked += 1
    assert checked
