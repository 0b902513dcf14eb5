"""The audio-visual and video models of structured-noise masking."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoProcessor,
)

from tubelets import (
    StructuredNoiseAudioVideoConfig,
    StructuredNoiseAudioVideoForPreTraining,
    StructuredNoiseAudioVideoForVideoClassification,
    StructuredNoiseAudioVideoModel,
    StructuredNoiseVideoConfig,
    StructuredNoiseVideoForPreTraining,
    StructuredNoiseVideoForVideoClassification,
    TubeletsVideoMAEForPreTraining,
)
from tubelets.models.backbones.audio_vit.positions import grid_positions
from tubelets.models.common.auto import inference_processor, pretraining_collator
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.methods.structured_noise import conversion_structured_noise as conversion
from tubelets.models.methods.structured_noise.processing_structured_noise import StructuredNoiseAudioVideoProcessor
from tubelets.objectives import audio_visual_contrastive_loss

# 8 x 4 patches of sound and 4 x 4 of one frame.
SIZES = {
    "max_length": 64, "num_mel_bins": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 48, "decoder_hidden_size": 16, "decoder_num_attention_heads": 2,
    "decoder_num_hidden_layers": 2, "decoder_intermediate_size": 24, "image_size": 32, "num_labels": 5,
    "mask_options": {"bank_size": 4}, "video_mask_options": {"bank_size": 2, "volume_shape": [8, 16, 16]},
}  # fmt: skip
CLIPS = 3
CLIP = {"num_frames": 4, "tubelet_size": 2, "video_mask_type": "green3d"}
MODELS = (
    StructuredNoiseAudioVideoModel,
    StructuredNoiseAudioVideoForPreTraining,
    StructuredNoiseAudioVideoForVideoClassification,
)
every_model = pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__.removeprefix("StructuredNoise"))


def build(kind: Any, **changes: Any) -> Any:
    """A model none of whose weights has the value of an initialisation."""
    torch.manual_seed(0)
    model = kind(kind.config_class(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(0.1 * torch.randn(tensor.shape))
    return model


def inputs(model: Any) -> dict[str, Any]:
    generator, config = torch.Generator().manual_seed(1), model.config
    given: dict[str, Any] = {
        "input_values": torch.randn(CLIPS, config.max_length, config.num_mel_bins, generator=generator),
        "pixel_values": torch.randn(
            CLIPS, config.num_frames, 3, config.image_size, config.image_size, generator=generator
        ),
    }
    if hasattr(model, "decoder"):
        time_major = config.build_mask_generator()(CLIPS, generator=generator)
        given["audio_bool_masked_pos"] = time_major.unflatten(1, config.audio_grid).transpose(1, 2).flatten(1)
        given["video_bool_masked_pos"] = config.build_video_mask_generator()(CLIPS, generator=generator)
    if hasattr(model, "classifier"):
        given["labels"] = torch.tensor([0, 4, 2])
    return given


def loss_of(output: Any) -> Tensor:
    if hasattr(output, "last_hidden_state"):
        return sum(each.sin().mean() for each in (output[0], output.audio_hidden_state, output.video_hidden_state))
    return output.loss


def numpy_standardised(patch: np.ndarray) -> np.ndarray:
    return (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)


@pytest.mark.parametrize("changes", [{}, CLIP, {"token_order": "time"}])
def test_loss_is_two_reconstructions_and_a_contrast(changes: dict[str, Any]) -> None:
    model = build(StructuredNoiseAudioVideoForPreTraining, **changes)
    given = (
        inputs(model)
        if "token_order" not in changes
        else {
            **inputs(model),
            "audio_bool_masked_pos": model.config.build_mask_generator()(
                CLIPS, generator=torch.Generator().manual_seed(2)
            ),
        }
    )
    output = model(**given)
    audio, video, depth = [], [], model.config.tubelet_size
    for clip in range(CLIPS):
        values = given["input_values"][clip].double().numpy()
        values = values if "token_order" in changes else values.T
        columns = values.shape[1] // 8
        for place, token in enumerate(np.flatnonzero(given["audio_bool_masked_pos"][clip].numpy())):
            row, column = 8 * (token // columns), 8 * (token % columns)
            target = numpy_standardised(values[row : row + 8, column : column + 8]).ravel()
            audio.append(((output.audio_logits[clip, place].detach().numpy() - target) ** 2).mean())
        frames = given["pixel_values"][clip].double().numpy().transpose(0, 2, 3, 1)  # frames, rows, columns, channels
        for place, token in enumerate(np.flatnonzero(given["video_bool_masked_pos"][clip].numpy())):
            first, row, column = depth * (token // 16), 8 * (token % 16 // 4), 8 * (token % 4)
            target = numpy_standardised(frames[first : first + depth, row : row + 8, column : column + 8]).ravel()
            video.append(((output.video_logits[clip, place].detach().numpy() - target) ** 2).mean())
    assert len(audio) == CLIPS * 24
    assert len(video) == CLIPS * 12 * model.config.grid[0]
    assert output.audio_loss.item() == pytest.approx(np.mean(audio), rel=1e-5)
    assert output.video_loss.item() == pytest.approx(np.mean(video), rel=1e-5)
    expected = output.audio_loss + output.video_loss + 0.01 * output.contrastive_loss
    torch.testing.assert_close(output.loss, expected)


def test_contrast_goes_one_way() -> None:
    generator = torch.Generator().manual_seed(0)
    sound, frame = (torch.randn(6, 8, generator=generator) for _ in range(2))
    heard, seen = (side.double().numpy() for side in (sound, frame))
    heard, seen = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (heard, seen))
    odds = np.exp(heard @ seen.T / 0.05)
    # A distribution over the sounds, for each frame.
    expected = -np.log(np.diag(odds) / odds.sum(axis=0)).mean()
    other_way = -np.log(np.diag(odds) / odds.sum(axis=1)).mean()
    loss, accuracy = audio_visual_contrastive_loss(sound, frame)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert abs(expected - other_way) > 1e-2
    assert accuracy.item() == pytest.approx((odds.argmax(axis=0) == np.arange(6)).mean())
    assert audio_visual_contrastive_loss(sound, sound + 0.01 * frame)[1] == 1
    with pytest.raises(ValueError, match=r"\(6, 8\).*\(5, 8\)"):
        audio_visual_contrastive_loss(sound, frame[:5])
    with pytest.raises(ValueError, match="positive, got 0"):
        audio_visual_contrastive_loss(sound, frame, 0.0)


def test_contrast_compares_visible_tokens_seen_by_one_modality_alone() -> None:
    model = build(StructuredNoiseAudioVideoForPreTraining)
    given = inputs(model)
    output, encoder = model(**given), model.audio_video
    vectors = []
    for name, source in (("audio", "input_values"), ("video", "pixel_values")):
        visible = (~given[f"{name}_bool_masked_pos"]).nonzero()[:, 1].view(CLIPS, -1)
        tokens = getattr(encoder, f"encode_{name}")(given[source], visible)
        vectors.append(encoder.share(tokens, name).mean(dim=1))
    loss, accuracy = audio_visual_contrastive_loss(*vectors, 0.05)
    torch.testing.assert_close(output.contrastive_loss, loss)
    assert output.contrastive_accuracy == accuracy
    # Frames of other clips change the contrast, and no reconstruction of the sound's own clip.
    moved = {**given, "pixel_values": given["pixel_values"].roll(1, 0)}
    assert model(**moved).contrastive_loss != output.contrastive_loss


def test_shared_blocks_have_norms_of_their_own() -> None:
    model = build(StructuredNoiseAudioVideoModel)
    tokens = torch.randn(2, 5, 32)
    results = [model.share(tokens, name) for name in ("both", "audio", "video")]
    assert not any(torch.allclose(results[i], results[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    layer, norm = model.shared_layers[0], model.audio_norm
    attended = layer.attention.attention(layer.layernorm_before_audio(tokens))[0]
    hidden = tokens + layer.attention.output.dense(attended)
    hidden = hidden + layer.output.dense(layer.intermediate(layer.layernorm_after_audio(hidden)))
    torch.testing.assert_close(results[1], norm(hidden))


@every_model
def test_gradient_reaches_what_the_pass_uses(kind: Any) -> None:
    model = build(kind).train()
    loss_of(model(**inputs(model))).backward()
    # A classifier of both never uses the norms of one modality alone.
    idle = (
        ("_norm.", "before_audio", "before_video", "after_audio", "after_video") if hasattr(model, "classifier") else ()
    )
    for key, parameter in model.named_parameters():
        if any(part in key for part in idle) and not key.startswith(("fc_norm", "audio_video.joint_norm")):
            assert parameter.grad is None, key
            continue
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if not key.endswith("attention.key.bias"):
            assert parameter.grad.abs().max() > 0, key


@every_model
def test_saved_and_loaded_models_are_equal(kind: Any, tmp_path: Path) -> None:
    model = build(kind)
    model.save_pretrained(tmp_path)
    loaded, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert torch.equal(loss_of(model(**inputs(model))), loss_of(loaded(**inputs(loaded))))
    auto = AutoModel.from_pretrained(tmp_path)
    assert type(auto) is StructuredNoiseAudioVideoModel
    encoder = getattr(model, "audio_video", model)
    assert all(torch.equal(value, auto.state_dict()[key]) for key, value in encoder.state_dict().items())


def test_a_classifier_starts_from_a_pretrained_encoder(tmp_path: Path) -> None:
    pretrained = build(StructuredNoiseAudioVideoForPreTraining)
    pretrained.save_pretrained(tmp_path)
    for auto in (AutoModelForAudioClassification, AutoModelForVideoClassification):
        model, report = auto.from_pretrained(tmp_path, modality="audio", output_loading_info=True)
        assert type(model) is StructuredNoiseAudioVideoForVideoClassification
        assert {key.split(".")[0] for key in report["missing_keys"]} == {"fc_norm", "classifier"}
        assert not report["unexpected_keys"]
    assert type(AutoModelForPreTraining.from_pretrained(tmp_path)) is StructuredNoiseAudioVideoForPreTraining


@every_model
def test_compiles_without_graph_breaks(kind: Any) -> None:
    model = build(kind, num_hidden_layers=1, decoder_num_hidden_layers=1)
    given = inputs(model)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)  # `fullgraph` makes a graph break an error
    torch.testing.assert_close(loss_of(compiled(**given)), loss_of(model(**given)), atol=1e-5, rtol=1e-5)
    torch._dynamo.reset()


@every_model
def test_activation_checkpointing_and_bfloat16(kind: Any) -> None:
    model = build(kind).train()
    loss_of(model(**inputs(model))).backward()
    expected = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad(set_to_none=True)
    model.gradient_checkpointing_enable()
    loss_of(model(**inputs(model))).backward()
    for key, gradient in expected.items():
        torch.testing.assert_close(dict(model.named_parameters())[key].grad, gradient)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss_of(model(**inputs(model))).isfinite()


@pytest.mark.parametrize("modality", ["both", "audio", "video"])
def test_classification_from_each_modality(modality: str) -> None:
    model = build(StructuredNoiseAudioVideoForVideoClassification, modality=modality)
    given, encoder = inputs(model), model.audio_video
    output = model(**given)
    audio, video = encoder.encode_audio(given["input_values"]), encoder.encode_video(given["pixel_values"])
    tokens = {"both": torch.cat([audio, video], dim=1), "audio": audio, "video": video}[modality]
    pooled = encoder.share(tokens, modality).mean(dim=1)
    torch.testing.assert_close(output.logits, model.classifier(model.fc_norm(pooled)))
    assert output.loss.isfinite()
    # Other inputs are not looked at, and the argument says the same as the configuration.
    other = {"audio": "pixel_values", "video": "input_values"}.get(modality)
    if other is not None:
        needed = {key: value for key, value in given.items() if key != other}
        assert torch.equal(model(**needed).logits, output.logits)
    both = build(StructuredNoiseAudioVideoForVideoClassification)
    assert torch.equal(both(**given, modality=modality).logits, output.logits)


@pytest.mark.parametrize(("name", "key"), [("audio", "input_values"), ("video", "pixel_values")])
def test_a_missing_modality_averages_two_passes(name: str, key: str) -> None:
    model = build(StructuredNoiseAudioVideoForVideoClassification)
    value = inputs(model)[key]
    tokens = getattr(model.audio_video, f"encode_{name}")(value)
    pooled = [model.audio_video.share(tokens, which).mean(dim=1) for which in ("both", name)]
    expected = model.classifier(model.fc_norm((pooled[0] + pooled[1]) / 2))
    torch.testing.assert_close(model(**{key: value}).logits, expected)


def test_multi_label_and_bad_inputs() -> None:
    model = build(StructuredNoiseAudioVideoForVideoClassification, problem_type="multi_label_classification")
    given = inputs(model)
    labels = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    output = model(**{**given, "labels": labels})
    odds = 1 / (1 + np.exp(-output.logits.detach().double().numpy()))
    wanted = labels.numpy()
    assert output.loss.item() == pytest.approx(
        -(wanted * np.log(odds) + (1 - wanted) * np.log(1 - odds)).mean(), rel=1e-5
    )
    with pytest.raises(ValueError, match="input_values or pixel_values"):
        model()
    with pytest.raises(ValueError, match="needs pixel_values"):
        model(input_values=given["input_values"], modality="video")
    with pytest.raises(ValueError, match="got 'sound'"):
        model(**given, modality="sound")
    with pytest.raises(ValueError, match="both None"):
        model.audio_video()
    with pytest.raises(ValueError, match=r"\(3, 2, 3, 32, 32\)"):
        model(pixel_values=torch.zeros(3, 2, 3, 32, 32))


def test_raw_uint8_frames_equal_normalised_ones() -> None:
    model = build(StructuredNoiseAudioVideoForPreTraining)
    raw = torch.randint(0, 256, (CLIPS, 1, 3, 32, 32), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (model.config.image_mean, model.config.image_std))
    given = inputs(model)
    first, second = (model(**{**given, "pixel_values": each}) for each in (raw, (raw / 255 - mean) / std))
    torch.testing.assert_close(first.loss, second.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first.video_targets, second.video_targets, atol=1e-4, rtol=1e-4)


def test_positions_of_frames_count_time_only_in_clips() -> None:
    one = StructuredNoiseAudioVideoModel(
        StructuredNoiseAudioVideoConfig(**SIZES)
    ).video_embeddings.positions.position_embeddings
    assert torch.equal(one, grid_positions(4, 4, 32))
    clip = StructuredNoiseAudioVideoModel(StructuredNoiseAudioVideoConfig(**SIZES, **CLIP)).video_embeddings.positions
    assert clip.position_embeddings.shape == (1, 32, 32)
    assert len(torch.unique(clip.position_embeddings[0], dim=0)) == 32


def test_base_sizes() -> None:
    """CAV-MAE: 11 + 11 + 1 blocks of ViT-B with three pairs of norms in the shared one, about 164 million."""
    with torch.device("meta"):
        encoder = StructuredNoiseAudioVideoModel(StructuredNoiseAudioVideoConfig())
        whole = StructuredNoiseAudioVideoForPreTraining(StructuredNoiseAudioVideoConfig())
    block = lambda width: 12 * width**2 + 13 * width  # noqa: E731
    ends = (256 + 768 + 2) * 768 + 2 * 768 + 3 * 2 * 768
    assert encoder.num_parameters() == 23 * block(768) + 2 * 4 * 768 + ends
    outside = 769 * 512 + 3 * 512 + 2 * 512 + 513 * (256 + 768)
    assert whole.num_parameters() == encoder.num_parameters() + 8 * block(512) + outside


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"image_size": 30}, "image_size=30"),
        ({"num_frames": 3, "tubelet_size": 2}, "num_frames=3"),
        ({"decoder_type": "window"}, "must be 'plain'"),
        ({"contrastive_temperature": 0.0}, "contrastive_temperature"),
        ({"contrastive_weight": -1.0}, "contrastive_weight"),
        ({"image_std": (1.0, 1.0)}, "image_std needs 3"),
        ({"video_mask_ratio": 1.0}, "video_mask_ratio"),
        ({"video_mask_options": {"sigma": 1}}, "do not accept the options"),
        ({"modality": "smell"}, "modality"),
    ],
)
def test_bad_configurations_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(Exception, match=named):
        StructuredNoiseAudioVideoConfig(**{**SIZES, **changes})


def items(count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "waveform": 0.1 * torch.randn(16000, generator=generator),
            "pixel_values": torch.randint(0, 256, (1, 3, 32, 32), generator=generator).to(torch.uint8),
            "seed": number,
        }
        for number in range(count)
    ]


def test_collator_draws_independent_masks_from_each_clips_own_seed() -> None:
    config = StructuredNoiseAudioVideoConfig(**SIZES)
    collate, given = pretraining_collator(config), items(8)
    batch, alone = collate(given), collate(given[3:4])
    for key, value in alone.items():
        assert value == batch[key] if isinstance(value, int) else torch.equal(value[0], batch[key][3]), key
    assert (batch["num_masked_audio"], batch["num_masked_video"]) == (24, 12)
    assert batch["pixel_values"].dtype == torch.uint8
    assert len(torch.unique(batch["video_bool_masked_pos"], dim=0)) > 4
    assert StructuredNoiseAudioVideoForPreTraining(config)(**batch).loss.isfinite()


def test_processor_takes_sound_frames_or_both(tmp_path: Path) -> None:
    config = StructuredNoiseAudioVideoConfig(**SIZES)
    inference_processor(config).save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is StructuredNoiseAudioVideoProcessor
    sound = items(1)[0]["waveform"].numpy()
    frame = torch.randint(0, 256, (1, 3, 48, 64), dtype=torch.uint8)
    both = processor(sound, frame, sampling_rate=16000, return_tensors="pt")
    assert {key: tuple(value.shape) for key, value in both.items()} == {
        "input_values": (1, 64, 32),
        "pixel_values": (1, 1, 3, 32, 32),
    }
    assert list(processor(videos=frame, return_tensors="pt")) == ["pixel_values"]
    assert list(processor(sound, sampling_rate=16000)) == ["input_values"]
    assert build(StructuredNoiseAudioVideoModel)(**both).last_hidden_state.shape == (1, 48, 32)
    with pytest.raises(ValueError, match="both None"):
        processor()
    with pytest.raises(ValueError, match="16000"):
        processor(sound, sampling_rate=44100)


@pytest.mark.parametrize("kind", MODELS[1:], ids=["pretraining", "classifier"])
def test_official_round_trip(kind: Any) -> None:
    sizes = {"num_mel_bins": 128, "patch_size": 16, "max_length": 64, "hidden_size": 64, "num_attention_heads": 1}
    masks = {"mask_type": "random", "video_mask_type": "random"}
    learned = {"learned_positions": kind is MODELS[2]}
    model = build(kind, **sizes, **masks, **learned, decoder_hidden_size=64)
    official = conversion.to_official(model)
    assert official["patch_embed_v.proj.weight"].shape == (64, 3, 16, 16)
    assert official["blocks_u.0.norm1_a.weight"].ne(1).any()
    assert official["blocks_a.1.norm2_v.weight"].eq(1).all()
    assert ("mlp_head.1.bias" in official) == (kind is MODELS[2])
    again = conversion.from_official(official)
    assert type(again) is kind
    assert (again.config.num_hidden_layers, again.config.num_shared_layers, again.config.image_size) == (2, 1, 32)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    given = inputs(model)
    assert torch.equal(loss_of(model(**given)), loss_of(again.eval()(**given)))
    with pytest.raises(CheckpointLayoutError, match="extra"):
        conversion.from_official({**official, "extra": torch.zeros(1)}, model.config)


def test_video_models_are_the_base_under_green_noise() -> None:
    sizes = {"image_size": 32, "patch_size": 8, "num_frames": 4, "hidden_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 4, "intermediate_size": 48, "decoder_hidden_size": 16, "num_labels": 3}
    sizes |= {"decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 24}
    config = StructuredNoiseVideoConfig(**sizes, mask_options={"bank_size": 1}, mask_ratio=0.75)
    assert (config.mask_type, config.build_mask_generator().kind) == ("green3d", "green3d")
    torch.manual_seed(0)
    model = StructuredNoiseVideoForPreTraining(config)
    collate = pretraining_collator(config)
    batch = collate([{"pixel_values": torch.zeros(4, 3, 32, 32, dtype=torch.uint8), "seed": 1}])
    assert batch["bool_masked_pos"].view(1, 2, 16).sum(dim=2).tolist() == [[12, 12]]
    base = TubeletsVideoMAEForPreTraining(config)
    base.load_state_dict(model.state_dict())
    assert torch.equal(model(**batch).loss, base(**batch).loss)
    assert type(AutoModelForVideoClassification.from_config(config)) is StructuredNoiseVideoForVideoClassification
