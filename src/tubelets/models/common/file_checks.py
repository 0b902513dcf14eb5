"""Checks before transformers reads a checkpoint: reject pickles, code, paths out of the folder, crafted fields."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_INDEX_NAME, cached_file

from tubelets.models.common.errors import CheckpointLayoutError, UnsafeCheckpointError

# Weight files that are, or contain, pickles.
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin", "model.pt", "model.pth")
# Metadata of a distributed checkpoint, which transformers unpickles and prefers to safetensors beside it.
DISTRIBUTED = ".metadata"
# Arguments of `from_pretrained` that determine where files are searched.
PLACES = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")
# Names the file of the weights; an index named there is followed without the checks of this module.
WEIGHTS_FIELD = "transformers_weights"
# Switches of transformers that rebuild a model's layers.
FOREIGN_FIELDS = {"per_layer_config", "fusion_config"}
# Underscore fields written by transformers itself; others would overwrite private attributes.
PRIVATE_FIELDS = {"_name_or_path", "_commit_hash", "_attn_implementation_autoset"}


def check_config_file(content: Mapping[str, Any], config_class: type[PreTrainedConfig], types: Collection[str]) -> None:
    """Reject the content of a `config.json` that belongs to another kind of model or overwrites more than fields.

    Args:
        content: the content of the file.
        config_class: the configuration it is read for.
        types: model types whose files this class may read.

    Raises:
        CheckpointLayoutError: if the file is another method's.
        UnsafeCheckpointError: if a key would replace a method or a private attribute, names the file of the weights, or
            names an attention kernel that would have to be downloaded.

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
        raise CheckpointLayoutError(f"the configuration's dtype {dtype!r} is not a dtype of torch")
    check_weights_field(content)
    for name, value in content.items():
        if name in FOREIGN_FIELDS:
            raise CheckpointLayoutError(
                f"the configuration has the field {name!r}, which no model of this package supports; remove it"
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


def check_weights_field(content: Mapping[str, Any]) -> None:
    """Reject a `config.json` that names the file of its weights."""
    if content.get(WEIGHTS_FIELD) is not None:
        raise UnsafeCheckpointError(
            f"the configuration names {content[WEIGHTS_FIELD]!r} as the file of its weights ({WEIGHTS_FIELD}); save "
            "the model as model.safetensors and remove the field"
        )


def check_arguments(model_class: type, kwargs: Mapping[str, Any]) -> None:
    """Reject arguments of `from_pretrained` that ask for code or pickles."""
    name = model_class.__name__
    if kwargs.get("trust_remote_code"):
        raise UnsafeCheckpointError(
            f"trust_remote_code=True is not accepted: {name} never runs code of a repository; omit the argument"
        )
    for argument in ("use_safetensors", "weights_only"):
        if kwargs.get(argument) is False:
            raise UnsafeCheckpointError(f"{argument}=False is not accepted: pickles are not read; omit the argument")
    for argument in ("gguf_file", WEIGHTS_FIELD):
        if kwargs.get(argument) is not None:
            raise UnsafeCheckpointError(
                f"{argument} is not accepted: weights are read from model.safetensors; omit the argument"
            )


def check_files(where: Any, kwargs: Mapping[str, Any], *, pickled_tensors: bool) -> None:
    """Reject the files of a checkpoint that transformers would unpickle or follow out of the folder.

    Args:
        where: a folder or a Hub id.
        kwargs: the arguments of `from_pretrained`.
        pickled_tensors: accept pickles that contain only tensors, as in old checkpoints of other libraries.

    Raises:
        UnsafeCheckpointError: if the checkpoint has such files.
        CheckpointLayoutError: if an index of weights, or the configuration, is corrupt.
    """
    place = {name: kwargs[name] for name in PLACES if name in kwargs}
    folder = Path(where) / (place.get("subfolder") or "")
    if folder.is_dir():
        _check_folder(folder, pickled_tensors)
    config = find_config(where, kwargs)
    if config is not None and isinstance(content := read_json(config, where), Mapping):
        check_weights_field(content)
    for name in (SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_INDEX_NAME) if pickled_tensors else (SAFE_WEIGHTS_INDEX_NAME,):
        _check_index(where, place, kwargs.get("variant"), name)


def find_config(where: Any, kwargs: Mapping[str, Any]) -> str | None:
    """Path of the `config.json` of a checkpoint; None if it has none.

    Args:
        where: a folder or a Hub id.
        kwargs: the arguments of `from_pretrained`.
    """
    return _find(where, CONFIG_NAME, {name: kwargs[name] for name in PLACES if name in kwargs})


def _check_folder(folder: Path, pickled_tensors: bool) -> None:
    names = {path.name for path in folder.iterdir()}
    safe = any(
        name.startswith("model") and name.endswith((".safetensors", ".safetensors.index.json")) for name in names
    )
    refused = names & {DISTRIBUTED}
    if not safe and not pickled_tensors:
        refused |= names & set(PICKLES)
    if refused:
        raise UnsafeCheckpointError(
            f"{folder} holds pickled files ({', '.join(sorted(refused))}), which are not read; save the model as "
            "safetensors with save_pretrained, or read an official file with read_checkpoint"
        )


def _check_index(where: Any, place: Mapping[str, Any], variant: str | None, name: str) -> None:
    """Reject an index of shards that names anything other than weight files next to it."""
    suffix = ".safetensors" if name == SAFE_WEIGHTS_INDEX_NAME else ".bin"
    if variant is not None:
        name = name.replace(".json", f".{variant}.json")
    path = _find(where, name, place)
    if path is None:
        return
    try:
        shards = set(read_json(path, where)["weight_map"].values())
        wrong = sorted(
            str(shard)
            for shard in shards
            # A backslash is a separator on Windows.
            if PurePosixPath(shard).name != shard or not shard.endswith(suffix) or "\\" in shard
        )
    except (KeyError, AttributeError, TypeError) as error:
        raise CheckpointLayoutError(f"{where}: {name} is not an index of weights ({error!r})") from error
    if wrong:
        raise UnsafeCheckpointError(
            f"{where}: {name} names {wrong[0]!r}, which is not a {suffix} file beside it; do not use this checkpoint"
        )


def _find(where: Any, name: str, place: Mapping[str, Any]) -> str | None:
    return cached_file(
        where,
        name,
        **place,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )


def read_json(path: str | Path, where: Any = None) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        where: the checkpoint that it belongs to, for messages; None names the file.

    Raises:
        CheckpointLayoutError: if it is not JSON, naming the file.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        name = str(path) if where is None else f"{where}: {Path(path).name}"
        raise CheckpointLayoutError(f"{name} is not valid JSON ({error})") from error
