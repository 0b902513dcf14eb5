"""Model types: their classes and functions, and the table of all types.

Each folder of `tubelets.models.backbones`, `heads` and `methods` lists its types as `ENTRIES` in its `__init__`.
That module imports nothing else: entries name their classes, which are imported when they are first used.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROOMS = ("tubelets.models.backbones", "tubelets.models.heads", "tubelets.models.methods")

# Checkpoints published before transformers 5 store the biases of query and value under other names than the weights.
OLD_ATTENTION_BIASES = {
    r"attention\.attention\.q_bias": "attention.attention.query.bias",
    r"attention\.attention\.v_bias": "attention.attention.value.bias",
}
VIDEO_PROCESSOR = "tubelets.models.backbones.video_vit.processing_video_vit:video_processor"
VIDEO_PROCESSOR_CLASS = "tubelets.models.backbones.video_vit.processing_video_vit:VideoMAEVideoProcessor"
SKELETON_PROCESSOR = "tubelets.models.backbones.skeleton_networks.processing_skeleton:skeleton_processor"
SKELETON_EXTRACTOR = "tubelets.models.backbones.skeleton_networks.processing_skeleton:SkeletonFeatureExtractor"


@dataclass(frozen=True)
class ModelEntry:
    """The classes and functions of one model type.

    A reference is `module:name`. A module name without a dot is relative to `package`, one with dots is absolute. The
    object itself can be given instead of a reference.

    Attributes:
        model_type: as in `config.json`.
        package: the package that relative references start from, usually `__name__` of the folder.
        config: the configuration class, a subclass of `RegisteredConfig`.
        models: name of an Auto class, see `tubelets.models.common.auto_classes`, to model class.
        processor: function from a configuration to its inference processor.
        video_processor: video processor class that `AutoVideoProcessor` loads for this type.
        feature_extractor: feature extractor class that `AutoFeatureExtractor` loads for this type.
        joint_processor: processor class of several inputs that `AutoProcessor` loads for this type.
        collator: class or function from a configuration to its pretraining collator.
        author_checkpoints: list of the `AuthorCheckpoint` records of this type.
        paper: the `Paper` that model cards cite; None means the paper of the first of `author_checkpoints`.
        official: list of the `OfficialLayout` objects that recognise and convert the authors' files.
        weight_renamings: pattern of an old weight name to its name today, applied when weights are loaded.

    Example:
        >>> from tubelets.models.common.auto import MODELS
        >>> MODELS["sigma"].load(MODELS["sigma"].config).__name__
        'SigmaConfig'
    """

    model_type: str
    package: str
    config: str | type
    models: Mapping[str, str | type]
    processor: Any = None
    video_processor: str | type | None = None
    feature_extractor: str | type | None = None
    joint_processor: str | type | None = None
    collator: Any = None
    author_checkpoints: str | None = None
    paper: str | None = None
    official: str | None = None
    weight_renamings: Mapping[str, str] = field(default_factory=dict)

    def load(self, reference: Any) -> Any:
        """The object of a reference.

        Args:
            reference: `module:name`, or the object itself.

        Returns:
            The object.

        Raises:
            ImportError: if the module does not exist.
            AttributeError: if the module does not have the name.
        """
        if not isinstance(reference, str):
            return reference
        module, _, name = reference.partition(":")
        return getattr(importlib.import_module(module if "." in module else f"{self.package}.{module}"), name)

    @property
    def class_references(self) -> dict[str, Any]:
        """Class name to reference, of the configuration and the models."""
        return {_name(reference): reference for reference in (self.config, *self.models.values())}


def _name(reference: str | type) -> str:
    return reference.partition(":")[2] if isinstance(reference, str) else reference.__name__


def discover() -> dict[str, ModelEntry]:
    """The entries of every folder of backbones, heads and methods.

    Returns:
        Model type to entry.

    Raises:
        ValueError: if two folders declare the same model type.
    """
    found: dict[str, ModelEntry] = {}
    for room in ROOMS:
        for module in pkgutil.iter_modules(importlib.import_module(room).__path__):
            # A folder of shared parts, such as `convolutional`, declares nothing; neither does a single file.
            if not module.ispkg:
                continue
            for entry in vars(importlib.import_module(f"{room}.{module.name}")).get("ENTRIES", ()):
                if entry.model_type in found:
                    raise ValueError(
                        f"{entry.package} declares the model type {entry.model_type!r}, which "
                        f"{found[entry.model_type].package} declares too; rename one of them"
                    )
                found[entry.model_type] = entry
    return found
