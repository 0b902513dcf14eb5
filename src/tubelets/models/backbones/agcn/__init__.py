"""AGCN: a graph network of skeletons that learns its graph."""

from tubelets.models.common.entries import SKELETON_EXTRACTOR, SKELETON_PROCESSOR, ModelEntry

ENTRIES = (
    ModelEntry(
        "agcn",
        __name__,
        config="configuration_agcn:AgcnConfig",
        models={
            "AutoModel": "modeling_agcn:AgcnModel",
            "AutoModelForSkeletonClassification": "modeling_agcn:AgcnForSkeletonClassification",
        },
        processor=SKELETON_PROCESSOR,
        feature_extractor=SKELETON_EXTRACTOR,
        official="tubelets.models.backbones.skeleton_networks.conversion_skeleton:AGCN",
    ),
)
