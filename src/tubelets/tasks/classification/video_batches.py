"""Batches of frames: clips and labels are checked in the workers, and augmented as a batch on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tubelets.data.modalities.specs import VideoSpec
from tubelets.data.seeds import stable_seed
from tubelets.data.transforms.augmentations import RandomErasing
from tubelets.data.transforms.mixing import Mixing, smooth_one_hot
from tubelets.data.transforms.spatial import CenterCrop, ShortSideResize, normalize, three_crops
from tubelets.tasks.classification.labels import label_tensor


@dataclass(frozen=True)
class ViewCrops:
    """Views of a test clip: its shorter side resized, then one central crop or three along the longer side.

    Args:
        size: side of a crop in pixels.
        crops: 1 (centre) or 3 (spread along the longer side).
        short_side: pixels of the resized shorter side before a central crop; None is `size`.

    Raises:
        ValueError: if `crops` is another number, or `short_side` is smaller than `size` or given with three crops.

    Example:
        >>> ViewCrops(8, crops=3)(torch.zeros(2, 3, 16, 24, dtype=torch.uint8), torch.Generator()).shape
        torch.Size([3, 2, 3, 8, 8])

    Source: sigma.md, section 7.2; smile.md, section 8.2; severe_benchmark.md, section 2.3.
    """

    size: int = 224
    crops: int = 1
    short_side: int | None = None

    def __post_init__(self) -> None:
        if self.crops not in (1, 3):
            raise ValueError(f"crops must be 1 (centre) or 3 (spread along the longer side), got {self.crops}")
        if self.short_side is not None and (self.crops == 3 or self.short_side < self.size):
            raise ValueError(
                f"short_side={self.short_side} must be at least size={self.size} and needs a central crop, "
                f"got crops={self.crops}"
            )

    def __call__(self, clip: Tensor, generator: torch.Generator) -> Tensor:
        """Cut a clip `(T, C, H, W)` into views `(crops, T, C, size, size)`; the generator is not used."""
        resized = ShortSideResize(self.short_side or self.size)(clip)
        return three_crops(resized, self.size) if self.crops == 3 else CenterCrop(self.size)(resized)[None]


@dataclass(frozen=True)
class ClassificationCollator:
    """Stacks the items of a clip stream and checks that clips and labels fit the model.

    Args:
        frames: the clip that the model expects.
        num_labels: classes of the model.
        multi_label: labels are lists of the classes that are present; otherwise one class number.
        numbers: the model's number of each class of the data, see `labels.label_numbers`; None if they are the same.

    Example:
        >>> collate = ClassificationCollator(VideoSpec(2, (4, 4)), num_labels=3, multi_label=True)
        >>> item = {"pixel_values": torch.zeros(2, 3, 4, 4), "label": [0, 2], "clip_id": "a", "seed": 1}
        >>> collate([item])["labels"]
        tensor([[1., 0., 1.]])
    """

    frames: VideoSpec
    num_labels: int
    multi_label: bool = False
    numbers: tuple[int, ...] | None = None

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make a batch.

        Args:
            items: mappings with `pixel_values`, uint8 `(T, C, H, W)` or views `(V, T, C, H, W)`, `label`, `clip_id` and
                `seed`.

        Returns:
            `pixel_values` `(B, ..., T, C, H, W)`; `labels`, int64 `(B,)`, or float32 `(B, num_labels)` in {0, 1} with
            `multi_label`; `clip_ids` and `seeds`, lists.

        Raises:
            ValueError: if a clip or a label does not fit the model; the message names the clip.
        """
        for item in items:
            self._check_clip(item)
        labels = [label_tensor(item, self.num_labels, self.multi_label, self.numbers) for item in items]
        return {
            "pixel_values": torch.stack([item["pixel_values"] for item in items]),
            "labels": torch.stack(labels),
            "clip_ids": [str(item["clip_id"]) for item in items],
            "seeds": [int(item["seed"]) for item in items],
        }

    def _check_clip(self, item: Mapping[str, Any]) -> None:
        frames, _, height, width = item["pixel_values"].shape[-4:]
        if frames != self.frames.num_frames:
            raise ValueError(
                f"clip {item['clip_id']} has {frames} frames and the model expects {self.frames.num_frames}; "
                "sample that many, or change the model's configuration"
            )
        if (height, width) != self.frames.size:
            raise ValueError(
                f"clip {item['clip_id']} has {height} x {width} pixels and the model expects "
                f"{self.frames.size[0]} x {self.frames.size[1]}; crop to that size, or change the model's configuration"
            )


@dataclass(frozen=True)
class BatchAugmentation:
    """Normalisation, random erasing, mixing and soft targets of a training batch, on the device.

    All draws depend on the seeds of the clips only, not on the number of workers or a resume.

    Args:
        mean: of each colour channel, on the scale [0, 1].
        std: of each colour channel, on the scale [0, 1].
        num_labels: classes.
        erasing: random erasing; None erases nothing.
        mixing: mixup and cutmix; None mixes nothing.
        smoothing: label smoothing, in [0, 1); ignored for multi-label targets.

    Example:
        >>> augment = BatchAugmentation((0.5,) * 3, (0.5,) * 3, num_labels=2, smoothing=0.2)
        >>> clips = torch.full((2, 4, 3, 8, 8), 255, dtype=torch.uint8)
        >>> pixels, targets = augment(clips, torch.tensor([0, 1]), [1, 2])
        >>> pixels.unique().tolist(), targets
        ([1.0], tensor([[0.9000, 0.1000],
                [0.1000, 0.9000]]))
    """

    mean: Sequence[float]
    std: Sequence[float]
    num_labels: int
    erasing: RandomErasing | None = field(default_factory=RandomErasing)
    mixing: Mixing | None = None
    smoothing: float = 0.0

    def __call__(self, clips: Tensor, labels: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            clips: uint8 `(B, T, C, H, W)`.
            labels: int64 `(B,)`, or float `(B, num_labels)` in {0, 1}.
            seeds: one integer per clip.

        Returns:
            Float32 clips of the same shape, and float32 targets `(B, num_labels)`.

        Raises:
            ValueError: if a batch that is to be mixed has an odd number of clips.
        """
        pixels = normalize(clips, self.mean, self.std)
        if self.erasing is not None:
            generators = [torch.Generator().manual_seed(stable_seed(seed, "erasing")) for seed in seeds]
            pixels = torch.stack([self.erasing(*pair) for pair in zip(pixels, generators, strict=True)])
        targets = labels if labels.ndim == 2 else smooth_one_hot(labels, self.num_labels, self.smoothing)
        if self.mixing is not None:
            generator = torch.Generator().manual_seed(stable_seed(*seeds, "mixing"))
            pixels, targets = self.mixing(pixels, targets, generator)
        return pixels, targets


@dataclass(frozen=True)
class VideoBatch:
    """Turns batches of `ClassificationCollator` into a model's arguments, on its device.

    Args:
        input_name: argument of the model for the clips.
        frames: mean and deviation of its pixels.
        device: where the model is.
        augment: augmentation of training batches.

    Example:
        >>> spec = VideoSpec(2, (4, 4), mean=(0.5,) * 3, std=(0.5,) * 3)
        >>> prepare = VideoBatch("pixel_values", spec, torch.device("cpu"))
        >>> views = torch.zeros(1, 3, 2, 3, 4, 4, dtype=torch.uint8)
        >>> prepare.arguments({"pixel_values": views})["pixel_values"].shape
        torch.Size([3, 2, 3, 4, 4])
    """

    input_name: str
    frames: VideoSpec
    device: torch.device
    augment: BatchAugmentation | None = None

    def arguments(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The model's arguments of a test batch; views `(B, V, T, C, H, W)` become `(B * V, T, C, H, W)`."""
        views = batch["pixel_values"]
        clips = (views if views.ndim == 5 else views.flatten(0, 1)).to(self.device, non_blocking=True)
        return {self.input_name: normalize(clips, self.frames.mean, self.frames.std)}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The model's arguments of a training batch, and soft targets `(B, classes)` as `labels`."""
        if self.augment is None:
            raise ValueError("this batch is for tests only; pass augment to train")
        clips = batch["pixel_values"].to(self.device, non_blocking=True)
        labels = batch["labels"].to(self.device, non_blocking=True)
        pixels, targets = self.augment(clips, labels, batch["seeds"])
        return {self.input_name: pixels, "labels": targets}
