"""Numbers of the official SIGMA code (sigma.md, section 12). The kind of a case is read off its own content."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cases_io import DEVICE, assert_close, case_paths, load_case
from distributed import run_processes
from fill import fill_state_dict
from tubelets import SigmaForPreTraining, SigmaForVideoClassification
from tubelets.evaluation.neighbours import weighted_knn
from tubelets.evaluation.segmentation import clip_miou
from tubelets.models.common.layouts import convert_to_official
from tubelets.models.methods.sigma.conversion_sigma import (
    SIGMA_PRETRAINING_TABLE,
    from_official,
    infer_config,
    to_official,
)
from tubelets.objectives import sinkhorn
from tubelets.tasks.metrics import top_k_accuracy

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def kind_of(case: Case) -> str:
    tensors, parameters = case.get("tensors", {}), case.get("hyper_parameters", {})
    if "keys" in case:
        return "official_keys"
    if "miou_hungarian" in tensors:
        return "object_matching"
    if "loss_func" in parameters:
        return "pretraining"
    if "num_classes" in parameters and "videos" in tensors:
        return "classifier"
    if "scores" in tensors and "world_size" in parameters:
        return "sinkhorn_distributed"
    if "scores" in tensors and all(isinstance(value, dict) for value in parameters.values()):
        return "sinkhorn"
    if "bank" in tensors and "queries" in tensors:
        return "knn"
    return "unknown"


def build(case: Case, tensors: Tensors) -> SigmaForPreTraining | SigmaForVideoClassification:
    """The network of a case, with weights rebuilt from its keys and sizes from its hyper-parameters."""
    weights = fill_state_dict({key: tuple(shape) for key, shape in case["state_dict"].items()}, case["salt"])
    given = case["hyper_parameters"]
    sizes = {
        "num_frames": tensors["videos"].shape[2],
        "image_size": given["img_size"],
        "patch_size": given["patch_size"],
    }
    if "loss_func" not in given:
        sizes |= {
            "hidden_size": given["embed_dim"],
            "num_hidden_layers": given["depth"],
            "num_attention_heads": given["num_heads"],
            "intermediate_size": given["embed_dim"] * given["mlp_ratio"],
            "num_labels": given["num_classes"],
        }
        return from_official(weights, infer_config(weights, **sizes)).to(DEVICE)
    sizes |= {
        "hidden_size": given["encoder_embed_dim"],
        "num_hidden_layers": given["encoder_depth"],
        "num_attention_heads": given["encoder_num_heads"],
        "intermediate_size": given["encoder_embed_dim"] * given["mlp_ratio"],
        "decoder_hidden_size": given["decoder_embed_dim"],
        "decoder_num_hidden_layers": given["decoder_depth"],
        "decoder_num_attention_heads": given["decoder_num_heads"],
        "decoder_intermediate_size": given["decoder_embed_dim"] * given["mlp_ratio"],
        "mask_ratio": given["mask_ratio"],
        "target_type": given["target_type"],
        "loss_type": {"SWAV": "prototypes", "L2": "regression"}[given["loss_func"]],
        "sinkhorn_epsilon": given["sinkhorn_eps"],
        "sinkhorn_iterations": given["sinkhorn_iterations"],
        "normalize_target": given["normalize_target"],
        "norm_pix_loss": given["normalize_target"],
    }
    if given["target_type"].startswith("dino"):
        sizes["teacher_hidden_size"] = given["decoder_num_classes"]
    return from_official(weights, infer_config(weights, **sizes)).to(DEVICE)


def gradients(model: SigmaForPreTraining) -> Tensors:
    """Gradients under their official names; parameters without one are left out."""
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return convert_to_official(found, SIGMA_PRETRAINING_TABLE)


def check_pretraining(case: Case, tensors: Tensors) -> None:
    model = build(case, tensors)
    features = tensors.get("teacher_features")
    output = model(
        tensors["videos"].transpose(1, 2).contiguous(),
        tensors["mask"].bool(),
        target_features=None if features is None else features.flatten(1, 2),
    )
    output.loss.backward()
    actual: Tensors = {
        "encoder_out": output.encoder_last_hidden_state,
        "labels": output.targets,
        "pred": output.logits,
        "loss": output.loss[None],
    }
    if output.projections is not None:
        actual |= {
            "proj": output.projections,
            "scores_proj": output.projection_assignment.scores().view_as(tensors["scores_proj"]),
            "scores_pred": output.prediction_assignment.scores().view_as(tensors["scores_pred"]),
            "q_proj": output.projection_assignment.soft().view_as(tensors["q_proj"]),
            "q_pred": output.prediction_assignment.soft().view_as(tensors["q_pred"]),
            "loss_proj": output.projection_loss[None],
            "loss_pred": output.prediction_loss[None],
            "prototypes_after": model.prototypes.detach().clone(),
        }
        assert torch.equal(output.projection_labels, tensors["q_proj"].argmax(-1)), "labels of the projections"
        assert torch.equal(output.prediction_labels, tensors["q_pred"].argmax(-1)), "labels of the predictions"
    found = gradients(model)
    actual |= {f"grad.{name}": value for name, value in found.items()}
    inputs = {"videos", "mask", "teacher_features"}
    tolerance = {"abs": case["tolerance"]["abs"], "rel": case["tolerance"]["rel"]}
    for name in tensors.keys() - inputs:
        assert name in actual, f"the case has a tensor {name!r} that is not checked"
        loose = name.startswith("q_") or name.startswith("loss")  # the case's note: rel 1e-3 for these
        assert_close(actual[name], tensors[name], tolerance | ({"rel": 1e-3} if loose else {}), name)
    assert {f"grad.{name}" for name in case["hyper_parameters"]["grads"]} <= tensors.keys()
    for name in case["no_gradient_parameters"]:
        assert name not in found, f"{name} must have no gradient"


def check_classifier(case: Case, tensors: Tensors) -> None:
    model = build(case, tensors).eval()
    videos = tensors["videos"].transpose(1, 2).contiguous()
    with torch.no_grad():
        logits = model(videos).logits
        features = model.fc_norm(model.videomae(videos).pooler_output)
    assert tensors.keys() == {"videos", "logits", "features"}
    assert_close(logits, tensors["logits"], case["tolerance"], "logits")
    assert_close(features, tensors["features"], case["tolerance"], "features")


def check_sinkhorn(case: Case, tensors: Tensors) -> None:
    assert tensors.keys() == {"scores", *case["hyper_parameters"]}
    for name, parameters in case["hyper_parameters"].items():
        found = sinkhorn(tensors["scores"], parameters["epsilon"], parameters["iterations"])
        assert_close(found, tensors[name], case["tolerance"], name)
        assert torch.equal(found.argmax(dim=1), tensors[name].argmax(dim=1)), f"labels of {name}"


def solve_part(rank: int, world_size: int, scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    return sinkhorn(scores.chunk(world_size)[rank], epsilon, iterations)


def check_sinkhorn_distributed(case: Case, tensors: Tensors) -> None:
    given = case["hyper_parameters"]
    assert tensors.keys() == {"scores", "q"}
    scores = tensors["scores"].cpu()  # the processes speak gloo
    parts = run_processes(solve_part, given["world_size"], scores, given["epsilon"], given["iterations"])
    assert_close(torch.cat(parts), tensors["q"], case["tolerance"], "q")


def check_official_keys(case: Case, tensors: Tensors) -> None:
    weights = fill_state_dict({name: tuple(shape) for name, shape in case["keys"].items()})
    model = from_official(weights)
    assert sum(parameter.numel() for parameter in model.parameters()) == case["parameters"]
    back = to_official(model)
    assert {name: list(value.shape) for name, value in back.items()} == case["keys"]
    assert all(torch.equal(back[name], weights[name]) for name in weights)


def check_knn(case: Case, tensors: Tensors) -> None:
    given, labels = case["hyper_parameters"], tensors["query_labels"].long()
    inputs = (tensors["queries"], tensors["bank"], tensors["bank_labels"], given["num_classes"])
    scores = weighted_knn(*inputs, k=given["k"], temperature=given["temperature"])
    assert tensors.keys() == {"queries", "bank", "query_labels", "bank_labels", "scores", "pred_ranking"}
    assert_close(scores, tensors["scores"], {"rel": 1e-4}, "scores")  # the case's note
    assert torch.equal(scores.argmax(dim=1), tensors["pred_ranking"][:, 0].long())
    for k in (1, 5):
        assert 100 * top_k_accuracy(scores, labels, k) == pytest.approx(case[f"top{k}_percent"], abs=1e-4)


def check_object_matching(case: Case, tensors: Tensors) -> None:
    assert case["hyper_parameters"] == {"involve_background": True}
    matchings = {"hungarian": "hungarian", "many_to_one_iou": "iou", "many_to_one_precision": "precision"}
    assert {f"miou_{name}" for name in matchings} | {"gt", "pred"} == tensors.keys()
    for matching_name, matching in matchings.items():
        name = f"miou_{matching_name}"
        found = clip_miou(tensors["pred"], tensors["gt"], matching)
        assert_close(found, tensors[name], case["tolerance"], name)


CHECKS: dict[str, Callable[[Case, Tensors], None]] = {
    "pretraining": check_pretraining,
    "classifier": check_classifier,
    "sinkhorn": check_sinkhorn,
    "sinkhorn_distributed": check_sinkhorn_distributed,
    "official_keys": check_official_keys,
    "knn": check_knn,
    "object_matching": check_object_matching,
}


@pytest.mark.parametrize("path", case_paths("sigma"), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case, tensors = load_case(path)
    kind = kind_of(case)
    assert kind in CHECKS, f"unknown kind of case: {path.name}"
    CHECKS[kind](case, tensors)
