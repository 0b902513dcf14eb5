"""Paraphrases of captions by a language model: what is kept, and that an interrupted run goes on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, pipeline

from tubelets.models.methods.locomotion.collating_locomotion import read_paraphrases
from tubelets.models.methods.locomotion.paraphrasing_locomotion import (
    distinct_phases,
    is_faithful,
    suggested_verbs,
    write_paraphrases,
)
from tubelets.motion import MotionSettings, verbs
from tubelets.motion.captions import template
from tubelets.motion.phases import Phase

RISE = next(verb for verb in verbs.UP if verb.base == "rise")
DASH = next(verb for verb in verbs.LATERAL if verb.base == "dash")
TWO = [Phase("up", "medium"), Phase("left", "fast")]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("{object} rises before dashing to the left.", True),
        ("After rising, {object} will dash left.", True),
        ("{object} dashes to the left after rising.", False),  # another order
        ("{object} climbs before dashing to the left.", False),  # another verb
        ("{object} rises before dashing away.", False),  # no direction
        ("{object} rises before dashing to the left and right.", False),  # a direction too many
        ("A bird rises before dashing to the left.", False),  # no slot
        ("{object} rises. It then dashes to the left.", False),  # two sentences
        ("", False),
    ],
)
def test_only_faithful_rewrites_are_kept(text: str, kept: bool) -> None:
    assert is_faithful(text, TWO, [RISE, DASH]) == kept


class Writer:
    """Stands where a pipeline does; writes one faithful sentence and one that is not."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.calls, self.stop_after = 0, stop_after

    def __call__(self, prompts: Sequence[str], **options: Any) -> list[list[dict[str, str]]]:
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        self.calls += 1
        assert options == {"return_full_text": False, "max_new_tokens": 40}
        answers = []
        for prompt in prompts:
            sentence = prompt.partition("Sentence: ")[2].partition("\n")[0]
            answers.append([{"generated_text": f" {sentence}\nMore text."}])
        return answers


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    sequences = distinct_phases(MotionSettings.locomotion(), 12)
    assert len({template(each) for each in sequences}) == len(sequences) > 6
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    write_paraphrases(whole, sequences, Writer(), max_new_tokens=40)
    with pytest.raises(KeyboardInterrupt):
        write_paraphrases(parts, sequences, Writer(stop_after=3), max_new_tokens=40)
    with parts.open("a") as file:
        file.write('{"template": "half a li')
    writer = Writer()
    write_paraphrases(parts, sequences, writer, max_new_tokens=40)
    assert writer.calls == len(sequences) - 3
    assert parts.read_text() == whole.read_text()
    write_paraphrases(parts, sequences, Writer(stop_after=0), max_new_tokens=40)
    records = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [Phase(**phase) for phase in records[0]["phases"]] == sequences[0]
    found = read_paraphrases(whole)
    assert found == {record["template"]: record["paraphrases"] for record in records if record["paraphrases"]}
    for record in records:
        # The template itself is kept where its verbs were suggested.
        assert record["paraphrases"] in ([], [record["template"]])


def test_suggested_verbs_are_decided_by_the_seed() -> None:
    assert suggested_verbs(TWO, 1) == suggested_verbs(TWO, 1)
    assert len({tuple(verb.third for verb in suggested_verbs(TWO, seed)) for seed in range(20)}) > 5


def test_a_pipeline_of_transformers_writes(tmp_path: Path) -> None:
    """A model of random weights writes nonsense, none of which is kept."""
    words = {
        word: place for place, word in enumerate(["[UNK]", "[PAD]", "moves", "to", "the", "left", "{object}", "."])
    }
    core = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]")
    torch.manual_seed(0)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": len(words), "n_positions": 128}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=1))
    generate = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
    path = tmp_path / "paraphrases.jsonl"
    counts = write_paraphrases(path, [TWO, [Phase()]], generate, count=2, max_new_tokens=6, do_sample=False)
    assert counts == {"templates": 2, "asked": 4, "kept": 0}
    assert read_paraphrases(path) == {}
    assert len(path.read_text().splitlines()) == 2
