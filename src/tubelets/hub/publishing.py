"""Publish a run: build and check a complete folder locally, then send it to the Hub in one commit."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from huggingface_hub import HfApi, metadata_load
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.repocard_data import model_index_to_eval_results
from transformers import PreTrainedModel

from tubelets.hub.card_tasks import task_of
from tubelets.hub.cards import CardDetails, render_publication_card
from tubelets.hub.finished_runs import PublishingError, RunFolder
from tubelets.hub.media import trial_inputs
from tubelets.hub.results import EvaluationResult
from tubelets.models.common.auto import MODELS, inference_processor
from tubelets.models.common.safe_loading import load_config, load_processor, processor_class

# Files of an older version that a new one replaces; other files of the repository are kept.
REPLACED = ["*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "training_args.bin"]
# The client's HTTP library differs between its versions; uploads in its threads raise a RuntimeError.
NETWORK_ERRORS: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, RuntimeError)
ALLOWED_SUFFIXES = {".safetensors", ".json", ".jsonl", ".yaml", ".md", ".png"}


@dataclass(frozen=True)
class Publication:
    """A checked folder, ready to be published.

    Attributes:
        folder: the folder.
        files: file names to sizes in bytes.
        model_class: name of the class that loads its weights.
        card: text of its card.
    """

    folder: Path
    files: dict[str, int]
    model_class: str
    card: str


def build_publication(
    run: RunFolder,
    folder: str | Path,
    repository: str,
    details: CardDetails,
    results: Sequence[EvaluationResult] = (),
    class_names: Sequence[str] | None = None,
    max_shard_size: str = "5GB",
    revision: str | None = None,
) -> Publication:
    """Build the complete folder of a publication and check it.

    Args:
        run: the finished run.
        folder: folder to write; it must be empty or absent.
        repository: Hub id, named in the card.
        details: the author's details for the card.
        results: results in addition to the run's own test.
        class_names: names of the classes, for a classifier whose configuration does not have them.
        max_shard_size: larger weights are split into files of at most this size.
        revision: target branch, named in the card's snippet.

    Returns:
        The checked publication.

    Raises:
        PublishingError: if the folder is not empty, the model or its processor does not load, a classifier has no
            class names, or the finished folder does not pass `verify_publication`.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise PublishingError(f"{folder} is not empty; give a new folder for the files to publish")
    folder.mkdir(parents=True, exist_ok=True)
    model, processor = _load(run.model_folder)
    _name_classes(model, class_names)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    processor.save_pretrained(folder)
    for name, path in run.files.items():
        if path.suffix == ".json":
            (folder / name).write_text(json.dumps(run.read(name), indent=2) + "\n", encoding="utf-8")
        elif path.suffix == ".yaml":
            (folder / name).write_text(yaml.safe_dump(run.read(name), sort_keys=False), encoding="utf-8")
        else:
            shutil.copyfile(path, folder / name)
    found = [*run.results(), *results]
    card = render_publication_card(repository, model.config, run, details, list(dict.fromkeys(found)), revision)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return verify_publication(folder)


def verify_publication(folder: str | Path) -> Publication:
    """Check a folder as a user would: parse the card, load model and processor, run random media through both.

    Args:
        folder: the folder.

    Returns:
        The checked publication.

    Raises:
        PublishingError: if there are unexpected files, the card is incomplete, weights are missing or unexpected,
            or the model's output for its processor's output is not finite.
    """
    folder = Path(folder)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    strange = [name for name, path in files.items() if path.suffix not in ALLOWED_SUFFIXES]
    if strange:
        raise PublishingError(f"{folder} has files that are not published: {', '.join(strange)}; remove them")
    card = _check_card(folder)
    model, processor = _load(folder)
    _check_outputs(model, processor)
    return Publication(folder, {name: path.stat().st_size for name, path in files.items()}, type(model).__name__, card)


def _load(folder: Path) -> tuple[PreTrainedModel, Any]:
    """The model in its own class with every weight from the files, and its processor."""
    try:
        config = load_config(folder)
        model_class = _model_class(config, folder)
        model, report = model_class.from_pretrained(folder, output_loading_info=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise PublishingError(f"{folder} does not load ({error})") from error
    wrong = {name: sorted(map(str, keys))[:3] for name, keys in report.items() if keys}
    if wrong:
        raise PublishingError(f"the weights in {folder} are not those of a {model_class.__name__}: {wrong}")
    try:
        processor = load_processor(folder)
    except (OSError, ValueError) as error:
        if config.model_type not in MODELS:
            raise PublishingError(
                f"{folder} has no processor that {processor_class(config).__name__} loads ({error}); save one beside "
                "the model"
            ) from error
        processor = inference_processor(config)
    return model, processor


def _model_class(config: Any, folder: Path) -> Any:
    """The class named in the configuration, of this package or of transformers and of the configuration's type."""
    name = (config.architectures or [None])[0]
    entry = MODELS.get(config.model_type)
    if entry is not None:
        classes = {key: value for key, value in entry.class_references.items() if value != entry.config}
        if name in classes:
            return entry.load(classes[name])
        raise PublishingError(f"{folder}: architectures={config.architectures} is not one of {sorted(classes)}")
    model_class = getattr(transformers, str(name), None)
    if not (isinstance(model_class, type) and issubclass(model_class, PreTrainedModel)):
        raise PublishingError(f"{folder}: architectures={config.architectures} is not a model of transformers")
    return model_class


def _name_classes(model: PreTrainedModel, class_names: Sequence[str] | None) -> None:
    if task_of(model.config) is None:
        if class_names is not None:
            raise PublishingError(f"class names were given, but {type(model).__name__} is not a classifier; omit them")
        return
    config: Any = model.config
    if class_names is not None:
        if len(set(class_names)) != config.num_labels:
            raise PublishingError(
                f"{len(set(class_names))} different class names were given, the model has {config.num_labels} classes"
            )
        config.id2label = dict(enumerate(class_names))
    elif all(name == f"LABEL_{number}" for number, name in config.id2label.items()):
        raise PublishingError(
            f"the model's {config.num_labels} classes have no names (LABEL_0, ...); give a file with one name per line"
        )
    config.label2id = {name: number for number, name in config.id2label.items()}


def _check_card(folder: Path) -> str:
    path = folder / "README.md"
    if not path.is_file():
        raise PublishingError(f"{folder} has no README.md; build the folder with build_publication")
    text = path.read_text(encoding="utf-8")
    try:
        metadata = metadata_load(path) or {}
        if "model-index" in metadata:
            model_index_to_eval_results(metadata["model-index"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise PublishingError(f"the metadata of {path} do not parse ({error!r})") from error
    absent = [name for name in ("license", "library_name", "pipeline_tag", "tags") if not metadata.get(name)]
    if absent:
        raise PublishingError(f"the metadata of {path} lack {', '.join(absent)}")
    snippets = text.split("```python\n")[1:]
    if not snippets:
        raise PublishingError(f"{path} has no Python snippet that shows how to use the model")
    for snippet in snippets:
        compile(snippet.partition("```")[0], str(path), "exec")
    return text


@torch.no_grad()
def _check_outputs(model: PreTrainedModel, processor: Any) -> None:
    # A pretraining network also needs masks; its encoder is what the card loads.
    runnable: Any = model if task_of(model.config) is not None else model.base_model
    try:
        inputs = trial_inputs(model.config, processor, torch.Generator().manual_seed(0))
        output = runnable(
            **{name: value.to(model.dtype) if value.is_floating_point() else value for name, value in inputs.items()}
        )
    except (ValueError, RuntimeError, TypeError) as error:
        raise PublishingError(f"the model does not accept the output of its processor ({error})") from error
    if not all(value.isfinite().all() for value in output.values() if isinstance(value, torch.Tensor)):
        raise PublishingError("the model's outputs are not finite: it diverged in training and is not published")


def publish(
    publication: Publication,
    repository: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    message: str | None = None,
    token: str | None = None,
) -> str:
    """Send a folder to the Hub in one commit; if the connection breaks before it, the repository is unchanged.

    The same commit removes weight files of an earlier version that are not among the new ones.

    Args:
        publication: the checked folder.
        repository: Hub id; the repository is created if needed.
        private: make a new repository private.
        revision: branch to commit to, created if needed; None for the main one.
        create_pr: open a pull request instead of committing.
        tag: name of a tag for the commit, which must not exist yet.
        message: commit message.
        token: access token; None uses the stored one.

    Returns:
        Address of the commit or of the pull request.

    Raises:
        PublishingError: if the tag exists or is combined with a pull request, the Hub refuses or cannot be reached,
            or the connection breaks.
    """
    if create_pr and tag is not None:
        raise PublishingError("a pull request cannot be tagged; tag the commit after it is merged")
    api = HfApi(token=token, library_name="tubelets")
    try:
        repository = api.create_repo(repository, private=private, exist_ok=True).repo_id
        if tag is not None and tag in {ref.name for ref in api.list_repo_refs(repository).tags}:
            raise PublishingError(f"{repository} already has a tag {tag!r}; choose another")
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=publication.folder,
            commit_message=message or f"Publish {publication.model_class}",
            revision=revision,
            create_pr=create_pr,
            delete_patterns=REPLACED,
        )
    except HFValidationError as error:
        raise PublishingError(f"{repository!r} is not a Hub id ({error}); give user/name") from error
    except NETWORK_ERRORS as error:
        raise PublishingError(
            f"{repository} was not published: the Hub confirmed no commit ({type(error).__name__}: {error}). A commit "
            "is complete or absent; run the same command again"
        ) from error
    try:
        present = set(api.list_repo_files(repository, revision=commit.pr_revision or commit.oid))
        if absent := sorted(publication.files.keys() - present):
            raise PublishingError(f"the commit {commit.commit_url} lacks {', '.join(absent)}; publish it again")
        if tag is not None:
            api.create_tag(repository, tag=tag, revision=commit.oid)
    except NETWORK_ERRORS as error:
        raise PublishingError(
            f"{commit.commit_url} is complete, but could not be checked or tagged {tag!r} ({error})"
        ) from error
    return commit.pr_url or commit.commit_url
