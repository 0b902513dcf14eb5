"""Saved models measured side by side with their random twins: only the difference to them was learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, AutoVideoProcessor, PreTrainedModel

from tubelets.data.sources import open_source
from tubelets.data.streaming import ClipSpec, Sampling
from tubelets.data.transforms import CenterCrop, Compose, ShortSideResize
from tubelets.evaluation.features import FeatureSet, Pooling, extract_features
from tubelets.evaluation.frozen import evaluate_frozen
from tubelets.models.loading import load_auto


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
        load_auto(AutoVideoProcessor, checkpoint).save_pretrained(folder)
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
    """Features of labelled shards, cropped and normalised as a model's processor does it.

    Args:
        model: a backbone with `config.num_frames`.
        processor: its video processor, with `crop_size`, `image_mean` and `image_std`.
        data: folder of labelled shards, or a Hub data set.
        splits: names of its splits.
        sampling: which frames, see `ClipSpec`.
        stride: distance between the frames of a dense clip.
        pooling: "mean" or "tokens".
        **options: further arguments of `extract_features`.

    Returns:
        The features of each split.
    """
    size = processor.crop_size["height"]
    return [
        extract_features(
            model,
            open_source(data, split=split),
            ClipSpec(model.config.num_frames, stride, sampling=sampling),
            Compose((ShortSideResize(size), CenterCrop(size))),
            mean=processor.image_mean,
            std=processor.image_std,
            pooling=pooling,
            **options,
        )
        for split in splits
    ]


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
    model, processor = load_auto(AutoModel, checkpoint), load_auto(AutoVideoProcessor, checkpoint)
    train, test = checkpoint_features(model, processor, data, **options)
    return evaluate_frozen(train, test, **(frozen or {}))
