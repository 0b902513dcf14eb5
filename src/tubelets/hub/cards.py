"""Model cards from one template: for the checkpoints that can be published, and for runs of our own."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tubelets.hub.audio_cards import AudioCard, audio_card, hears
from tubelets.models.common.author_checkpoints import DATASETS, HUB_DATASETS, AuthorCheckpoint, Paper
from tubelets.models.common.auto import MODELS


def _render(data: ModelCardData, **fields: Any) -> str:
    template = resources.files("tubelets.hub") / "templates" / "model_card.md"
    # The card's own snippets are plain text; only our values are filled in.
    card = ModelCard.from_template(data, template_str=template.read_text(encoding="utf-8"), **fields)
    return str(card).rstrip() + "\n"


def render_card(checkpoint: AuthorCheckpoint) -> str:
    """The card of a checkpoint that can be published.

    Args:
        checkpoint: a record of `tubelets.hub.checkpoints`.

    Returns:
        Markdown with YAML metadata; published numbers carry their source.

    Example:
        >>> from tubelets.hub.checkpoints import CHECKPOINTS
        >>> "published by the authors" in render_card(CHECKPOINTS["sigma-dino-vit-base-k400-finetuned-k400"])
        True
    """
    config = checkpoint.config()
    classifier = checkpoint.finetuning_data is not None
    auto_class = "AutoModelForVideoClassification" if classifier else "AutoModel"
    audio = audio_card(config, checkpoint.name, auto_class) if hears(config) else None
    return _render(
        _card_data(checkpoint, config, audio),
        title=checkpoint.name,
        status=(
            "**This folder holds the configuration and the processor. The weights are the authors' and are not "
            f"converted here yet:** download their checkpoint ({checkpoint.source}) and add its weights to this folder "
            "as shown under Conversion. The licence of the weights is the authors'."
        ),
        conversion=checkpoint.converter,
        not_in_file=checkpoint.not_in_file,
        repository=checkpoint.name,
        auto_class=auto_class,
        use=audio and audio.use,
        num_frames=getattr(config, "num_frames", None),
        # Fine-tuning samples Kinetics with stride 4 and Something-Something in segments; 4 is the nearest fixed one.
        stride=4 if classifier else checkpoint.stride,
        outputs=(
            f"`outputs.logits` has one score for each of the {config.num_labels} classes of "
            f"{DATASETS[checkpoint.finetuning_data]}."
            if checkpoint.finetuning_data is not None
            else audio.outputs
            if audio is not None
            else _backbone_outputs(config)
        ),
        training=_training(checkpoint),
        settings=audio.settings | dict(checkpoint.settings) if audio else _settings(checkpoint, config),
        results=_results(checkpoint),
        limits=(
            "Nothing in this card was measured by this package. "
            + _classifier_limits(checkpoint)
            + "Features of a network trained on one data set can fail on others"
            + ("." if audio else ": see the SEVERE benchmark.")
        ),
        citation="\n\n".join(paper.reference for paper in (checkpoint.paper, *checkpoint.further_papers)),
    )


def _backbone_outputs(config: Any) -> str:
    if hasattr(config, "num_tokens"):
        return f"`outputs.last_hidden_state` is `(1, {config.num_tokens}, {config.hidden_size})`."
    return (
        f"`outputs.last_hidden_state` is the feature map `(1, {config.feature_size}, time, rows, columns)`, "
        f"`outputs.pooler_output` its mean `(1, {config.feature_size})`. "
        "`AutoModelForVideoClassification.from_pretrained` puts a new classifier on it."
    )


def _classifier_limits(checkpoint: AuthorCheckpoint) -> str:
    if checkpoint.finetuning_data is None:
        return ""
    text = (
        "Names of classes follow the data set's label order; the order in the authors' label files was not checked "
        "against it. The snippet looks at one clip, the published number is a mean over views. "
    )
    if checkpoint.finetuning_data == "ssv2":
        text += "The network was tuned on 16 frames spread over the whole video; the snippet's dense clip is not that. "
    return text


def _card_data(checkpoint: AuthorCheckpoint, config: Any, audio: AudioCard | None) -> ModelCardData:
    data = {name for name in (checkpoint.pretraining_data, checkpoint.finetuning_data) if name is not None}
    results = None
    if checkpoint.finetuning_data is not None:
        results = [
            EvalResult(
                task_type="video-classification",
                dataset_type=HUB_DATASETS[checkpoint.finetuning_data],
                dataset_name=DATASETS[checkpoint.finetuning_data],
                dataset_split="validation",
                metric_type="accuracy",
                metric_name="top-1 accuracy",
                metric_value=checkpoint.top1,
                source_name="published by the authors",
                source_url=checkpoint.paper.url,
            )
        ]
    return ModelCardData(
        library_name="tubelets",
        pipeline_tag=audio.pipeline_tag if audio else "video-classification",
        license="apache-2.0",
        tags=[
            *(audio.tags if audio else ["video"]),
            config.model_type,
            checkpoint.objective,
            *(f"arxiv:{paper.arxiv}" for paper in (checkpoint.paper, *checkpoint.further_papers)),
        ],
        datasets=sorted(HUB_DATASETS[name] for name in data),
        base_model=checkpoint.pretrained_name,
        model_name=checkpoint.name,
        eval_results=results,
    )


def _training(checkpoint: AuthorCheckpoint) -> str:
    if checkpoint.finetuning_data is None:
        return checkpoint.training
    return f"{checkpoint.training} Then full fine-tuning on {DATASETS[checkpoint.finetuning_data]}."


def _settings(checkpoint: AuthorCheckpoint, config: Any) -> dict[str, Any]:
    size = "{} x {}".format(*config.image_height_width)
    if hasattr(config, "num_tokens"):
        encoder = {
            "encoder": f"width {config.hidden_size}, {config.num_hidden_layers} layers, "
            f"{config.num_attention_heads} heads",
            "input": f"{config.num_frames} frames of {size}, tubes of 2 x 16 x 16",
        }
    else:
        encoder = {"features": config.feature_size, "input": f"{config.num_frames} frames of {size}"}
    return {
        **encoder,
        **checkpoint.settings,
        "mean, std": f"{tuple(config.image_mean)}, {tuple(config.image_std)}",
    }


def _results(checkpoint: AuthorCheckpoint) -> str:
    if checkpoint.after_finetuning:
        rows = "".join(f"| {task} | {value} |\n" for task, value in checkpoint.after_finetuning.items())
        return (
            "A pretraining network has no accuracy of its own. Published after fine-tuning, "
            f"{checkpoint.after_finetuning_source}; not measured by this package:\n\n| task | published |\n|---|---|\n"
            + rows.rstrip()
        )
    if checkpoint.finetuning_data is None:
        return "A pretraining network has no accuracy of its own; see the cards of its fine-tuned classifiers."
    return (
        "| data | metric | value | source |\n|---|---|---|---|\n"
        f"| {DATASETS[checkpoint.finetuning_data]}, validation, {checkpoint.views} | top-1 accuracy | "
        f"{checkpoint.top1} % | published by the authors, [paper]({checkpoint.paper.url}); not measured by this "
        "package |"
    )


def pretraining_settings(
    recipe: Mapping[str, Any], summary: Mapping[str, Any], versions: Mapping[str, str]
) -> dict[str, Any]:
    """The table of settings of a pretraining run.

    Args:
        recipe: the resolved recipe, as plain containers.
        summary: what the run did: steps, clips, seconds, device, last loss.
        versions: versions of the software by name.

    Returns:
        Names to values, in the order of the table.
    """
    return {
        "model type": recipe["model"]["model_type"],
        "started from": recipe["model"]["init_from"] or "random weights",
        **{key.replace("_", " "): value for key, value in summary.items()},
        "precision": recipe["run"]["precision"],
        "versions": ", ".join(f"{package} {version}" for package, version in versions.items()),
    }


def render_run_card(
    name: str, recipe: Mapping[str, Any], summary: Mapping[str, Any], versions: Mapping[str, str], config: Any
) -> str:
    """The card stub of a pretraining run: what was trained on what, with what, and nothing that was not measured.

    Args:
        name: name of the model.
        recipe: the resolved recipe, as plain containers.
        summary: what the run did: steps, clips, seconds, device, last loss.
        versions: versions of the software by name.
        config: the model's configuration, which says what it takes.

    Returns:
        Markdown with YAML metadata.
    """
    model_type = recipe["model"]["model_type"]
    audio = audio_card(config, name, "AutoModel") if hears(config) else None
    data = ModelCardData(
        library_name="tubelets",
        pipeline_tag=audio.pipeline_tag if audio is not None else "video-classification",
        tags=[*audio.tags, model_type] if audio is not None else ["video", model_type, "masked-video-modelling"],
        model_name=name,
    )
    return _render(
        data,
        title=name,
        status=(
            "A pretraining checkpoint written by `training/run_pretraining.py`. **To complete by its author: what the "
            "data are and under which licence, what the model is good for, and a licence for the weights.**"
        ),
        repository=name,
        auto_class="AutoModel",
        use=audio and audio.use,
        num_frames=getattr(config, "num_frames", None),
        stride=recipe["data"]["stride"],
        outputs=audio.outputs if audio else "`outputs.last_hidden_state` holds one vector for each token.",
        training="The whole recipe is in `recipe.yaml`, the losses in `training_log.jsonl` of the run.",
        settings=pretraining_settings(recipe, summary, versions),
        results="No evaluation has been run.",
        limits="Not evaluated. Short runs on little data, such as the demonstration recipe, give no useful features.",
        citation=citation_of(model_type),
    )


def citation_of(model_type: str) -> str:
    """The paper of a method, as the cards of its authors' checkpoints cite it.

    Args:
        model_type: type of a model.

    Returns:
        Authors, title, venue and address, or where to look.
    """
    entry = MODELS.get(model_type)
    if entry is not None and entry.paper is not None:
        paper: Paper = entry.load(entry.paper)
    elif entry is not None and entry.author_checkpoints is not None:
        paper = entry.load(entry.author_checkpoints)[0].paper
    else:
        return "See the method's README in the package."
    return paper.reference
