"""LocoMotion's networks: attention over time, parts from other libraries, losses over processes, and resizing."""

import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForPreTraining, BeitConfig, BeitModel, BertConfig, BertForMaskedLM

from distributed import run_processes
from tiny_models import LOCOMOTION, TOWER, batch_of, tiny_config, tiny_model
from tubelets import (
    LocoMotionConfig,
    LocoMotionForPreTraining,
    LocoMotionForVideoClassification,
    LocoMotionForVideoTextRetrieval,
    LocoMotionModel,
)
from tubelets.hub.cards import render_model_card
from tubelets.models.common.errors import CheckpointLayoutError, UnsafeCheckpointError
from tubelets.models.common.starting_parts import start_from_parts
from tubelets.models.methods.locomotion.conversion_locomotion import (
    from_official,
    load_beit,
    load_bert,
    load_official,
    to_official,
)

STACKED = {"video_config": LOCOMOTION["video_config"] | {"temporal_attention": "stacked"}}
PARTS = TOWER | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def scattered(model: Any) -> Any:
    with torch.no_grad():
        for value in [*model.parameters(), *(each for each in model.buffers() if each.is_floating_point())]:
            value.add_(0.05 * torch.randn(value.shape))
    return model.eval()


def pretraining(**changes: Any) -> LocoMotionForPreTraining:
    torch.manual_seed(0)
    return scattered(LocoMotionForPreTraining(tiny_config("locomotion", **changes)))


@pytest.mark.parametrize("changes", [{}, STACKED], ids=["divided", "stacked"])
@pytest.mark.parametrize("frames", [1, 3, 4, 7])
def test_any_number_of_frames_is_accepted(changes: dict[str, Any], frames: int) -> None:
    model = pretraining(**changes).locomotion
    clips = torch.randn(2, frames, 3, 32, 32)
    output = model(clips)
    assert output.last_hidden_state.shape == (2, frames * 5, 32)
    assert model.tokens(output.last_hidden_state).shape == (2, frames * 4, 32)
    assert model.feature_map(clips).shape == (2, 32, frames, 2, 2)
    patches = model.feature_map(clips).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.tokens(output.last_hidden_state), patches)


@pytest.mark.parametrize(
    ("changes", "sees_order"),
    [
        ({}, True),
        (STACKED, True),
        ({"video_config": STACKED["video_config"] | {"pool_after_time": False}}, False),
        ({"video_config": LOCOMOTION["video_config"] | {"temporal_attention": "none"}}, False),
    ],
    ids=["divided", "stacked", "stacked-frames", "none"],
)
def test_the_order_of_frames_matters_to_contrast(changes: dict[str, Any], sees_order: bool) -> None:
    model = pretraining(**changes)
    clips = torch.randn(2, 4, 3, 32, 32)
    there, back = model.get_video_features(clips), model.get_video_features(clips.flip(1))
    assert (not torch.allclose(there, back, atol=1e-4)) == sees_order


def test_what_is_not_contrasted_is_not_trained(tmp_path: Path) -> None:
    model = LocoMotionForPreTraining(tiny_config("locomotion", **STACKED))
    model.save_pretrained(tmp_path)
    for each in (model, AutoModelForPreTraining.from_pretrained(tmp_path), model.train()):
        frozen = {name for name, parameter in each.named_parameters() if not parameter.requires_grad}
        assert frozen == {f"locomotion.video_model.pooler.{leaf}" for leaf in ("weight", "bias")}
    batch = batch_of(model, "AutoModelForPreTraining")
    model.train()(**batch).loss.backward()
    assert {name for name, each in model.named_parameters() if each.grad is None} == frozen


def test_other_heads_start_from_a_pretraining_checkpoint(tmp_path: Path) -> None:
    model = pretraining()
    model.save_pretrained(tmp_path)
    clips, words = torch.randn(2, 4, 3, 32, 32), torch.randint(5, 500, (2, 9))
    classifier = LocoMotionForVideoClassification.from_pretrained(tmp_path)
    assert not [name for name in classifier.state_dict() if "text" in name or "fusion" in name]
    pooled = model.locomotion(clips).pooler_output
    torch.testing.assert_close(classifier.locomotion(clips).pooler_output, pooled)
    retrieval = LocoMotionForVideoTextRetrieval.from_pretrained(tmp_path)
    draws = torch.tensor([[0.2, 0.7], [0.6, 0.1]])
    labels = torch.full_like(words, -100)
    with torch.no_grad():
        first = retrieval(clips, words, negative_draws=draws)
        second = model(clips, words, masked_input_ids=words, masked_labels=labels, negative_draws=draws)
    torch.testing.assert_close(first.matching_logits, second.matching_logits)
    torch.testing.assert_close(first.loss, second.contrastive_loss + second.matching_loss)
    torch.testing.assert_close(LocoMotionModel.from_pretrained(tmp_path)(clips).pooler_output, pooled)
    product = retrieval.get_video_features(clips) @ retrieval.get_text_features(words).t()
    torch.testing.assert_close(product / model.locomotion.temperature, first.similarity)


def test_padding_does_not_change_a_text() -> None:
    model = pretraining().locomotion
    words = torch.randint(5, 500, (2, 6))
    padded = torch.cat([words, torch.zeros(2, 4, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(model.get_text_features(padded), model.get_text_features(words))


def test_the_temperature_stays_in_its_range() -> None:
    model = pretraining()
    batch = batch_of(model, "AutoModelForPreTraining")
    for start, kept in ((0.9, 0.5), (1e-9, 0.001), (0.1, 0.1)):
        with torch.no_grad():
            model.locomotion.temperature.fill_(start)
        model.eval()(**batch)
        assert model.locomotion.temperature.item() == pytest.approx(start)
        model.train()(**batch)
        assert model.locomotion.temperature.item() == pytest.approx(kept)


def test_wrong_captions_are_further_pairs_that_do_not_match() -> None:
    model = pretraining(hard_motion_negatives=True)
    batch = batch_of(model, "AutoModelForPreTraining")
    with torch.no_grad():
        output = model(**batch)
        fewer = model(**{name: value for name, value in batch.items() if not name.startswith("negative_")},
                      negative_draws=batch["negative_draws"])  # fmt: skip
    assert output.matching_logits.shape == (8, 2)
    torch.testing.assert_close(output.matching_logits[:6], fewer.matching_logits)
    labels = (torch.arange(8) < 2).long()
    torch.testing.assert_close(output.matching_loss, torch.nn.functional.cross_entropy(output.matching_logits, labels))


def test_batches_of_one_caption_train() -> None:
    model = pretraining()
    batch = batch_of(model, "AutoModelForPreTraining")
    output = model(**batch | {"caption_ids": torch.tensor([5, 5])})
    assert output.loss.isfinite()
    assert output.contrastive_accuracy == 1


def gathered(rank: int, world_size: int) -> tuple[float, dict[str, torch.Tensor]]:
    """The contrastive loss of a process's half of a batch, and gradients averaged as in distributed training."""
    model, batch = pretraining(), whole_batch()
    half = {name: value.chunk(world_size)[rank] for name, value in batch.items()}
    loss = model(**half).contrastive_loss
    loss.backward()
    found = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    for value in found.values():
        torch.distributed.all_reduce(value)
    return loss.item(), {name: value / world_size for name, value in found.items()}


def whole_batch() -> dict[str, torch.Tensor]:
    model = pretraining()
    parts = [batch_of(model, "AutoModelForPreTraining") for _ in range(2)]
    batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    batch["pixel_values"] = torch.randint(256, batch["pixel_values"].shape, dtype=torch.uint8,
                                          generator=torch.Generator().manual_seed(3))  # fmt: skip
    return batch


def test_contrast_over_processes_is_that_of_one_batch() -> None:
    model, batch = pretraining(), whole_batch()
    expected = model(**batch).contrastive_loss
    expected.backward()
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    for loss, found in run_processes(gathered, 2):
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        assert found.keys() == gradients.keys()
        for name, value in found.items():
            torch.testing.assert_close(value, gradients[name], atol=1e-5, rtol=1e-3, msg=lambda t, n=name: f"{n} {t}")


def beit(folder: Path, **changes: Any) -> BeitModel:
    fields = {
        **PARTS, "num_hidden_layers": 4, "image_size": 32, "patch_size": 16, "use_relative_position_bias": True,
        "drop_path_rate": 0.0,
    }  # fmt: skip
    torch.manual_seed(1)
    model = scattered(BeitModel(BeitConfig(**fields | changes)))
    model.save_pretrained(folder)
    return model


def bert(folder: Path, **changes: Any) -> BertForMaskedLM:
    torch.manual_seed(2)
    model = scattered(BertForMaskedLM(BertConfig(**{**PARTS, "num_hidden_layers": 2, "vocab_size": 560, **changes})))
    model.save_pretrained(folder)
    return model


def test_towers_start_from_beit_and_bert(tmp_path: Path) -> None:
    image, text = beit(tmp_path / "beit"), bert(tmp_path / "bert")
    named = {"video_init": str(tmp_path / "beit"), "text_init": str(tmp_path / "bert")}
    torch.manual_seed(0)
    model = start_from_parts(LocoMotionForPreTraining(tiny_config("locomotion", **named))).eval()
    frames, words = torch.randn(2, 3, 32, 32), torch.randint(5, 500, (2, 9))
    mask = (torch.arange(9) < 7).long().expand(2, -1)
    with torch.no_grad():
        seen = model.locomotion.video_model.encoder(frames[:, None])[:, 0]
        torch.testing.assert_close(seen, image(frames).last_hidden_state, atol=1e-5, rtol=1e-5)
        _, pooled = model.locomotion.video_model.encode_frames(frames[:, None])
        torch.testing.assert_close(pooled[:, 0], image(frames).pooler_output, atol=1e-5, rtol=1e-5)
        states = model.locomotion.encode_text(words, mask)
        expected = text.bert(words, attention_mask=mask, output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(states[:, :7], expected[:, :7], atol=1e-5, rtol=1e-5)
        # Without what attention to a video adds, the fusion layers and the head are BERT's.
        for layer in model.locomotion.fusion_model.layer:
            layer.crossattention.forward = lambda attended, video, videos: attended
        logits = model.predict_words(words, mask, torch.zeros(2, 5, 32))
        torch.testing.assert_close(logits[:, :7], text(words, attention_mask=mask).logits[:, :7], atol=1e-4, rtol=1e-4)


def test_loading_parts_is_strict_apart_from_what_is_new(tmp_path: Path) -> None:
    beit(tmp_path / "beit"), bert(tmp_path / "bert")
    model = pretraining()
    new = load_beit(model, tmp_path / "beit")
    assert all("temporal" in name or name.startswith("video_model.layernorm") for name in new)
    assert all("crossattention" in name for name in load_bert(model, tmp_path / "bert"))
    with pytest.raises(CheckpointLayoutError, match=r"has 2 layers, and text and fusion layers are 4 together"):
        load_bert(pretraining(text_config=LOCOMOTION["text_config"] | {"num_hidden_layers": 3}), tmp_path / "bert")
    beit(tmp_path / "deep", num_hidden_layers=5)
    with pytest.raises(CheckpointLayoutError, match=r"differ in \d+ weights: encoder.layers.4"):
        load_beit(model, tmp_path / "deep")
    beit(tmp_path / "wide", hidden_size=48)
    with pytest.raises(CheckpointLayoutError, match="does not fit the model's sizes"):
        load_beit(model, tmp_path / "wide")
    beit(tmp_path / "absolute", use_absolute_position_embeddings=True)
    with pytest.raises(CheckpointLayoutError, match="no biases of relative positions"):
        load_beit(model, tmp_path / "absolute")


def test_biases_of_positions_are_interpolated_to_other_frames(tmp_path: Path) -> None:
    image = beit(tmp_path, image_size=48)
    model = pretraining()
    load_beit(model, tmp_path)
    bias = model.locomotion.video_model.encoder.layers[0].relative_position_bias
    assert bias.relative_position_bias_table.shape == (3 * 3 + 3, 2)
    stored = image.layers[0].relative_position_bias.relative_position_bias_table
    assert torch.equal(bias.relative_position_bias_table[-3:], stored[-3:])
    assert model.get_video_features(torch.zeros(1, 4, 3, 32, 32)).isfinite().all()
    model.resize_images(48)
    assert model.config.image_height_width == (48, 48)
    assert model.get_video_features(torch.zeros(1, 4, 3, 48, 48)).isfinite().all()


@pytest.mark.parametrize("changes", [{}, STACKED], ids=["divided", "stacked"])
def test_other_numbers_of_frames_copy_and_pad_positions(changes: dict[str, Any]) -> None:
    model = pretraining(**changes)
    before = to_official(model)
    name = "temporal_embeddings" if changes else "vision_encoder.embeddings.temporal_position_embeddings"
    model.resize_frames(6)
    after = to_official(model)
    assert torch.equal(after[name][:, :4], before[name])
    assert not after[name][:, 4:].any()
    model.resize_frames(2)
    assert torch.equal(to_official(model)[name], before[name][:, :2])
    assert model.config.num_frames == 2


@pytest.mark.parametrize("changes", [{}, STACKED], ids=["divided", "stacked"])
@pytest.mark.parametrize("kind", [LocoMotionForPreTraining, LocoMotionForVideoTextRetrieval])
def test_checkpoints_of_the_base_frameworks_lead_back(kind: type, changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    # Heads of a text are 64 wide in official checkpoints.
    wide = {name: value | {"hidden_size": 64, "num_attention_heads": 1} for name, value in LOCOMOTION.items()
            if isinstance(value, dict)}  # fmt: skip
    wide["video_config"] |= changes.get("video_config", {}) | {"hidden_size": 64, "temporal_head_size": 64,
                                                             "num_attention_heads": 1}  # fmt: skip
    model = scattered(kind(tiny_config("locomotion", **wide)))
    official = to_official(model)
    assert any(name.startswith("text_encoder.bert.") for name in official) == (kind is LocoMotionForPreTraining)
    assert official["temp"].shape == ()
    loaded = from_official(official)
    assert type(loaded) is kind
    assert loaded.config.video_config.temporal_attention == ("stacked" if changes else "divided")
    assert loaded.config.video_config.num_frames == 4
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    clips = torch.randn(1, 4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval().locomotion(clips).pooler_output, model.locomotion(clips).pooler_output)


@pytest.mark.parametrize("attention", ["divided", "stacked"])
def test_cards_say_which_network_it_is_and_that_it_is_not_the_papers(attention: str) -> None:
    video = LOCOMOTION["video_config"] | {"temporal_attention": attention}
    card = render_model_card("you/loco", tiny_config("locomotion", video_config=video, video_init="a/beit"))
    assert f"{attention} attention over time" in card
    assert "the paper's network is not confirmed" in card
    assert "| started from | a/beit |" in card
    assert "grammar and numbers are this package's" in card


def test_settings_beside_the_weights_are_neither_read_nor_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Singularity saves an OmegaConf object beside its weights."""
    torch.manual_seed(0)
    wide = TOWER | {"hidden_size": 64, "num_attention_heads": 1}
    video = wide | {"image_size": 32, "temporal_attention": "stacked"}
    config = LocoMotionConfig(
        video_config=video, text_config=wide | {"vocab_size": 60}, fusion_encoder_config=wide, projection_size=16
    )
    official = to_official(scattered(LocoMotionForPreTraining(config)))
    library, nodes = ModuleType("omegaconf.dictconfig"), ModuleType("omegaconf.nodes")
    library.DictConfig = type("DictConfig", (), {"__module__": "omegaconf.dictconfig"})  # type: ignore[attr-defined]
    nodes.AnyNode = type("AnyNode", (), {"__module__": "omegaconf.nodes"})  # type: ignore[attr-defined]
    for module in (ModuleType("omegaconf"), library, nodes):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    settings, entry = library.DictConfig(), nodes.AnyNode()
    entry.__dict__.update(_val=3, _metadata={"ref_type": Any, "resolver_cache": defaultdict(dict)})
    settings.__dict__.update(_content={"lr": entry})
    torch.save({"model": official, "config": settings, "epoch": 9}, tmp_path / "singularity.pth")
    monkeypatch.undo()
    loaded = load_official(tmp_path / "singularity.pth")
    assert all(torch.equal(value, official[name]) for name, value in to_official(loaded).items())
    torch.save({"model": official, "config": Path("x")}, tmp_path / "other.pth")
    with pytest.raises(UnsafeCheckpointError, match="holds more than tensors, plain containers, Namespace"):
        load_official(tmp_path / "other.pth")


def test_a_model_of_raw_pixels_normalises_them() -> None:
    model = tiny_model("locomotion", "AutoModel")
    raw = torch.randint(256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(model(raw).pooler_output, model(raw / 127.5 - 1).pooler_output, atol=1e-5, rtol=1e-4)
