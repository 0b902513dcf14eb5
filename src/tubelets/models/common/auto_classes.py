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


_OWN = {"AutoModelForSkeletonClassification": AutoModelForSkeletonClassification}


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
    return _OWN[name] if name in _OWN else getattr(transformers, name)
