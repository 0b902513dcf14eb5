"""VideoMAE-family base that the masked-video methods share; itself the pixel baseline."""

from tubelets.models.common.entries import OLD_ATTENTION_BIASES, VIDEO_PROCESSOR, VIDEO_PROCESSOR_CLASS, ModelEntry

ENTRIES = (
    ModelEntry(
        "tubelets_videomae",
        __name__,
        config="tubelets.models.backbones.video_vit.configuration_video_vit:TubeletsVideoMAEConfig",
        models={
            "AutoModel": "tubelets.models.backbones.video_vit.modeling_video_vit:TubeletsVideoMAEModel",
            "AutoModelForPreTraining": "modeling_masked_video:TubeletsVideoMAEForPreTraining",
            "AutoModelForVideoClassification": (
                "tubelets.models.backbones.video_vit.modeling_video_vit:TubeletsVideoMAEForVideoClassification"
            ),
        },
        processor=VIDEO_PROCESSOR,
        video_processor=VIDEO_PROCESSOR_CLASS,
        collator="processing_masked_video:MaskedVideoCollator",
        official="conversion_masked_video:OFFICIAL",
        weight_renamings=OLD_ATTENTION_BIASES,
    ),
)
