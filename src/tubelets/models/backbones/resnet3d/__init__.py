"""R(2+1)D-18, R3D-18 and their relatives."""

from tubelets.models.common.entries import VIDEO_PROCESSOR, VIDEO_PROCESSOR_CLASS, ModelEntry

ENTRIES = (
    ModelEntry(
        "resnet3d",
        __name__,
        config="configuration_resnet3d:ResNet3DConfig",
        models={
            "AutoModel": "modeling_resnet3d:ResNet3DModel",
            "AutoModelForVideoClassification": "modeling_resnet3d:ResNet3DForVideoClassification",
        },
        processor=VIDEO_PROCESSOR,
        video_processor=VIDEO_PROCESSOR_CLASS,
        author_checkpoints="checkpoints_resnet3d:CHECKPOINTS",
        paper="checkpoints_resnet3d:PAPER",
        official="conversion_resnet3d:OFFICIAL",
    ),
)
