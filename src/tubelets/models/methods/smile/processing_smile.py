"""SMILE's pretraining batches: objects that move over clips, and masks that follow them (smile.md, sections 3 to 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tubelets.data.assets.objects import ObjectSet, open_objects
from tubelets.data.seeds import stable_seed
from tubelets.draws import randint
from tubelets.models.common.collators import TwoPartCollator
from tubelets.models.methods.masked_video.processing_masked_video import pretraining_masks
from tubelets.models.methods.smile.configuration_smile import SmileConfig
from tubelets.motion import Motion, MotionSettings, Movable, Patches, RenderPlan, object_patches, sample_motion


@dataclass(frozen=True)
class PastePlan(Movable):
    """What is pasted into a batch, and where.

    Attributes:
        patches: the objects.
        render: how they are pasted.
    """

    patches: Patches
    render: RenderPlan


class SmileCollator(TwoPartCollator):
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

    def prepare(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Stack clips, choose and resize objects, draw motions and masks.

        Args:
            items: mappings with `pixel_values`, uint8 `(frames, channels, height, width)` with the number of frames of
                `config.pretraining_specs`, and `seed`, an integer.

        Returns:
            `pixel_values` uint8 `(B, frames or 1, channels, height, width)`, the backgrounds; `plan`, see `PastePlan`,
            None if nothing moves; and the masks that `finish` returns.
        """
        seeds = [int(item["seed"]) for item in items]
        backgrounds = self.backgrounds(torch.stack([item["pixel_values"] for item in items]), seeds)
        plan, motion = None, None
        if self.motion_settings is not None:
            plan, motion = self.plan(backgrounds.shape, self.motion_settings, seeds)
        return {
            "pixel_values": backgrounds,
            "plan": plan,
            "bool_masked_pos": self.draw_masks(seeds, motion),
            "num_masked": self.mask_generator.num_masked,
        }

    def finish(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Repeat backgrounds that are one frame, and paste objects.

        Args:
            batch: result of `prepare`.

        Returns:
            `pixel_values` uint8 `(B, frames, channels, height, width)`, `bool_masked_pos` bool `(B, K, tokens)` with
            True = masked and K masks for each clip, and `num_masked`, an integer: the arguments of the model.
        """
        clips, plan = batch["pixel_values"], batch["plan"]
        if self.config.background != "video":
            clips = clips.expand(-1, self.config.num_frames, -1, -1, -1).contiguous()
        if plan is not None:
            plan = plan.to(clips.device)
            plan.render.paste(plan.patches.atlas, clips)
        return {"pixel_values": clips, **{name: batch[name] for name in ("bool_masked_pos", "num_masked")}}

    def backgrounds(self, clips: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return the clips, or the frame that `config.background` replaces them with.

        Args:
            clips: uint8 `(B, frames, channels, height, width)`; one frame is enough unless the background is the clip.
            seeds: the clips' seeds.

        Returns:
            Uint8 `(B, frames or 1, channels, height, width)`.

        Source: smile.md, section 9.
        """
        background = self.config.background
        if background == "video":
            return clips
        frames = clips[:, :1]
        if background == "black":
            return torch.zeros_like(frames)
        if background == "noise":
            shape, kind = frames.shape[1:], torch.uint8
            drawn = [torch.randint(256, shape, dtype=kind, generator=generator(seed, "noise")) for seed in seeds]
            return torch.stack(drawn)
        return frames.contiguous()

    def plan(self, shape: Sequence[int], settings: MotionSettings, seeds: Sequence[int]) -> tuple[PastePlan, Motion]:
        """Draw a motion and objects for each clip.

        Args:
            shape: of the backgrounds, `(B, frames or 1, channels, height, width)`.
            settings: ranges of the motions.
            seeds: the clips' seeds.

        Returns:
            The plan of pasting, and the motions.
        """
        frames = shape[1] if self.config.background == "video" else self.config.num_frames
        generators = [generator(seed, "motion") for seed in seeds]
        motion = sample_motion(settings, len(seeds), frames, (shape[3], shape[4]), generators)
        picks = randint(len(self.objects), len(seeds), settings.num_objects, generator=generators).tolist()
        images = [[self.objects.weighted(pick) for pick in chosen] for chosen in picks]
        patches = object_patches(images, motion, weighted=True)
        return PastePlan(patches, RenderPlan.of(motion, patches)), motion

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
