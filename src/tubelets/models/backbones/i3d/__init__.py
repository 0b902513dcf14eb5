"""I3D: Inception-v1 inflated to video."""

from tubelets.models.common.entries import VIDEO_PROCESSOR, VIDEO_PROCESSOR_CLASS, ModelEntry

ENTRIES = (
    ModelEntry(
        "i3d",
        __name__,
        config="configuration_i3d:I3DConfig",
        models={
            "AutoModel": "modeling_i3d:I3DModel",
            "AutoModelForVideoClassification": "modeling_i3d:I3DForVideoClassification",
        },
        processor=VIDEO_PROCESSOR,
        video_processor=VIDEO_PROCESSOR_CLASS,
    ),
)
