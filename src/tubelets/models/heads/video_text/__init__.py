"""Dual encoders: any video backbone or image encoder beside any text tower."""

from tubelets.models.common.entries import VIDEO_PROCESSOR_CLASS, ModelEntry

ENTRIES = (
    ModelEntry(
        "video_text_dual_encoder",
        __name__,
        config="configuration_video_text:VideoTextDualEncoderConfig",
        models={
            # One class: a dual encoder is pretrained with the loss that also fine-tunes it.
            "AutoModelForPreTraining": "modeling_video_text:VideoTextDualEncoderModel",
            "AutoModel": "modeling_video_text:VideoTextDualEncoderModel",
            "AutoModelForVideoTextRetrieval": "modeling_video_text:VideoTextDualEncoderModel",
        },
        processor="processing_video_text:video_text_processor",
        video_processor=VIDEO_PROCESSOR_CLASS,
        joint_processor="processing_video_text:VideoTextProcessor",
        collator="processing_video_text:VideoTextCollator",
    ),
)
