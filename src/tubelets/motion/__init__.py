"""Synthetic motion: draw motions, prepare moving patches, and paste them into clips.

One engine with three parameterisations (`MotionSettings.smile`, `.tubelet_contrast`, `.locomotion`):

    motion = sample_motion(settings, clips, frames, (height, width), generator)   # what is random
    patches = object_patches(objects, motion)                                     # or crop_patches(frames, motion)
    frames = render(frames, motion, patches)                                      # uint8 in, uint8 out
    motion.records()                                                              # plain numbers for JSON and captions
"""

from tubelets.motion.colours import ColourChange, recolour, sample_colour_change
from tubelets.motion.drawing import sample_motion
from tubelets.motion.key_frames import MODES
from tubelets.motion.movable import Movable
from tubelets.motion.patches import CropPlan, Patches, alpha_masks, crop_patches, object_patches, weighted_by_alpha
from tubelets.motion.records import Motion, MotionRecord
from tubelets.motion.rendering import RenderPlan, object_masks, render
from tubelets.motion.settings import ALPHA_SHAPES, MotionSettings

__all__ = [
    "ALPHA_SHAPES",
    "MODES",
    "ColourChange",
    "CropPlan",
    "Motion",
    "MotionRecord",
    "MotionSettings",
    "Movable",
    "Patches",
    "RenderPlan",
    "alpha_masks",
    "crop_patches",
    "object_masks",
    "object_patches",
    "recolour",
    "render",
    "sample_colour_change",
    "sample_motion",
    "weighted_by_alpha",
]
