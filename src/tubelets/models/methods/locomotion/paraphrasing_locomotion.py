"""Paraphrases of motion captions by a language model, written once and offline (locomotion.md, section 6.2).

For each template, a plain caption with a slot for the object, a model is asked for rewrites with suggested verbs. Only
rewrites that keep slot, directions and verbs are stored. Prompt, verbs and checks are ours; the paper's are not known.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tubelets.data.seeds import stable_seed
from tubelets.motion import MotionSettings, sample_motion, verbs
from tubelets.motion.captions import SLOT, phases, template
from tubelets.motion.phases import UNTOLD, Phase, draw

PROMPT = (
    "Rewrite the sentence with other verbs. Keep {slot}, every direction and the order of events. Use the verbs "
    "{verbs} in this order. Write one sentence and add nothing.\nSentence: {template}\nRewrite:"
)
"""What a model is asked; another text may have the same three fields."""
WORDS = {
    "up": {"up", "upward", "upwards"},
    "down": {"down", "downward", "downwards"},
    "left": {"left", "leftward", "leftwards"},
    "right": {"right", "rightward", "rightwards"},
}
"""Words that name a direction."""
TIMELINE = 16
"""Steps on which motions are drawn and described; a model's frames are spread over them."""


def distinct_phases(settings: MotionSettings, motions: int, seed: int = 0) -> list[list[Phase]]:
    """The sequences of phases that drawn motions have, each once.

    Args:
        settings: how motions are drawn, those of one object.
        motions: number of motions that are drawn.
        seed: of the draws.

    Returns:
        Sequences in the order of their first motion.

    Example:
        >>> still = MotionSettings.locomotion(rest_probability=1.0, rotation_probability=0.0, growth_probability=0.0)
        >>> [len(found) for found in distinct_phases(still, 8)]
        [1]
    """
    generator = torch.Generator().manual_seed(stable_seed(seed, "templates"))
    # In blocks: the same motions are drawn for any number of them.
    found: dict[str, list[Phase]] = {}
    for start in range(0, motions, 256):
        drawn = sample_motion(settings, min(256, motions - start), TIMELINE, (224, 224), generator)
        for record in drawn.records():
            sequence = phases(record)
            found.setdefault(template(sequence), sequence)
    return list(found.values())


def suggested_verbs(sequence: Sequence[Phase], seed: int) -> list[verbs.Verb]:
    """A verb of the table for each phase, for the model to use.

    Args:
        sequence: the phases of an object.
        seed: decides the verbs.

    Example:
        >>> [verb.third for verb in suggested_verbs([Phase("up", "fast"), Phase()], seed=1)]
        ['leaps', 'pauses']
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for phase in sequence:
        if phase.moves:
            table = (*verbs.rolling(phase), *verbs.travelling(phase))
        elif phase.rotation != "none":
            table = verbs.turning(phase)
        else:
            table = verbs.STILL if phase.is_still else verbs.scaling(phase)
        chosen.append(table[draw(len(table), generator)])
    return chosen


def is_faithful(text: str, sequence: Sequence[Phase], suggested: Sequence[verbs.Verb]) -> bool:
    """Whether a rewrite keeps what it must: the slot, the directions, and the suggested verbs in their order.

    Args:
        text: the rewrite.
        sequence: the phases of the object.
        suggested: a verb for each phase.

    Returns:
        True for one sentence with the slot once, each suggested verb in one of its forms, and for each direction a word
        or a verb that implies it.

    Example:
        >>> rise = [verb for verb in verbs.UP if verb.base == "rise"]
        >>> is_faithful("{object} rises to the left.", [Phase("up_left", "medium")], rise)
        True
        >>> is_faithful("{object} rises.", [Phase("up_left", "medium")], rise)
        False
    """
    if text.count(SLOT) != 1 or not re.fullmatch(r"[^.!?\n]+\.", text):
        return False
    plain, place = text.lower(), 0
    for verb in suggested:
        found = re.compile(rf"\b({'|'.join(map(re.escape, (verb.third, verb.ing, verb.base)))})\b").search(plain, place)
        if found is None:
            return False
        place = found.end()
    words = set(re.findall(r"[a-z]+", plain.replace(SLOT, "")))
    for phase, verb in zip(sequence, suggested, strict=True):
        for part in set(phase.direction.split("_")) - {"none", UNTOLD, verb.implies}:
            if not words & WORDS[part]:
                return False
    # Directions that nothing in the template has would be made up.
    meant = {part for phase in sequence for part in phase.direction.split("_")} | {verb.implies for verb in suggested}
    said = {part for verb in suggested for part in verb.third.split()}
    return all(part in meant or not words & WORDS[part] - said for part in WORDS)


def write_paraphrases(
    path: str | Path,
    sequences: Iterable[Sequence[Phase]],
    generate: Callable[..., Any],
    count: int = 5,
    seed: int = 0,
    prompt: str = PROMPT,
    **options: Any,
) -> dict[str, int]:
    """Let a language model rewrite templates, and store what is faithful; run it again to resume.

    Args:
        path: a JSONL file of `template`, `phases` and `paraphrases`, one template a line. Templates that it has are not
            asked for again; an interrupted last line is removed.
        sequences: phases, such as of `distinct_phases`.
        generate: a pipeline `transformers.pipeline("text-generation", ...)`, or a function that is called like one.
        count: rewrites that are asked for a template, each with other verbs.
        seed: decides the suggested verbs.
        prompt: a text with the fields `slot`, `template` and `verbs`.
        **options: arguments of the pipeline, such as `max_new_tokens`.

    Returns:
        Numbers of templates (`templates`), of rewrites that were asked for in this run (`asked`) and kept (`kept`).

    Raises:
        ValueError: if a line of the file is not such a record.
    """
    path = Path(path)
    _cut_unfinished_line(path)
    known = {record["template"] for record in read_records(path)}
    asked = kept = 0
    with path.open("a", encoding="utf-8") as file:
        for sequence in sequences:
            text = template(sequence)
            if text in known:
                continue
            known.add(text)
            suggested = [suggested_verbs(sequence, stable_seed(seed, text, number)) for number in range(count)]
            prompts = [
                prompt.format(slot=SLOT, template=text, verbs=", ".join(verb.base for verb in chosen))
                for chosen in suggested
            ]
            answers = [_answer(found) for found in generate(prompts, return_full_text=False, **options)]
            faithful = [
                answer
                for answer, chosen in zip(answers, suggested, strict=True)
                if is_faithful(answer, sequence, chosen)
            ]
            asked, kept = asked + len(answers), kept + len(faithful)
            paraphrases = list(dict.fromkeys(faithful))
            record = {"template": text, "phases": [asdict(phase) for phase in sequence], "paraphrases": paraphrases}
            # A line is written at once: an interruption leaves at most one unfinished line, the last.
            file.write(json.dumps(record) + "\n")
            file.flush()
    return {"templates": len(known), "asked": asked, "kept": kept}


def _answer(found: Any) -> str:
    """The first line of what a pipeline wrote, as one sentence."""
    record: Mapping[str, Any] = found[0] if isinstance(found, Sequence) else found
    lines = [line.strip() for line in str(record["generated_text"]).splitlines() if line.strip()]
    return lines[0].strip("\"' ") if lines else ""


def _cut_unfinished_line(path: Path) -> None:
    """Remove what follows the last line break: writing it was interrupted."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file of paraphrases.

    Args:
        path: the file; none is read as one without lines.

    Yields:
        Mappings with `template`, a text, and `paraphrases`, a list of texts.

    Raises:
        ValueError: if a line is not such a record, naming it.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            texts = [record["template"], *record["paraphrases"]]
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("they are not texts")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: expected a JSON object with template and paraphrases ({error!r}); remove the "
                "line, or name another file"
            ) from error
        yield record
