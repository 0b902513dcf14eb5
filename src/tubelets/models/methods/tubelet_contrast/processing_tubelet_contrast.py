"""Tubelet-Contrast's pretraining batches: pairs of clips that share moving patches (tubelet_contrast.md, 5 and 6)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tubelets.data.seeds import stable_seed
from tubelets.models.methods.tubelet_contrast.configuration_tubelet_contrast import TubeletContrastConfig
from tubelets.motion import crop_patches, recolour, render, sample_colour_change, sample_motion


class TubeletContrastCollator:
    """Makes the batch of Tubelet-Contrast pretraining from the items of a clip stream.

    Every clip is the query of its own pair and, with other patches, the key of another one: half of the batch away, so
    that the two never come from the same video while a video gives at most half of the batch. The authors decode two
    clips for a pair instead; a pair is made of two independent clips in both cases.

    Partners, patches, motions and colours are drawn from the seeds of all clips of the batch: they depend on which
    clips are in it, and not on the process or worker that makes it.

    Args:
        config: gives the contrast, the patches and their motion.

    Example:
        >>> collate = TubeletContrastCollator(TubeletContrastConfig(image_size=32, num_frames=4))
        >>> clips = torch.randint(256, (2, 4, 3, 32, 32), dtype=torch.uint8)
        >>> batch = collate([{"pixel_values": clip, "seed": place} for place, clip in enumerate(clips)])
        >>> batch["pixel_values"].shape, bool((batch["pixel_values"] != batch["key_pixel_values"]).any())
        (torch.Size([2, 4, 3, 32, 32]), True)
    """

    def __init__(self, config: TubeletContrastConfig) -> None:
        self.config = config
        self.motion_settings = config.motion

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Pair clips, paste patches and change colours.

        Args:
            items: mappings with `pixel_values`, uint8 `(frames, 3, height, width)`, and `seed`, an integer. For
                `contrast="temporal"` the two clips of a video follow each other.

        Returns:
            `pixel_values` and `key_pixel_values`, uint8 `(B, frames, 3, height, width)`: the arguments of the model.

        Raises:
            ValueError: if there are too few clips for pairs, or an odd number of clips of one video each.
        """
        clips = torch.stack([item["pixel_values"] for item in items])
        generator = torch.Generator().manual_seed(stable_seed(*(int(item["seed"]) for item in items)))
        queries, keys = self.pair(clips)
        if self.config.contrast == "tubelet":
            queries, keys = self.freeze(queries, generator), self.freeze(keys, generator)
            self.paste(queries, keys, generator)
        # One change for both clips of a pair, so that colours do not tell pairs apart.
        change = sample_colour_change(len(queries), generator, self.config.colour_probability)
        return {"pixel_values": recolour(queries, change), "key_pixel_values": recolour(keys, change)}

    def pair(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, uint8 `(pairs, frames, 3, height, width)`, not in shared memory.

        Args:
            clips: uint8 `(B, frames, 3, height, width)`.

        Raises:
            ValueError: if there are too few clips, or an odd number where each video gives two.
        """
        if self.config.contrast == "temporal":
            if len(clips) % 2:
                raise ValueError(f"contrast='temporal' takes two clips of every video, got {len(clips)} clips")
            return clips[::2].contiguous(), clips[1::2].contiguous()
        if len(clips) < 2:
            raise ValueError(
                "contrast='tubelet' pairs clips of different videos of a batch, got 1 clip; set run.batch_size to 2 or "
                "more"
            )
        return clips, clips.roll(len(clips) // 2, dims=0)

    def freeze(self, clips: Tensor, generator: torch.Generator) -> Tensor:
        """Let some clips show one of their frames all the time.

        Args:
            clips: uint8 `(B, frames, 3, height, width)`.
            generator: what is drawn from.
        """
        if not self.config.still_probability:
            return clips
        count, frames = clips.shape[:2]
        still = torch.rand(count, generator=generator) < self.config.still_probability
        shown = torch.randint(frames, (count, 1), generator=generator).expand(-1, frames)
        order = torch.where(still[:, None], shown, torch.arange(frames))
        return clips[torch.arange(count)[:, None], order]

    def paste(self, queries: Tensor, keys: Tensor, generator: torch.Generator) -> None:
        """Move patches over both clips of each pair, in place: the query's, or each clip its own.

        Args:
            queries: uint8 `(pairs, frames, 3, height, width)`, contiguous.
            keys: the same.
            generator: what motions are drawn from.
        """
        count, frames, _, height, width = queries.shape
        motion = sample_motion(self.motion_settings, count, frames, (height, width), generator)
        patches = crop_patches(queries, motion)
        key_patches = crop_patches(keys, motion) if self.config.patches == "own" else patches
        render(queries, motion, patches, inplace=True)
        render(keys, motion, key_patches, inplace=True)
