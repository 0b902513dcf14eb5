"""Tubelet-Contrast's pretraining batches: pairs of clips that share moving patches (tubelet_contrast.md, 5 and 6)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tubelets.data.seeds import stable_seed
from tubelets.models.methods.tubelet_contrast.configuration_tubelet_contrast import TubeletContrastConfig
from tubelets.motion import crop_patches, recolour, render, sample_colour_change, sample_motion


class TubeletContrastCollator:
    """Batch of Tubelet-Contrast pretraining from the items of a clip stream.

    Every clip is the query of its own pair and, with other patches, the key of another pair half a batch away. The two
    clips come from different videos as long as no video fills more than half of the batch. The authors decode two clips
    per pair instead; a pair consists of two independent clips in both cases.

    Partners, patches, motions and colours are drawn from the seeds of all clips in the batch. They depend on the clips
    and not on the process or worker.

    Args:
        config: the contrast, the patches and their motion.

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
                `contrast="temporal"` the two clips of each video are neighbours.

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
        # The same change for both clips of a pair, so that colour does not identify the pair.
        change = sample_colour_change(len(queries), generator, self.config.colour_probability)
        return {"pixel_values": recolour(queries, change), "key_pixel_values": recolour(keys, change)}

    def pair(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, uint8 `(pairs, frames, 3, height, width)`, not in shared memory.

        Args:
            clips: uint8 `(B, frames, 3, height, width)`.

        Raises:
            ValueError: if there are too few clips, or an odd number of clips in pairs per video.
        """
        if self.config.contrast == "temporal":
            if len(clips) % 2:
                raise ValueError(f"contrast='temporal' needs two clips of every video, got {len(clips)} clips")
            return clips[::2].contiguous(), clips[1::2].contiguous()
        if len(clips) < 2:
            raise ValueError(
                "contrast='tubelet' pairs clips of different videos of a batch, got 1 clip; set run.batch_size to 2 or "
                "more"
            )
        return clips, clips.roll(len(clips) // 2, dims=0)

    def freeze(self, clips: Tensor, generator: torch.Generator) -> Tensor:
        """Freeze some clips to one of their frames.

        Args:
            clips: uint8 `(B, frames, 3, height, width)`.
            generator: source of the draw.
        """
        if not self.config.still_probability:
            return clips
        count, frames = clips.shape[:2]
        still = torch.rand(count, generator=generator) < self.config.still_probability
        shown = torch.randint(frames, (count, 1), generator=generator).expand(-1, frames)
        order = torch.where(still[:, None], shown, torch.arange(frames))
        return clips[torch.arange(count)[:, None], order]

    def paste(self, queries: Tensor, keys: Tensor, generator: torch.Generator) -> None:
        """Move patches over both clips of each pair, in place: those of the query, or of each clip.

        Args:
            queries: uint8 `(pairs, frames, 3, height, width)`, contiguous.
            keys: the same.
            generator: source of the motions.
        """
        count, frames, _, height, width = queries.shape
        motion = sample_motion(self.motion_settings, count, frames, (height, width), generator)
        patches = crop_patches(queries, motion)
        key_patches = crop_patches(keys, motion) if self.config.patches == "own" else patches
        render(queries, motion, patches, inplace=True)
        render(keys, motion, key_patches, inplace=True)
