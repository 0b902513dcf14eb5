"""Dual encoders of any video side and any text side; image-text models that average frames."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save_file
from torch import nn
from transformers import (
    AutoModel,
    AutoProcessor,
    BertConfig,
    BertModel,
    BertTokenizerFast,
    CLIPConfig,
    CLIPModel,
    TimesformerConfig,
    TimesformerModel,
    ViTConfig,
    ViTModel,
)

from tiny_models import WORDS, tiny_config, tiny_model
from tubelets import ResNet3DConfig, ResNet3DModel, VideoTextDualEncoderConfig, VideoTextDualEncoderModel
from tubelets.data.assets.fetching import AssetError
from tubelets.models.common.auto import pretraining_collator
from tubelets.models.common.errors import UnsafeCheckpointError
from tubelets.models.common.video_text import class_embeddings, embed_texts
from tubelets.models.heads.video_text.processing_video_text import VideoTextProcessor, frame_processor, text_tokenizer
from tubelets.objectives import video_text_sigmoid_loss

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "of", "video", "bird", "cat", "jumps", "falls"]
OPEN_CLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def write_tokenizer(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    words = {word: number for number, word in enumerate(VOCABULARY)}
    BertTokenizerFast(vocab=words).save_pretrained(folder)
    return folder


def bert(**changes: Any) -> BertModel:
    torch.manual_seed(0)
    return BertModel(BertConfig(**{name: value for name, value in WORDS.items() if name != "model_type"} | changes))


def timesformer() -> TimesformerModel:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    return TimesformerModel(TimesformerConfig(image_size=16, patch_size=8, num_frames=2, **sizes))


def vit() -> ViTModel:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    return ViTModel(ViTConfig(image_size=16, patch_size=8, **sizes))


def resnet() -> ResNet3DModel:
    config = {"hidden_sizes": (8, 8, 8, 8), "stem_size": 4, "num_frames": 4, "image_size": 16}
    return ResNet3DModel(ResNet3DConfig(**config, image_mean=(0.1, 0.2, 0.3)))


def videos_of(model: Any, count: int = 2) -> torch.Tensor:
    return model.config.input_specs["pixel_values"].example(count, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", [resnet, timesformer, vit], ids=lambda side: side.__name__)
def test_any_video_side_joins_any_text_side(side: Any, tmp_path: Path) -> None:
    folders = tmp_path / "video", write_tokenizer(tmp_path / "text")
    video, text = side().eval(), bert(vocab_size=len(VOCABULARY)).eval()
    for each, folder in zip((video, text), folders, strict=True):
        each.save_pretrained(folder)
    model = VideoTextDualEncoderModel.from_video_text_pretrained(*folders, num_segments=3, projection_dim=10)
    assert model.config.tokenizer == str(folders[1])
    videos = videos_of(model)
    output = model(videos, torch.tensor([[2, 5, 8, 3], [2, 5, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]))
    # The parts are the loaded ones: each segment alone, projected and averaged.
    parts = videos.unflatten(1, (3, -1)).flatten(0, 1)
    with torch.no_grad():
        pooled = video(parts[:, 0] if side is vit else parts)
        pooled = pooled.last_hidden_state[:, 0] if side is timesformer else pooled.pooler_output
        expected = F.normalize(model.video_projection(pooled), dim=1).unflatten(0, (2, 3)).mean(dim=1)
    torch.testing.assert_close(output.video_embeds, F.normalize(expected, dim=1))
    with torch.no_grad():
        tokens = text(torch.tensor([[2, 5, 3]])).last_hidden_state.mean(dim=1)
        words = F.normalize(model.text_projection(tokens), dim=1)
    torch.testing.assert_close(output.text_embeds[1:], words)
    scale = torch.tensor(2.6592).exp()
    torch.testing.assert_close(output.logits_per_text, output.text_embeds @ output.video_embeds.T * scale)
    model.save_pretrained(tmp_path / "both")
    loaded = AutoModel.from_pretrained(tmp_path / "both")
    torch.testing.assert_close(loaded.get_video_features(videos), output.video_embeds)


def test_statistics_are_those_of_the_video_side() -> None:
    model = VideoTextDualEncoderModel.from_video_text_pretrained(resnet(), bert())
    assert list(model.config.image_mean) == [0.1, 0.2, 0.3]
    raw = torch.randint(256, (1, 4, 3, 16, 16), dtype=torch.uint8)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (model.config.image_mean, model.config.image_std))
    torch.testing.assert_close(model.get_video_features(raw), model.get_video_features((raw / 255 - mean) / std))


def test_frozen_towers_stay_as_they_are() -> None:
    model = VideoTextDualEncoderModel.from_video_text_pretrained(resnet(), bert(), freeze_video=True).train()
    assert not any(part.training for part in model.video_tower.modules())
    assert model.text_tower.training
    trained = {name.partition(".")[0] for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {"text_tower", "video_projection", "text_projection", "logit_scale"}


def test_temporal_pooling_starts_as_the_mean_and_then_sees_order() -> None:
    model = tiny_model("video_text_dual_encoder", "AutoModel")
    videos = videos_of(model)
    turned = videos.unflatten(1, (2, -1)).flip(1).flatten(1, 2)
    assert not torch.allclose(model.get_video_features(videos), model.get_video_features(turned), atol=1e-4)
    fresh = AutoModel.from_config(tiny_config("video_text_dual_encoder")).eval()
    torch.testing.assert_close(fresh.get_video_features(videos), fresh.get_video_features(turned))


def write_open_clip(folder: Path, safe: bool = True) -> Any:
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP_CONFIG, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = open_clip.CLIP(**OPEN_CLIP_CONFIG).eval()
    if safe:
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    else:
        torch.save({"state_dict": nn.Linear(1, 1)}, folder / "open_clip_pytorch_model.bin")
    return model


def test_an_open_clip_model_averages_frames(tmp_path: Path) -> None:
    theirs = write_open_clip(tmp_path / "clip")
    name = f"open_clip:local-dir:{tmp_path / 'clip'}"
    model = VideoTextDualEncoderModel.from_image_text_pretrained(name, num_segments=3)
    videos, ids = videos_of(model), open_clip.tokenize(["a bird", "a cat falls!"], context_length=12)
    assert videos.shape == (2, 3, 3, 16, 16)
    with torch.no_grad():
        frames = F.normalize(theirs.encode_image(videos.flatten(0, 1)), dim=1).unflatten(0, (2, 3)).mean(dim=1)
        texts = F.normalize(theirs.encode_text(ids), dim=1)
        torch.testing.assert_close(model.get_video_features(videos), F.normalize(frames, dim=1))
        torch.testing.assert_close(model.get_text_features(ids), texts)
        assert model.logit_scale == theirs.logit_scale
        # CLIP's tokenizer as one of transformers, and a checkpoint of ours.
        processor = VideoTextProcessor(frame_processor(model.config), text_tokenizer(model.config), max_length=12)
        torch.testing.assert_close(embed_texts(model, processor, ["a bird", "a cat falls!"]), texts)
        model.save_pretrained(tmp_path / "ours")
        processor.save_pretrained(tmp_path / "ours")
        loaded = AutoModel.from_pretrained(tmp_path / "ours")
        again = AutoProcessor.from_pretrained(tmp_path / "ours")
        assert again.max_length == 12
        torch.testing.assert_close(embed_texts(loaded, again, ["a bird", "a cat falls!"]), texts)
        torch.testing.assert_close(loaded.get_video_features(videos), F.normalize(frames, dim=1))


def test_open_clip_joins_a_video_backbone_and_pickles_are_refused(tmp_path: Path) -> None:
    write_open_clip(tmp_path / "clip")
    name = f"open_clip:local-dir:{tmp_path / 'clip'}"
    model = VideoTextDualEncoderModel.from_video_text_pretrained(resnet(), name, freeze_text=True)
    assert model.get_text_features(torch.randint(49408, (2, 12))).shape == (2, 512)
    write_open_clip(tmp_path / "pickled", safe=False)
    with pytest.raises(UnsafeCheckpointError, match="pickled objects"):
        VideoTextDualEncoderModel.from_image_text_pretrained(f"open_clip:local-dir:{tmp_path / 'pickled'}")


def test_a_clip_of_transformers_averages_frames() -> None:
    side = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vision = {**side, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    text = {**side, "vocab_size": 50, "max_position_embeddings": 9, "eos_token_id": 49}
    theirs = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
    model = VideoTextDualEncoderModel.from_image_text_pretrained(theirs, num_segments=1)
    videos, ids = videos_of(model), torch.tensor([[1, 5, 49], [7, 49, 49]])
    with torch.no_grad():
        expected = theirs(ids, videos[:, 0])
        output = model(videos, ids)
    torch.testing.assert_close(output.logits_per_text, expected.logits_per_text)
    assert model.config.max_length == 9


def test_the_sigmoid_loss_is_the_sum_over_all_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    video, text = (F.normalize(torch.randn(3, 4, generator=generator), dim=1) for _ in range(2))
    signs = torch.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, 1]])
    expected = -F.logsigmoid(signs * (video @ text.T / 0.1 - 10)).sum() / 3
    torch.testing.assert_close(video_text_sigmoid_loss(video, text, 0.1, -10.0, torch.tensor([7, 7, 9])), expected)
    config = tiny_config("video_text_dual_encoder", loss_type="sigmoid")
    assert AutoModel.from_config(config).logit_bias == -10


def test_batches_draw_one_of_several_captions_by_seed(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "text")
    config = tiny_config("video_text_dual_encoder", tokenizer=str(folder))
    clip = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
    item = {"pixel_values": clip, "clip_id": "x", "captions": ["a bird jumps", "a cat"]}
    collate = pretraining_collator(config)
    batches = [collate([{**item, "seed": seed}, {**item, "seed": 5}]) for seed in range(8)]
    drawn = {tuple(batch["input_ids"][0].tolist()) for batch in batches}
    assert drawn == {(2, 5, 8, 10, 3, 0), (2, 5, 9, 3, 0, 0)}
    for batch in batches:
        same = torch.equal(batch["input_ids"][0], batch["input_ids"][1])
        assert (batch["caption_ids"][0] == batch["caption_ids"][1]) == same
        assert torch.equal(batch["attention_mask"], (batch["input_ids"] > 0).long())
    with pytest.raises(ValueError, match="clip x has no caption"):
        collate([{"pixel_values": clip, "clip_id": "x", "seed": 1}])


def test_classes_are_the_mean_of_their_prompts(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "text")
    model = VideoTextDualEncoderModel.from_video_text_pretrained(resnet(), bert(), tokenizer=str(folder))
    processor = VideoTextProcessor(frame_processor(model.config), text_tokenizer(model.config), max_length=16)
    found = class_embeddings(model, processor, ["bird_jumps", "cat"], ["{}", "a video of {}"])
    prompts = embed_texts(model, processor, ["bird jumps", "a video of bird jumps", "cat", "a video of cat"])
    torch.testing.assert_close(found, F.normalize(prompts.unflatten(0, (2, 2)).mean(dim=1), dim=1))


@pytest.mark.assets
def test_sentences_of_minilm_are_near_their_like() -> None:
    try:
        model = VideoTextDualEncoderModel.from_video_text_pretrained(
            resnet(), "stand_in:minilm_l6_v2", freeze_text=True
        )
    except AssetError as error:
        pytest.skip(str(error))
    model.text_projection = nn.Identity()
    processor = VideoTextProcessor(frame_processor(model.config), text_tokenizer(model.config))
    told, near, far = embed_texts(model, processor, ["a dog runs", "a puppy is running fast", "the price of copper"])
    assert told @ near > 0.5 > told @ far + 0.2


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set projection_dim"):
        VideoTextDualEncoderModel.from_video_text_pretrained(resnet(), bert(), projection_dim=None)
    with pytest.raises(StrictDataclassError, match="num_segments=1; set it to 2"):
        VideoTextDualEncoderConfig(pooling="temporal")
    with pytest.raises(ValueError, match="has no words"):
        VideoTextDualEncoderModel.from_video_text_pretrained(resnet(), resnet())
    with pytest.raises(ValueError, match=r"expected \(videos, 4, 3, height, width\)"):
        VideoTextDualEncoderModel.from_video_text_pretrained(resnet(), bert())(torch.zeros(1, 5, 3, 16, 16))
    with pytest.raises(ValueError, match="'stand_in:bert' is unknown"):
        VideoTextDualEncoderModel.from_video_text_pretrained(resnet(), "stand_in:bert")
    with pytest.raises(ValueError, match="names no tokenizer"):
        text_tokenizer(VideoTextDualEncoderConfig())
