"""SMILE's pretraining batches: objects that move over clips, and masks that follow them (smile.md, sections 3 to 5)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tubelets.data.assets.objects import ObjectSet, open_objects
from tubelets.data.seeds import stable_seed
from tubelets.draws import randint
from tubelets.models.methods.masked_video.processing_masked_video import pretraining_masks
from tubelets.models.methods.smile.configuration_smile import SmileConfig
from tubelets.motion import Motion, MotionSettings, object_patches, render, sample_motion


class SmileCollator:
    """Collates items of a clip stream into batches for SMILE pretraining.

    A clip's background, objects, motion and own masks are drawn from the clip's seed and depend neither on its batch
    nor on the process or worker. Only `second_mask="permute"`, the default and the official rule, gives a clip the mask
    of another clip of its batch.

    Args:
        config: frames, background, objects, motion and masks.
        objects: the objects to paste; None opens `config.objects` with the first batch.

    Example:
        >>> config = SmileConfig(image_size=32, num_frames=4, objects="shapes", mask_ratio=0.5)
        >>> collate = SmileCollator(config)
        >>> batch = collate([{"pixel_values": torch.zeros(4, 3, 32, 32, dtype=torch.uint8), "seed": 1}])
        >>> batch["bool_masked_pos"].shape, batch["num_masked"], bool(batch["pixel_values"].any())
        (torch.Size([1, 2, 8]), 4, True)
    """

    def __init__(self, config: SmileConfig, objects: ObjectSet | None = None) -> None:
        self.config = config
        self.motion_settings = config.motion
        self.mask_generator = pretraining_masks(config)
        self._objects = objects

    @property
    def objects(self) -> ObjectSet:
        """The objects to paste."""
        if self._objects is None:
            self._objects = open_objects(self.config.objects)
        return self._objects

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Stack clips, paste objects and draw masks.

        Args:
            items: mappings with `pixel_values`, uint8 `(frames, channels, height, width)` with the number of frames of
                `config.pretraining_specs`, and `seed`, an integer.

        Returns:
            `pixel_values` uint8 `(B, frames, channels, height, width)`, `bool_masked_pos` bool `(B, K, tokens)` with
            True = masked and K masks for each clip, and `num_masked`, an integer: the arguments of the model.
        """
        seeds = [int(item["seed"]) for item in items]
        clips = self.with_background(torch.stack([item["pixel_values"] for item in items]), seeds)
        motion = None
        if self.motion_settings is not None:
            clips, motion = self.paste(clips, self.motion_settings, seeds)
        return {
            "pixel_values": clips,
            "bool_masked_pos": self.draw_masks(seeds, motion),
            "num_masked": self.mask_generator.num_masked,
        }

    def with_background(self, clips: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return the clips, or the background that `config.background` replaces them with.

        Args:
            clips: uint8 `(B, frames, channels, height, width)`; one frame is enough unless the background is the clip.
            seeds: the clips' seeds.

        Returns:
            Uint8 `(B, num_frames, channels, height, width)`, contiguous.

        Source: smile.md, section 9.
        """
        background = self.config.background
        if background == "video":
            return clips
        frames = clips[:, :1]
        if background == "black":
            frames = torch.zeros_like(frames)
        elif background == "noise":
            shape, kind = frames.shape[1:], torch.uint8
            drawn = [torch.randint(256, shape, dtype=kind, generator=generator(seed, "noise")) for seed in seeds]
            frames = torch.stack(drawn)
        return frames.expand(-1, self.config.num_frames, -1, -1, -1).contiguous()

    def paste(self, clips: Tensor, settings: MotionSettings, seeds: Sequence[int]) -> tuple[Tensor, Motion]:
        """Draw a motion and objects for each clip and paste them in place.

        Args:
            clips: uint8 `(B, frames, channels, height, width)`, contiguous; overwritten.
            settings: ranges of the motions.
            seeds: the clips' seeds.

        Returns:
            The clips and their motions.
        """
        _, frames, _, height, width = clips.shape
        generators = [generator(seed, "motion") for seed in seeds]
        motion = sample_motion(settings, len(seeds), frames, (height, width), generators)
        picks = randint(len(self.objects), len(seeds), settings.num_objects, generator=generators).tolist()
        images = [[self.objects.weighted(pick) for pick in chosen] for chosen in picks]
        return render(clips, motion, object_patches(images, motion, weighted=True), inplace=True), motion

    def draw_masks(self, seeds: Sequence[int], motion: Motion | None) -> Tensor:
        """Masks of all clips, bool `(B, K, tokens)`.

        Args:
            seeds: the clips' seeds.
            motion: the motions in the clips, for masks that follow them.
        """
        count = self.config.masks_per_clip
        if self.config.second_mask == "resample":
            return torch.stack([self._own_masks(seeds, motion, number) for number in range(count)], dim=1)
        first = self._own_masks(seeds, motion, 0)
        order = generator(stable_seed(*seeds), "order")
        others = [first[torch.randperm(len(seeds), generator=order)] for _ in range(count - 1)]
        return torch.stack([first, *others], dim=1)

    def _own_masks(self, seeds: Sequence[int], motion: Motion | None, number: int) -> Tensor:
        generators = [generator(seed, f"mask {number}") for seed in seeds]
        if self.config.mask_type == "trajectory":
            assert motion is not None, "the configuration asks for objects with trajectory masks"
            return self.mask_generator(motion.boxes, generator=generators)
        return self.mask_generator(len(seeds), generator=generators)


def generator(seed: int, purpose: str) -> torch.Generator:
    """The generator of one part of a clip; parts are drawn independently."""
    return torch.Generator().manual_seed(stable_seed(seed, purpose))
