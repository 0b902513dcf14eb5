"""Auto classes by name: those of transformers, and those of tasks that transformers does not have."""

from collections import OrderedDict
from typing import Any

import transformers
from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES


class AutoModelForSkeletonClassification(_BaseAutoModelClass):
    """Loads the classifier of skeletons that a configuration names, as the Auto classes of transformers do.

    Example:
        >>> import tubelets
        >>> model = AutoModelForSkeletonClassification.from_config(tubelets.BiGruConfig(hidden_size=8, num_labels=3))
        >>> type(model).__name__
        'BiGruForSkeletonClassification'
    """

    _model_mapping = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


class AutoModelForVideoTextRetrieval(_BaseAutoModelClass):
    """Loads models that embed videos and texts and compute a loss of pairs of both.

    A registered model has `get_video_features` and `get_text_features`, and a `forward` whose arguments are those of
    its `input_specs`, `attention_mask`, `caption_ids` (equal numbers for equal captions) and `return_loss`. One that
    also scores pairs is a `tubelets.models.common.video_text.PairScorer`.

    Example:
        >>> from tubelets import VideoTextDualEncoderConfig
        >>> type(VideoTextDualEncoderConfig()) in AutoModelForVideoTextRetrieval._model_mapping
        True
    """

    _model_mapping = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


OWN: dict[str, Any] = {
    each.__name__: each for each in (AutoModelForSkeletonClassification, AutoModelForVideoTextRetrieval)
}
"""The Auto classes of this package."""


def auto_class_named(name: str) -> Any:
    """An Auto class of this package or of transformers.

    Args:
        name: such as `AutoModel`.

    Returns:
        The class.

    Raises:
        AttributeError: if there is none of this name.

    Example:
        >>> auto_class_named("AutoModel").__name__, auto_class_named("AutoModelForSkeletonClassification").__name__
        ('AutoModel', 'AutoModelForSkeletonClassification')
    """
    return OWN[name] if name in OWN else getattr(transformers, name)
