"""Tubelet-Contrast: contrastive learning of clips of different videos with the same moving patches."""

from tubelets.models.common.entries import VIDEO_PROCESSOR, VIDEO_PROCESSOR_CLASS, ModelEntry

ENTRIES = (
    ModelEntry(
        "tubelet_contrast",
        __name__,
        config="configuration_tubelet_contrast:TubeletContrastConfig",
        models={
            "AutoModel": "modeling_tubelet_contrast:TubeletContrastModel",
            "AutoModelForPreTraining": "modeling_tubelet_contrast:TubeletContrastForPreTraining",
            "AutoModelForVideoClassification": "modeling_tubelet_contrast:TubeletContrastForVideoClassification",
        },
        processor=VIDEO_PROCESSOR,
        video_processor=VIDEO_PROCESSOR_CLASS,
        collator="processing_tubelet_contrast:TubeletContrastCollator",
        author_checkpoints="checkpoints_tubelet_contrast:CHECKPOINTS",
        official="conversion_tubelet_contrast:OFFICIAL",
    ),
)
