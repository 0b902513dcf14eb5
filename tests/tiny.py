"""Sizes of masked-video models that train within a second, and a batch for them."""

import torch
from torch import Tensor

SIZES = {
    "image_size": 32, "patch_size": 8, "num_frames": 4, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 64, "decoder_hidden_size": 32, "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 64, "mask_ratio": 0.5,
}  # fmt: skip


def masked_clips() -> tuple[Tensor, Tensor]:
    """Two clips of raw pixels, and a mask of every other token."""
    clips = torch.randint(256, (2, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return clips, (torch.arange(32) % 2 == 0).expand(2, -1)
