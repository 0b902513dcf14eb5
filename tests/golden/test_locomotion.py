"""Numbers of LocoMotion's base frameworks (locomotion.md, section 11). The kind of a case is read off its content."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cases_io import DEVICE, assert_close, case_paths, load_case
from fill import fill_state_dict
from test_locomotion_metrics import check_retrieval_metrics
from tubelets import LocoMotionForPreTraining
from tubelets.models.methods.locomotion.conversion_locomotion import from_official, to_official
from tubelets.models.methods.locomotion.frame_encoder import DividedTemporalAttention
from tubelets.objectives.contrastive import symmetric_cross_entropy
from tubelets.objectives.matching import masked_language_loss, matching_weights

Case = dict[str, Any]
Tensors = dict[str, Tensor]


def kind_of(case: Case) -> str:
    parameters = case.get("hyper_parameters", {})
    if "keys" in case:
        return "official_keys"
    if "fusion_layer" in parameters:
        return "pretraining"
    if parameters.keys() == {"dim", "heads"}:
        return "divided_attention"
    if "scores_v2t" in case.get("tensors", {}):
        return "retrieval"
    return "unknown"


def build(case: Case) -> LocoMotionForPreTraining:
    """The network of a case, with weights rebuilt from its keys and sizes from its hyper-parameters."""
    given = case["hyper_parameters"]
    weights = fill_state_dict({key: tuple(shape) for key, shape in case["state_dict"].items()}, case["salt"])
    weights["temp"] = torch.tensor(given["temp"])
    layers = {"num_attention_heads": given["heads"], "intermediate_size": given["mlp"]}
    layers |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    text = {
        **layers,
        "vocab_size": given["vocab"],
        "hidden_size": given["width"],
        "num_hidden_layers": given["fusion_layer"],
        "max_position_embeddings": given["max_pos"],
        "max_length": given["max_pos"],
        "pad_token_id": case["token_ids"]["pad"],
    }
    video = {
        "hidden_size": given["width"],
        "num_hidden_layers": given["vision_layers"],
        "num_attention_heads": given["heads"],
        "intermediate_size": given["mlp"],
        "image_size": given["image"],
        "num_frames": given["num_frames"],
        "temporal_attention": "stacked",
        "temporal_num_layers": given["temporal_layers"],
        "temporal_dropout": 0.0,
        "drop_path_rate": 0.0,
        "pool_after_time": given["update_pooler_embed"],
    }
    fusion = {**layers, "num_hidden_layers": given["text_layers"] - given["fusion_layer"]}
    fields = {"video_config": video, "text_config": text, "fusion_encoder_config": fusion}
    model = from_official(weights, temperature=given["temp"], projection_size=given["embed_dim"], **fields)
    return model.eval().to(DEVICE)


def check_pretraining(case: Case, tensors: Tensors) -> None:
    model = build(case)
    encoder = model.locomotion
    video, words, mask = tensors["video"], tensors["input_ids"], tensors["attention_mask"]
    with torch.no_grad():
        frames, pooled = encoder.video_model.encode_frames(video)
        tokens, vectors = encoder.encode_video(video)
        states = encoder.encode_text(words, mask)
        output = model(
            video, words, mask, masked_input_ids=tensors["mlm_input_ids"], masked_labels=tensors["mlm_labels"],
            caption_ids=tensors["ids"],
        )  # fmt: skip
        pairs = model.match_partners(
            [(states, mask)], tokens.flatten(1, 2), tensors["video_negative_index"], tensors["text_negative_index"]
        )
    of_texts, of_videos = matching_weights(output.similarity, tensors["ids"])
    right = (torch.arange(len(pairs), device=DEVICE) < len(video)).long()
    actual: Tensors = {
        "frame_embeds": frames,
        "frame_pooled": pooled,
        "image_embeds": tokens.flatten(1, 2),
        "pooled_image_embeds": vectors,
        "text_embeds": states,
        "pooled_text_embeds": states[:, 0],
        "sim_v2t": output.similarity,
        "loss_vtc": output.contrastive_loss[None],
        "loss_vtc_duplicate_ids": symmetric_cross_entropy(output.similarity, tensors["ids_duplicate"])[None],
        "vtm_weights_video_negatives": of_texts,
        "vtm_weights_text_negatives": of_videos,
        "vtm_logits": pairs,
        "loss_vtm": torch.nn.functional.cross_entropy(pairs, right)[None],
        "mlm_logits": output.masked_language_logits,
        "loss_mlm": masked_language_loss(output.masked_language_logits, tensors["mlm_labels"])[None],
    }
    inputs = {"video", "input_ids", "attention_mask", "ids", "ids_duplicate", "video_negative_index"}
    inputs |= {"text_negative_index", "mlm_input_ids", "mlm_labels"}
    assert tensors.keys() == actual.keys() | inputs
    tolerance = case["suggested_tolerance"]
    for name, value in actual.items():
        assert_close(value, tensors[name], {"abs": tolerance, "rel": tolerance}, name)
    # The loss is the sum of the parts, and pairs that the model drew itself are scored alike.
    assert_close(output.masked_language_loss, tensors["loss_mlm"][0], tolerance, "loss of the model")
    total = output.contrastive_loss + output.matching_loss + output.masked_language_loss
    assert_close(output.loss, total, 1e-6, "sum")
    assert_close(output.matching_logits[: len(video)], tensors["vtm_logits"][: len(video)], tolerance, "matching pairs")


def check_divided_attention(case: Case, tensors: Tensors) -> None:
    given = case["hyper_parameters"]
    weights = fill_state_dict({key: tuple(shape) for key, shape in case["state_dict"].items()}, case["salt"])
    block = DividedTemporalAttention(given["dim"], given["heads"])
    block.load_state_dict(weights | {"scale": weights["scale"].reshape(1)}, strict=True)
    assert tensors.keys() == {"input", "expected"}
    with torch.no_grad():
        found = block.eval().to(DEVICE)(tensors["input"])
    assert_close(found, tensors["expected"], case["suggested_tolerance"], "tokens")


def check_official_keys(case: Case, tensors: Tensors) -> None:
    """A checkpoint of full size leads back to the same names, shapes and types; on the meta device, without values."""
    kinds = {"float32": torch.float32, "int64": torch.int64}
    with torch.device("meta"):
        weights = {name: torch.empty(shape, dtype=kinds[kind]) for name, (shape, kind) in case["keys"].items()}
        back = to_official(from_official(weights))
    found = {name: [list(value.shape), str(value.dtype).removeprefix("torch.")] for name, value in back.items()}
    assert found == case["keys"]


CHECKS: dict[str, Callable[[Case, Tensors], None]] = {
    "pretraining": check_pretraining,
    "divided_attention": check_divided_attention,
    "official_keys": check_official_keys,
    "retrieval": check_retrieval_metrics,
}


@pytest.mark.parametrize("path", case_paths("locomotion"), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case, tensors = load_case(path)
    kind = kind_of(case)
    assert kind in CHECKS, f"unknown kind of case: {path.name}"
    CHECKS[kind](case, tensors)
