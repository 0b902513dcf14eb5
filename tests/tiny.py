"""Sizes of masked-video models that train within a second, a batch for them, and fields of a small run of SIGMA."""

import torch
from torch import Tensor

SIZES = {
    "image_size": 32, "patch_size": 8, "num_frames": 4, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 64, "decoder_hidden_size": 32, "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 64, "mask_ratio": 0.5,
}  # fmt: skip

TINY_RUN = {
    "data.num_workers": 1,
    "data.shuffle_window": 8,
    "data.clips_per_video": 1,
    "optimization.max_steps": 6,
    "optimization.global_batch_size": 4,
    "optimization.warmup_epochs": 0,
    "run.batch_size": 4,
    "run.logging_steps": 1,
    "run.save_steps": 2,
    "model.config.image_size": 32,
    "model.config.hidden_size": 48,
    "model.config.num_attention_heads": 3,
    "model.config.num_hidden_layers": 2,
    "model.config.intermediate_size": 96,
    "model.config.decoder_hidden_size": 48,
    "model.config.decoder_intermediate_size": 96,
    "model.config.num_prototypes": 8,
}


def masked_clips() -> tuple[Tensor, Tensor]:
    """Two clips of raw pixels, and a mask of every other token."""
    clips = torch.randint(256, (2, 4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return clips, (torch.arange(32) % 2 == 0).expand(2, -1)
