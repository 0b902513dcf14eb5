"""The model card of a fine-tuning run, made from what the run did and measured."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from transformers import PreTrainedConfig

from tubelets.data.modalities.specs import VideoSpec, specs_of
from tubelets.hub.audio_cards import AudioCard, audio_card, classifier_auto_class, describe, hears
from tubelets.hub.cards import _render, citation_of
from tubelets.models.common.inputs import model_inputs

# Metrics that are results, and what a card calls them.
METRICS = {
    "top_1": "top-1 accuracy",
    "top_5": "top-5 accuracy",
    "mean_class_accuracy": "mean per-class accuracy",
    "mean_average_precision": "mean average precision",
}
HUB_METRICS = {"top_1": "accuracy", "mean_average_precision": "mean_average_precision"}


def render_finetuning_card(
    name: str,
    arguments: Mapping[str, Mapping[str, Any]],
    summary: Mapping[str, Any],
    metrics: Mapping[str, float],
    versions: Mapping[str, str],
    config: PreTrainedConfig,
) -> str:
    """The card of a classifier that a run fine-tuned: what it started from, how it was trained, what was measured.

    Args:
        name: name of the model, or its Hub id.
        arguments: groups `model`, `data` and `training` of the run's arguments.
        summary: what the run did: steps, epochs, seconds.
        metrics: metrics of the final test without a prefix, as fractions; empty if there was no test.
        versions: versions of the software by name.
        config: the model's configuration.

    Returns:
        Markdown with YAML metadata, with the measured results in `model-index`.
    """
    audio = audio_card(config, name, classifier_auto_class(config)) if hears(config) else None
    frames = specs_of(model_inputs(config), VideoSpec)
    num_frames = frames[0].num_frames if frames else None
    num_labels, model_type = config.num_labels, config.model_type
    model, data, training = arguments["model"], arguments["data"], arguments["training"]
    dataset, started_from = data["dataset_name"], model["model_name_or_path"]
    split = data["test_split"] or data["validation_split"]
    task = "video-classification" if audio is None else audio.pipeline_tag
    noun = "videos" if audio is None else audio.noun
    files = f"{noun.removesuffix('s')} files of the author"
    found = {key: metrics[key] for key in METRICS if key in metrics}
    results = [
        EvalResult(
            task_type=task,
            dataset_type=dataset or noun,
            dataset_name=dataset or files,
            dataset_split=split,
            metric_type=HUB_METRICS[key],
            metric_name=METRICS[key],
            metric_value=round(value, 5),
        )
        for key, value in found.items()
        if key in HUB_METRICS
    ]
    rows = "".join(f"| {METRICS[key]} | {100 * value:.2f} % |\n" for key, value in found.items())
    mode = "A linear probe: only the head was trained." if model["freeze_backbone"] else "Full fine-tuning."
    return _render(
        ModelCardData(
            library_name="transformers",
            pipeline_tag=task,
            tags=[*(["video"] if audio is None else audio.tags), model_type, "tubelets"],
            model_name=name,
            eval_results=results or None,
        ),
        title=name,
        status=(
            f"{_kind(audio)} classifier written by `training/run_finetuning.py`. **To complete by its author: what "
            "the data are and under which licence, what the model is good for, and a licence for the weights.**"
        ),
        repository=name,
        auto_class="AutoModelForVideoClassification",
        use=audio and audio.use,
        num_frames=num_frames,
        stride=data["stride"],
        outputs=(
            f"`outputs.logits` has one score for each of {num_labels} classes; `config.id2label` names them."
            if audio is None
            else audio.outputs
        ),
        training=f"{mode} All arguments are in `run.yaml`, the losses in `trainer_state.json`.",
        settings={
            "model type": model_type,
            "started from": started_from or "random weights",
            "data": dataset or files,
            **({} if audio is None else audio.settings),
            **{key.replace("_", " "): value for key, value in summary.items()},
            f"{noun} a step": training["videos_per_step"],
            "learning rate of the head": f"{training['learning_rate'] * training.get('head_factor', 1):.4g}",
            "layer decay": training["layer_decay"],
            "precision": "bf16" if training["bf16"] else "fp16" if training["fp16"] else "fp32",
            "seed": training["seed"],
            "versions": ", ".join(f"{package} {version}" for package, version in versions.items()),
        },
        results=(
            f"Measured by the run on {int(metrics['num_videos'])} {noun} of split `{split}`, {protocol_of(data)}, "
            f"{int(metrics.get('skipped_videos', 0))} {noun} skipped.\n\n| metric | value |\n|---|---|\n{rows}"
            if found
            else "No test has been run."
        ),
        limits=(
            "The snippet looks at one clip, the measured numbers are means over views. A short run on little data "
            "gives no useful classifier."
            if audio is None or audio.noun == "videos"
            else "A sound that is longer than the spectrogram is cut: by the snippet at its end, in the test to its "
            "middle. A short run on little data gives no useful classifier."
        ),
        citation=citation_of(model_type),
    )


def protocol_of(data: Mapping[str, Any]) -> str:
    """How a run tests, from the data arguments of either script.

    Args:
        data: the arguments.

    Returns:
        A few words, e.g. `5 clips x 3 crops`.
    """
    if "test_crops" in data:
        return f"{data['test_clips']} clips x {data['test_crops']} crops"
    return "one clip from the middle" if data["test_clips"] == 1 else f"{data['test_clips']} clips"


def _kind(audio: AudioCard | None) -> str:
    word = describe(["video"] if audio is None else audio.tags)
    return f"An {word}" if word.startswith("a") else f"A {word}"
