"""The one way into a saved model, whoever made it: no pickled objects, no code, no silently random weights.

transformers unpickles, runs code of repositories when asked, follows any path in an index of shards, and starts with
random weights if none of the names in a file fit. `load_model`, `load_config` and `load_processor` do none of that, and
neither does `from_pretrained` of the models of this package, which calls `load_pretrained`.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, dynamic_module_utils

from tubelets.models.common.configuration import RegisteredConfig
from tubelets.models.common.entries import ModelEntry
from tubelets.models.common.errors import CheckpointLayoutError, UnsafeCheckpointError
from tubelets.models.common.file_checks import check_arguments, check_files, find_config
from tubelets.models.common.processor_checks import check_processor
from tubelets.models.common.weight_checks import Fresh, check_hidden_fields, check_weights, stored_config


def read_torch_file(path: str | Path, allowed: Sequence[Callable[..., Any] | tuple[type, str]] = ()) -> Any:
    """Read a file of `torch.save` that holds tensors and plain containers, without running anything in it.

    Args:
        path: the file.
        allowed: further classes and functions that the file may name, such as `argparse.Namespace`; with a name, the
            class takes the place of the one that the file calls so.

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
        names = ", ".join(["tensors", "plain containers", *(entry.__name__ for entry in allowed if callable(entry))])
        # Not chained: torch's own words advise to switch the check off.
        raise UnsafeCheckpointError(
            f"{path} was not loaded: it is corrupt, or holds more than {names} ({unpickling_reason(error)}); get the "
            "file again, or ask its author for safetensors"
        ) from None


def unpickling_reason(error: Exception) -> str:
    r"""Why torch did not read a file, in one line and without its advice to read it unsafely.

    Example:
        >>> unpickling_reason(ValueError("Set weights_only=False.\nTrying to load unsupported GLOBAL os.system"))
        'Trying to load unsupported GLOBAL os.system'
    """
    lines = [line.strip().removeprefix("WeightsUnpickler error: ") for line in str(error).splitlines()]
    plain = (line for line in lines if line and not any(word in line for word in ("weights_only", "torch.load")))
    return next(plain, type(error).__name__).partition(" was not an allowed")[0]


@contextmanager
def no_questions() -> Iterator[None]:
    """While a library loads a model: transformers does not ask whether to run a repository's code, and refuses it."""
    asked = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = asked


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
        CheckpointLayoutError: if its files are corrupt, or it or a processor in it makes huge arrays, see
            `processor_checks`.
        OSError: if no processor was saved.
    """
    check_arguments(auto_class or AutoConfig, kwargs)
    if auto_class is None:
        # Makes the processors of our types known to the Auto classes.
        auto_class = processor_class(load_config(where, **kwargs))
    with _explained(where):
        processor = auto_class.from_pretrained(where, **{**kwargs, "trust_remote_code": False})
    check_processor(where, processor)
    return processor


def processor_class(config: PreTrainedConfig) -> Any:
    """The Auto class that loads the processor of a model.

    Args:
        config: a configuration of this package or of a video or spectrogram model of transformers.

    Returns:
        `AutoProcessor` for several inputs, `AutoFeatureExtractor` for sound and skeletons, `AutoVideoProcessor` for
        video.

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
    extracts = any(spec.modality in ("audio", "skeleton") for spec in model_inputs(config).values())
    return transformers.AutoFeatureExtractor if extracts else transformers.AutoVideoProcessor


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
        # Not chained: torch's own words advise to switch the check off.
        raise UnsafeCheckpointError(
            f"{where} holds pickled objects that are not tensors ({unpickling_reason(error)}); it was not read"
        ) from None
    except SafetensorError as error:
        raise CheckpointLayoutError(f"{where}: its weights are corrupt or not safetensors ({error})") from error
    except ValueError as error:
        if "trust_remote_code" not in str(error) or isinstance(error, UnsafeCheckpointError):
            raise
        raise UnsafeCheckpointError(f"{where} needs code of its repository, which is never run") from None
    except OSError as error:
        if str(where) in str(error):
            raise
        # Without a network, transformers does not say what it looked for.
        raise OSError(f"{where} is no folder here and could not be fetched from the Hub: {error}") from error
    except (AttributeError, TypeError, KeyError) as error:
        raise CheckpointLayoutError(f"{where}: its JSON files do not describe such a model ({error!r})") from error
