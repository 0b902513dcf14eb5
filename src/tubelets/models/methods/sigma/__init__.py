"""SIGMA: Sinkhorn-guided masked video modelling."""

from tubelets.models.common.entries import OLD_ATTENTION_BIASES, VIDEO_PROCESSOR, VIDEO_PROCESSOR_CLASS, ModelEntry

ENTRIES = (
    ModelEntry(
        "sigma",
        __name__,
        config="configuration_sigma:SigmaConfig",
        models={
            "AutoModel": "modeling_sigma:SigmaModel",
            "AutoModelForPreTraining": "modeling_sigma:SigmaForPreTraining",
            "AutoModelForVideoClassification": "modeling_sigma:SigmaForVideoClassification",
        },
        processor=VIDEO_PROCESSOR,
        video_processor=VIDEO_PROCESSOR_CLASS,
        collator="tubelets.models.methods.masked_video.processing_masked_video:MaskedVideoCollator",
        author_checkpoints="checkpoints_sigma:CHECKPOINTS",
        official="conversion_sigma:OFFICIAL",
        weight_renamings=OLD_ATTENTION_BIASES,
    ),
)
