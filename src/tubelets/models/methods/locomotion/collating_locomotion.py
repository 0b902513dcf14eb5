"""LocoMotion's pretraining batches: moving objects and captions of their motion (locomotion.md, sections 2 and 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tubelets.data.assets.objects import ObjectSet, open_objects
from tubelets.data.seeds import stable_seed
from tubelets.draws import rand, randint
from tubelets.models.common.collators import TwoPartCollator
from tubelets.models.methods.locomotion.configuration_locomotion import LocoMotionConfig
from tubelets.models.methods.locomotion.paraphrasing_locomotion import TIMELINE, read_records
from tubelets.models.methods.locomotion.processing_locomotion import model_tokenizer
from tubelets.models.methods.locomotion.words_locomotion import clean_text
from tubelets.motion import MotionRecord, Movable, Patches, RenderPlan, object_patches, sample_motion
from tubelets.motion.captions import CaptionSettings, motion_caption
from tubelets.objectives.matching import mask_words


@dataclass(frozen=True)
class PastePlan(Movable):
    """What is pasted into a batch, and where.

    Attributes:
        patches: the objects.
        render: how they are pasted.
    """

    patches: Patches
    render: RenderPlan


class LocoMotionCollator(TwoPartCollator):
    """Collates items of a clip stream into batches for LocoMotion's pretraining.

    Objects, motion, caption, masked words and partners of a clip are drawn from its seed and depend neither on its
    batch nor on the process or worker. With `captions="data"` nothing is pasted, and captions are those of the data.

    Args:
        config: frames, objects, motion, captions and losses.
        objects: the objects to paste; None opens `config.objects` with the first batch.

    Example:
        >>> text = {"tokenizer": "motion_words", "vocab_size": 1024, "max_length": 32}
        >>> config = LocoMotionConfig(video_config={"image_size": 32}, text_config=text, objects="shapes")
        >>> collate = LocoMotionCollator(config)
        >>> batch = collate([{"pixel_values": torch.zeros(4, 3, 32, 32, dtype=torch.uint8), "seed": 1}])
        >>> batch["input_ids"].shape, bool(batch["pixel_values"].any())
        (torch.Size([1, 32]), True)
        >>> collate.tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True)
        'a green diamond falls ...'
    """

    def __init__(self, config: LocoMotionConfig, objects: ObjectSet | None = None) -> None:
        self.config = config
        self.motion_settings = config.motion
        self.caption_settings = CaptionSettings(
            config.verb_variation, float(config.template_probability), tuple(config.describe)
        )
        self.tokenizer = model_tokenizer(config)
        self.paraphrases = read_paraphrases(config.paraphrases) if config.paraphrases else {}
        self._objects = objects

    @property
    def objects(self) -> ObjectSet:
        """The objects to paste."""
        if self._objects is None:
            self._objects = open_objects(self.config.objects)
        return self._objects

    def prepare(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Stack clips, choose objects, draw motions, write and mask captions.

        Args:
            items: mappings with `pixel_values`, uint8 `(frames, 3, height, width)`, `seed`, an integer, and, where
                captions of the data are used, `caption`.

        Returns:
            `pixel_values`, uint8 `(B, frames, 3, height, width)`; `plan`, see `PastePlan`, None if nothing moves; and
            the texts that `finish` returns.
        """
        clips, seeds = torch.stack([item["pixel_values"] for item in items]), [int(item["seed"]) for item in items]
        if self.config.captions == "data":
            return {"pixel_values": clips, "plan": None, **self.texts([_caption_of(item) for item in items], seeds)}
        plan, records = self.paste_plan(clips.shape, seeds)
        captions = [self.caption(record, seed) for record, seed in zip(records, seeds, strict=True)]
        keeps = rand(len(items), generator=[_generator(seed, "original caption") for seed in seeds])
        for place, kept in enumerate((keeps < self.config.original_caption_probability).tolist()):
            if kept:
                captions[place] = _caption_of(items[place])
        wrong = None
        if self.config.hard_motion_negatives:
            wrong = [self.caption(record, seed, wrong=True) for record, seed in zip(records, seeds, strict=True)]
        return {"pixel_values": clips, "plan": plan, **self.texts(captions, seeds, wrong)}

    def finish(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Paste the objects.

        Args:
            batch: result of `prepare`.

        Returns:
            The arguments of the model: `pixel_values` uint8 `(B, frames, 3, height, width)`; `input_ids`,
            `attention_mask`, `masked_input_ids` and `masked_labels` int64 `(B, max_length)`; `caption_ids` int64
            `(B,)`; `negative_draws` float32 `(B, 2)`; with `hard_motion_negatives` also `negative_input_ids` and
            `negative_attention_mask`.
        """
        result = {name: value for name, value in batch.items() if name != "plan"}
        if batch["plan"] is not None:
            clips = batch["pixel_values"]
            plan = batch["plan"].to(clips.device)
            plan.render.paste(plan.patches.atlas, clips)
        return result

    def paste_plan(self, shape: Sequence[int], seeds: Sequence[int]) -> tuple[PastePlan, list[MotionRecord]]:
        """Draw a motion and objects for each clip.

        Args:
            shape: of the clips, `(B, frames, 3, height, width)`.
            seeds: the clips' seeds.

        Returns:
            The plan of pasting over the clips' frames, and records over the whole timeline with the objects' names.
        """
        clips, frames, _, height, width = shape
        generators = [_generator(seed, "motion") for seed in seeds]
        picks = randint(len(self.objects), clips, self.config.num_objects, generator=generators).tolist()
        images = [[self.objects.weighted(pick) for pick in chosen] for chosen in picks]
        ratios = torch.tensor([[image.shape[2] / image.shape[1] for image in chosen] for chosen in images])
        motion = sample_motion(self.motion_settings, clips, TIMELINE, (height, width), generators, ratios)
        names = [[self.objects.names[pick] for pick in chosen] for chosen in picks]
        ids = [[self.objects.ids[pick] for pick in chosen] for chosen in picks]
        records = motion.records(names, ids)
        shown = motion.at(frame_steps(frames))
        patches = object_patches(images, shown, weighted=True)
        return PastePlan(patches, RenderPlan.of(shown, patches)), records

    def caption(self, record: MotionRecord, seed: int, wrong: bool = False) -> str:
        """The caption of a clip's motion, or one that is wrong in one descriptor."""
        purpose = "wrong caption" if wrong else "caption"
        return motion_caption(
            record,
            seed=stable_seed(seed, purpose),
            settings=self.caption_settings,
            paraphrases=self.paraphrases,
            wrong=wrong,
        )

    def texts(
        self, captions: Sequence[str], seeds: Sequence[int], wrong: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Tokenise captions, mask their words, and number them.

        Args:
            captions: one for each clip.
            seeds: the clips' seeds.
            wrong: wrong captions, or None.

        Returns:
            The texts as `finish` returns them.
        """
        cleaned = [clean_text(each) for each in captions]
        words, mask = self._tokens(cleaned)
        generators = [_generator(seed, "words") for seed in seeds]
        draws = rand(len(seeds), 3, words.shape[1], generator=generators)
        # The first token stands for the whole text.
        maskable = mask.bool() & (torch.arange(words.shape[1]) > 0)
        masked, labels = mask_words(
            words,
            maskable,
            self.tokenizer.mask_token_id,
            len(self.tokenizer),
            float(self.config.masked_language_probability),
            draws,
        )
        batch = {
            "input_ids": words,
            "attention_mask": mask,
            "masked_input_ids": masked,
            "masked_labels": labels,
            # Clips with the same caption are each other's positives (locomotion.md, section 10).
            "caption_ids": torch.tensor([stable_seed(each) for each in cleaned]),
            "negative_draws": rand(len(seeds), 2, generator=[_generator(seed, "partners") for seed in seeds]),
        }
        if wrong is not None:
            batch["negative_input_ids"], batch["negative_attention_mask"] = self._tokens(
                [clean_text(each) for each in wrong]
            )
        return batch

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        found = self.tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
        return found["input_ids"], found["attention_mask"]


def frame_steps(frames: int) -> list[int]:
    """Steps of the timeline that the frames of a clip show.

    Args:
        frames: from 2 to 16.

    Returns:
        Ascending steps, the first and the last among them.

    Raises:
        ValueError: if there are fewer than 2 frames or more than 16.

    Example:
        >>> frame_steps(4)
        [0, 5, 10, 15]

    Source: locomotion.md, section 2.2.
    """
    if not 2 <= frames <= TIMELINE:
        raise ValueError(f"clips with moving objects have 2 to {TIMELINE} frames, got {frames}")
    return torch.linspace(0, TIMELINE - 1, frames, dtype=torch.float64).round().long().tolist()


def read_paraphrases(path: str | Path) -> dict[str, list[str]]:
    """Read what a language model wrote, see `tubelets.models.methods.locomotion.paraphrasing_locomotion`.

    Args:
        path: a JSONL file with `template` and `paraphrases` in each line.

    Returns:
        Templates to their paraphrases; those without any are left out.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if a line is not such a record, naming it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: file not found; write paraphrases with `write_paraphrases`, or set none")
    return {record["template"]: record["paraphrases"] for record in read_records(Path(path)) if record["paraphrases"]}


def _caption_of(item: Mapping[str, Any]) -> str:
    caption = item.get("caption")
    if not isinstance(caption, str):
        raise ValueError(
            f"clip {item.get('clip_id')!r} has no caption; captions of the data need a column `caption` of texts"
        )
    return caption


def _generator(seed: int, purpose: str) -> torch.Generator:
    """The generator of one part of a clip; parts are drawn independently."""
    return torch.Generator().manual_seed(stable_seed(seed, purpose))
