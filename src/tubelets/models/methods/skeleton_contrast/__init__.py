"""Skeleton-Contrast: contrastive learning across representations of the same skeleton."""

from tubelets.models.common.entries import SKELETON_EXTRACTOR, SKELETON_PROCESSOR, ModelEntry

ENTRIES = (
    ModelEntry(
        "skeleton_contrast",
        __name__,
        config="configuration_skeleton_contrast:SkeletonContrastConfig",
        models={
            "AutoModel": "modeling_skeleton_contrast:SkeletonContrastModel",
            "AutoModelForPreTraining": "modeling_skeleton_contrast:SkeletonContrastForPreTraining",
            "AutoModelForSkeletonClassification": (
                "modeling_skeleton_contrast:SkeletonContrastForSkeletonClassification"
            ),
        },
        processor=SKELETON_PROCESSOR,
        feature_extractor=SKELETON_EXTRACTOR,
        collator="processing_skeleton_contrast:SkeletonContrastCollator",
        author_checkpoints="checkpoints_skeleton_contrast:CHECKPOINTS",
        official="conversion_skeleton_contrast:OFFICIAL",
    ),
)
