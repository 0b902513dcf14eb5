"""The networks that AVID-CMA and RSPNet published as R(2+1)D, which differ from the common R(2+1)D-18."""

from tubelets.models.common.entries import VIDEO_PROCESSOR, VIDEO_PROCESSOR_CLASS, ModelEntry

ENTRIES = (
    ModelEntry(
        "r2plus1d_native",
        __name__,
        config="configuration_r2plus1d_native:R2Plus1DNativeConfig",
        models={
            "AutoModel": "modeling_r2plus1d_native:R2Plus1DNativeModel",
            "AutoModelForVideoClassification": "modeling_r2plus1d_native:R2Plus1DNativeForVideoClassification",
        },
        processor=VIDEO_PROCESSOR,
        video_processor=VIDEO_PROCESSOR_CLASS,
        official="conversion_r2plus1d_native:OFFICIAL",
    ),
)
