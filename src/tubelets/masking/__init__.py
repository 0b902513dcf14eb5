"""Mask generators for masked video and audio modelling.

Everywhere in this package a mask is a boolean tensor in which `True` means *masked* (hidden from the encoder), and
tokens are ordered time-major, then row, then column.
"""

from tubelets.masking.generators import MaskGenerator, RandomMaskGenerator, TubeMaskGenerator
from tubelets.masking.noise_masks import NOISE_TYPES, NoiseMaskGenerator
from tubelets.masking.registry import MASK_TYPES, VIDEO_NOISE, build_mask_generator
from tubelets.masking.trajectory import TRAJECTORY_TYPES, TrajectoryMaskGenerator, trajectory_tokens

__all__ = [
    "MASK_TYPES",
    "NOISE_TYPES",
    "TRAJECTORY_TYPES",
    "VIDEO_NOISE",
    "MaskGenerator",
    "NoiseMaskGenerator",
    "RandomMaskGenerator",
    "TrajectoryMaskGenerator",
    "TubeMaskGenerator",
    "build_mask_generator",
    "trajectory_tokens",
]
