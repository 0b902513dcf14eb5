"""The complete model card of a checkpoint that is published: made from the run's files and what its author adds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import ModelCardData
from transformers import PreTrainedConfig

from tubelets.hub.audio_cards import audio_card, classifier_auto_class, describe, hears
from tubelets.hub.cards import _render, citation_of, pretraining_settings
from tubelets.hub.finished_runs import EXTRA_FILES, RunFolder
from tubelets.hub.results import EvaluationResult, results_table
from tubelets.info import package_versions
from tubelets.models.common.auto import MODELS


@dataclass(frozen=True)
class CardDetails:
    """What only the author of a checkpoint knows.

    Attributes:
        license: licence of the weights, as the Hub names it, e.g. `apache-2.0` or `cc-by-nc-4.0`.
        datasets: ids of the training data on the Hub, or short names.
        data: what the training data are, one or more sentences.
        base_model: Hub id of the model that training started from; by default what the run says.
        hardware: what it was trained on; by default what the run recorded.
        limits: what the model cannot do, one or more sentences.
        language: languages of captions, if the model has seen any.
    """

    license: str
    datasets: Sequence[str] = ()
    data: str | None = None
    base_model: str | None = None
    hardware: str | None = None
    limits: str | None = None
    language: Sequence[str] = ()


def render_publication_card(
    repository: str,
    config: PreTrainedConfig,
    run: RunFolder,
    details: CardDetails,
    results: Sequence[EvaluationResult] = (),
    revision: str | None = None,
) -> str:
    """Render the card.

    Args:
        repository: Hub id that the snippet loads.
        config: the model's configuration.
        run: the run, whose recipe, summary and log are used where it has them.
        details: what the author adds.
        results: all results, of the run and of others.
        revision: branch that is published to, named in the snippet; None for the main one.

    Returns:
        Markdown with YAML metadata, with the results in `model-index`.
    """
    fields: Any = config
    name = repository.rpartition("/")[2]
    classifier = _is_classifier(config)
    recipe, arguments = run.read("recipe.yaml"), run.read("run.yaml").get("arguments", {})
    started_from = _started_from(recipe, arguments)
    where = repository + (f'", revision="{revision}' if revision is not None else "")
    auto_class = classifier_auto_class(config) if classifier else "AutoModel"
    audio = audio_card(config, where, auto_class) if hears(config) else None
    modalities = ["video"] if audio is None else audio.tags
    card_data = ModelCardData(
        library_name="tubelets" if config.model_type in MODELS else "transformers",
        pipeline_tag="video-classification" if audio is None else audio.pipeline_tag,
        license=details.license,
        tags=[
            *modalities,
            config.model_type,
            "tubelets",
            *([] if classifier else [f"masked-{describe(modalities)}-modelling"]),
        ],
        datasets=list(details.datasets) or None,
        base_model=details.base_model or (started_from if started_from and "/" in started_from else None),
        language=list(details.language) or None,
        model_name=name,
        eval_results=[result.for_hub() for result in results] or None,
    )
    return _render(
        card_data,
        title=name,
        status=_status(config, classifier, modalities, run),
        repository=where,
        auto_class=auto_class,
        use=audio and audio.use,
        num_frames=getattr(fields, "num_frames", None),
        stride=recipe.get("data", {}).get("stride") or arguments.get("data", {}).get("stride") or 4,
        outputs=_video_outputs(config, classifier) if audio is None else audio.outputs,
        trained_on=_data(recipe, arguments, details),
        training=_training(recipe, arguments),
        settings=_settings(config, run, recipe, arguments, started_from, details),
        files={file: EXTRA_FILES[file] for file in run.files},
        results=results_table(results) if results else "No evaluation has been run.",
        limits=_limits(details, results, classifier and "video" in modalities),
        citation=citation_of(config.model_type),
    )


def _is_classifier(config: PreTrainedConfig) -> bool:
    return str((config.architectures or [""])[0]).endswith(("ForVideoClassification", "ForAudioClassification"))


def _video_outputs(config: PreTrainedConfig, classifier: bool) -> str:
    if not classifier:
        return "`outputs.last_hidden_state` holds one vector for each token, `outputs.pooler_output` their mean."
    return (
        f"`outputs.logits` has one score for each of {config.num_labels} classes; `model.config.id2label` names "
        "them. The snippet looks at one clip; average the scores of several for a better answer."
    )


def _started_from(recipe: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    return recipe.get("model", {}).get("init_from") or arguments.get("model", {}).get("model_name_or_path")


def _status(config: PreTrainedConfig, classifier: bool, modalities: Sequence[str], run: RunFolder) -> str:
    word = describe(modalities)
    article = "An" if word.startswith("a") else "A"
    kind = (
        f"{article} {word} classifier with {config.num_labels} classes"
        if classifier
        else f"A pretrained {word} encoder"
    )
    known = "" if run.files else " **Its author gave no record of how it was trained.**"
    return f"{kind} of type `{config.model_type}`, published with the `tubelets` package.{known}"


def _data(recipe: Mapping[str, Any], arguments: Mapping[str, Any], details: CardDetails) -> str:
    if details.data:
        return details.data
    found = recipe.get("data", {}).get("path") or arguments.get("data", {}).get("dataset_name")
    names = ", ".join(details.datasets) or (f"`{found}`, as the run calls it" if found else "")
    return f"Trained on {names}." if names else "Its author did not say what it was trained on."


def _training(recipe: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    if recipe:
        kind = "Self-supervised pretraining" if "optimization" in recipe else "Training"
        return f"{kind} with `training/run_pretraining.py`; the whole recipe is in `recipe.yaml`."
    if arguments:
        probe = arguments.get("model", {}).get("freeze_backbone")
        kind = "A linear probe: only the head was trained" if probe else "Full fine-tuning"
        if _started_from(recipe, arguments) is None:
            kind = "Trained from random weights"
        return f"{kind} with `training/run_finetuning.py`; all arguments are in `run.yaml`."
    return "No recipe was published with this checkpoint."


def _settings(
    config: PreTrainedConfig,
    run: RunFolder,
    recipe: Mapping[str, Any],
    arguments: Mapping[str, Any],
    started_from: str | None,
    details: CardDetails,
) -> dict[str, Any]:
    summary = run.read("training_summary.json")
    versions = summary.pop("versions", None) or run.read("run.yaml").get("versions")
    hardware = {"hardware": details.hardware or summary.get("device") or "not recorded"}
    if "optimization" in recipe and versions:
        return hardware | pretraining_settings(recipe, summary, versions)
    known = {
        "model type": config.model_type,
        "started from": started_from or ("random weights" if arguments else "not recorded"),
        **{key.replace("_", " "): value for key, value in summary.items()},
    }
    training = dict(arguments.get("training", {}))
    if training.get("max_steps", -1) > 0:
        training.pop("num_train_epochs", None)  # the number of steps replaces it
    for key in ("num_train_epochs", "max_steps", "learning_rate", "videos_per_step", "layer_decay", "weight_decay"):
        if training.get(key) not in (None, -1):
            known[key.removeprefix("num_").replace("_", " ")] = training[key]
    if training:
        known["precision"] = next((each for each in ("bf16", "fp16") if training.get(each)), "fp32")
        known["seed"] = training.get("seed", "not recorded")
    for key in ("train_runtime", "epoch"):
        if key in (metrics := run.read("all_results.json")):
            known[{"train_runtime": "seconds of training"}.get(key, key)] = metrics[key]
    named = "versions" if versions else "versions when published"
    known[named] = ", ".join(f"{package} {number}" for package, number in (versions or package_versions()).items())
    return hardware | known


def _limits(details: CardDetails, results: Sequence[EvaluationResult], views_differ: bool) -> str:
    own = f"{details.limits} " if details.limits else ""
    unmeasured = "" if any(result.measured_here for result in results) else "Nothing in this card was measured here. "
    views = "Published numbers may be means over several views; the snippet looks at one. " if views_differ else ""
    return f"{own}{unmeasured}{views}Features of a network trained on one data set can fail on others."
