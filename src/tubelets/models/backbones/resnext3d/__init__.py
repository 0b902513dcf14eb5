"""The 3D-ResNets family: 3-D ResNets and ResNeXts for frames, flow and depth."""

from tubelets.models.common.entries import VIDEO_PROCESSOR, VIDEO_PROCESSOR_CLASS, ModelEntry

ENTRIES = (
    ModelEntry(
        "resnext3d",
        __name__,
        config="configuration_resnext3d:ResNeXt3DConfig",
        models={
            "AutoModel": "modeling_resnext3d:ResNeXt3DModel",
            "AutoModelForVideoClassification": "modeling_resnext3d:ResNeXt3DForVideoClassification",
        },
        processor=VIDEO_PROCESSOR,
        video_processor=VIDEO_PROCESSOR_CLASS,
        paper="checkpoints_resnext3d:PAPER",
        official="conversion_resnext3d:OFFICIAL",
    ),
)
