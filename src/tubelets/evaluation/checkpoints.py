"""Saved models measured side by side with their random twins: only the difference to them was learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForPreTraining,
    AutoVideoProcessor,
    PreTrainedModel,
)

from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import Sampling
from tubelets.evaluation.features import FeatureSet, Pooling, extract_features
from tubelets.evaluation.frozen import evaluate_frozen
from tubelets.evaluation.inputs import processor_inputs
from tubelets.models.common.auto import MODELS
from tubelets.models.common.safe_loading import load_auto


def save_random_twin(checkpoint: str | Path, folder: str | Path, seed: int = 0) -> Path:
    """Write a model of the same configuration with random weights, and the same processor; once.

    Args:
        checkpoint: folder or Hub id of a model.
        folder: where the twin goes; kept as it is if it holds weights.
        seed: seed of the weights. A pretraining run of this seed starts from the same ones.

    Returns:
        The folder.
    """
    folder = Path(folder)
    if not (folder / "model.safetensors").exists():
        config = load_auto(AutoConfig, checkpoint)
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
    pooling: Pooling = "mean",
    **options: Any,
) -> list[FeatureSet]:
    """Features of labelled shards, made into inputs as a model's processor does it.

    Args:
        model: a backbone of videos, with `config.num_frames`, or of sounds.
        processor: its video processor or feature extractor, as `load_processor` gives it.
        data: folder of labelled shards, or a Hub data set.
        splits: names of its splits.
        sampling: which frames, see `ClipSpec`.
        stride: distance between the frames of a dense clip.
        pooling: "mean" or "tokens".
        **options: further arguments of `extract_features`.

    Returns:
        The features of each split.
    """
    inputs = processor_inputs(processor, getattr(model.config, "num_frames", None), sampling=sampling, stride=stride)
    return [
        extract_features(model, open_source(data, split=split), inputs, pooling=pooling, **options) for split in splits
    ]


def load_processor(checkpoint: str | Path) -> Any:
    """What makes the inputs of a saved model.

    Args:
        checkpoint: folder or Hub id of a model.

    Returns:
        Its video processor, or the feature extractor of a model of sounds.

    Raises:
        ValueError: if the model takes both.
    """
    config = load_auto(AutoConfig, checkpoint)
    entry = MODELS.get(config.model_type)
    if entry is not None and entry.joint_processor is not None:
        raise ValueError(
            f"{checkpoint} is a {config.model_type}, which sees and hears; frozen evaluation knows one of both"
        )
    hears = hasattr(config, "num_mel_bins")
    return load_auto(AutoFeatureExtractor if hears else AutoVideoProcessor, checkpoint)


def evaluate_checkpoint(
    checkpoint: str | Path, data: str | Path, *, frozen: Mapping[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """Load a model and measure its frozen features.

    Args:
        checkpoint: folder or Hub id.
        data: labelled shards with the splits "train" and "test".
        frozen: arguments of `evaluate_frozen`.
        **options: arguments of `checkpoint_features`.

    Returns:
        What `evaluate_frozen` returns.
    """
    model, processor = load_auto(AutoModel, checkpoint), load_processor(checkpoint)
    train, test = checkpoint_features(model, processor, data, **options)
    return evaluate_frozen(train, test, **(frozen or {}))
