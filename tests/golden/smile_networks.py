"""Checks of SMILE's networks, targets, schedule, checkpoint layouts and retrieval against the official code."""

import tempfile
from typing import Any

import pytest
import torch
from torch import Tensor

from cases_io import DEVICE, assert_close
from fill import fill_state_dict
from tubelets import SmileConfig, SmileForPreTraining, SmileForVideoClassification
from tubelets.evaluation.video_text import video_text_recall
from tubelets.models.backbones.video_vit.pixels import pixel_targets
from tubelets.models.methods.smile.conversion_smile import (
    from_official,
    infer_config,
    teacher_from_official,
    teacher_to_official,
    to_official,
)
from tubelets.models.teachers.image_encoders import TransformersImageEncoder
from tubelets.objectives import (
    dual_softmax,
    standardize_features,
    video_text_contrastive_loss,
)
from tubelets.training.optimization import Schedule

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def weights_of(shapes: dict[str, list[int]], salt: int) -> Tensors:
    return fill_state_dict({name: tuple(shape) for name, shape in shapes.items()}, salt)


def frames_first(video: Tensor) -> Tensor:
    return video.transpose(1, 2).contiguous()


def build_pretraining(given: Case, weights: Tensors, **fields: Any) -> SmileForPreTraining:
    """The network of a pretraining case; its sizes come from the case's own configuration."""
    pixels = 3 * given["tubelet_size"] * given["patch_size"] ** 2
    feature_width = given["decoder_num_classes"]
    target = {"target_type": "pixel"} if feature_width == pixels else {
        "target_type": "image_encoder", "teacher": "timm:none", "teacher_hidden_size": feature_width
    }  # fmt: skip
    sizes = {
        "image_size": given["img_size"],
        "patch_size": given["patch_size"],
        "num_frames": given["num_frames"],
        "num_attention_heads": given["encoder_num_heads"],
        "decoder_num_attention_heads": given["decoder_num_heads"],
    }
    config = infer_config(weights, **{**sizes, **target, **fields})
    checked = {
        "hidden_size": given["encoder_embed_dim"],
        "num_hidden_layers": given["encoder_depth"],
        "intermediate_size": given["encoder_embed_dim"] * given["mlp_ratio"],
        "decoder_hidden_size": given["decoder_embed_dim"],
        "decoder_num_hidden_layers": given["decoder_depth"],
        "decoder_intermediate_size": given["decoder_embed_dim"] * given["mlp_ratio"],
        "tubelet_size": given["tubelet_size"],
    }
    assert {name: getattr(config, name) for name in checked} == checked
    return from_official(weights, config).to(DEVICE)


def check_all(found: Tensors, tensors: Tensors, inputs: set[str], tolerance: Any) -> None:
    assert found.keys() == tensors.keys() - inputs, "every tensor of the case is checked"
    for name, value in found.items():
        assert_close(value, tensors[name], tolerance, name)


@torch.no_grad()
def check_pretraining_features(case: Case, tensors: Tensors) -> None:
    weights = weights_of(case["state_dict"], case["salt"])
    model, raw = (
        build_pretraining(case["config"], weights, normalize_target=normalize, mask_ratio=case["mask_ratio"])
        for normalize in (True, False)
    )
    video, mask = frames_first(tensors["video"]), tensors["mask"].bool()
    features = tensors["teacher_features"].flatten(1, 2)
    output, plain = (each(video, mask, target_features=features) for each in (model, raw))
    two = model(video, torch.stack([mask, mask[tensors["batch_permutation"]]], dim=1), target_features=features)
    found = {
        "encoder_output": output.encoder_last_hidden_state,
        "pred": output.logits,
        "labels": output.targets,
        "loss": output.loss,
        "labels_raw": plain.targets,
        "loss_raw": plain.loss,
        "pred_two_masks": two.logits,
        "labels_two_masks": two.targets,
        "loss_two_masks": two.loss,
    }
    check_all(found, tensors, {"video", "mask", "teacher_features", "batch_permutation"}, case["tolerance"])


@torch.no_grad()
def check_pretraining_pixels(case: Case, tensors: Tensors) -> None:
    weights = weights_of(case["state_dict"], case["salt"])
    video, mask = frames_first(tensors["video"]), tensors["mask"].bool()
    model, raw = (
        build_pretraining(case["config"], weights, norm_pix_loss=normalize, mask_ratio=case["mask_ratio"])
        for normalize in (True, False)
    )
    output = model(video, mask)
    found = {"pred": output.logits, "labels": output.targets, "loss": output.loss, "loss_raw": raw(video, mask).loss}
    check_all(found, tensors, {"video", "mask"}, case["tolerance"])


def check_pixel_target(case: Case, tensors: Tensors) -> None:
    video = frames_first(tensors["video"])
    sizes = {
        "image_size": video.shape[3],
        "patch_size": case["patch_size"],
        "num_frames": video.shape[1],
        "tubelet_size": case["tubelet_size"],
    }
    for name, normalize in (("target", True), ("target_raw", False)):
        config = SmileConfig(target_type="pixel", norm_pix_loss=normalize, **sizes)
        ids = torch.arange(config.num_tokens, device=DEVICE).expand(len(video), -1)
        found, expected = pixel_targets(video, ids, config), tensors[name]
        # The case's note: the exact target of a constant tube is 0, which float noise over 1e-6 misses by up to 0.2.
        pixels = tensors["target_raw"].unflatten(2, (-1, config.num_channels))
        constant = normalize & (pixels.std(dim=2, keepdim=True) < 1e-5).expand_as(pixels).flatten(2)
        assert_close(found[~constant], expected[~constant], case["tolerance"], name)
        assert_close(found[constant], torch.zeros_like(found[constant]), 0.5, f"{name} of constant tubes")


def check_feature_target(case: Case, tensors: Tensors) -> None:
    found = standardize_features(tensors["features"].flatten(1, 2))
    assert_close(found, tensors["target"], case["tolerance"], "target")


@torch.no_grad()
def check_classifier(case: Case, tensors: Tensors) -> None:
    given, weights = case["config"], weights_of(case["state_dict"], case["salt"])
    config = infer_config(
        weights,
        image_size=given["img_size"],
        patch_size=given["patch_size"],
        num_frames=given["all_frames"],
        num_attention_heads=given["num_heads"],
    )
    checked = {
        "hidden_size": given["embed_dim"],
        "num_hidden_layers": given["depth"],
        "num_labels": given["num_classes"],
        "intermediate_size": given["embed_dim"] * given["mlp_ratio"],
        "tubelet_size": given["tubelet_size"],
    }
    assert {name: getattr(config, name) for name in checked} == checked
    model = from_official(weights, config).to(DEVICE).eval()
    video = frames_first(tensors["video"])
    encoded = model.videomae(video)
    found = {
        "tokens": encoded.last_hidden_state,
        "pooled": encoded.pooler_output,
        "features": model.fc_norm(encoded.pooler_output),
        "logits": model(video).logits,
    }
    check_all(found, tensors, {"video"}, case["tolerance"])


@torch.no_grad()
def check_transfer(case: Case, tensors: Tensors) -> None:
    """A saved pretraining model loads as a classifier: the encoder is kept, the head is new."""
    weights = weights_of(case["pretrain_state_dict"], case["salt"])
    pretrained = build_pretraining(case["pretrain_config"], weights)
    with tempfile.TemporaryDirectory() as folder:
        pretrained.cpu().save_pretrained(folder)
        model = SmileForVideoClassification.from_pretrained(folder).eval()
    official = to_official(model)
    for name in case["keys_loaded"]:
        assert torch.equal(official[name], weights[f"encoder.{name}"]), name
    assert official.keys() - set(case["keys_loaded"]) == set(case["keys_left_at_init"])
    assert bool((official["fc_norm.weight"] == 1).all())
    assert not bool(official["fc_norm.bias"].any())
    model.to(DEVICE)
    features = model.fc_norm(model.videomae(frames_first(tensors["video"])).pooler_output)
    check_all({"features": features}, tensors, {"video"}, case["tolerance"])


@torch.no_grad()
def check_teacher(case: Case, tensors: Tensors) -> None:
    given, weights = case["config"], weights_of(case["state_dict"], case["salt"])
    tower = teacher_from_official(weights, given["heads"])
    assert (tower.config.image_size, tower.config.patch_size) == (given["input_resolution"], given["patch_size"])
    assert (tower.config.hidden_size, tower.config.num_hidden_layers) == (given["width"], given["layers"])
    back = teacher_to_official(tower)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    video = frames_first(tensors["video"])
    config = SmileConfig(
        image_size=given["input_resolution"],
        patch_size=given["patch_size"],
        num_frames=video.shape[1],
        target_type="image_encoder",
        teacher="transformers:here",
        teacher_hidden_size=given["width"],
        hidden_size=24,
        num_attention_heads=2,
        num_hidden_layers=1,
    )
    model = SmileForPreTraining(config).load_teacher(TransformersImageEncoder(tower)).to(DEVICE)
    found = model.teacher_features(video).view_as(tensors["features"])
    check_all({"features": found}, tensors, {"video"}, case["tolerance"])


def check_schedule(case: Case, tensors: Tensors) -> None:
    assert tensors.keys() == {f"schedule_{number}" for number in range(len(case["configs"]))}
    for number, given in enumerate(case["configs"]):
        steps = given["epochs"] * given["steps_per_epoch"]
        warmup = given["warmup_epochs"] * given["steps_per_epoch"]
        schedule = Schedule(given["base"], given["final"], warmup, steps)
        found = torch.tensor([schedule(step) for step in range(steps)], dtype=torch.float64)
        assert_close(found, tensors[f"schedule_{number}"], case["tolerance"], f"schedule_{number}")


def check_official_keys(case: Case, tensors: Tensors) -> None:
    weights = weights_of(case["keys"], 0)
    teacher = "class_embedding" in weights
    model = teacher_from_official(weights) if teacher else from_official(weights)
    assert sum(parameter.numel() for parameter in model.parameters()) == case["num_parameters"]
    back = teacher_to_official(model) if teacher else to_official(model)
    assert {name: list(value.shape) for name, value in back.items()} == case["keys"]
    assert all(torch.equal(back[name], weights[name]) for name in weights)


def check_retrieval(case: Case, tensors: Tensors) -> None:
    video, text = tensors["video_embeddings"], tensors["text_embeddings"]
    temperature = case["temperature"]
    normalized = [
        torch.nn.functional.normalize(tensors[name], dim=1) for name in ("video_embeddings", "eval_text_embeddings")
    ]
    similarity = normalized[0] @ normalized[1].t()
    found = {
        "loss": video_text_contrastive_loss(video, text, temperature, tensors["index"]),
        "loss_no_index": video_text_contrastive_loss(video, text, temperature),
        "eval_similarity": similarity,
        "eval_similarity_dsl_v2t": dual_softmax(similarity),
        "eval_similarity_dsl_t2v": dual_softmax(similarity.t()),
    }
    inputs = {"video_embeddings", "text_embeddings", "index", "eval_text_embeddings"}
    check_all(found, tensors, inputs, case["tolerance"])
    owners = torch.arange(len(video), device=DEVICE).repeat_interleave(similarity.shape[1] // len(video))
    reweighted = video_text_recall(found["eval_similarity_dsl_v2t"], owners, found["eval_similarity_dsl_t2v"])
    for name, scores in (("metrics", video_text_recall(similarity, owners)), ("metrics_dsl", reweighted)):
        for official, ours in (("txt", "video_to_text"), ("img", "text_to_video")):
            for k in (1, 5, 10):
                assert scores[f"{ours}_r{k}"] == pytest.approx(case[name][f"{official}_r{k}"], abs=0.006)
            assert scores[f"{ours}_mean"] == pytest.approx(case[name][f"{official}_r_mean"], abs=0.006)
        assert scores["mean"] == pytest.approx(case[name]["r_mean"], abs=0.006)
