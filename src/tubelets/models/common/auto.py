"""The one list of models, and how the Auto classes of transformers learn of them.

A lookup in an Auto class starts from a configuration: configurations are registered when the package is imported, which
costs little, and the models, which need torchvision and more, when the first of our configurations is made.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from transformers import AutoConfig, PreTrainedConfig


@dataclass(frozen=True)
class AutoEntry:
    """Where the classes of one model type live, relative to `tubelets.models`.

    Attributes:
        folder: the method's folder.
        config: `module:class` of the configuration.
        models: Auto class name to `module:class`.
        video_processor: name of a video processor class of transformers, if inference uses one.
        feature_extractor: `module:class` of a feature extractor of this package, if inference uses one.
        joint_processor: `module:class` of a processor of several inputs, if inference uses one.
        processor: `package.module:function` that makes the inference processor of a configuration.
        collator: `package.module:class` of the pretraining collator, made from a configuration.
        published: `module:list` of the authors' checkpoints, see `tubelets.models.common.author_checkpoints`.
        paper: `module:constant`, what cards of the method cite; None takes the paper of the first of `published`.
    """

    folder: str
    config: str
    models: dict[str, str]
    video_processor: str | None = None
    feature_extractor: str | None = None
    joint_processor: str | None = None
    processor: str | None = None
    collator: str | None = None
    published: str | None = None
    paper: str | None = None

    def load(self, reference: str) -> Any:
        """Import the class that `module:class` names."""
        module, _, name = reference.partition(":")
        path = (
            module if module.startswith("tubelets.") else f"tubelets.models.{self.folder}.{module}".replace("..", ".")
        )
        return getattr(importlib.import_module(path), name)


def _masked_video(
    folder: str,
    prefix: str,
    collator: str = "methods.masked_video.processing_masked_video:MaskedVideoCollator",
    published: str | None = None,
    suffix: str = "",
    paper: str | None = None,
) -> AutoEntry:
    modeling = f"modeling_{folder}{suffix}:{prefix}"
    return AutoEntry(
        f"methods.{folder}",
        f"configuration_{folder}{suffix}:{prefix}Config",
        {
            "AutoModel": f"{modeling}Model",
            "AutoModelForPreTraining": f"{modeling}ForPreTraining",
            "AutoModelForVideoClassification": f"{modeling}ForVideoClassification",
        },
        video_processor="VideoMAEVideoProcessor",
        processor="tubelets.models.backbones.video_vit.processing_video_vit:video_processor",
        collator=f"tubelets.models.{collator}",
        published=published,
        paper=paper,
    )


def _convolutional(
    folder: str,
    prefix: str,
    collator: str | None = None,
    published: str | None = None,
    paper: str | None = None,
    **pretraining: str,
) -> AutoEntry:
    name = folder.rpartition(".")[2]
    modeling = f"modeling_{name}:{prefix}"
    models = {
        "AutoModel": f"{modeling}Model",
        "AutoModelForVideoClassification": f"{modeling}ForVideoClassification",
    }
    return AutoEntry(
        folder,
        f"configuration_{name}:{prefix}Config",
        models | pretraining,
        video_processor="VideoMAEVideoProcessor",
        processor="tubelets.models.backbones.video_vit.processing_video_vit:video_processor",
        collator=None if collator is None else f"tubelets.models.{collator}",
        published=published,
        paper=paper,
    )


def _structured_noise_audio() -> AutoEntry:
    modeling = "modeling_structured_noise_audio:StructuredNoiseAudio"
    return AutoEntry(
        "methods.structured_noise",
        "configuration_structured_noise_audio:StructuredNoiseAudioConfig",
        {
            "AutoModel": f"{modeling}Model",
            "AutoModelForPreTraining": f"{modeling}ForPreTraining",
            "AutoModelForAudioClassification": f"{modeling}ForAudioClassification",
        },
        feature_extractor="tubelets.models.backbones.audio_vit.filterbanks:FilterbankFeatureExtractor",
        processor="tubelets.models.backbones.audio_vit.filterbanks:feature_extractor",
        collator="tubelets.models.methods.structured_noise.processing_structured_noise:AudioCollator",
        published="checkpoints_structured_noise:AUDIO",
        paper="checkpoints_structured_noise:PAPER",
    )


def _structured_noise_audio_video() -> AutoEntry:
    modeling = "modeling_structured_noise_audio_video:StructuredNoiseAudioVideo"
    return AutoEntry(
        "methods.structured_noise",
        "configuration_structured_noise_audio_video:StructuredNoiseAudioVideoConfig",
        {
            "AutoModel": f"{modeling}Model",
            "AutoModelForPreTraining": f"{modeling}ForPreTraining",
            # One class for all: `config.modality` says whether it hears, sees or does both.
            "AutoModelForVideoClassification": f"{modeling}ForVideoClassification",
            "AutoModelForAudioClassification": f"{modeling}ForVideoClassification",
        },
        video_processor="VideoMAEVideoProcessor",
        feature_extractor="tubelets.models.backbones.audio_vit.filterbanks:FilterbankFeatureExtractor",
        joint_processor="processing_structured_noise:StructuredNoiseAudioVideoProcessor",
        processor="tubelets.models.methods.structured_noise.processing_structured_noise:audio_video_processor",
        collator="tubelets.models.methods.structured_noise.processing_structured_noise:AudioVideoCollator",
        published="checkpoints_structured_noise:AUDIO_VIDEO",
        paper="checkpoints_structured_noise:PAPER",
    )


MODELS = {
    "tubelets_videomae": AutoEntry(
        "",
        "backbones.video_vit.configuration_video_vit:TubeletsVideoMAEConfig",
        {
            "AutoModel": "backbones.video_vit.modeling_video_vit:TubeletsVideoMAEModel",
            "AutoModelForPreTraining": "methods.masked_video.modeling_masked_video:TubeletsVideoMAEForPreTraining",
            "AutoModelForVideoClassification": (
                "backbones.video_vit.modeling_video_vit:TubeletsVideoMAEForVideoClassification"
            ),
        },
        video_processor="VideoMAEVideoProcessor",
        processor="tubelets.models.backbones.video_vit.processing_video_vit:video_processor",
        collator="tubelets.models.methods.masked_video.processing_masked_video:MaskedVideoCollator",
    ),
    "sigma": _masked_video("sigma", "Sigma", published="checkpoints_sigma:CHECKPOINTS"),
    "smile": _masked_video(
        "smile", "Smile", "methods.smile.processing_smile:SmileCollator", published="checkpoints_smile:CHECKPOINTS"
    ),
    "resnet3d": _convolutional(
        "backbones.resnet3d",
        "ResNet3D",
        published="checkpoints_resnet3d:CHECKPOINTS",
        paper="checkpoints_resnet3d:PAPER",
    ),
    "i3d": _convolutional("backbones.i3d", "I3D"),
    "r2plus1d_native": _convolutional("backbones.r2plus1d_native", "R2Plus1DNative"),
    "tubelet_contrast": _convolutional(
        "methods.tubelet_contrast",
        "TubeletContrast",
        "methods.tubelet_contrast.processing_tubelet_contrast:TubeletContrastCollator",
        "checkpoints_tubelet_contrast:CHECKPOINTS",
        AutoModelForPreTraining="modeling_tubelet_contrast:TubeletContrastForPreTraining",
    ),
    "structured_noise_video": _masked_video(
        "structured_noise", "StructuredNoiseVideo", suffix="_video", paper="checkpoints_structured_noise:PAPER"
    ),
    "structured_noise_audio": _structured_noise_audio(),
    "structured_noise_audio_video": _structured_noise_audio_video(),
}


def pretraining_collator(config: PreTrainedConfig) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]:
    """The collator that makes a method's pretraining batches.

    Args:
        config: a configuration of one of our model types.

    Returns:
        A function from the items of a clip stream to the arguments of the pretraining model.

    Raises:
        ValueError: if the model type is not ours or has no pretraining.
    """
    return _make("collator", config)


def inference_processor(config: PreTrainedConfig) -> Any:
    """The processor that is saved beside a model's weights.

    Args:
        config: a configuration of one of our model types.

    Returns:
        A processor of transformers or of this package.

    Raises:
        ValueError: if the model type is not ours or has no processor.
    """
    return _make("processor", config)


def _make(part: str, config: PreTrainedConfig) -> Any:
    entry = MODELS.get(config.model_type)
    reference = getattr(entry, part, None)
    if reference is None:
        known = sorted(name for name, found in MODELS.items() if getattr(found, part))
        raise ValueError(f"model_type={config.model_type!r} has no {part} here; choose one of {known}")
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)(config)


def register_configs() -> None:
    """Make every configuration known to `AutoConfig`."""
    for model_type, entry in MODELS.items():
        AutoConfig.register(model_type, entry.load(entry.config), exist_ok=True)


@cache
def register_models() -> None:
    """Make every model and processor known to the Auto classes; runs once, when a configuration is first made."""
    import transformers
    from transformers.conversion_mapping import register_checkpoint_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming

    for model_type, entry in MODELS.items():
        config_class = entry.load(entry.config)
        for auto_class, reference in entry.models.items():
            getattr(transformers, auto_class).register(config_class, entry.load(reference), exist_ok=True)
        if entry.video_processor is not None:
            processor = getattr(transformers, entry.video_processor)
            transformers.AutoVideoProcessor.register(config_class, video_processor_class=processor, exist_ok=True)
        if entry.feature_extractor is not None:
            extractor = entry.load(entry.feature_extractor)
            transformers.AutoFeatureExtractor.register(config_class, extractor, exist_ok=True)
        if entry.joint_processor is not None:
            joint = entry.load(entry.joint_processor)
            transformers.AutoProcessor.register(config_class, joint, exist_ok=True)
        # Checkpoints published before transformers 5 name the two attention biases apart.
        renamings: list[WeightConverter | WeightRenaming] = [
            WeightRenaming(rf"attention\.attention\.{letter}_bias", f"attention.attention.{name}.bias")
            for letter, name in (("q", "query"), ("v", "value"))
        ]
        register_checkpoint_conversion_mapping(model_type, renamings, overwrite=True)
