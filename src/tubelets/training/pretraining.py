"""The parts of a pretraining run, built from its recipe, and its final model."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import AutoModelForPreTraining, PreTrainedModel

from tubelets.data.atomic import write_atomically
from tubelets.data.modalities.specs import VideoSpec, clips_per_sample, specs_of
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.spatial import (
    ClipTransform,
    Compose,
    HorizontalFlip,
    MultiScaleCrop,
    RandomResizedCrop,
    StretchedCrop,
)
from tubelets.info import package_versions
from tubelets.models.backbones.convolutional.modeling_convolutional import use_channels_last
from tubelets.models.common.auto import inference_processor, pretraining_collator
from tubelets.models.common.collators import TwoPartCollator
from tubelets.models.common.starting_parts import start_from_parts
from tubelets.models.teachers import attach_teacher
from tubelets.training.acceleration import enable_checkpointing
from tubelets.training.recipe import DataSection, Recipe


def build_model(recipe: Recipe) -> PreTrainedModel:
    """A `ForPreTraining` model with float32 weights, the same on every process.

    They are those of `model.init_from`, or random, apart from parts that the configuration names checkpoints of.
    """
    config = recipe.model.build_config()
    torch.manual_seed(recipe.run.seed)
    if recipe.model.init_from is None:
        model = start_from_parts(AutoModelForPreTraining.from_config(config, dtype=torch.float32))
    else:
        model = AutoModelForPreTraining.from_pretrained(recipe.model.init_from, config=config, dtype=torch.float32)
    attach_teacher(model, recipe.model.teacher_cache)
    if recipe.run.channels_last:
        use_channels_last(model)
    if recipe.run.activation_checkpointing:
        enable_checkpointing(model)
    return model.train()


def synchronize_batch_norm(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Compute the statistics of batch norm over the batches of all processes (tubelet_contrast.md, section 4.4).

    Args:
        model: the model, changed in place.
        accelerator: gives the device.

    Returns:
        The model.

    Raises:
        ValueError: if the run is on CPUs, where PyTorch does not support synchronised batch norm.
    """
    if accelerator.device.type == "cpu":
        raise ValueError("run.sync_batch_norm=true needs GPUs and this run is on CPUs; set run.sync_batch_norm=false")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def build_loader(recipe: Recipe, config: Any, accelerator: Accelerator) -> ClipLoader:
    """This process's stream of pretraining batches.

    Args:
        recipe: the run.
        config: the model's configuration; its `pretraining_specs` say what is decoded.
        accelerator: gives rank and number of processes.

    Returns:
        An endless loader whose batches are the arguments of the model.

    Raises:
        ValueError: if several clips per sound are requested, the data lack a medium that the model needs, or they
            do not fit the number of processes.
    """
    data, specs = recipe.data, config.pretraining_specs
    collator, on_device = pretraining_collator(config), recipe.run.augment_on == "device"
    video = next(iter(specs_of(specs, VideoSpec)), None)
    source = open_source(data.path, split=data.split, name=data.name)
    stream = ClipStream(
        source,
        ClipSpec.for_specs(specs, data.stride, data.clips_per_video * clips_per_sample(specs), data.sampling),
        None if video is None else clip_transform(data, video.size[0]),
        specs=specs,
        seed=recipe.run.seed,
        # A list of files is sorted by class, and only paths are shuffled.
        shuffle_window=(source.num_samples or 1) if isinstance(source, FolderSource) else data.shuffle_window,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        split=data.split_by,
        batch_size=recipe.run.batch_size * clips_per_sample(specs),
        repeat=True,
        on_bad_sample=data.on_bad_sample,
        backend=data.backend,
    )
    return ClipLoader(
        stream,
        data.num_workers,
        collator.prepare if isinstance(collator, TwoPartCollator) and on_device else collator,
        pin_memory=accelerator.device.type == "cuda",
    )


def second_part(recipe: Recipe, config: Any) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """What remains to be done with a batch on the model's device, see `run.augment_on`.

    Args:
        recipe: the run.
        config: the model's configuration.

    Returns:
        A function from a batch of `build_loader`, on the device, to the arguments of the model.

    Raises:
        ValueError: if the method has nothing that could be done on the device.
    """
    if recipe.run.augment_on == "workers":
        return lambda batch: batch
    collator = pretraining_collator(config)
    if not isinstance(collator, TwoPartCollator):
        raise ValueError(
            f"run.augment_on='device' is for methods that change pixels, and model_type={config.model_type!r} does "
            "not; set run.augment_on='workers'"
        )
    return collator.finish


def clip_transform(data: DataSection, size: int) -> ClipTransform:
    """The crop and flip of uint8 clips.

    Args:
        data: the recipe's section.
        size: height and width of the result in pixels.

    Example:
        >>> clip = torch.zeros(2, 3, 48, 64, dtype=torch.uint8)
        >>> transform = clip_transform(DataSection("shards", crop="stretched"), 32)
        >>> transform(clip, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 32, 32])
    """
    crop: ClipTransform
    if data.crop == "random_resized":
        low, high = data.crop_scales
        crop = RandomResizedCrop(size, (low, high))
    elif data.crop == "stretched":
        crop = StretchedCrop(size)
    else:
        crop = MultiScaleCrop(size, tuple(data.crop_scales))
    return Compose((crop, HorizontalFlip(data.horizontal_flip))) if data.horizontal_flip else crop


def clips_per_epoch(recipe: Recipe, loader: ClipLoader) -> int:
    """Clips per epoch over all processes: videos times clips per video.

    Raises:
        ValueError: if neither the source nor the recipe states the number of videos.
    """
    videos = recipe.data.samples_per_epoch or loader.stream.source.num_samples
    if videos is None:
        raise ValueError(f"{recipe.data.path} does not state its number of videos; set data.samples_per_epoch")
    return videos * recipe.data.clips_per_video


def save_final(recipe: Recipe, accelerator: Accelerator, model: Any, summary: dict[str, Any], card: str) -> Path:
    """Write the trained model to `<output_dir>/final`: weights, configuration, processor, recipe, versions and card.

    Args:
        recipe: the run.
        accelerator: unwraps the model; the main process writes.
        model: the trained model, as `prepare` returned it.
        summary: steps, clips, seconds and so on, as plain values.
        card: text of the model card.

    Returns:
        The folder, which `from_pretrained` loads.
    """
    folder = Path(recipe.run.output_dir) / "final"
    state = accelerator.get_state_dict(model)
    unwrapped = accelerator.unwrap_model(model)
    if accelerator.is_main_process:
        unwrapped.save_pretrained(folder, state_dict=state)
        inference_processor(unwrapped.config).save_pretrained(folder)
        recipe.save(folder / "recipe.yaml")
        content = {"versions": package_versions(), **summary}
        (folder / "README.md").write_text(card, encoding="utf-8")
        # Written last and atomically: scripts use this file to check whether the run is finished.
        summary_text = json.dumps(content, indent=2)
        write_atomically(folder / "training_summary.json", lambda path: path.write_text(summary_text, encoding="utf-8"))
    accelerator.wait_for_everyone()
    return folder
