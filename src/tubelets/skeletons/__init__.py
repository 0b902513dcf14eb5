"""Skeletons: layouts, graphs, representations, normalisation and augmentations; tensors in, tensors out.

Skeletons are `(B, bodies, frames, joints, coordinates)`; missing joints and bodies are zero.

    skeletons = convert_layout(skeletons, layout_named("mediapipe-33"), layout_named("kinect-25"))
    skeletons = normalize_skeletons(skeletons, layout_named("kinect-25"))
    plan = draw_views(ViewSettings(), lengths, num_joints=25, generator=generators)   # what is random
    views = plan.apply(skeletons, num_frames=64)
    as_sequence(views), as_image(views), directed_adjacency(layout)                   # what networks read
"""

from tubelets.skeletons.augmentations import jitter, mirror, shear, transform_joints
from tubelets.skeletons.graphs import directed_adjacency, distance_adjacency
from tubelets.skeletons.layouts import LAYOUTS, SkeletonLayout, layout_named
from tubelets.skeletons.mapping import convert_layout, missing_joints
from tubelets.skeletons.normalization import center_skeletons, fill_gaps, normalize_skeletons, scale_skeletons
from tubelets.skeletons.representations import REPRESENTATIONS, as_graph, as_image, as_sequence, check_skeletons
from tubelets.skeletons.temporal import central_crops, crop_resize, random_crops
from tubelets.skeletons.views import AUGMENTATIONS, ViewPlan, ViewSettings, draw_views, pad_clips

__all__ = [
    "AUGMENTATIONS",
    "LAYOUTS",
    "REPRESENTATIONS",
    "SkeletonLayout",
    "ViewPlan",
    "ViewSettings",
    "as_graph",
    "as_image",
    "as_sequence",
    "center_skeletons",
    "central_crops",
    "check_skeletons",
    "convert_layout",
    "crop_resize",
    "directed_adjacency",
    "distance_adjacency",
    "draw_views",
    "fill_gaps",
    "jitter",
    "layout_named",
    "mirror",
    "missing_joints",
    "normalize_skeletons",
    "pad_clips",
    "random_crops",
    "scale_skeletons",
    "shear",
    "transform_joints",
]
