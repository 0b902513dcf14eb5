"""Motion-aware video representation learning in the Hugging Face ecosystem.

Importing the package registers its configurations with the Auto classes of transformers. The names below are imported
on first use; `__init__.pyi`, written by `scripts/make_stubs.py`, lists them for type checkers and editors.
"""

import importlib
import sys
from pathlib import PurePath
from typing import Any

from tubelets.models.common.entries import discover

__version__ = "0.1.0"

_CLASSES = {
    name: (entry, reference) for entry in discover().values() for name, reference in entry.class_references.items()
}
_OTHERS = {
    "AutoModelForSkeletonClassification": "tubelets.models.common.auto_classes",
    "AutoModelForVideoTextRetrieval": "tubelets.models.common.auto_classes",
    "classify_skeletons": "tubelets.evaluation.skeleton_scores",
    "ModelEntry": "tubelets.models.common.entries",
    "read_clip": "tubelets.data.modalities.video",
    "register_model": "tubelets.models.common.auto",
    "video_processor": "tubelets.models.backbones.video_vit.processing_video_vit",
}

__all__ = ["__version__", *_CLASSES, *_OTHERS]  # pyright: ignore[reportUnsupportedDunderAll]


def _is_the_command() -> bool:
    """Whether this process was started as `tubelets` or `python -m tubelets`."""
    words = iter(sys.orig_argv[1:])
    program = next((word for word in words if word == "-m" or not word.startswith("-")), "")
    return PurePath(next(words, "") if program == "-m" else program).name == "tubelets"


if not _is_the_command():
    # The command registers before a verb that needs it: its help need not wait seconds for torch and transformers.
    from tubelets.models.common.auto import register_configs

    register_configs()


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name in _CLASSES:
        entry, reference = _CLASSES[name]
        return entry.load(reference)
    if name in _OTHERS:
        return getattr(importlib.import_module(_OTHERS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted({*globals(), *__all__})
