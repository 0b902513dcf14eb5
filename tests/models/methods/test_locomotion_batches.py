"""LocoMotion's pretraining batches: what is pasted is what captions say, and a clip's seed decides everything."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor

from tiny_models import LOCOMOTION, tiny_config
from tubelets import LocoMotionConfig
from tubelets.data.assets.objects import ShapeObjects
from tubelets.data.build.shards import build_shards
from tubelets.data.sources.records import VideoRecord
from tubelets.models.common.auto import inference_processor
from tubelets.models.methods.locomotion.collating_locomotion import (
    LocoMotionCollator,
    frame_steps,
    read_paraphrases,
)
from tubelets.models.methods.locomotion.processing_locomotion import model_tokenizer
from tubelets.models.methods.locomotion.words_locomotion import clean_text, open_tokenizer
from tubelets.motion.captions import SLOT
from tubelets.motion.parsing import parse
from tubelets.motion.shapes import COLOURS, SHAPES
from tubelets.motion.verbs import caption_words
from tubelets.training.pretraining import build_loader
from tubelets.training.recipe import load_recipe
from videos import make_video


def items(count: int = 6, first: int = 0, **more: Any) -> list[dict[str, Any]]:
    clips = torch.randint(256, (first + count, 4, 3, 32, 32), dtype=torch.uint8,
                          generator=torch.Generator().manual_seed(0))  # fmt: skip
    return [{"pixel_values": clips[place], "seed": place, **more} for place in range(first, first + count)]


def collator(**changes: Any) -> LocoMotionCollator:
    return LocoMotionCollator(tiny_config("locomotion", **changes))


def text_of(collate: LocoMotionCollator, words: Tensor) -> list[str]:
    return collate.tokenizer.batch_decode(words, skip_special_tokens=True)


@pytest.mark.parametrize("changes", [{}, {"num_objects": 2}, {"hard_motion_negatives": True}, {"describe": ["speed"]}])
def test_a_clip_is_decided_by_its_seed_alone(changes: dict[str, Any]) -> None:
    collate = collator(**changes)
    whole, part = collate(items()), collator(**changes)(items(3, first=3))
    assert whole.keys() == part.keys()
    for name, value in whole.items():
        assert torch.equal(value[3:], part[name]), name
    prepared = collate.prepare(items())
    assert all(torch.equal(value, whole[name]) for name, value in collate.finish(prepared).items())


def test_captions_say_what_is_pasted() -> None:
    """Boxes of the changed pixels move as the parsed caption says."""
    collate = collator(verb_variation=False, motion_settings={"long_side": [0.3, 0.45], "location_velocity": 24.0})
    black = [{"pixel_values": torch.zeros(4, 3, 32, 32, dtype=torch.uint8), "seed": seed} for seed in range(60)]
    _, records = collate.paste_plan((60, 4, 3, 32, 32), range(60))
    batch = collate(black)
    checked = 0
    for clip, record, seed in zip(batch["pixel_values"], records, range(60), strict=True):
        ((noun, found),) = parse(collate.caption(record, seed))
        assert noun == record.objects[0]
        if len(found) > 1 or not found[0].moves or found[0].scale != "none":
            continue
        shown = clip.amax(dim=1) > 60
        if "black" in noun or not bool(shown.flatten(1).any(dim=1).all()):
            continue
        places = [frame.nonzero().float().mean(dim=0) for frame in shown]
        down, right = (places[-1] - places[0]).tolist()
        direction = found[0].direction
        for word, distance in (("left", -right), ("right", right), ("up", -down), ("down", down)):
            assert word not in direction or distance > 0, (seed, direction)
        checked += 1
    assert checked > 8


def test_masked_words_and_equal_captions() -> None:
    collate = collator(num_phases=1, motion_settings={"rest_probability": 1.0, "rotation_probability": 0.0,
                                                      "growth_probability": 0.0}, verb_variation=False)  # fmt: skip
    batch = collate(items(40))
    texts = text_of(collate, batch["input_ids"])
    ids = batch["caption_ids"]
    same = [[first == second for second in texts] for first in texts]
    assert torch.equal(ids[:, None] == ids, torch.tensor(same))
    assert len(set(texts)) < 40  # several clips show the same shape at rest
    assert all(text.endswith("stays still") for text in texts)
    chosen = batch["masked_labels"] != -100
    assert not chosen[:, 0].any()
    assert not (chosen & (batch["attention_mask"] == 0)).any()
    assert torch.equal(batch["masked_labels"][chosen], batch["input_ids"][chosen])
    assert 0.4 < chosen.sum() / (batch["attention_mask"].sum() - len(chosen)) < 0.6


def test_captions_of_the_data_are_taken_and_nothing_is_pasted() -> None:
    collate = collator(captions="data")
    assert set(collate.config.pretraining_specs) == {"pixel_values", "input_ids"}
    given = items(caption="A dog, throwing a <person>!")
    batch = collate(given)
    assert torch.equal(batch["pixel_values"], torch.stack([item["pixel_values"] for item in given]))
    assert text_of(collate, batch["input_ids"])[0].replace(" ", "") == "adogthrowingaperson"
    assert len(set(batch["caption_ids"].tolist())) == 1
    with pytest.raises(ValueError, match="has no caption; captions of the data need a column"):
        collate(items())


def test_videos_and_captions_stream_from_shards(tmp_path: Path) -> None:
    """The common pipeline reads captions where a configuration declares a text, and says what is missing."""
    records = []
    for number in range(4):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(make_video(20, 48, 64, seed=number))
        records.append(VideoRecord(path, None, f"a dog number {number}", str(number)))
    build_shards(records, tmp_path / "captioned", progress=False)
    build_shards([replace(each, caption=None) for each in records], tmp_path / "silent", progress=False)
    words = [f"--data.path={tmp_path / 'captioned'}", "--run.output_dir=x", "--data.num_workers=0"]
    recipe = load_recipe("demo_locomotion", [*words, "--run.batch_size=4", "--model.config.captions=data"])
    config = recipe.model.build_config()
    loader = build_loader(recipe, config, Accelerator(cpu=True))
    batch = next(iter(loader))
    texts = model_tokenizer(config).batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert sorted(text.replace(" ", "") for text in texts) == [f"adognumber{number}" for number in range(4)]
    assert batch["pixel_values"].shape == (4, 4, 3, 32, 32)
    recipe.data.path = str(tmp_path / "silent")
    with pytest.raises(ValueError, match=r"input_ids is read from 'caption', and the data has \[\]"):
        build_loader(recipe, config, Accelerator(cpu=True))


def test_some_clips_keep_the_caption_of_the_data() -> None:
    collate = collator(original_caption_probability=0.5)
    assert set(collate.config.pretraining_specs) == {"pixel_values", "input_ids"}
    batch = collate(items(40, caption="hello"))
    kept = sum(text.replace(" ", "") == "hello" for text in text_of(collate, batch["input_ids"]))
    assert 8 < kept < 32
    assert set(collator().config.pretraining_specs) == {"pixel_values"}


def test_wrong_captions_differ_from_the_right_ones() -> None:
    batch = collator(hard_motion_negatives=True)(items(30))
    assert (batch["input_ids"] != batch["negative_input_ids"]).any(dim=1).all()
    assert (batch["negative_attention_mask"].sum(dim=1) > 3).all()


def test_paraphrases_are_read_and_used(tmp_path: Path) -> None:
    collate = collator()
    _, records = collate.paste_plan((1, 4, 3, 32, 32), [5])
    from tubelets.motion.captions import phases, template

    lines = [{"template": template(phases(records[0])), "paraphrases": [f"{SLOT} does what it does."]}]
    path = tmp_path / "paraphrases.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    known = collator(paraphrases=str(path), template_probability=0.0)
    assert known.caption(records[0], 5).endswith("does what it does.")
    path.write_text('{"template": 3}')
    with pytest.raises(ValueError, match=r"line 1: expected a JSON object with template and paraphrases"):
        read_paraphrases(path)


def test_frames_are_spread_over_the_timeline() -> None:
    assert frame_steps(2) == [0, 15]
    assert frame_steps(16) == list(range(16))
    with pytest.raises(ValueError, match="2 to 16 frames, got 1"):
        frame_steps(1)


def test_the_vocabulary_spells_every_caption() -> None:
    tokenizer = open_tokenizer("motion_words")
    words = [*caption_words(), *" ".join(ShapeObjects().names).split(), *COLOURS, *" ".join(SHAPES).split()]
    assert not [word for word in words if len(tokenizer.tokenize(word)) != 1]
    assert "[UNK]" not in tokenizer.tokenize("zyx987 well known")
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 4)
    assert clean_text("A well-known (person)/cat; it's here?") == "a well known person cat its here"


def test_recipes_of_retrieval_change_the_longest_caption(tmp_path: Path) -> None:
    tiny_config("locomotion").save_pretrained(tmp_path)
    config = LocoMotionConfig.from_pretrained(tmp_path, max_length=7)
    assert config.text_config.max_length == config.max_length == 7
    assert config.text_config.tokenizer == "motion_words"
    assert inference_processor(config)(text="left " * 30, return_tensors="pt")["input_ids"].shape == (1, 7)
    config.save_pretrained(tmp_path)
    assert LocoMotionConfig.from_pretrained(tmp_path).text_config.max_length == 7
    with pytest.raises(StrictDataclassError, match=r"max_length must lie in \[2, .*=512\], got 513"):
        tiny_config("locomotion", max_length=513)


def test_the_processor_prepares_videos_and_texts(tmp_path: Path) -> None:
    processor = inference_processor(tiny_config("locomotion"))
    clip = torch.full((4, 3, 48, 64), 255, dtype=torch.uint8)
    inputs = processor([clip, clip], ["A bear glides.", "It drops quickly to the left"], return_tensors="pt")
    assert inputs["pixel_values"].shape == (2, 4, 3, 32, 32)
    torch.testing.assert_close(inputs["pixel_values"], torch.ones(2, 4, 3, 32, 32))
    assert inputs["attention_mask"].sum(dim=1).tolist() == [5, 8]
    long = processor(text=" ".join(["left"] * 100), return_tensors="pt")
    assert long["input_ids"].shape == (1, LOCOMOTION["text_config"]["max_length"])
    processor.save_pretrained(tmp_path)
    tiny_config("locomotion").save_pretrained(tmp_path)
    from tubelets.models.common.safe_loading import load_processor

    loaded = load_processor(tmp_path)
    assert type(loaded) is type(processor)
    assert torch.equal(loaded(text="a fox", return_tensors="pt")["input_ids"],
                       processor(text="a fox", return_tensors="pt")["input_ids"])  # fmt: skip
    with pytest.raises(ValueError, match="give videos, texts, or both"):
        processor()
    with pytest.raises(ValueError, match=r"has \d+ words and padding 0, expected at most vocab_size=100"):
        inference_processor(tiny_config("locomotion", text_config=LOCOMOTION["text_config"] | {"vocab_size": 100}))
