"""Collator for masked-video pretraining."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tubelets.models.backbones.video_vit.configuration_video_vit import TubeletsVideoMAEConfig
from tubelets.models.common.mask_banks import load_mask_bank


def pretraining_masks(config: TubeletsVideoMAEConfig) -> Any:
    """Build the generator of pretraining masks, with the noise bank named by the configuration.

    Args:
        config: token grid, mask type and ratio.

    Returns:
        A mask generator.

    Raises:
        FileNotFoundError: if the bank does not exist.
        ValueError: if the bank is of another kind of noise.
    """
    generator = config.build_mask_generator()
    if config.mask_bank is None:
        return generator
    bank = load_mask_bank(config.mask_bank, config.grid, config.mask_ratio, **(config.mask_options or {}))
    if bank.kind != config.mask_type:
        raise ValueError(f"mask_bank={config.mask_bank!r} holds {bank.kind}, not mask_type={config.mask_type!r}")
    return bank


class MaskedVideoCollator:
    """Collates items of a clip stream into batches for masked-video pretraining.

    Each clip's mask is drawn from the clip's own seed and depends neither on its batch nor on the process or worker.

    Args:
        config: token grid, mask type and ratio.

    Example:
        >>> collate = MaskedVideoCollator(TubeletsVideoMAEConfig(image_size=32, num_frames=4, mask_ratio=0.5))
        >>> batch = collate([{"pixel_values": torch.zeros(4, 3, 32, 32, dtype=torch.uint8), "seed": 1}])
        >>> batch["bool_masked_pos"].shape, batch["num_masked"]
        (torch.Size([1, 8]), 4)
    """

    def __init__(self, config: TubeletsVideoMAEConfig) -> None:
        self.mask_generator = pretraining_masks(config)

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Stack clips and draw their masks.

        Args:
            items: mappings with `pixel_values`, uint8 `(frames, channels, height, width)`, and `seed`, an integer.

        Returns:
            `pixel_values` uint8 `(B, frames, channels, height, width)`, `bool_masked_pos` bool `(B, tokens)` with True
            = masked, and `num_masked`, an integer: the arguments of a pretraining model.

        Raises:
            ValueError: if the masks do not all have the generator's count.
        """
        generators = [torch.Generator().manual_seed(int(item["seed"])) for item in items]
        masks = self.mask_generator(len(items), generator=generators)
        counts = masks.sum(dim=1)
        if not bool((counts == self.mask_generator.num_masked).all()):
            raise ValueError(
                f"the mask generator should mask {self.mask_generator.num_masked} tokens and masked {counts.tolist()}"
            )
        return {
            "pixel_values": torch.stack([item["pixel_values"] for item in items]),
            "bool_masked_pos": masks,
            "num_masked": self.mask_generator.num_masked,
        }
