"""Cards of the authors' checkpoints, whose weights this package converts and does not distribute."""

from collections.abc import Sequence
from functools import cache

from huggingface_hub import EvalResult, ModelCardData

from tubelets.hub.card_tasks import task_of
from tubelets.hub.descriptions import encoder_rows, input_rows, modalities_of, outputs_of, size_rows, transfer_limit
from tubelets.hub.media import usage_snippet
from tubelets.hub.template import ENCODER_TAG, CardSections, render
from tubelets.models.common.author_checkpoints import DATASETS, HUB_DATASETS, AuthorCheckpoint, Paper
from tubelets.models.common.auto import MODELS
from tubelets.tasks.task import Task


def _checkpoints_of(model_type: str) -> list[AuthorCheckpoint]:
    entry = MODELS[model_type]
    return [] if entry.author_checkpoints is None else entry.load(entry.author_checkpoints)


@cache
def author_checkpoints() -> dict[str, AuthorCheckpoint]:
    """The authors' checkpoints of all methods by name, from which `hub_configs/` and `model_cards/` are generated."""
    return {checkpoint.name: checkpoint for model_type in MODELS for checkpoint in _checkpoints_of(model_type)}


def render_author_card(checkpoint: AuthorCheckpoint, converted: bool = False) -> str:
    """The card of an authors' checkpoint.

    Args:
        checkpoint: one of `author_checkpoints()`.
        converted: whether the folder has the converted weights, and not only configuration and processor.

    Returns:
        Markdown with YAML metadata; published numbers are marked with their source.

    Example:
        >>> checkpoint = author_checkpoints()["sigma-dino-vit-base-k400-finetuned-k400"]
        >>> "published by the authors" in render_author_card(checkpoint)
        True
    """
    config, name = checkpoint.config(), checkpoint.name
    task = task_of(config)
    papers = (checkpoint.paper, *checkpoint.further_papers)
    metadata = ModelCardData(
        library_name="tubelets",
        pipeline_tag=ENCODER_TAG if task is None else task.hub_tag or task.name,
        license="other",
        license_name="see-the-authors-repository",
        tags=[
            *modalities_of(config),
            config.model_type,
            checkpoint.objective,
            *(f"arxiv:{paper.arxiv}" for paper in papers),
        ],
        datasets=sorted(
            {
                HUB_DATASETS[data]
                for data in (checkpoint.pretraining_data, checkpoint.finetuning_data)
                if data in HUB_DATASETS
            }
        ),
        base_model=checkpoint.pretrained_name,
        model_name=name,
        eval_results=_author_eval_results(checkpoint, task),
    )
    # Fine-tuning samples Kinetics with stride 4 and Something-Something in segments; 4 is the nearest fixed stride.
    stride = checkpoint.stride if task is None else 4
    card = CardSections(
        title=name,
        status=_author_status(checkpoint, converted),
        use=usage_snippet(config, "AutoModel" if task is None else task.auto_class, name, stride),
        outputs=outputs_of(config, task),
        conversion="" if converted else _conversion(checkpoint),
        training=checkpoint.training
        + (f" Then full fine-tuning on {DATASETS[checkpoint.finetuning_data]}." if checkpoint.finetuning_data else ""),
        settings={**encoder_rows(config), **size_rows(config), **input_rows(config), **checkpoint.settings},
        results=_author_results(checkpoint, task),
        limits=_author_limits(checkpoint),
        citation=_cited(papers),
    )
    return render(metadata, card)


def _author_status(checkpoint: AuthorCheckpoint, converted: bool) -> str:
    terms = "Licence of the weights: see the authors' repository."
    if converted:
        return f"The authors' weights ({checkpoint.source}), converted with `tubelets convert`. {terms}"
    return (
        "**This folder has the configuration and the processor, not the weights.** Download the authors' checkpoint "
        f"({checkpoint.source}) and convert it as shown under Conversion, or run `tubelets convert`. {terms}"
    )


def _cited(papers: Sequence[Paper]) -> str:
    """References, and the same as BibTeX."""
    references = "\n\n".join(paper.reference for paper in papers)
    return f"{references}\n\n```bibtex\n" + "\n".join(paper.bibtex for paper in papers) + "\n```"


def _conversion(checkpoint: AuthorCheckpoint) -> str:
    return "\n".join(
        [
            "import tubelets",
            "from transformers import AutoConfig",
            "from tubelets.models.common.layouts import read_checkpoint",
            f"from {checkpoint.converter} import from_official\n",
            f"# The weight file stores neither {checkpoint.not_in_file}.",
            f'config = AutoConfig.from_pretrained("{checkpoint.name}")',
            'weights, _ = read_checkpoint("official.pth")',
            f'from_official(weights, config).save_pretrained("{checkpoint.name}")',
        ]
    )


def _author_eval_results(checkpoint: AuthorCheckpoint, task: Task | None) -> list[EvalResult] | None:
    if task is None or checkpoint.finetuning_data is None:
        return None
    metric = task.metrics[task.primary_metric]
    return [
        EvalResult(
            task_type=task.name,
            dataset_type=HUB_DATASETS[checkpoint.finetuning_data],
            dataset_name=DATASETS[checkpoint.finetuning_data],
            dataset_split="validation",
            metric_type=metric.hub_name,
            metric_name=metric.title,
            metric_value=checkpoint.top1,
            source_name="published by the authors",
            source_url=checkpoint.paper.url,
        )
    ]


def _author_results(checkpoint: AuthorCheckpoint, task: Task | None) -> str:
    if task is not None and checkpoint.finetuning_data is not None:
        metric = task.metrics[task.primary_metric].title
        return (
            "| data | metric | value | source |\n|---|---|---|---|\n"
            f"| {DATASETS[checkpoint.finetuning_data]}, validation, {checkpoint.views} | {metric} | "
            f"{checkpoint.top1} % | published by the authors, [paper]({checkpoint.paper.url}); not measured by this "
            "package |"
        )
    if checkpoint.after_finetuning:
        rows = "".join(f"\n| {task} | {value} |" for task, value in checkpoint.after_finetuning.items())
        source = f"{checkpoint.after_finetuning_source}; not measured by this package"
        return f"Published after fine-tuning, {source}:\n\n| task | published |\n|---|---|{rows}"
    tuned = [f"`{each.name}`" for each in author_checkpoints().values() if each.pretrained_name == checkpoint.name]
    if tuned:
        return f"This is not a classifier. Fine-tuned classifiers: {', '.join(tuned)}."
    return "This is not a classifier, and no results after fine-tuning were published for this checkpoint."


def _author_limits(checkpoint: AuthorCheckpoint) -> str:
    sentences = ["No number in this card was measured by this package."]
    if checkpoint.finetuning_data is not None:
        sentences += [
            "Class names follow the data set's label order; the order in the authors' label files was not checked "
            "against it.",
            "The snippet classifies one clip; the published number averages several views.",
        ]
    if checkpoint.finetuning_data == "ssv2":
        sentences.append(
            "The network was fine-tuned on 16 frames spread over the whole video; the snippet samples a dense clip."
        )
    return " ".join([*sentences, transfer_limit(checkpoint.config())])


def citation_of(model_type: str) -> str:
    """Return the reference of a method's paper, as cited by the cards of its authors' checkpoints.

    Args:
        model_type: type of a model.

    Returns:
        Authors, title, venue, URL and BibTeX, or a pointer to them.
    """
    entry = MODELS.get(model_type)
    if entry is None:
        return "See the documentation of the model type."
    if entry.paper is not None:
        paper: Paper = entry.load(entry.paper)
        return _cited([paper])
    checkpoints = _checkpoints_of(model_type)
    return _cited([checkpoints[0].paper]) if checkpoints else "See the method's README in the package."


def objective_of(model_type: str) -> list[str]:
    """Return the pretraining tag of a model type, from the cards of its authors' checkpoints.

    Args:
        model_type: type of a model.

    Returns:
        A list with one tag, or empty if the type has no pretraining.

    Example:
        >>> objective_of("tubelet_contrast"), objective_of("sigma"), objective_of("i3d")
        (['contrastive-learning'], ['masked-video-modelling'], [])
    """
    entry = MODELS.get(model_type)
    if entry is None or "AutoModelForPreTraining" not in entry.models:
        return []
    checkpoints = _checkpoints_of(model_type)
    return [checkpoints[0].objective if checkpoints else "self-supervised-learning"]
