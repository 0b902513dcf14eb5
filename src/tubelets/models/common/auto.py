"""Registration of the model types with the Auto classes of transformers.

Configurations are registered when the package is imported. Models and processors of a type, which need torchvision and
more, are registered when its first configuration is created, because every Auto lookup starts from a configuration.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from tubelets.models.common.entries import ModelEntry, discover

MODELS: dict[str, ModelEntry] = discover()
"""Every model type, of this package and those added by `register_model`."""

_REGISTERED: set[type] = set()


def register_model(entry: ModelEntry) -> None:
    """Add a model type that lives outside of this package.

    The type then works like one of this package: with the Auto classes, `pretraining_collator`, `inference_processor`,
    fine-tuning, evaluation and publishing.

    Args:
        entry: its classes.

    Raises:
        ValueError: if another entry has the same model type.

    Example:
        >>> register_model(MODELS["sigma"])  # again: no effect
    """
    known = MODELS.setdefault(entry.model_type, entry)
    if known != entry:
        raise ValueError(
            f"the model type {entry.model_type!r} belongs to {known.package} already; choose another model_type"
        )
    _register_config(entry)


def register_configs() -> None:
    """Register every configuration with `AutoConfig`."""
    for entry in MODELS.values():
        _register_config(entry)


def _register_config(entry: ModelEntry) -> None:
    AutoConfig.register(entry.model_type, entry.load(entry.config), exist_ok=True)


def register_type(config_class: type[PreTrainedConfig]) -> None:
    """Register the models and processors of one type with the Auto classes, once.

    Args:
        config_class: a configuration class; classes without their own entry, such as subclasses, are skipped.
    """
    entry = MODELS.get(config_class.model_type)
    if config_class in _REGISTERED or entry is None or entry.load(entry.config) is not config_class:
        return
    _REGISTERED.add(config_class)
    import transformers

    from tubelets.models.common.auto_classes import auto_class_named

    for auto_class, reference in entry.models.items():
        auto_class_named(auto_class).register(config_class, entry.load(reference), exist_ok=True)
    if entry.video_processor is not None:
        processor = entry.load(entry.video_processor)
        transformers.AutoVideoProcessor.register(config_class, video_processor_class=processor, exist_ok=True)
    if entry.feature_extractor is not None:
        extractor = entry.load(entry.feature_extractor)
        transformers.AutoFeatureExtractor.register(config_class, extractor, exist_ok=True)
    if entry.joint_processor is not None:
        joint = entry.load(entry.joint_processor)
        transformers.AutoProcessor.register(config_class, joint, exist_ok=True)
    _register_renamings(entry)


def _register_renamings(entry: ModelEntry) -> None:
    if not entry.weight_renamings:
        return
    from transformers.conversion_mapping import register_checkpoint_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming

    renamings: list[WeightConverter | WeightRenaming] = [
        WeightRenaming(old, new) for old, new in entry.weight_renamings.items()
    ]
    register_checkpoint_conversion_mapping(entry.model_type, renamings, overwrite=True)


def pretraining_collator(config: PreTrainedConfig) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]:
    """Return the collator for a method's pretraining batches.

    Args:
        config: a configuration of a registered model type.

    Returns:
        A function from the items of a clip stream to the arguments of the pretraining model.

    Raises:
        ValueError: if the model type is not registered or has no pretraining.
    """
    return _make("collator", config)


def inference_processor(config: PreTrainedConfig) -> Any:
    """Return the processor to save with a model's weights.

    Args:
        config: a configuration of a registered model type.

    Returns:
        A processor of transformers or of this package.

    Raises:
        ValueError: if the model type is not registered or has no processor.
    """
    return _make("processor", config)


def _make(part: str, config: PreTrainedConfig) -> Any:
    makers = {name: vars(entry)[part] for name, entry in MODELS.items() if vars(entry)[part] is not None}
    if config.model_type not in makers:
        raise ValueError(f"model_type={config.model_type!r} has no {part}; choose one of {sorted(makers)}")
    return MODELS[config.model_type].load(makers[config.model_type])(config)
