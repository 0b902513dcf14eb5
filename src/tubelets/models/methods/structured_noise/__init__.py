"""Structured-noise masking for video, audio and audio-visual models, and the audio and audio-visual models."""

from tubelets.models.common.entries import OLD_ATTENTION_BIASES, VIDEO_PROCESSOR, VIDEO_PROCESSOR_CLASS, ModelEntry

PAPER = "checkpoints_structured_noise:PAPER"

ENTRIES = (
    ModelEntry(
        "structured_noise_video",
        __name__,
        config="configuration_structured_noise_video:StructuredNoiseVideoConfig",
        models={
            "AutoModel": "modeling_structured_noise_video:StructuredNoiseVideoModel",
            "AutoModelForPreTraining": "modeling_structured_noise_video:StructuredNoiseVideoForPreTraining",
            "AutoModelForVideoClassification": (
                "modeling_structured_noise_video:StructuredNoiseVideoForVideoClassification"
            ),
        },
        processor=VIDEO_PROCESSOR,
        video_processor=VIDEO_PROCESSOR_CLASS,
        collator="tubelets.models.methods.masked_video.processing_masked_video:MaskedVideoCollator",
        paper=PAPER,
        weight_renamings=OLD_ATTENTION_BIASES,
    ),
    ModelEntry(
        "structured_noise_audio",
        __name__,
        config="configuration_structured_noise_audio:StructuredNoiseAudioConfig",
        models={
            "AutoModel": "modeling_structured_noise_audio:StructuredNoiseAudioModel",
            "AutoModelForPreTraining": "modeling_structured_noise_audio:StructuredNoiseAudioForPreTraining",
            "AutoModelForAudioClassification": (
                "modeling_structured_noise_audio:StructuredNoiseAudioForAudioClassification"
            ),
        },
        processor="tubelets.models.backbones.audio_vit.filterbanks:feature_extractor",
        feature_extractor="tubelets.models.backbones.audio_vit.filterbanks:FilterbankFeatureExtractor",
        collator="processing_structured_noise:AudioCollator",
        author_checkpoints="checkpoints_structured_noise:AUDIO",
        paper=PAPER,
        official="conversion_structured_noise:OFFICIAL",
    ),
    ModelEntry(
        "structured_noise_audio_video",
        __name__,
        config="configuration_structured_noise_audio_video:StructuredNoiseAudioVideoConfig",
        models={
            "AutoModel": "modeling_structured_noise_audio_video:StructuredNoiseAudioVideoModel",
            "AutoModelForPreTraining": (
                "modeling_structured_noise_audio_video:StructuredNoiseAudioVideoForPreTraining"
            ),
            # One class for all inputs: `config.modality` selects audio, frames or both.
            "AutoModelForVideoClassification": (
                "modeling_structured_noise_audio_video:StructuredNoiseAudioVideoForVideoClassification"
            ),
            "AutoModelForAudioClassification": (
                "modeling_structured_noise_audio_video:StructuredNoiseAudioVideoForVideoClassification"
            ),
        },
        processor="processing_structured_noise:audio_video_processor",
        video_processor=VIDEO_PROCESSOR_CLASS,
        feature_extractor="tubelets.models.backbones.audio_vit.filterbanks:FilterbankFeatureExtractor",
        joint_processor="processing_structured_noise:StructuredNoiseAudioVideoProcessor",
        collator="processing_structured_noise:AudioVideoCollator",
        author_checkpoints="checkpoints_structured_noise:AUDIO_VIDEO",
        paper=PAPER,
    ),
)
