"""HCN: a 2-D convolutional network of skeletons."""

from tubelets.models.common.entries import SKELETON_EXTRACTOR, SKELETON_PROCESSOR, ModelEntry

ENTRIES = (
    ModelEntry(
        "hcn",
        __name__,
        config="configuration_hcn:HcnConfig",
        models={
            "AutoModel": "modeling_hcn:HcnModel",
            "AutoModelForSkeletonClassification": "modeling_hcn:HcnForSkeletonClassification",
        },
        processor=SKELETON_PROCESSOR,
        feature_extractor=SKELETON_EXTRACTOR,
        official="tubelets.models.backbones.skeleton_networks.conversion_skeleton:HCN",
    ),
)
