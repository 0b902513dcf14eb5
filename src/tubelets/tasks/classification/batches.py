"""Batches for video classifiers: clips and labels checked in the workers, augmented as a batch on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tubelets.data.seeds import stable_seed
from tubelets.data.transforms.augmentations import RandomErasing
from tubelets.data.transforms.mixing import Mixing, smooth_one_hot
from tubelets.data.transforms.spatial import CenterCrop, ShortSideResize, normalize, three_crops


@dataclass(frozen=True)
class ViewCrops:
    """The views of a test clip: its shorter side resized, then one central or three spread crops.

    Args:
        size: side of a crop in pixels.
        crops: 1 (centre) or 3 (spread along the longer side).
        short_side: pixels of the resized shorter side before a central crop; None takes `size`.

    Raises:
        ValueError: if `crops` is another number, or `short_side` does not go with it or with `size`.

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
                f"short_side={self.short_side} must be at least size={self.size} and goes with a central crop only, "
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
        num_frames: frames that the model takes.
        size: height and width that the model takes, in pixels.
        num_labels: classes of the model.
        multi_label: labels are lists of the classes that are present; otherwise one class number.

    Example:
        >>> collate = ClassificationCollator(num_frames=2, size=4, num_labels=3, multi_label=True)
        >>> item = {"pixel_values": torch.zeros(2, 3, 4, 4), "label": [0, 2], "clip_id": "a", "seed": 1}
        >>> collate([item])["labels"]
        tensor([[1., 0., 1.]])
    """

    num_frames: int
    size: int
    num_labels: int
    multi_label: bool = False

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
        labels = [label_tensor(item, self.num_labels, self.multi_label) for item in items]
        return {
            "pixel_values": torch.stack([item["pixel_values"] for item in items]),
            "labels": torch.stack(labels),
            "clip_ids": [str(item["clip_id"]) for item in items],
            "seeds": [int(item["seed"]) for item in items],
        }

    def _check_clip(self, item: Mapping[str, Any]) -> None:
        frames, _, height, width = item["pixel_values"].shape[-4:]
        if frames != self.num_frames:
            raise ValueError(
                f"clip {item['clip_id']} has {frames} frames and the model takes {self.num_frames}; "
                "sample that many, or change the model's configuration"
            )
        if (height, width) != (self.size, self.size):
            raise ValueError(
                f"clip {item['clip_id']} has {height} x {width} pixels and the model takes {self.size} x {self.size}; "
                "crop to that size, or change the model's configuration"
            )


def label_tensor(item: Mapping[str, Any], num_labels: int, multi_label: bool = False) -> Tensor:
    """The label of a clip as a loss takes it.

    Args:
        item: mapping with `label` and `clip_id`.
        num_labels: classes of the model.
        multi_label: the label is a list of the classes that are present; otherwise one class number.

    Returns:
        An int64 scalar, or float32 `(num_labels,)` in {0, 1} with `multi_label`.

    Raises:
        ValueError: if the label does not fit; the message names the clip.

    Example:
        >>> label_tensor({"clip_id": "a", "label": [0, 2]}, 3, multi_label=True)
        tensor([1., 0., 1.])
    """
    label = item["label"]
    numbers = label if multi_label else [label]
    if not isinstance(numbers, (list, tuple)) or not all(type(number) is int for number in numbers):
        expected = "a list of class numbers (multi_label)" if multi_label else "a class number"
        raise ValueError(f"clip {item['clip_id']} has the label {label!r}; expected {expected}")
    for number in numbers:
        if not 0 <= number < num_labels:
            raise ValueError(
                f"clip {item['clip_id']} has label {number} and the model has {num_labels} classes (0 to "
                f"{num_labels - 1}); give the class names of this data set"
            )
    if not multi_label:
        return torch.tensor(label)
    present = torch.zeros(num_labels)
    present[list(numbers)] = 1.0
    return present


@dataclass(frozen=True)
class BatchAugmentation:
    """What happens to a training batch on the device: normalisation, random erasing, mixing, soft targets.

    Everything is drawn from the seeds of the clips, so that neither workers nor a resumed run change anything.

    Args:
        mean: of each colour channel, on the scale [0, 1].
        std: of each colour channel, on the scale [0, 1].
        num_labels: classes.
        erasing: random erasing; None erases nothing.
        mixing: mixup and cutmix; None mixes nothing.
        smoothing: label smoothing, in [0, 1); ignored for labels that are no class numbers.

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
            seeds: one integer a clip.

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
