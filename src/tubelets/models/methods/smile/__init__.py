"""SMILE: masked video modelling of image-language features under synthetic motion."""

from tubelets.models.common.entries import OLD_ATTENTION_BIASES, VIDEO_PROCESSOR, VIDEO_PROCESSOR_CLASS, ModelEntry

ENTRIES = (
    ModelEntry(
        "smile",
        __name__,
        config="configuration_smile:SmileConfig",
        models={
            "AutoModel": "modeling_smile:SmileModel",
            "AutoModelForPreTraining": "modeling_smile:SmileForPreTraining",
            "AutoModelForVideoClassification": "modeling_smile:SmileForVideoClassification",
        },
        processor=VIDEO_PROCESSOR,
        video_processor=VIDEO_PROCESSOR_CLASS,
        collator="processing_smile:SmileCollator",
        author_checkpoints="checkpoints_smile:CHECKPOINTS",
        official="conversion_smile:OFFICIAL",
        weight_renamings=OLD_ATTENTION_BIASES,
    ),
)
