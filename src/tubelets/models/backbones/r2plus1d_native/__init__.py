"""The networks that AVID-CMA and RSPNet published as R(2+1)D, which differ from the common R(2+1)D-18."""

from tubelets.models.common.entries import VIDEO_PROCESSOR, ModelEntry

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
        video_processor="VideoMAEVideoProcessor",
        official="conversion_r2plus1d_native:OFFICIAL",
    ),
)
