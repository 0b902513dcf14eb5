"""LocoMotion: contrast, matching and masked words of videos with moving objects and captions of their motion."""

from tubelets.models.common.entries import VIDEO_PROCESSOR_CLASS, ModelEntry

ENTRIES = (
    ModelEntry(
        "locomotion",
        __name__,
        config="configuration_locomotion:LocoMotionConfig",
        models={
            "AutoModel": "modeling_encoder:LocoMotionModel",
            "AutoModelForPreTraining": "modeling_locomotion:LocoMotionForPreTraining",
            "AutoModelForVideoClassification": "modeling_locomotion:LocoMotionForVideoClassification",
            "AutoModelForVideoTextRetrieval": "modeling_locomotion:LocoMotionForVideoTextRetrieval",
        },
        processor="processing_locomotion:locomotion_processor",
        video_processor=VIDEO_PROCESSOR_CLASS,
        joint_processor="processing_locomotion:LocoMotionProcessor",
        collator="collating_locomotion:LocoMotionCollator",
        paper="checkpoints_locomotion:PAPER",
        official="conversion_locomotion:OFFICIAL",
    ),
)
