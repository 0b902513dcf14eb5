"""Bounds of a processor that was read from files: what it makes must fit into memory, at every depth."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from transformers import ProcessorMixin
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.image_processing_base import ImageProcessingMixin

from tubelets.models.common.errors import CheckpointLayoutError

MAX_SIDE = 2**14
"""Largest height and width in pixels that a processor may produce."""
MAX_LENGTH = 2**20
"""Largest number of frames, bands or samples a second that a processor may produce."""
MAX_ENTRIES = 256
"""Most entries of a list, such as the means of channels."""

# Parts of names of fields, and the largest value of their numbers.
BOUNDS = {"size": MAX_SIDE, "length": MAX_LENGTH, "bins": MAX_LENGTH, "frames": MAX_LENGTH, "rate": MAX_LENGTH}
# Processors, which may be inside of each other; tokenizers make no arrays from the sizes in their files.
PROCESSORS = (ProcessorMixin, ImageProcessingMixin, FeatureExtractionMixin)


def check_processor(where: Any, processor: Any) -> None:
    """Reject a processor that makes huge arrays, or whose numbers are none.

    Args:
        where: named in errors.
        processor: as it was loaded; processors inside of it are checked as well.

    Raises:
        CheckpointLayoutError: naming the field.

    Example:
        >>> from transformers import VideoMAEVideoProcessor
        >>> check_processor("folder", VideoMAEVideoProcessor(crop_size={"height": 10**9, "width": 1}))
        Traceback (most recent call last):
        ...
        tubelets.models.common.errors.CheckpointLayoutError: folder: crop_size.height=1000000000 of its ...
    """
    for name, value in _fields(processor):
        kind = type(processor).__name__
        if isinstance(value, (list, tuple)) and len(value) > MAX_ENTRIES:
            raise CheckpointLayoutError(
                f"{where}: {name} of its {kind} has {len(value)} entries, more than {MAX_ENTRIES}; correct the file"
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        bound = max((bound for part, bound in BOUNDS.items() if part in name), default=math.inf)
        if not math.isfinite(value) or value > bound or (bound < math.inf and value < 0):
            limit = f"lie in [0, {bound}]" if bound < math.inf else "be finite"
            raise CheckpointLayoutError(f"{where}: {name}={value!r} of its {kind} must {limit}; correct the file")


def _fields(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every list and every plain value inside a processor, with its dotted name."""
    if isinstance(value, PROCESSORS):
        value = vars(value)
    elif is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, (list, tuple)):
        yield name, value
        value = dict(enumerate(value[:MAX_ENTRIES]))
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _fields(entry, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
