"""The model card of a fine-tuning run, made from what the run did and measured."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from tubelets.hub.cards import _render, citation_of

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
    num_frames: int,
    num_labels: int,
    model_type: str,
) -> str:
    """The card of a classifier that a run fine-tuned: what it started from, how it was trained, what was measured.

    Args:
        name: name of the model, or its Hub id.
        arguments: groups `model`, `data` and `training` of the run's arguments.
        summary: what the run did: steps, epochs, seconds.
        metrics: metrics of the multi-view test without a prefix, as fractions; empty if there was no test.
        versions: versions of the software by name.
        num_frames: frames of a clip.
        num_labels: classes.
        model_type: type of the model.

    Returns:
        Markdown with YAML metadata, with the measured results in `model-index`.
    """
    model, data, training = arguments["model"], arguments["data"], arguments["training"]
    dataset, started_from = data["dataset_name"], model["model_name_or_path"]
    split = data["test_split"] or data["validation_split"]
    views = f"{data['test_clips']} clips x {data['test_crops']} crops"
    found = {key: metrics[key] for key in METRICS if key in metrics}
    results = [
        EvalResult(
            task_type="video-classification",
            dataset_type=dataset or "videos",
            dataset_name=dataset or "video files of the author",
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
            pipeline_tag="video-classification",
            tags=["video", model_type, "tubelets"],
            model_name=name,
            eval_results=results or None,
        ),
        title=name,
        status=(
            "A video classifier written by `training/run_video_classification.py`. **To complete by its author: what "
            "the data are and under which licence, what the model is good for, and a licence for the weights.**"
        ),
        repository=name,
        auto_class="AutoModelForVideoClassification",
        num_frames=num_frames,
        stride=data["stride"],
        outputs=f"`outputs.logits` has one score for each of {num_labels} classes; `config.id2label` names them.",
        training=f"{mode} All arguments are in `run.yaml`, the losses in `trainer_state.json`.",
        settings={
            "model type": model_type,
            "started from": started_from or "random weights",
            "data": dataset or "video files of the author",
            **{key.replace("_", " "): value for key, value in summary.items()},
            "videos a step": training["videos_per_step"],
            "learning rate of the head": f"{training['learning_rate']:.4g}",
            "layer decay": training["layer_decay"],
            "precision": "bf16" if training["bf16"] else "fp16" if training["fp16"] else "fp32",
            "seed": training["seed"],
            "versions": ", ".join(f"{package} {version}" for package, version in versions.items()),
        },
        results=(
            f"Measured by the run on {int(metrics['num_videos'])} videos of split `{split}`, {views}, "
            f"{int(metrics.get('skipped_videos', 0))} videos skipped.\n\n| metric | value |\n|---|---|\n{rows}"
            if found
            else "No test has been run."
        ),
        limits=(
            "The snippet looks at one clip, the measured numbers are means over views. A short run on little data "
            "gives no useful classifier."
        ),
        citation=citation_of(model_type),
    )
