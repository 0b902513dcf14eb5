"""Convert the authors' weight files to checkpoints of this package: fetch, recognise, convert, check, save."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download

from tubelets.hub.author_cards import author_checkpoints, render_author_card
from tubelets.hub.cards import render_model_card
from tubelets.hub.descriptions import num_parameters
from tubelets.hub.publishing import NETWORK_ERRORS
from tubelets.models.common.author_checkpoints import DATASETS, AuthorCheckpoint
from tubelets.models.common.auto import MODELS, inference_processor
from tubelets.models.common.layouts import read_checkpoint
from tubelets.models.common.official import find_layout

_HUB = "hf://"
_NOT_FETCHED: tuple[type[BaseException], ...] = (*NETWORK_ERRORS, OSError, ValueError)


class ConversionError(ValueError):
    """What was given is not an authors' weight file, or cannot be fetched; the message says what to do."""


def describe(checkpoint: AuthorCheckpoint) -> dict[str, Any]:
    """What is known of a checkpoint, as JSON values.

    Args:
        checkpoint: one of `author_checkpoints()`.

    Returns:
        `name`, `method` (model type), `model_class`, `parameters`, `data`, `published` (tasks to the authors' numbers),
        `paper`, `weights` (where they are), `download` (address, or None) and `licence`.

    Example:
        >>> describe(author_checkpoints()["smile-vit-base-k400-600-finetuned-k400"])["published"]
        {'Kinetics-400, top-1': 83.1}
    """
    config = checkpoint.config()
    data = DATASETS[checkpoint.pretraining_data]
    published: dict[str, float | None] = dict(checkpoint.after_finetuning)
    if checkpoint.finetuning_data is not None:
        tuned = DATASETS[checkpoint.finetuning_data]
        data, published = f"{data}, fine-tuned on {tuned}", {f"{tuned}, top-1": checkpoint.top1}
    return {
        "name": checkpoint.name,
        "method": config.model_type,
        "model_class": config.architectures[0],
        "parameters": f"{num_parameters(config) / 1e6:.3g} M",
        "data": data,
        "published": published,
        "paper": checkpoint.paper.url,
        "weights": checkpoint.source,
        "download": checkpoint.download,
        "licence": "see the authors' repository",
    }


@dataclass(frozen=True)
class Conversion:
    """A converted checkpoint.

    Attributes:
        folder: the checkpoint, with configuration, processor and card.
        model_class: name of the class of the model.
        layout: name of the official layout.
        weights: number of official weights that were converted and compared after converting back.
        left_out: number of official weights that the model does not have, such as those of a momentum encoder.
    """

    folder: Path
    model_class: str
    layout: str
    weights: int
    left_out: int


def convert(what: str, folder: str | Path, name: str | None = None, token: str | None = None) -> Conversion:
    """Convert an authors' weight file to a folder that `from_pretrained` loads.

    The conversion is strict: every weight of the model comes from the file. The model is converted back and compared
    bit by bit before anything is written.

    Args:
        what: name of a known checkpoint (`author_checkpoints`), a `.pth`, `.pt` or `.safetensors` file, or
            `hf://owner/name/path` for a file on the Hub.
        folder: the folder to write; it must be empty or absent.
        name: with a file, the known checkpoint that it is. Its record adds what weights do not show, such as class
            names.
        token: access token of a private Hub repository.

    Returns:
        What was written.

    Raises:
        ConversionError: if the file is something else (a web page, a checkpoint of this package, a stock model), or
            cannot be fetched.
        tubelets.models.common.errors.CheckpointLayoutError: if its weights fit no known layout.
        tubelets.models.common.errors.UnsafeCheckpointError: if it would need unsafe loading.
        FileExistsError: if the folder is not empty.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; give a new folder")
    path, record = _locate(what, name, token)
    check_is_weights(path)
    weights, arguments = read_checkpoint(path)
    config: Any = None if record is None else record.config()
    layout = find_layout(weights, str(path), None if config is None else config.model_type)
    model = layout.from_official(weights, config, arguments)
    model.config.architectures = [type(model).__name__]
    left_out = layout.check_round_trip(model, weights)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        model.save_pretrained(temporary)
        inference_processor(model.config).save_pretrained(temporary)
        card = render_model_card(folder.name, model.config) if record is None else render_author_card(record, True)
        (Path(temporary) / "README.md").write_text(card, encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for each in Path(temporary).iterdir():
            shutil.move(each, folder / each.name)
    return Conversion(folder, type(model).__name__, layout.name, len(weights) - left_out, left_out)


def _locate(what: str, name: str | None, token: str | None) -> tuple[Path, AuthorCheckpoint | None]:
    """The local file, and the record of the known checkpoint that it is."""
    known = author_checkpoints()
    if name is not None and name not in known:
        raise ConversionError(f"{name!r} is not a known checkpoint; `tubelets list` shows them")
    record = None if name is None else known[name]
    path = Path(what)
    if path.exists():
        return path, record
    if what.startswith((_HUB, "http://", "https://")):
        return fetch_weights(what, token), record
    if what not in known:
        raise ConversionError(
            f"{what} is neither a file nor a known checkpoint; `tubelets list` shows the known ones, and "
            f"{_HUB}owner/name/path is a file on the Hub"
        )
    record = known[what]
    if record.download is None:
        raise ConversionError(
            f"the address of the weight file of {what} is not known, or needs a browser: {record.source}. Fetch it and "
            f"run `tubelets convert FILE --output_dir FOLDER --name {what}`"
        )
    return fetch_weights(record.download, token), record


def fetch_weights(address: str, token: str | None = None) -> Path:
    """Fetch a weight file into the cache.

    Args:
        address: `hf://owner/name/path` or `https://...`.
        token: access token of a private Hub repository.

    Returns:
        The file in the cache of huggingface_hub or torch.

    Raises:
        ConversionError: if it cannot be fetched.
    """
    if not address.startswith(_HUB):
        from torch.hub import download_url_to_file, get_dir

        target = Path(get_dir()) / "checkpoints" / address.rpartition("/")[2]
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                download_url_to_file(address, str(target))
            except OSError as error:
                raise ConversionError(f"{address} cannot be fetched ({error}); fetch it by hand") from error
        return target
    owner, slash, rest = address.removeprefix(_HUB).partition("/")
    repository, _, file = rest.partition("/")
    if not (owner and slash and repository and file):
        raise ConversionError(f"{address} is not {_HUB}owner/name/path")
    repository = f"{owner}/{repository}"
    try:
        return Path(hf_hub_download(repository, file, token=token))
    except _NOT_FETCHED as error:
        raise ConversionError(
            f"{address} cannot be fetched ({type(error).__name__}: {str(error).splitlines()[0]})"
            f"{_listed(repository, token)}"
        ) from error


def _listed(repository: str, token: str | None) -> str:
    """The weight files of a repository, if it can be reached."""
    try:
        names = HfApi(token=token).list_repo_files(repository)
    except _NOT_FETCHED:
        return ""
    files = [name for name in names if name.endswith((".pth", ".pt", ".safetensors"))]
    return f"; weight files of {repository} are {', '.join(files) or 'none'}"


def check_is_weights(path: Path) -> None:
    """Refuse what is often given instead of an authors' weight file, each with its own advice.

    Args:
        path: an existing file or folder.

    Raises:
        ConversionError: if it is a folder, a web page, a pointer of Git LFS, an archive that torch did not write, or
            weights of this package or of transformers.
    """
    if path.is_dir():
        raise ConversionError(_advice_on_folder(path))
    with path.open("rb") as file:
        head = file.read(512)
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ConversionError(
            f"{path} is a web page, not weights: its address led to a page for browsers; fetch the file itself"
        )
    if head.startswith(b"version https://git-lfs"):
        raise ConversionError(f"{path} is a pointer of Git LFS, not weights; run `git lfs pull`, or fetch the file")
    if start.startswith((b"{", b"\x1f\x8b")) or head[257:262] == b"ustar":
        raise ConversionError(f"{path} is JSON or an archive, not weights; unpack it and give the .pth file")
    if path.suffix == ".safetensors" and (names := _names(path)) is not None:
        own = {key.partition(".")[0] for key in names} & {*_prefixes(), "videomae", "timesformer", "vivit"}
        if own:
            raise ConversionError(
                f"{path} holds weights of {_owner(own.pop())}, not of an authors' code; load its folder with "
                "from_pretrained"
            )


def _names(path: Path) -> list[str] | None:
    """Names of the tensors of a safetensors file; None if it is corrupt, which reading it reports."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except SafetensorError:
        return None


def _prefixes() -> set[str]:
    """Prefixes under which our models keep their encoder."""
    found = set()
    for entry in MODELS.values():
        for reference in entry.models.values():
            prefix = getattr(entry.load(reference), "base_model_prefix", "")
            found |= {prefix} - {"", "backbone", "encoder", "model"}
    return found


def _owner(prefix: str) -> str:
    return "a stock model of transformers" if prefix in ("timesformer", "vivit") else "this package or of transformers"


def _advice_on_folder(path: Path) -> str:
    config = path / "config.json"
    if not config.is_file():
        return f"{path} is a folder without config.json; give the weight file itself"
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError, OSError):
        return f"{config} is corrupt; give the authors' weight file itself"
    if kind in MODELS:
        return f"{path} is a checkpoint of this package already ({kind}); load it with from_pretrained"
    return (
        f"{path} is a {kind} of transformers, which needs no conversion: load it with from_pretrained, fine-tune it, "
        "or start from it with --model.init_from"
    )
