"""ST-GCN: a graph network of skeletons."""

from tubelets.models.common.entries import SKELETON_EXTRACTOR, SKELETON_PROCESSOR, ModelEntry

ENTRIES = (
    ModelEntry(
        "stgcn",
        __name__,
        config="configuration_stgcn:StgcnConfig",
        models={
            "AutoModel": "modeling_stgcn:StgcnModel",
            "AutoModelForSkeletonClassification": "modeling_stgcn:StgcnForSkeletonClassification",
        },
        processor=SKELETON_PROCESSOR,
        feature_extractor=SKELETON_EXTRACTOR,
        official="tubelets.models.backbones.skeleton_networks.conversion_skeleton:STGCN",
    ),
)
