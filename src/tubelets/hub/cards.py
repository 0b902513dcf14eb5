"""Cards of our own runs: the draft written by a run, and the complete card of a published checkpoint.

Descriptions of inputs come from the configuration's input specs (`tubelets.hub.media`,
`tubelets.hub.descriptions`), descriptions of the task from the task (`tubelets.hub.card_tasks`).
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from transformers import PreTrainedConfig

from tubelets.hub.author_cards import citation_of, objective_of
from tubelets.hub.card_tasks import classification_task, task_of
from tubelets.hub.descriptions import (
    adjective,
    encoder_rows,
    input_rows,
    modalities_of,
    outputs_of,
    size_rows,
    transfer_limit,
    with_article,
)
from tubelets.hub.finished_runs import EXTRA_FILES, RunFolder, RunRecord, public_command
from tubelets.hub.media import usage_snippet
from tubelets.hub.results import EvaluationResult, measured_results, results_table
from tubelets.hub.template import ENCODER_TAG, CardSections, render
from tubelets.info import package_versions
from tubelets.models.common.auto import MODELS
from tubelets.models.common.configuration import RegisteredConfig
from tubelets.tasks.task import Task

TO_COMPLETE = (
    "**To be completed by the author: the training data and their licence, the intended use, and a licence for the "
    "weights.**"
)


@dataclass(frozen=True)
class CardDetails:
    """Card details that only the author of a checkpoint can provide.

    Attributes:
        license: licence of the weights, as the Hub names it, e.g. `apache-2.0` or `cc-by-nc-4.0`.
        datasets: ids of the training data on the Hub, or short names.
        data: a description of the training data, one or more sentences.
        base_model: Hub id of the model used for initialisation; by default read from the run.
        hardware: training hardware; by default read from the run.
        limits: known limitations of the model, one or more sentences.
        language: languages of captions, if the model was trained on any.
    """

    license: str
    datasets: Sequence[str] = ()
    data: str | None = None
    base_model: str | None = None
    hardware: str | None = None
    limits: str | None = None
    language: Sequence[str] = ()


def render_model_card(name: str, config: PreTrainedConfig) -> str:
    """Render the draft card of a model without a record of its training, to be completed by its author.

    `model.push_to_hub` publishes it where the repository has no card.

    Args:
        name: name of the model, or its Hub id.
        config: the model's configuration.

    Returns:
        Markdown with YAML metadata.
    """
    return _run_card(name, config, RunRecord(), task_of(config), "No evaluation has been run.", ())


def render_run_card(
    name: str, recipe: Mapping[str, Any], summary: Mapping[str, Any], versions: Mapping[str, str], config: Any
) -> str:
    """Render the draft card of a pretraining run, to be completed by its author.

    Args:
        name: name of the model.
        recipe: the resolved recipe, as plain containers.
        summary: summary of the run: steps, clips, seconds, device, last loss, and the words of the `command`.
        versions: software versions by name.
        config: the model's configuration.

    Returns:
        Markdown with YAML metadata.
    """
    numbers = {key: value for key, value in summary.items() if key != "command"}
    command = public_command(summary.get("command", ()))
    record = RunRecord(recipe=recipe, summary=numbers, versions=versions, command=command)
    return _run_card(name, config, record, None, "No evaluation has been run.", ())


def render_finetuning_card(
    name: str,
    arguments: Mapping[str, Mapping[str, Any]],
    summary: Mapping[str, Any],
    metrics: Mapping[str, float],
    versions: Mapping[str, str],
    config: PreTrainedConfig,
    task: Task | None = None,
    command: Sequence[str] = (),
) -> str:
    """Render the draft card of a fine-tuning run, with its measured results, to be completed by its author.

    Args:
        name: name of the model, or its Hub id.
        arguments: groups `model`, `data` and `training` of the run's arguments.
        summary: summary of the run: steps, epochs, seconds.
        metrics: metrics of the final test without a prefix, as fractions; empty if there was no test.
        versions: software versions by name.
        config: the model's configuration.
        task: the task of the run; by default classification of the model's inputs.
        command: the words of the command that made the run.

    Returns:
        Markdown with YAML metadata; results of a test are in `model-index`.
    """
    task = task or classification_task(config)
    results = measured_results(metrics, arguments["data"], task)
    text = "No test has been run."
    if results:
        counts = f"{int(metrics['num_videos'])} clips; {int(metrics.get('skipped_videos', 0))} could not be read"
        text = f"Measured on {counts}.\n\n{results_table(results)}"
    words = public_command(command)
    record = RunRecord(arguments=arguments, summary=summary, versions=versions, command=words)
    return _run_card(name, config, record, task, text, results)


def render_publication_card(
    repository: str,
    config: PreTrainedConfig,
    run: RunFolder,
    details: CardDetails,
    results: Sequence[EvaluationResult] = (),
    revision: str | None = None,
) -> str:
    """Render the complete card of a published checkpoint, from the run's files and the author's details.

    Args:
        repository: Hub id that the snippet loads.
        config: the model's configuration.
        run: the run, whose recipe, summary and log are used if it has them.
        details: the author's details.
        results: all results, from the run and from other sources.
        revision: target branch, named in the snippet; None for the main branch.

    Returns:
        Markdown with YAML metadata; results are in `model-index`.
    """
    text = results_table(results) if results else "No evaluation has been run."
    return _run_card(repository, config, run.record(), task_of(config), text, results, details, revision)


def _run_card(
    repository: str,
    config: PreTrainedConfig,
    record: RunRecord,
    task: Task | None,
    results_text: str,
    results: Sequence[EvaluationResult],
    details: CardDetails | None = None,
    revision: str | None = None,
) -> str:
    name = repository.rpartition("/")[2]
    adds = details or CardDetails(license="")
    metadata = ModelCardData(
        library_name="tubelets" if config.model_type in MODELS else "transformers",
        pipeline_tag=ENCODER_TAG if task is None else task.hub_tag or task.name,
        license=adds.license or None,
        tags=[
            *modalities_of(config),
            config.model_type,
            "tubelets",
            *([] if task else objective_of(config.model_type)),
        ],
        datasets=list(adds.datasets) or None,
        base_model=adds.base_model or _hub_id(record.started_from),
        language=list(adds.language) or None,
        model_name=name,
        eval_results=[result.for_hub() for result in results] or None,
    )
    auto_class = "AutoModel" if task is None else task.auto_class
    card = CardSections(
        title=name,
        status=_status(config, record, task, complete=details is not None),
        use=usage_snippet(config, auto_class, repository, record.stride, revision),
        outputs=outputs_of(config, task),
        trained_on=_data(record, adds),
        training=_training(record) + _made_by(record.command),
        settings=_settings(config, record, adds),
        files={file: EXTRA_FILES[file] for file in record.files},
        results=results_text,
        limits=_limits(config, adds, results, task),
        citation=citation_of(config.model_type),
    )
    return render(metadata, card)


def _hub_id(started_from: str | None) -> str | None:
    """The initial checkpoint, if it is on the Hub."""
    local = started_from is None or Path(started_from).exists()
    return None if local or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(started_from)) else started_from


def _status(config: PreTrainedConfig, record: RunRecord, task: Task | None, complete: bool) -> str:
    kind = adjective(modalities_of(config))
    what = f"A pretrained {kind} encoder"
    if task is not None and task.has_classes:
        what = f"{with_article(f'{kind} classifier')} with {config.num_labels} classes"
    elif task is not None:
        what = f"{with_article(f'{kind} model')} for {' '.join(task.name.rsplit('-', 1))}"
    text = f"{what} of type `{config.model_type}`, made with the `tubelets` package."
    if not complete:
        return f"{text} {TO_COMPLETE}"
    return text if record.files else f"{text} **Its author gave no record of how it was trained.**"


def _data(record: RunRecord, details: CardDetails) -> str:
    if details.data:
        return details.data
    if details.datasets:
        return f"Trained on {', '.join(details.datasets)}."
    found = record.recipe.get("data", {}).get("path") or record.arguments.get("data", {}).get("dataset_name")
    return f"Trained on `{found}`, as the run names it." if found else "The training data were not stated."


def _training(record: RunRecord) -> str:
    if record.recipe:
        return "Self-supervised pretraining with `tubelets`; the complete recipe is in `recipe.yaml`."
    if record.arguments:
        kind = "Full fine-tuning"
        if record.arguments.get("model", {}).get("freeze_backbone"):
            kind = "A linear probe (only the head was trained)"
        elif record.started_from is None:
            kind = "Trained from random weights"
        return f"{kind} with `tubelets`; all arguments are in `run.yaml`."
    return "No recipe was published with this checkpoint."


def _made_by(command: Sequence[str]) -> str:
    """The command that made a run, as it is typed."""
    if not command:
        return ""
    return f" The command was\n\n```bash\n{shlex.join(command)}\n```"


def _settings(config: PreTrainedConfig, record: RunRecord, details: CardDetails) -> dict[str, Any]:
    known = record.recipe or record.arguments
    own = dict(config.card_rows) if isinstance(config, RegisteredConfig) else {}
    parts = own.pop("started from", None)
    rows: dict[str, Any] = {
        "hardware": details.hardware or record.summary.get("device") or "not recorded",
        "model type": config.model_type,
        "started from": record.started_from or parts or ("random weights" if known else "not recorded"),
        **encoder_rows(config),
        **size_rows(config),
        **input_rows(config),
        **own,
        **{key.replace("_", " "): value for key, value in record.summary.items() if key != "device"},
        **_training_rows(record),
    }
    versions = record.versions or package_versions()
    rows["versions" if record.versions else "versions when published"] = ", ".join(
        f"{package} {number}" for package, number in versions.items()
    )
    return rows


def _training_rows(record: RunRecord) -> dict[str, Any]:
    if record.recipe:
        return {"precision": record.recipe.get("run", {}).get("precision", "not recorded")}
    training = dict(record.arguments.get("training", {}))
    if not training:
        return {}
    if training.get("max_steps", -1) > 0:
        training.pop("num_train_epochs", None)  # the number of steps replaces it
    names = {
        "num_train_epochs": "train epochs",
        "max_steps": "max steps",
        "learning_rate": "learning rate",
        "videos_per_step": "clips per step",
        "layer_decay": "layer decay",
        "weight_decay": "weight decay",
    }
    rows = {title: training[key] for key, title in names.items() if training.get(key) not in (None, -1)}
    if "head_factor" in training:
        rows["learning rate of the head"] = float(training["learning_rate"] * training["head_factor"])
    rows["precision"] = next((each for each in ("bf16", "fp16") if training.get(each)), "fp32")
    rows["seed"] = training.get("seed", "not recorded")
    return rows


def _limits(
    config: PreTrainedConfig, details: CardDetails, results: Sequence[EvaluationResult], task: Task | None
) -> str:
    sentences = [details.limits] if details.limits else []
    if not any(result.measured_here for result in results):
        sentences.append("Accuracy was not measured by this run.")
    if task is not None and task.has_classes:
        sentences.append("The snippet classifies one clip; results may average several views of a file.")
    return " ".join([*sentences, transfer_limit(config)])
