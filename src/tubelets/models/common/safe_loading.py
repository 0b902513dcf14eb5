"""Loading checkpoints that strangers made: what `from_pretrained` of our classes refuses, and in which words.

transformers reads pickles, runs code of repositories when asked, follows any path in an index of shards, and starts
with random weights when none of a file's names fit. None of that is wanted here.
"""

import json
import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_INDEX_NAME, cached_file

from tubelets.models.common.errors import CheckpointLayoutError, UnsafeCheckpointError

# Files of weights that are, or hold, pickles.
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin", "model.pt", "model.pth", ".metadata")
# Arguments of `from_pretrained` that say where a file is looked for.
PLACES = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")
# Switches of transformers that rebuild a model's layers.
FOREIGN_FIELDS = {"per_layer_config", "fusion_config"}
MAX_SIDE = 2**14
# What transformers itself writes with an underscore in front; anything else there would reach past the constructor.
PRIVATE_FIELDS = {"_name_or_path", "_commit_hash", "_attn_implementation_autoset"}


def check_config_file(content: Mapping[str, Any], config_class: type[PreTrainedConfig], types: Collection[str]) -> None:
    """Refuse the content of a `config.json` that belongs to another kind of model or reaches past the fields.

    Args:
        content: what the file holds.
        config_class: the configuration it is read for.
        types: model types whose files this class may read.

    Raises:
        CheckpointLayoutError: if the file is another method's.
        UnsafeCheckpointError: if a key would replace a method or a private attribute, or names an attention kernel
            that would have to be downloaded.

    Example:
        >>> from tubelets import SigmaConfig
        >>> check_config_file({"model_type": "bert"}, SigmaConfig, ["sigma"])
        Traceback (most recent call last):
        ...
        tubelets.models.common.errors.CheckpointLayoutError: the configuration is of model type 'bert' ...
    """
    if not isinstance(content, Mapping):
        raise CheckpointLayoutError(f"a configuration must be a mapping of fields, got {type(content).__name__}")
    model_type = content.get("model_type")
    if model_type is not None and model_type not in types:
        raise CheckpointLayoutError(
            f"the configuration is of model type {model_type!r} and {config_class.__name__} reads "
            f"{', '.join(sorted(types))}; is this another method's checkpoint?"
        )
    labels = content.get("id2label")
    if labels is not None and not (
        isinstance(labels, Mapping) and all(isinstance(label, str) for label in labels.values())
    ):
        raise CheckpointLayoutError(f"id2label must give a name for each class, got {str(labels)[:80]}")
    dtype = content.get("dtype") or content.get("torch_dtype")
    if isinstance(dtype, str) and not isinstance(getattr(torch, dtype.removeprefix("torch."), None), torch.dtype):
        raise CheckpointLayoutError(f"the configuration's dtype {dtype!r} is none of torch's")
    for name, value in content.items():
        if name in FOREIGN_FIELDS:
            raise CheckpointLayoutError(
                f"the configuration has the field {name!r}, which no model here knows; remove it"
            )
        if name.startswith("_") and name not in PRIVATE_FIELDS:
            raise UnsafeCheckpointError(
                f"the configuration sets the private attribute {name!r}; remove it from the file"
            )
        if callable(getattr(config_class, name, None)):
            raise UnsafeCheckpointError(f"the configuration replaces the method {name!r}; remove it from the file")
        if name in ("attn_implementation", "experts_implementation") and "/" in str(value):
            raise UnsafeCheckpointError(
                f"the configuration asks for the downloaded kernel {name}={value!r}; remove it from the file, and pass "
                f"{name} yourself if you trust it"
            )


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


def load_pretrained(
    load: Callable[..., Any], model_class: type[PreTrainedModel], where: Any, *model_args: Any, **kwargs: Any
) -> Any:
    """Call transformers' `from_pretrained` so that it reads safetensors only and never ends with random weights.

    Args:
        load: the bound `from_pretrained` of transformers.
        model_class: the class that is loaded.
        where: a folder, a Hub id, or None with `state_dict` and `config`.
        *model_args: passed on.
        **kwargs: passed on; the ones that would unpickle or run code are refused.

    Returns:
        What transformers returns: the model, or the model and a report.

    Raises:
        UnsafeCheckpointError: if weights are pickled, an index leads out of the folder, or the caller asks for code of
            the repository or for unsafe loading.
        CheckpointLayoutError: if files are damaged, shapes do not fit, or no weight of the encoder is in the files (who
            asks for the report with `output_loading_info=True` judges missing weights himself).
        OSError: if there is no checkpoint.
    """
    _check_arguments(model_class, kwargs)
    if where is None or kwargs.get("state_dict") is not None:
        return load(where, *model_args, **kwargs)
    if Path(where).is_file():
        raise CheckpointLayoutError(
            f"{where} is a file; give the folder of a checkpoint, or read an official file with read_checkpoint"
        )
    place = {name: kwargs[name] for name in PLACES if name in kwargs}
    _check_folder(where, place)
    _check_index(where, place, kwargs.get("variant"))
    reports, resizes = (bool(kwargs.pop(name, False)) for name in ("output_loading_info", "ignore_mismatched_sizes"))
    # Mismatches are ignored there and judged here, where they can be named.
    always = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        model, report = load(where, *model_args, **kwargs, **always)
    except SafetensorError as error:
        raise CheckpointLayoutError(f"{where}: its weights are damaged or no safetensors ({error})") from error
    except (AttributeError, TypeError, KeyError) as error:
        raise CheckpointLayoutError(f"{where}: its config.json holds no such configuration ({error!r})") from error
    except OSError as error:
        if "safetensors" not in str(error):
            raise
        raise UnsafeCheckpointError(
            f"{where} has no safetensors weights, and pickled ones are not read; convert them with read_checkpoint and "
            f"save_pretrained, or ask the author to ({error})"
        ) from error
    if not reports:  # who asks for the report judges it
        _check_weights_were_found(where, model, report)
    if report["mismatched_keys"] and not resizes:
        raise CheckpointLayoutError(_describe_mismatch(where, model, report["mismatched_keys"]))
    return (model, report) if reports else model


def load_auto(auto_class: Any, where: Any, **kwargs: Any) -> Any:
    """`from_pretrained` of an Auto class for a checkpoint of any library and author: no code of its repository is run.

    Old checkpoints of other model types may be pickles; transformers reads tensors and nothing else from those.

    Args:
        auto_class: `AutoConfig`, `AutoModel`, `AutoVideoProcessor`, or a class of transformers.
        where: a folder or a Hub id.
        **kwargs: passed on.

    Returns:
        What `from_pretrained` returns.

    Raises:
        UnsafeCheckpointError: if it needs code of the repository, or holds pickles that are more than tensors.
        CheckpointLayoutError: if its files are damaged.
        OSError: if there is nothing to load.
        ValueError: if its model type is unknown.
    """
    if kwargs.get("trust_remote_code"):
        raise UnsafeCheckpointError("trust_remote_code=True is not accepted: code of a repository is never run")
    if (metadata := Path(where) / (kwargs.get("subfolder") or "") / ".metadata").is_file():
        raise UnsafeCheckpointError(f"{metadata} is a pickle and is not read; save the model with save_pretrained")
    place = {name: kwargs[name] for name in PLACES if name in kwargs}
    for name in (SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_INDEX_NAME) if hasattr(auto_class, "from_config") else ():
        _check_index(where, place, kwargs.get("variant"), name)
    try:
        loaded = auto_class.from_pretrained(where, trust_remote_code=False, **kwargs)
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(f"{where} holds pickled objects that are not tensors, and is not read") from error
    except SafetensorError as error:
        raise CheckpointLayoutError(f"{where}: its weights are damaged or no safetensors ({error})") from error
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UnsafeCheckpointError(f"{where} needs code of its repository, which is never run") from error
    except (AttributeError, TypeError, KeyError) as error:
        raise CheckpointLayoutError(f"{where}: a JSON file of it does not describe a model ({error!r})") from error
    sizes = [side for name in ("size", "crop_size") for side in _sides(getattr(loaded, name, None))]
    if not isinstance(loaded, PreTrainedModel) and max(sizes, default=1) > MAX_SIDE:
        raise CheckpointLayoutError(f"{where}: its processor makes frames of {max(sizes)} pixels, more than {MAX_SIDE}")
    return loaded


def _sides(size: Any) -> list[int]:
    """Sides in pixels of what a processor calls a size."""
    values = (
        size.values() if isinstance(size, Mapping) else vars(size).values() if hasattr(size, "__dict__") else [size]
    )
    return [value for value in values if isinstance(value, int)]


def _check_arguments(model_class: type[PreTrainedModel], kwargs: dict[str, Any]) -> None:
    if kwargs.pop("trust_remote_code", None):
        raise UnsafeCheckpointError(
            f"trust_remote_code=True is not accepted: {model_class.__name__} is code of this package, and code of a "
            "repository is never run; leave it out"
        )
    if kwargs.pop("use_safetensors", None) is False:
        raise UnsafeCheckpointError("use_safetensors=False is not accepted: pickled weights are not read; leave it out")
    if kwargs.get("weights_only") is False:
        raise UnsafeCheckpointError("weights_only=False is not accepted: pickled weights are not read; leave it out")
    if kwargs.get("gguf_file") is not None:
        raise UnsafeCheckpointError("gguf_file is not accepted: weights are read from safetensors only; leave it out")


def _check_folder(where: Any, place: Mapping[str, Any]) -> None:
    """Refuse pickles beside no safetensors, and distributed checkpoints, whose metadata is a pickle."""
    folder = Path(where) / (place.get("subfolder") or "")
    if not folder.is_dir():
        return
    names = {path.name for path in folder.iterdir()}
    safe = any(
        name.startswith("model") and name.endswith((".safetensors", ".safetensors.index.json")) for name in names
    )
    pickles = sorted(names & set(PICKLES))
    # transformers prefers a distributed checkpoint to safetensors, so that its metadata alone is refused.
    if ".metadata" in names or (pickles and not safe):
        raise UnsafeCheckpointError(
            f"{folder} holds pickled files ({', '.join(pickles)}), which are not read; save the model as safetensors "
            "with save_pretrained, or read an official file with read_checkpoint"
        )


def _check_index(
    where: Any, place: Mapping[str, Any], variant: str | None, name: str = SAFE_WEIGHTS_INDEX_NAME
) -> None:
    """Refuse an index of shards that names anything but files of weights beside it."""
    suffix = ".safetensors" if name == SAFE_WEIGHTS_INDEX_NAME else ".bin"
    if variant is not None:
        name = name.replace(".json", f".{variant}.json")
    path = cached_file(
        where,
        name,
        **place,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return
    try:
        shards = set(json.loads(Path(path).read_text(encoding="utf-8"))["weight_map"].values())
        wrong = sorted(
            str(shard) for shard in shards if PurePosixPath(shard).name != shard or not shard.endswith(suffix)
        )
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointLayoutError(f"{where}: {name} is no index of weights ({error!r})") from error
    # A backslash is a separator elsewhere.
    wrong += sorted(shard for shard in shards if "\\" in shard and shard not in wrong)
    if wrong:
        raise UnsafeCheckpointError(
            f"{where}: {name} names {wrong[0]!r}, which is no {suffix} file beside it; do not use this checkpoint"
        )


def _check_weights_were_found(where: Any, model: PreTrainedModel, report: Mapping[str, Any]) -> None:
    """Refuse a model whose encoder is random because nothing in the files had its names or shapes."""
    encoder = model.base_model
    prefix = "" if encoder is model else f"{model.base_model_prefix}."
    expected = {prefix + name for name, _ in encoder.named_parameters()}
    absent = set(report["missing_keys"]) | {entry[0] for entry in report["mismatched_keys"]}
    if expected <= absent:
        raise CheckpointLayoutError(
            f"{where} holds no weight of a {type(encoder).__name__} ({len(expected)} are needed, for example "
            f"{min(expected)}); is this another method's checkpoint?"
        )


def _describe_mismatch(where: Any, model: PreTrainedModel, mismatched: Collection[tuple[str, Any, Any]]) -> str:
    name, found, needed = min(mismatched, key=lambda entry: entry[0])
    shapes = f"{name} has shape {tuple(found)} in {where} and {tuple(needed)} in the model"
    if all(entry[0].startswith("classifier.") for entry in mismatched):
        return (
            f"{shapes}: the checkpoint has {found[0]} labels and the configuration {model.config.num_labels}; leave "
            "num_labels and id2label to the checkpoint, or pass ignore_mismatched_sizes=True to start a new head"
        )
    return (
        f"{shapes} ({len(mismatched)} such weights); is this a checkpoint of another method or size? "
        "ignore_mismatched_sizes=True starts these weights anew"
    )
