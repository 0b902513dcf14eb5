"""Auto classes by name: those of transformers, and one for a task that transformers does not have."""

from collections import OrderedDict
from typing import Any

import transformers
from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping


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

    _model_mapping = _LazyAutoMapping(OrderedDict(), OrderedDict())


OWN = {AutoModelForVideoTextRetrieval.__name__: AutoModelForVideoTextRetrieval}


def auto_class_named(name: str) -> Any:
    """An Auto class of transformers or of this package.

    Args:
        name: its name.

    Raises:
        AttributeError: if there is none.

    Example:
        >>> auto_class_named("AutoModel").__name__
        'AutoModel'
    """
    return OWN.get(name) or getattr(transformers, name)
