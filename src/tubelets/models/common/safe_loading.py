"""The one way into a saved model, whoever made it: no pickled objects, no code, no silently random weights.

transformers unpickles, runs code of repositories when asked, follows any path in an index of shards, and starts with
random weights if none of the names in a file fit. `load_model`, `load_config` and `load_processor` do none of that, and
neither does `from_pretrained` of the models of this package, which calls `load_pretrained`.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from tubelets.models.common.configuration import RegisteredConfig
from tubelets.models.common.entries import ModelEntry
from tubelets.models.common.errors import CheckpointLayoutError, UnsafeCheckpointError
from tubelets.models.common.file_checks import check_arguments, check_files, find_config
from tubelets.models.common.weight_checks import Fresh, check_hidden_fields, check_weights, stored_config

MAX_SIDE = 2**14
"""Largest height and width in pixels that a processor may produce."""

VISUAL_PARTS = ("video_processor", "image_processor")
"""Attributes of a processor of several inputs that produce frames."""


def read_torch_file(path: str | Path, allowed: Sequence[Callable[..., Any] | type] = ()) -> Any:
    """Read a file of `torch.save` that holds tensors and plain containers, without running anything in it.

    Args:
        path: the file.
        allowed: further classes and functions that the file may name, such as `argparse.Namespace`.

    Returns:
        What the file holds, on the CPU.

    Raises:
        FileNotFoundError: if the file is missing.
        UnsafeCheckpointError: if the file is corrupt or names anything else; the message names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"step": 3}, f"{folder}/state.pt")
        ...     read_torch_file(f"{folder}/state.pt")
        {'step': 3}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: file not found")
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are not a checkpoint can raise anything in an unpickler
        names = ", ".join(["tensors", "plain containers", *(entry.__name__ for entry in allowed)])
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnsafeCheckpointError(
            f"{path} was not loaded: it is corrupt, or holds more than {names} ({reason}); get the file again, or ask "
            "its author for safetensors"
        ) from error


def load_config(where: Any, **kwargs: Any) -> PreTrainedConfig:
    """The configuration of a saved model of any library; code of its repository is never run.

    Args:
        where: a folder or a Hub id.
        **kwargs: further arguments of `AutoConfig.from_pretrained`, such as `revision` and `token`.

    Returns:
        The configuration.

    Raises:
        UnsafeCheckpointError: if it needs code of the repository, or names the file of its weights.
        CheckpointLayoutError: if the file is corrupt.
        OSError: if there is no configuration.
        ValueError: if the model type is unknown.
    """
    check_arguments(AutoConfig, kwargs)
    check_files(where, kwargs, pickled_tensors=True)
    with _explained(where):
        return AutoConfig.from_pretrained(where, **{**kwargs, "trust_remote_code": False})


def load_model(model_class: Any, where: Any, *, fresh: Fresh = "absent head", **kwargs: Any) -> Any:
    """A saved model of any library; code of its repository is never run.

    Models of this package are read from safetensors alone. Old checkpoints of other libraries may be pickles, of which
    transformers reads tensors and nothing else.

    Args:
        model_class: an Auto class or a model class of transformers or of this package.
        where: a folder or a Hub id.
        fresh: which weights may start with random values: `nothing`; `absent head`, those outside of the encoder that
            the checkpoint lacks; `head`, for fine-tuning, also those that have another shape.
        **kwargs: further arguments of `from_pretrained`, such as `config`, `dtype` and `revision`.

    Returns:
        The model, in evaluation mode.

    Raises:
        UnsafeCheckpointError: if it needs code of the repository, holds pickled objects, or names files elsewhere.
        CheckpointLayoutError: if files are corrupt, or weights are missing or have another shape; see `fresh`.
        OSError: if there is no checkpoint.
        ValueError: if the model type is unknown.

    Example:
        >>> import tempfile
        >>> from tubelets import I3DConfig, I3DForVideoClassification, I3DModel
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     I3DModel(I3DConfig(width_multiplier=0.1)).save_pretrained(folder)
        ...     type(load_model(I3DForVideoClassification, folder, fresh="head")).__name__
        'I3DForVideoClassification'
    """
    model, report = _load_with_report(model_class, where, kwargs)
    if not isinstance(model.config, RegisteredConfig):
        # `from_pretrained` of our models has done so.
        check_hidden_fields_of(where, model, kwargs)
    check_weights(where, model, report, fresh=fresh, resizes=fresh == "head")
    return model


def load_processor(where: Any, auto_class: Any = None, **kwargs: Any) -> Any:
    """The processor that was saved with a model of any library; code of its repository is never run.

    Args:
        where: a folder or a Hub id.
        auto_class: Auto class of the processor; None takes the one that the model type needs.
        **kwargs: further arguments of `from_pretrained`, such as `revision` and `token`.

    Returns:
        A video processor, a feature extractor, or a processor of several inputs.

    Raises:
        UnsafeCheckpointError: if it needs code of the repository.
        CheckpointLayoutError: if its files are corrupt, or ask for frames of more than 16384 pixels.
        OSError: if no processor was saved.
    """
    check_arguments(auto_class or AutoConfig, kwargs)
    if auto_class is None:
        # Makes the processors of our types known to the Auto classes.
        auto_class = processor_class(load_config(where, **kwargs))
    with _explained(where):
        processor = auto_class.from_pretrained(where, **{**kwargs, "trust_remote_code": False})
    parts = [vars(processor), *(vars(vars(processor)[name]) for name in VISUAL_PARTS if name in vars(processor))]
    sizes = [side for part in parts for name in ("size", "crop_size") for side in _sides(part.get(name))]
    if max(sizes, default=1) > MAX_SIDE:
        raise CheckpointLayoutError(f"{where}: its processor makes frames of {max(sizes)} pixels, more than {MAX_SIDE}")
    return processor


def processor_class(config: PreTrainedConfig) -> Any:
    """The Auto class that loads the processor of a model.

    Args:
        config: a configuration of this package or of a video or spectrogram model of transformers.

    Returns:
        `AutoProcessor` for several inputs, `AutoFeatureExtractor` for sound, `AutoVideoProcessor` for video.

    Example:
        >>> from tubelets import SigmaConfig
        >>> processor_class(SigmaConfig()).__name__
        'AutoVideoProcessor'
    """
    import transformers

    from tubelets.models.common.auto import MODELS
    from tubelets.models.common.inputs import model_inputs

    entry: ModelEntry | None = MODELS.get(config.model_type)
    if entry is not None and entry.joint_processor is not None:
        return transformers.AutoProcessor
    hears = any(spec.modality == "audio" for spec in model_inputs(config).values())
    return transformers.AutoFeatureExtractor if hears else transformers.AutoVideoProcessor


def _load_with_report(model_class: Any, where: Any, kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    check_arguments(model_class, kwargs)
    check_files(where, kwargs, pickled_tensors=True)
    # Mismatches are ignored by transformers and judged here, where they can be named.
    always = {"trust_remote_code": False, "output_loading_info": True, "ignore_mismatched_sizes": True}
    with _explained(where):
        return model_class.from_pretrained(where, **{**kwargs, **always})


def load_pretrained(
    load: Callable[..., Any], model_class: type[PreTrainedModel], where: Any, *model_args: Any, **kwargs: Any
) -> Any:
    """`from_pretrained` of the models of this package: safetensors only, and never an encoder of random weights.

    Args:
        load: the bound `from_pretrained` of transformers.
        model_class: the class that is loaded.
        where: a folder, a Hub id, or None with `state_dict` and `config`.
        *model_args: passed on.
        **kwargs: passed on; those that would unpickle or run code are refused.

    Returns:
        The model, or the model and a report; with a report the caller judges missing weights.

    Raises:
        UnsafeCheckpointError: if weights are pickled, an index leads out of the folder, or the caller asks for code of
            the repository or for pickles.
        CheckpointLayoutError: if files are corrupt, shapes do not fit, or weights are missing or left over, other than
            those of heads.
        OSError: if there is no checkpoint.
    """
    check_arguments(model_class, kwargs)
    for argument in ("trust_remote_code", "use_safetensors"):
        kwargs.pop(argument, None)
    if where is None or kwargs.get("state_dict") is not None:
        return load(where, *model_args, **kwargs)
    if Path(where).is_file():
        raise CheckpointLayoutError(
            f"{where} is a file; give the folder of a checkpoint, or read an official file with load_official"
        )
    check_files(where, kwargs, pickled_tensors=False)
    reports, resizes = (bool(kwargs.pop(name, False)) for name in ("output_loading_info", "ignore_mismatched_sizes"))
    always = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with _explained(where):
            model, report = load(where, *model_args, **kwargs, **always)
    except OSError as error:
        if "safetensors" not in str(error):
            raise
        raise UnsafeCheckpointError(
            f"{where} has no safetensors weights, and pickled ones are not read; convert them with read_checkpoint and "
            f"save_pretrained, or ask the author to ({error})"
        ) from error
    stored = check_hidden_fields_of(where, model, kwargs)
    if stored is not None:
        model.adopt_positions(stored)
    if reports:
        return model, report
    whole = stored is not None and model_class.__name__ in (stored.architectures or ()) and not resizes
    check_weights(where, model, report, fresh="nothing" if whole else "absent head", resizes=resizes)
    return model


def check_hidden_fields_of(where: Any, model: PreTrainedModel, kwargs: Mapping[str, Any]) -> Any:
    """Compare a loaded model with the configuration beside its weights, and return that one."""
    stored = stored_config(model.config, find_config(where, kwargs))
    if stored is not None:
        check_hidden_fields(where, model.config, stored)
    return stored


@contextmanager
def _explained(where: Any) -> Iterator[None]:
    """Errors of transformers, in words that say what is wrong with the checkpoint."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(f"{where} holds pickled objects that are not tensors; it was not read") from error
    except SafetensorError as error:
        raise CheckpointLayoutError(f"{where}: its weights are corrupt or not safetensors ({error})") from error
    except ValueError as error:
        if "trust_remote_code" not in str(error) or isinstance(error, UnsafeCheckpointError):
            raise
        raise UnsafeCheckpointError(f"{where} needs code of its repository, which is never run") from error
    except (AttributeError, TypeError, KeyError) as error:
        raise CheckpointLayoutError(f"{where}: its JSON files do not describe such a model ({error!r})") from error


def _sides(size: Any) -> list[int]:
    """Sides in pixels of the size of a processor."""
    values = size.values() if isinstance(size, Mapping) else vars(size).values() if is_dataclass(size) else [size]
    return [value for value in values if isinstance(value, int)]
