"""Stock VideoMAE: export classifiers and encoders, which transformers then loads without this package, and import."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import (
    PreTrainedModel,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessor,
    VideoMAEModel,
)

from tubelets.models.backbones.video_vit.processing_video_vit import video_processor
from tubelets.models.common.errors import CheckpointLayoutError

# Allowed difference of outputs: stock's `fc_norm` ignores the configured epsilon and always uses 1e-5.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}


class StockExportError(ValueError):
    """Stock VideoMAE cannot express a model."""


def to_stock(model: PreTrainedModel) -> VideoMAEForVideoClassification | VideoMAEModel:
    """A stock VideoMAE model with the weights of ours.

    Outputs are equal up to one constant: stock's `fc_norm` always has epsilon 1e-5 and ours the configured one (1e-6),
    a relative difference of about 1e-5 in the logits. `drop_path_rate`, `head_dropout` and the initialisation, which
    matter in training only, have no counterpart there and are dropped.

    Args:
        model: a classifier or an encoder of the masked-video family.

    Returns:
        The stock model in evaluation mode, in the dtype and on the device of ours.

    Raises:
        StockExportError: if the model is neither, has weights that stock lacks, or has other outputs.

    Example:
        >>> from tubelets import TubeletsVideoMAEConfig, TubeletsVideoMAEForVideoClassification
        >>> config = TubeletsVideoMAEConfig(image_size=32, num_frames=4, num_hidden_layers=1, num_labels=3)
        >>> type(to_stock(TubeletsVideoMAEForVideoClassification(config))).__name__
        'VideoMAEForVideoClassification'
    """
    if model.stock_class is None:
        raise StockExportError(
            f"{type(model).__name__} does not have a stock counterpart, only classifiers and encoders do; for a "
            "pretraining model, save `model.videomae`"
        )
    stock_class = getattr(transformers, str(model.stock_class))
    stock = stock_class(stock_config(model.config)).to(device=model.device, dtype=model.dtype)
    ours, theirs = model.state_dict(), stock.state_dict()
    extra, missing = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    wrong = sorted(name for name in ours.keys() & theirs.keys() if ours[name].shape != theirs[name].shape)
    if extra or missing or wrong:
        raise StockExportError(
            f"stock VideoMAE does not have the weights {extra[:5]}, needs {missing[:5]} and has other shapes for "
            f"{wrong[:5]}; this {type(model).__name__} can only be loaded with this package"
        )
    stock.load_state_dict(ours)
    _check_same_outputs(model, stock.eval())
    return stock


def from_stock(stock: PreTrainedModel, model_class: Any) -> Any:
    """A model of the masked-video family with the weights of a stock VideoMAE model in memory.

    `model_class.from_pretrained` does the same with a folder or a Hub id.

    Args:
        stock: `VideoMAEModel`, `VideoMAEForVideoClassification` or `VideoMAEForPreTraining`.
        model_class: the class of this package with the same parts, such as `SigmaForVideoClassification`.

    Returns:
        The model, in evaluation mode, in the dtype and on the device of the stock one.

    Raises:
        CheckpointLayoutError: if the two do not have the same weights.

    Example:
        >>> from tubelets import SigmaModel
        >>> sizes = {"image_size": 32, "num_frames": 2, "hidden_size": 24, "num_attention_heads": 2}
        >>> stock = VideoMAEModel(VideoMAEConfig(**sizes, num_hidden_layers=1, intermediate_size=32))
        >>> type(from_stock(stock, SigmaModel)).__name__
        'SigmaModel'
    """
    model = model_class(model_class.config_class.from_dict(stock.config.to_dict()))
    try:
        model.load_state_dict(stock.state_dict())
    except RuntimeError as error:
        raise CheckpointLayoutError(
            f"{model_class.__name__} does not have the weights of a {type(stock).__name__}; choose the class with the "
            f"same parts ({error})"
        ) from error
    return model.to(device=stock.device, dtype=stock.dtype).eval()


def stock_config(config: Any) -> VideoMAEConfig:
    """The fields of a configuration that stock VideoMAE has, labels included.

    Args:
        config: a configuration of the masked-video family.

    Returns:
        A stock configuration of model type `videomae`.
    """
    known = {entry.name for entry in fields(VideoMAEConfig)} - {"architectures", "transformers_version"}
    content = {name: value for name, value in config.to_dict().items() if name in known}
    content["label2id"] = {name: number for number, name in config.id2label.items()}
    return VideoMAEConfig(**content)


@torch.no_grad()
def _check_same_outputs(model: PreTrainedModel, stock: Any) -> None:
    """Reject a model whose outputs differ from stock's on a clip of noise."""
    generator = torch.Generator().manual_seed(0)
    config = model.config
    shape = (1, config.num_frames, config.num_channels, *config.image_height_width)
    clip = torch.randn(shape, generator=generator).to(device=model.device, dtype=model.dtype)
    training = model.training
    ours, theirs = (_first(each.eval()(clip)) for each in (model, stock))
    model.train(training)
    # In lower precision, the two orders of operations round differently.
    eps = torch.finfo(model.dtype).eps
    tolerance = {name: max(value, 16 * eps) for name, value in TOLERANCE.items()}
    if not torch.allclose(ours, theirs, **tolerance):
        difference = float((ours - theirs).abs().max())
        raise StockExportError(
            f"stock VideoMAE gives other outputs than this {type(model).__name__} (by up to {difference:.2g}): it "
            "computes something that stock cannot express, and can only be loaded with this package"
        )


def _first(output: Any) -> Tensor:
    return output["logits" if "logits" in output else "last_hidden_state"].float()


def save_as_videomae(
    model: PreTrainedModel,
    folder: str | Path,
    is_main_process: bool = True,
    state_dict: Mapping[str, Tensor] | None = None,
    **kwargs: Any,
) -> None:
    """Write a folder that stock transformers loads: configuration, safetensors, and both kinds of processor.

    The two attention biases are stored under the names of transformers 4 and of the published checkpoints (`q_bias`,
    `v_bias`) and under those of transformers 5 (`query.bias`, `value.bias`), so that every version finds its own.

    Args:
        model: a classifier or an encoder of the masked-video family.
        folder: the folder, created if needed.
        is_main_process: False writes nothing.
        state_dict: weights to write instead of the model's; gathered ones of a sharded model.
        **kwargs: passed to `save_pretrained`, e.g. `max_shard_size`.

    Raises:
        StockExportError: if stock VideoMAE cannot express the model.
    """
    if state_dict is not None:
        unsharded = type(model)(model.config)
        unsharded.load_state_dict(state_dict)
        model = unsharded.eval()
    if not is_main_process:
        return
    stock = to_stock(model)
    weights = stock.state_dict()
    for name in list(weights):
        for new, old in (("query.bias", "q_bias"), ("value.bias", "v_bias")):
            if name.endswith(f".attention.attention.{new}"):
                # A copy: safetensors refuses two names for one piece of memory.
                weights[name.removesuffix(new) + old] = weights[name].clone()
    stock.save_pretrained(folder, state_dict=weights, save_original_format=False, **kwargs)
    processor = video_processor(model.config)
    processor.save_pretrained(folder)
    # The pipeline of transformers 4 reads an image processor.
    VideoMAEImageProcessor(
        size=dict(processor.size),
        crop_size=dict(processor.crop_size),
        image_mean=processor.image_mean,
        image_std=processor.image_std,
    ).save_pretrained(folder)
