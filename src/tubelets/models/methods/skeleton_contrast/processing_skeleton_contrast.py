"""Skeleton-Contrast's pretraining batches: two augmented views of each clip (skeleton_contrast.md, section 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tubelets.data.seeds import stable_seed
from tubelets.models.backbones.skeleton_networks.processing_skeleton import normalize_clips
from tubelets.models.common.collators import TwoPartCollator
from tubelets.models.methods.skeleton_contrast.configuration_skeleton_contrast import SkeletonContrastConfig
from tubelets.motion import Movable
from tubelets.skeletons import ViewPlan, draw_views, pad_clips


@dataclass(frozen=True)
class ContrastPlan(Movable):
    """What is drawn for the two views of a batch; the fields of a `ViewPlan` each.

    Attributes:
        query: of the views that queries encode.
        key: of the views that keys encode.
    """

    query: tuple[Tensor, ...]
    key: tuple[Tensor, ...]


class SkeletonContrastCollator(TwoPartCollator):
    """Batch of Skeleton-Contrast pretraining from the items of a clip stream.

    The views of a clip are drawn from its own seed. All representations of a view are made from the same skeleton, in
    the model.

    Args:
        config: the layout, the normalisation and the augmentations.

    Example:
        >>> collate = SkeletonContrastCollator(SkeletonContrastConfig())
        >>> items = [{"skeletons": torch.rand(2, frames, 25, 3), "seed": frames} for frames in (90, 200)]
        >>> batch = collate(items)
        >>> batch["skeletons"].shape, batch["key_skeletons"].shape
        (torch.Size([2, 2, 64, 25, 3]), torch.Size([2, 2, 64, 25, 3]))
    """

    def __init__(self, config: SkeletonContrastConfig) -> None:
        self.config, self.settings, self.layout = config, config.view_settings, config.skeleton_layout

    def prepare(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Stack recordings and draw everything that is random.

        Args:
            items: mappings with `skeletons`, float `(bodies, frames, joints, coordinates)` of any number of frames, and
                `seed`, an integer.

        Returns:
            `skeletons`, float32 `(B, bodies, longest, joints, coordinates)`, and `plan`, see `ContrastPlan`.

        Raises:
            ValueError: if a recording has no frames, or another layout than the others.
        """
        padded, lengths = pad_clips([item["skeletons"] for item in items])
        plans = []
        for view in ("query", "key"):
            generators = [torch.Generator().manual_seed(stable_seed(int(item["seed"]), view)) for item in items]
            plan = draw_views(self.settings, lengths, self.layout.num_joints, generators)
            plans.append((plan.starts, plan.lengths, plan.matrices, plan.joints))
        return {"skeletons": padded, "plan": ContrastPlan(*plans)}

    def finish(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Normalise recordings and make their views.

        Args:
            batch: result of `prepare`.

        Returns:
            `skeletons` and `key_skeletons`, float32 `(B, bodies, num_frames, joints, coordinates)`: the arguments of
            the model.
        """
        plan: ContrastPlan = batch["plan"]
        config = self.config
        clips = normalize_clips(batch["skeletons"], self.layout, config.normalization, config.has_confidence)
        return {
            "skeletons": ViewPlan(*plan.query).apply(clips, config.num_frames),
            "key_skeletons": ViewPlan(*plan.key).apply(clips, config.num_frames),
        }
