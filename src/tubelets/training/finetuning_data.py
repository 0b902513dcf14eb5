"""The data of a fine-tuning run: class names, training batches and multi-view test batches."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tubelets.data.sources.annotations import find_class_names, read_records
from tubelets.data.sources.few_shot import FewShotSource
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.opening import open_source
from tubelets.data.sources.source import Source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.augmentations import ColorJitter, RandAugment, RandomErasing
from tubelets.data.transforms.mixing import Mixing
from tubelets.data.transforms.spatial import ClipTransform, Compose, HorizontalFlip, RandomResizedCrop
from tubelets.tasks.classification.batches import BatchAugmentation, ClassificationCollator, ViewCrops
from tubelets.training.classifiers import ClipShape
from tubelets.training.finetuning_arguments import DataArguments, FinetuningArguments, LabelledDataArguments

Part = Literal["train", "validation", "test"]


def open_part(
    data: LabelledDataArguments, part: Part, class_names: Sequence[str] | None = None, token: str | None = None
) -> Source:
    """Open one part of the data: shards, a Hub data set, a folder of class folders or a list of videos.

    Args:
        data: where the data is.
        part: which part; the test part falls back to the validation part.
        class_names: names that number the labels of video files; None takes those of `data.class_names`, and without
            such a file the labels that occur.
        token: access token of a private data set on the Hub.

    Returns:
        A source with labels and at least one video.

    Raises:
        FileNotFoundError: if there is nothing at the place.
        ValueError: if the part is not given, is empty or has no labels, or has labels without a name.
    """
    if data.dataset_name is not None:
        split = {"train": data.train_split, "validation": data.validation_split}.get(part, data.test_split)
        where, name = data.dataset_name, split or data.validation_split
        source = open_source(where, split=name, name=data.dataset_config_name, token=token)
    else:
        folder = {"train": data.train_dir, "validation": data.validation_dir}.get(part, data.test_dir)
        where, name = folder or (data.validation_dir if part == "test" else None) or "", part
        if not where:
            raise ValueError(f"there are no {part} videos; set {part}_dir, or leave out the step that needs them")
        if class_names is None and data.class_names is not None:
            class_names = read_class_names(data.class_names)
        source = FolderSource(read_records(where), class_names, data.multi_label)
    if "label" not in source.annotations:
        raise ValueError(f"{where} has no labels; its columns need a `label` or `cls`")
    if source.num_samples == 0:
        raise ValueError(f"split {name!r} of {where} is empty; build its shards again or name another split")
    if part == "train" and data.shots_per_class is not None:
        return FewShotSource(source, data.shots_per_class, data.shots_seed)
    return source


def read_class_names(path: str | Path) -> list[str]:
    """Read a file with one class name a line.

    Args:
        path: the file.

    Returns:
        The names in their order.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it names no class or one twice.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no class names at {path}; give a text file with one name a line")
    names = find_class_names([], path) or []
    if not names:
        raise ValueError(f"{path} names no class; write one name a line")
    return names


def resolve_class_names(data: LabelledDataArguments, source: Source) -> list[str]:
    """The names of the classes, from the file that was given or from the data.

    Args:
        data: may name a file.
        source: the videos.

    Returns:
        The names in the order that numbers them.

    Raises:
        ValueError: if nothing tells the names, or the file has another number of them than the data.
    """
    found = source.class_names
    if data.class_names is None:
        if found is None:
            raise ValueError(
                "the labels of the data have no names; give a file with one name a line as class_names (for shards: "
                "build them with class names)"
            )
        return found
    names = read_class_names(data.class_names)
    if found is not None and len(found) != len(names):
        raise ValueError(f"{data.class_names} names {len(names)} classes and the data has {len(found)}; correct it")
    return names


def check_same_classes(names: Sequence[str], source: Source, part: Part) -> None:
    """Refuse a part of the data whose classes are numbered in another way.

    Args:
        names: the classes that are trained.
        source: the part.
        part: its name, for the message.

    Raises:
        ValueError: if it has other classes.
    """
    found = source.class_names
    if found is None or list(found) == list(names):
        return
    different = next(pair for pair in itertools.zip_longest(names, found) if pair[0] != pair[1])
    raise ValueError(
        f"the {part} data has {len(found)} classes and training has {len(names)}, which first differ in "
        f"{different[1]!r} and {different[0]!r}; build both with the same class names"
    )


def train_transform(data: DataArguments, size: int) -> ClipTransform:
    """What happens to a training clip in the workers: RandAugment, random resized crop, flip, colour jitter.

    Args:
        data: the strengths.
        size: pixels that the model takes.

    Returns:
        A transform of uint8 clips.
    """
    randomly = () if data.random_augment is None else (RandAugment.parse(data.random_augment),)
    crop = RandomResizedCrop(size, (data.crop_scale[0], data.crop_scale[1]))
    colours = () if data.color_jitter is None else (ColorJitter(*data.color_jitter),)
    return Compose((*randomly, crop, HorizontalFlip(data.horizontal_flip), *colours))


def batch_augmentation(
    data: DataArguments, args: FinetuningArguments, num_labels: int, mean: Sequence[float], std: Sequence[float]
) -> BatchAugmentation:
    """What happens to a training batch on the device: normalisation, erasing, mixing, label smoothing.

    Args:
        data: the strengths.
        args: label smoothing.
        num_labels: classes.
        mean: of the channels, on the scale [0, 1].
        std: of the channels, on the scale [0, 1].

    Returns:
        The augmentation.

    Raises:
        ValueError: if batches that are to be mixed have an odd number of clips, or labels of a multi-label problem are
            to be smoothed.
    """
    mixing = Mixing(data.mixup, data.cutmix, data.mix_probability, data.cutmix_share)
    clips = args.per_device_train_batch_size * data.repeated_augmentation
    if mixing.active and clips % 2:
        raise ValueError(
            f"mixup and cutmix pair the clips of a batch, and it has {clips}; choose an even "
            "per_device_train_batch_size, or turn both off (mixup=0, cutmix=0)"
        )
    if data.multi_label and args.label_smoothing_factor:
        raise ValueError(f"label_smoothing_factor={args.label_smoothing_factor} does not fit multi_label; set it to 0")
    return BatchAugmentation(
        mean,
        std,
        num_labels,
        RandomErasing(data.random_erasing) if data.random_erasing else None,
        mixing if mixing.active else None,
        args.label_smoothing_factor,
    )


def split_by(data: LabelledDataArguments, source: Source) -> Literal["auto", "shards", "samples"]:
    """How workers share a source.

    Args:
        data: how they share shards.
        source: the clips.

    Returns:
        What a `ClipStream` takes.
    """
    # Reading a list of paths costs nothing, so that every worker may go through all of it.
    return "samples" if isinstance(source, FolderSource) else data.split_by


def train_loader(
    data: DataArguments, args: FinetuningArguments, source: Source, shape: ClipShape, num_labels: int
) -> ClipLoader:
    """This process's endless stream of training batches.

    Args:
        data: which clips, and how they are augmented.
        args: batch size, workers, seed, rank.
        source: the videos.
        shape: what the model takes.
        num_labels: classes of the model.

    Returns:
        A loader of batches as `ClassificationCollator` makes them.
    """
    repeats = data.repeated_augmentation
    stream = ClipStream(
        source,
        ClipSpec(shape.num_frames, data.stride, repeats, data.train_sampling, same_frames=True),
        train_transform(data, shape.size),
        seed=args.seed if args.data_seed is None else args.data_seed,
        shuffle_window=source.num_samples or 1 if isinstance(source, FolderSource) else data.shuffle_window,
        rank=args.process_index,
        world_size=args.world_size,
        split=split_by(data, source),
        batch_size=args.per_device_train_batch_size * repeats,
        repeat=True,
        on_bad_sample=data.on_bad_sample,
        backend=data.backend,
    )
    collate = ClassificationCollator(shape.num_frames, shape.size, num_labels, data.multi_label)
    return ClipLoader(
        stream,
        args.dataloader_num_workers,
        collate,
        pin_memory=args.device.type == "cuda",
        prefetch_factor=args.dataloader_prefetch_factor or 2,
    )


def view_loader(
    data: DataArguments,
    args: FinetuningArguments,
    source: Source,
    shape: ClipShape,
    num_labels: int,
    clips: int = 1,
    crops: int = 1,
) -> ClipLoader:
    """One pass over this process's share of the test videos, all views of a video in one batch.

    Args:
        data: which clips.
        args: clips in a forward pass (`per_device_eval_batch_size`), workers, rank.
        source: the videos.
        shape: what the model takes.
        num_labels: classes of the model.
        clips: clips of each video.
        crops: crops of each clip, 1 or 3.

    Returns:
        A loader of batches as `ClassificationCollator` makes them, with views in the second dimension.
    """
    videos = max(1, args.per_device_eval_batch_size // (clips * crops))
    stream = ClipStream(
        source,
        ClipSpec(shape.num_frames, data.stride, clips, data.test_sampling),
        ViewCrops(shape.size, crops, data.test_short_side),
        shuffle_window=0,
        rank=args.process_index,
        world_size=args.world_size,
        split=split_by(data, source),
        batch_size=videos * clips,
        on_bad_sample=data.on_bad_sample,
        backend=data.backend,
    )
    collate = ClassificationCollator(shape.num_frames, shape.size, num_labels, data.multi_label)
    return ClipLoader(stream, args.dataloader_num_workers, collate, pin_memory=args.device.type == "cuda")


class ClipBatch:
    """Makes the model's arguments of a training batch of clips: on the device, augmented, with soft targets.

    Args:
        augment: what happens to a batch on the device.
        device: where the model is.
        input_name: argument of the model that takes the clips.
    """

    def __init__(self, augment: BatchAugmentation, device: torch.device, input_name: str) -> None:
        self._augment, self._device, self._input_name = augment, device, input_name

    def __call__(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The arguments, with targets `(B, classes)` as `labels`."""
        clips = batch["pixel_values"].to(self._device, non_blocking=True)
        labels = batch["labels"].to(self._device, non_blocking=True)
        pixels, targets = self._augment(clips, labels, batch["seeds"])
        return {self._input_name: pixels, "labels": targets}


class EpochBatches:
    """One epoch after the other of an endless loader, as a Trainer wants them: counted, on the device, augmented.

    Args:
        loader: endless batches of this process.
        prepare: makes the model's arguments of a batch, such as `ClipBatch`.
        videos: clips in an epoch, over all processes.
        args: batch sizes.

    Raises:
        ValueError: if an epoch has fewer videos than a step.
    """

    def __init__(
        self,
        loader: ClipLoader,
        prepare: Callable[[dict[str, Any]], dict[str, Tensor]],
        videos: int,
        args: FinetuningArguments,
    ) -> None:
        self.loader, self._prepare = loader, prepare
        self.steps_per_epoch = videos // args.videos_per_step
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"an epoch has {videos} videos, fewer than the {args.videos_per_step} of a step; use smaller batches"
            )
        self._length = self.steps_per_epoch * args.gradient_accumulation_steps
        self._delivered = 0
        self._batches: Iterator[dict[str, Any]] | None = None

    def __len__(self) -> int:
        """Batches of this process in an epoch; the incomplete last step is dropped."""
        return self._length

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Give out the rest of the epoch."""
        if self._batches is None:
            self._batches = iter(self.loader)
        for _ in range(self._length - self._delivered % self._length):
            batch = next(self._batches)
            self._delivered += 1
            yield self._prepare(batch)

    def state_dict(self) -> dict[str, Any]:
        """The position behind the last batch; JSON."""
        return {"delivered": self._delivered, "length": self._length, "loader": self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue behind the batch after which the state was taken; call it before iterating.

        Args:
            state: what `state_dict` gave.

        Raises:
            ValueError: if an epoch had another length, or the loader refuses its part.
        """
        if state["length"] != self._length:
            raise ValueError(
                f"an epoch had {state['length']} batches and now has {self._length}; use the same data, batch sizes "
                "and processes, or start anew"
            )
        self.loader.load_state_dict(state["loader"])
        self._delivered = state["delivered"]


def videos_per_epoch(data: LabelledDataArguments, source: Source) -> int:
    """Videos in an epoch.

    Args:
        data: may tell.
        source: the training videos.

    Returns:
        Their number.

    Raises:
        ValueError: if neither tells.
    """
    videos = data.samples_per_epoch or source.num_samples
    if videos is None:
        raise ValueError(f"{data.dataset_name} does not tell how many videos it has; set samples_per_epoch")
    return videos
