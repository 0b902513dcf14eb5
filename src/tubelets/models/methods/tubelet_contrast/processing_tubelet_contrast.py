"""Tubelet-Contrast's pretraining batches: pairs of clips that share moving patches (tubelet_contrast.md, 5 and 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tubelets.data.seeds import stable_seed
from tubelets.draws import Generators, rand, randint
from tubelets.models.common.collators import TwoPartCollator
from tubelets.models.methods.tubelet_contrast.configuration_tubelet_contrast import TubeletContrastConfig
from tubelets.motion import (
    ColourChange,
    CropPlan,
    Movable,
    RenderPlan,
    recolour,
    sample_colour_change,
    sample_motion,
)


@dataclass(frozen=True)
class PairPlan(Movable):
    """What is drawn for a batch of pairs.

    Attributes:
        shown: frames that queries and keys show, int64 `(pairs, frames)` each; None for all in order.
        crop: how patches are cut; None if nothing is pasted.
        render: how they are pasted.
        colours: changes of colour, shared by the clips of a pair.
    """

    shown: tuple[Tensor, Tensor] | None
    crop: CropPlan | None
    render: RenderPlan | None
    colours: ColourChange


class TubeletContrastCollator(TwoPartCollator):
    """Batch of Tubelet-Contrast pretraining from the items of a clip stream.

    Every clip is the query of its own pair and, with other patches, the key of another pair half a batch away. The two
    clips come from different videos as long as no video fills more than half of the batch. The authors decode two clips
    per pair instead; a pair consists of two independent clips in both cases.

    Patches, motions and colours of a pair are drawn from the seed of its query. With an even batch and samples that are
    divided one by one (`data.split_by=samples`), partners are half of the global batch apart, so that several processes
    get the pairs that one process with the global batch gets. A batch that is accumulated from smaller ones has other
    pairs, within each of them.

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

    def prepare(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Stack clips and draw everything that is random.

        Args:
            items: mappings with `pixel_values`, uint8 `(frames, 3, height, width)`, and `seed`, an integer. For
                `contrast="temporal"` the two clips of each video are neighbours.

        Returns:
            `pixel_values`, uint8 `(clips, frames, 3, height, width)`, and `plan`, see `PairPlan`.

        Raises:
            ValueError: if there are too few clips for pairs, or an odd number of clips of one video each.
        """
        clips = torch.stack([item["pixel_values"] for item in items])
        self.check(len(clips))
        queries = items[::2] if self.config.contrast == "temporal" else items
        generators = [torch.Generator().manual_seed(stable_seed(int(item["seed"]), "pair")) for item in queries]
        return {"pixel_values": clips, "plan": self.draw(clips.shape, generators)}

    def draw(self, shape: Sequence[int], generator: Generators) -> PairPlan:
        """Draw frozen frames, motions and colours.

        Args:
            shape: of the clips, `(clips, frames, 3, height, width)`.
            generator: source of the draws; one for all pairs, or one for each.

        Returns:
            The plan, on the CPU.
        """
        clips, frames, _, height, width = shape
        probability = self.config.colour_probability
        if self.config.contrast == "temporal":
            return PairPlan(None, None, None, sample_colour_change(clips // 2, generator, probability))
        shown = None
        if self.config.still_probability:
            shown = self.shown(clips, frames, generator), self.shown(clips, frames, generator)
        motion = sample_motion(self.motion_settings, clips, frames, (height, width), generator)
        crop = CropPlan.of(motion)
        render = RenderPlan.of(motion, crop.patches)
        return PairPlan(shown, crop, render, sample_colour_change(clips, generator, probability))

    def finish(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Pair clips, paste patches and change colours.

        Args:
            batch: result of `prepare`.

        Returns:
            `pixel_values` and `key_pixel_values`, uint8 `(pairs, frames, 3, height, width)`: the arguments of the
            model.
        """
        plan: PairPlan = batch["plan"]
        queries, keys = self.pair(batch["pixel_values"])
        if plan.shown is not None:
            queries, keys = (_frozen(clips, shown) for clips, shown in zip((queries, keys), plan.shown, strict=True))
        if plan.crop is not None and plan.render is not None:
            self.paste(queries, keys, plan.crop.to(queries.device), plan.render.to(queries.device))
        # The same change for both clips of a pair, so that colour does not identify the pair.
        return {
            "pixel_values": recolour(queries, plan.colours),
            "key_pixel_values": recolour(keys, plan.colours),
        }

    def check(self, count: int) -> None:
        """Reject a number of clips that cannot be paired.

        Args:
            count: clips of the batch.

        Raises:
            ValueError: if there are too few clips, or an odd number of clips in pairs per video.
        """
        if self.config.contrast == "temporal" and count % 2:
            raise ValueError(f"contrast='temporal' needs two clips of every video, got {count} clips")
        if self.config.contrast == "tubelet" and count < 2:
            raise ValueError(
                "contrast='tubelet' pairs clips of different videos of a batch, got 1 clip; set run.batch_size to 2 or "
                "more"
            )

    def pair(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, uint8 `(pairs, frames, 3, height, width)`, not in shared memory.

        Args:
            clips: uint8 `(B, frames, 3, height, width)`.
        """
        if self.config.contrast == "temporal":
            return clips[::2].contiguous(), clips[1::2].contiguous()
        return clips, clips.roll(len(clips) // 2, dims=0)

    def shown(self, count: int, frames: int, generator: Generators) -> Tensor:
        """Frames that clips show, int64 `(count, frames)`: some clips are frozen to one of their frames.

        Args:
            count: number of clips.
            frames: of each.
            generator: source of the draw; one for all clips, or one for each.
        """
        still = rand(count, generator=generator) < self.config.still_probability
        shown = randint(frames, count, 1, generator=generator).expand(-1, frames)
        return torch.where(still[:, None], shown, torch.arange(frames))

    def paste(self, queries: Tensor, keys: Tensor, crop: CropPlan, render: RenderPlan) -> None:
        """Move patches over both clips of each pair, in place: those of the query, or of each clip.

        Args:
            queries: uint8 `(pairs, frames, 3, height, width)`, contiguous.
            keys: the same.
            crop: how patches are cut, on the device of the clips.
            render: how they are pasted, on the same device.
        """
        patches = crop.cut(queries)
        if self.config.patches == "shared":
            render.paste(patches.atlas, queries, keys)
            return
        key_patches = crop.cut(keys)
        render.paste(patches.atlas, queries)
        render.paste(key_patches.atlas, keys)


def _frozen(clips: Tensor, shown: Tensor) -> Tensor:
    """Clips that show the frames `(clips, frames)`."""
    shown = shown.to(clips.device, non_blocking=True)
    return clips[torch.arange(len(clips), device=clips.device)[:, None], shown]
