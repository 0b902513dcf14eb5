"""Motion-aware video representation learning in the Hugging Face ecosystem.

Importing the package makes its configurations, models and processors known to the Auto classes of transformers; the
modules behind the names below are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tubelets.models.auto import MODELS, register_configs

if TYPE_CHECKING:
    from tubelets.models.sigma.configuration_sigma import SigmaConfig as SigmaConfig
    from tubelets.models.sigma.modeling_sigma import SigmaForPreTraining as SigmaForPreTraining
    from tubelets.models.sigma.modeling_sigma import SigmaForVideoClassification as SigmaForVideoClassification
    from tubelets.models.sigma.modeling_sigma import SigmaModel as SigmaModel
    from tubelets.models.smile.configuration_smile import SmileConfig as SmileConfig
    from tubelets.models.smile.modeling_smile import SmileForPreTraining as SmileForPreTraining
    from tubelets.models.smile.modeling_smile import SmileForVideoClassification as SmileForVideoClassification
    from tubelets.models.smile.modeling_smile import SmileModel as SmileModel
    from tubelets.models.videomae.configuration_videomae import TubeletsVideoMAEConfig as TubeletsVideoMAEConfig
    from tubelets.models.videomae.modeling_videomae import (
        TubeletsVideoMAEForPreTraining as TubeletsVideoMAEForPreTraining,
    )
    from tubelets.models.videomae.modeling_videomae import (
        TubeletsVideoMAEForVideoClassification as TubeletsVideoMAEForVideoClassification,
    )
    from tubelets.models.videomae.modeling_videomae import TubeletsVideoMAEModel as TubeletsVideoMAEModel

__version__ = "0.1.0"

_CLASSES = {
    reference.partition(":")[2]: (entry, reference)
    for entry in MODELS.values()
    for reference in (entry.config, *entry.models.values())
}
_FUNCTIONS = {
    "read_clip": "tubelets.data.decoding",
    "video_processor": "tubelets.models.videomae.processing_videomae",
}

__all__ = ["__version__", *_CLASSES, *_FUNCTIONS]  # pyright: ignore[reportUnsupportedDunderAll]

register_configs()


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _CLASSES:
        entry, reference = _CLASSES[name]
        return entry.load(reference)
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted({*globals(), *__all__})
