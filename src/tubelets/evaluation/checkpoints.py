"""Saved models measured beside random weights of the same configuration: only the difference was learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForPreTraining,
    PreTrainedModel,
)

from tubelets.data.modalities.specs import SkeletonSpec, SpectrogramSpec, TextSpec, VideoSpec
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.source import Source
from tubelets.data.stream.clip_stream import Sampling
from tubelets.evaluation.devices import evaluation_device
from tubelets.evaluation.features import FeatureSet, Pooling, extract_features
from tubelets.evaluation.frozen import evaluate_frozen
from tubelets.evaluation.inputs import processor_inputs
from tubelets.models.common import safe_loading
from tubelets.models.common.inputs import model_inputs
from tubelets.models.common.safe_loading import load_config, load_model


def save_random_twin(checkpoint: str | Path, folder: str | Path, seed: int = 0) -> Path:
    """Save a model of the same configuration with random weights, and the same processor, unless it exists.

    Args:
        checkpoint: folder or Hub id of a model.
        folder: where the twin is saved; left as it is if it holds weights.
        seed: seed of the weights. A pretraining run with this seed starts from the same ones.

    Returns:
        The folder.
    """
    folder = Path(folder)
    if not (folder / "model.safetensors").exists():
        config = load_config(checkpoint)
        load_processor(checkpoint).save_pretrained(folder)
        auto_class = AutoModelForPreTraining if type(config) in AutoModelForPreTraining._model_mapping else AutoModel
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            auto_class.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


def checkpoint_features(
    model: PreTrainedModel,
    processor: Any,
    data: str | Path,
    splits: Sequence[str] = ("train", "test"),
    *,
    sampling: Sampling = "dense_test",
    stride: int = 4,
    pooling: Pooling = "own",
    **options: Any,
) -> list[FeatureSet]:
    """Features of labelled shards, preprocessed with a model's processor.

    Args:
        model: a video or audio model with one input.
        processor: its video processor or feature extractor, as `load_processor` returns it.
        data: labelled shards, class folders, a csv or list of files, or a Hub data set.
        splits: names of its splits.
        sampling: which frames, see `ClipSpec`.
        stride: distance between the frames of a dense clip.
        pooling: "own", or "tokens" for attentive probes; see `extract_features`.
        **options: further arguments of `extract_features`.

    Returns:
        The features of each split.
    """
    inputs = processor_inputs(processor, model.config, sampling=sampling, stride=stride)
    # All splits are opened first, so that a missing one is noticed before any work; labels that are text are numbered
    # as in the first.
    sources: list[Source] = []
    for split in splits:
        sources.append(open_source(data, split=split, class_names=sources[0].class_names if sources else None))
    return [extract_features(model, source, inputs, pooling=pooling, **options) for source in sources]


def load_processor(checkpoint: str | Path) -> Any:
    """Load the processor of a saved model.

    Args:
        checkpoint: folder or Hub id of a model.

    Returns:
        Its video processor, the feature extractor of an audio or skeleton model, or the processor of videos and texts.

    Raises:
        ValueError: if the model is audio-visual.
    """
    config = load_config(checkpoint)
    kinds = {type(spec) for spec in model_inputs(config).values()} - {TextSpec}
    if kinds in ({VideoSpec}, {SpectrogramSpec}, {SkeletonSpec}):
        return safe_loading.load_processor(checkpoint)
    raise ValueError(
        f"{checkpoint} is a {config.model_type}; frozen evaluation supports video, audio or skeleton models, not "
        "audio-visual ones: fine-tune such a model instead"
    )


def evaluate_checkpoint(
    checkpoint: str | Path, data: str | Path, *, frozen: Mapping[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """Load a model on the machine's accelerator, if it has one, and evaluate its frozen features.

    Args:
        checkpoint: folder or Hub id.
        data: labelled shards with the splits "train" and "test".
        frozen: arguments of `evaluate_frozen`.
        **options: arguments of `checkpoint_features`.

    Returns:
        The result of `evaluate_frozen`.
    """
    model, processor = load_model(AutoModel, checkpoint).to(evaluation_device()), load_processor(checkpoint)
    train, test = checkpoint_features(model, processor, data, **options)
    return evaluate_frozen(train, test, **(frozen or {}))
