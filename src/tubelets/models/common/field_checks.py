"""Bounds on the fields of configurations, checked before anything is built: their files may be untrusted."""

import dataclasses
import difflib
import functools
import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassFieldValidationError

MAX_LABELS = 2**20
"""Maximum number of classes, above any published model."""
MAX_ENTRIES = 1024
"""Most entries of a list or a mapping, other than the names of classes."""
MAX_TEXT = 4096
"""Longest text, in characters."""
MAX_DEPTH = 8
"""Deepest nesting of lists and mappings."""
MAX_NUMBER = 1e9
"""Largest magnitude of a number whose field has no range of its own."""

# Arguments that transformers accepts beside its fields: old names, switches of loading, and what `to_dict` adds.
EXTRA = {
    "attn_implementation", "auto_map", "experts_implementation", "fusion_config", "model_type", "name_or_path",
    "num_labels", "output_attentions", "per_layer_config", "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip

SHARE = (0.0, math.nextafter(1.0, 0.0))
SCALE = (1e-6, 1e3)
EPSILON = (1e-30, 1.0)
SIDE = (1, 2**16)
# Ranges of fields that several configurations have, both ends included.
RANGES: Mapping[str, tuple[float, float]] = {
    "attention_probs_dropout_prob": SHARE,
    "batch_norm_eps": EPSILON,
    "contrastive_temperature": SCALE,
    "drop_path_rate": SHARE,
    "head_dropout": SHARE,
    "head_init_scale": (0, 1e4),
    "image_size": SIDE,
    "hidden_dropout_prob": SHARE,
    "initializer_range": (0, 1e2),
    "layer_norm_eps": EPSILON,
    "mask_ratio": SHARE,
    "num_channels": SIDE,
    "num_frames": SIDE,
    "patch_size": SIDE,
    "sinkhorn_epsilon": SCALE,
    "temperature": SCALE,
    "tubelet_size": SIDE,
}
NAMES = ("id2label", "label2id")
# Fields of transformers, which does not check their types: those that are accepted, beside None.
TYPES: Mapping[str, tuple[type, ...]] = {
    "architectures": (list, tuple),
    "chunk_size_feed_forward": (int,),
    "id2label": (Mapping,),
    "is_encoder_decoder": (bool,),
    "label2id": (Mapping,),
    "output_hidden_states": (bool,),
    "return_dict": (bool,),
    "transformers_version": (str,),
}


def check_fields(config_class: type, given: Mapping[str, Any]) -> None:
    """Reject arguments of a configuration that are unknown, no finite numbers, out of range, or long.

    Args:
        config_class: the configuration; its `field_ranges` add to `RANGES`.
        given: the arguments by name.

    Raises:
        huggingface_hub.errors.StrictDataclassFieldValidationError: naming field, value and what was expected.

    Example:
        >>> from tubelets import SigmaConfig
        >>> check_fields(SigmaConfig, {"hiden_size": 8})
        Traceback (most recent call last):
        ...
        huggingface_hub.errors.StrictDataclassFieldValidationError: ... did you mean 'hidden_size'?
    """
    fields = _fields_of(config_class)
    for name, value in given.items():
        try:
            if name not in fields and name not in EXTRA and not name.startswith("_"):
                raise ValueError(f"unknown field{_hint(name, fields)}")
            _check_of_transformers(name, value)
            _check_value(name, value, MAX_LABELS if name in NAMES else MAX_ENTRIES)
            if name in fields:
                _check_number(name, value, fields[name], config_class.field_ranges.get(name))  # type: ignore[attr-defined]
        except (ValueError, TypeError) as error:
            raise StrictDataclassFieldValidationError(field=name, cause=error) from error


@functools.cache
def _fields_of(config_class: type) -> dict[str, tuple[set[str], Any]]:
    """Names of the types that each field accepts, and its default."""
    # By name: some annotations of transformers name modules that are imported for type checks only.
    return {
        entry.name: (set(re.findall(r"\w+", str(entry.type))), entry.default)
        for entry in dataclasses.fields(config_class)
    }


def _hint(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


def _check_value(name: str, value: Any, most: int, depth: int = 0) -> None:
    """Reject long, deep and endless values."""
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise ValueError(f"{name} must have at most {MAX_TEXT} characters, got {len(value)}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")
    elif isinstance(value, (list, tuple, set, Mapping)):
        if len(value) > most or depth > MAX_DEPTH:
            raise ValueError(
                f"{name} must have at most {most} entries in {MAX_DEPTH} levels, got {len(value)} in level {depth + 1}"
            )
        for entry in value.values() if isinstance(value, Mapping) else value:
            _check_value(name, entry, MAX_ENTRIES, depth + 1)


def _check_of_transformers(name: str, value: Any) -> None:
    """Reject values of fields whose types transformers does not check."""
    if value is None:
        return
    # Imported here: `import tubelets` reads configurations and needs neither.
    if name == "problem_type":
        from tubelets.objectives.classification import PROBLEM_TYPES

        if value not in PROBLEM_TYPES:
            raise ValueError(f"{name} must be one of {', '.join(PROBLEM_TYPES)}, got {reprlib.repr(value)}")
    if name in TYPES and not isinstance(value, TYPES[name]):
        expected = " or ".join(each.__name__ for each in TYPES[name])
        raise TypeError(f"{name} must be {expected}, got {reprlib.repr(value)} ({type(value).__name__})")
    if name in ("dtype", "torch_dtype"):
        import torch

        found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
        if not isinstance(found, torch.dtype):
            raise ValueError(f"{name} must be a dtype of torch, got {reprlib.repr(value)}")
    if name == "architectures" and not all(isinstance(each, str) for each in value[:MAX_ENTRIES]):
        raise TypeError(f"{name} must be names of classes")


def _check_number(name: str, value: Any, field: tuple[set[str], Any], limits: tuple[float, float] | None) -> None:
    """Reject numbers out of range, and truth values where numbers are expected."""
    types, default = field
    if isinstance(value, bool) and "bool" not in types and types & {"int", "float"}:
        raise TypeError(f"{name} must be a number, got {value}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    signed = isinstance(default, (int, float)) and default < 0
    low, high = limits or (-MAX_NUMBER if signed else 0, MAX_NUMBER)
    if not low <= value <= high:
        bounds = "[0, 1)" if (low, high) == SHARE else f"[{low:g}, {high:g}]"
        raise ValueError(f"{name} must lie in {bounds}, got {value}")
