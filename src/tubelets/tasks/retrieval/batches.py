"""Batches of videos and captions: checked and tokenised in the workers, normalised on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tubelets.data.modalities.specs import VideoSpec
from tubelets.models.heads.video_text.processing_video_text import caption_key, caption_numbers, drawn_caption


@dataclass(frozen=True)
class RetrievalCollator:
    """Stacks clips; in training draws and tokenises a caption of each, in tests lists all captions.

    Args:
        frames: the clip that the model expects.
        processor: of the model; called with `text` it gives `input_ids` and `attention_mask`.
        training: draw one caption, from the seed of the clip.

    Example:
        >>> collate = RetrievalCollator(VideoSpec(2, (4, 4)), processor=None, training=False)
        >>> item = {"pixel_values": torch.zeros(2, 3, 4, 4), "caption": "A bird.", "clip_id": "a", "seed": 1}
        >>> collate([item])["captions"]
        [['A bird.']]
    """

    frames: VideoSpec
    processor: Any
    training: bool

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make a batch.

        Args:
            items: mappings with `pixel_values`, uint8 `(T, C, H, W)`, `caption` or `captions`, `clip_id` and `seed`.

        Returns:
            `pixel_values` `(B, T, C, H, W)`, `clip_ids`, and in training `input_ids`, `attention_mask` and
            `caption_ids`, otherwise `captions`, a list for each clip.

        Raises:
            ValueError: if a clip does not fit the model or has no caption; the message names it.
        """
        for item in items:
            found = tuple(item["pixel_values"].shape[-4:])
            wanted = (self.frames.num_frames, found[1], *self.frames.size)
            if found != wanted:
                raise ValueError(
                    f"clip {item['clip_id']} has frames, channels and pixels {found}, and the model expects {wanted}; "
                    "sample and crop to that size"
                )
        batch: dict[str, Any] = {
            "pixel_values": torch.stack([item["pixel_values"] for item in items]),
            "clip_ids": [str(item["clip_id"]) for item in items],
        }
        if not self.training:
            return {**batch, "captions": [captions_of(item) for item in items]}
        captions = [drawn_caption(item) for item in items]
        words = self.processor(text=captions, return_tensors="pt")
        ids, mask = words["input_ids"], words["attention_mask"]
        return {**batch, "input_ids": ids, "attention_mask": mask, "caption_ids": caption_numbers(captions)}


def captions_of(item: Mapping[str, Any]) -> list[str]:
    """All captions of an item, without those that are equal to an earlier one.

    Raises:
        ValueError: if it has none.

    Example:
        >>> captions_of({"captions": ["A bird", "a bird ", "a cat"]})
        ['A bird', 'a cat']
    """
    several = [str(each) for each in item.get("captions") or ()] or [drawn_caption({**item, "captions": None})]
    return list({caption_key(each): each for each in reversed(several)}.values())[::-1]
