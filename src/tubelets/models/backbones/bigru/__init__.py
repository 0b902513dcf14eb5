"""BiGRU: a recurrent network of skeletons."""

from tubelets.models.common.entries import SKELETON_EXTRACTOR, SKELETON_PROCESSOR, ModelEntry

ENTRIES = (
    ModelEntry(
        "bigru",
        __name__,
        config="configuration_bigru:BiGruConfig",
        models={
            "AutoModel": "modeling_bigru:BiGruModel",
            "AutoModelForSkeletonClassification": "modeling_bigru:BiGruForSkeletonClassification",
        },
        processor=SKELETON_PROCESSOR,
        feature_extractor=SKELETON_EXTRACTOR,
        official="tubelets.models.backbones.skeleton_networks.conversion_skeleton:BIGRU",
    ),
)
