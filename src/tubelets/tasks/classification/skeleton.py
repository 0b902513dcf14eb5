"""Classification of recordings of skeletons."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from tubelets.data.modalities.specs import SkeletonSpec, specs_of
from tubelets.data.seeds import stable_seed
from tubelets.data.sources.source import Source
from tubelets.data.stream.clip_stream import ClipSpec
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.mixing import Mixing, smooth_one_hot
from tubelets.draws import rand
from tubelets.models.backbones.skeleton_networks.processing_skeleton import SkeletonFeatureExtractor, normalize_clips
from tubelets.models.common.auto import MODELS, inference_processor
from tubelets.models.common.inputs import model_inputs
from tubelets.skeletons import ViewSettings, central_crops, crop_resize, draw_views, mirror, pad_clips
from tubelets.tasks.classification.arguments import SkeletonDataArguments
from tubelets.tasks.classification.data import METRICS, ClassificationData, soft_target_loss
from tubelets.tasks.classification.labels import label_tensor
from tubelets.tasks.task import Task


def skeleton_input(config: PreTrainedConfig) -> tuple[str, SkeletonSpec]:
    """The argument of a skeleton classifier and its clip.

    Args:
        config: the configuration of a model of this package.

    Raises:
        ValueError: if the model has other inputs.

    Example:
        >>> from tubelets import BiGruConfig
        >>> skeleton_input(BiGruConfig())[1].shape
        (2, 64, 25, 3)
    """
    inputs = model_inputs(config)
    clips = specs_of(inputs, SkeletonSpec)
    if not len(inputs) == len(clips) == 1:
        raise ValueError(
            f"model type {config.model_type!r} expects {', '.join(inputs)}, and skeleton classification provides one "
            "clip of skeletons"
        )
    return next(iter(inputs)), clips[0]


def task_processor(config: PreTrainedConfig, stored: Callable[[Any], Any]) -> Any:
    """Return the processor to save with a skeleton classifier.

    Args:
        config: the classifier's configuration.
        stored: not used; models of this package have a processor of their own.

    Returns:
        A processor built from the configuration.

    Raises:
        ValueError: if the model type is none of this package.
    """
    if config.model_type not in MODELS:
        raise ValueError(f"model type {config.model_type!r} has no processor of skeletons; choose a model of tubelets")
    return inference_processor(config)


@dataclass(frozen=True)
class SkeletonCollator:
    """Collates recordings into batches of clips, and checks labels.

    Random numbers come from the clip's own seed, so results do not depend on workers or batches.

    Args:
        extractor: the model's processor: layout, normalisation, the crop of test clips.
        num_labels: classes of the model.
        name: argument of the model.
        multi_label: labels are lists of the classes that are present; otherwise one class number.
        settings: crop and augmentation of training clips; None cuts test clips.
        mirror: probability that a training clip is mirrored.
        numbers: the model's number of each class of the data, see `labels.label_numbers`; None if they are the same.

    Example:
        >>> collate = SkeletonCollator(SkeletonFeatureExtractor(), num_labels=3)
        >>> batch = collate([{"skeletons": torch.rand(2, 90, 25, 3), "label": 2, "clip_id": "a", "seed": 1}])
        >>> batch["skeletons"].shape, batch["labels"]
        (torch.Size([1, 2, 64, 25, 3]), tensor([2]))
    """

    extractor: SkeletonFeatureExtractor
    num_labels: int
    name: str = "skeletons"
    multi_label: bool = False
    settings: ViewSettings | None = None
    mirror: float = 0.0
    numbers: tuple[int, ...] | None = None

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make a batch.

        Args:
            items: mappings with the recording, float `(bodies, frames, joints, coordinates)`, `label`, `clip_id` and
                `seed`.

        Returns:
            The recordings' clips, float32 `(B, bodies, num_frames, joints, coordinates)`, under the name of the model's
            argument; `labels`, int64 `(B,)`, or float32 `(B, num_labels)` in {0, 1} with `multi_label`; `clip_ids` and
            `seeds`, lists.

        Raises:
            ValueError: if a recording or a label does not fit the model.
        """
        labels = [label_tensor(item, self.num_labels, self.multi_label, self.numbers) for item in items]
        extract = self.extractor
        padded, lengths = pad_clips([extract.recording(item[self.name]) for item in items])
        clips = normalize_clips(padded, extract.skeleton_layout, extract.normalization, extract.has_confidence)
        seeds = [int(item["seed"]) for item in items]
        if self.settings is None:
            views = crop_resize(clips, *central_crops(lengths, extract.crop), extract.num_frames)
        else:
            views = self._augmented(clips, lengths, seeds)
        return {
            self.name: views,
            "labels": torch.stack(labels),
            "clip_ids": [str(item["clip_id"]) for item in items],
            "seeds": seeds,
        }

    def _augmented(self, clips: Tensor, lengths: Tensor, seeds: Sequence[int]) -> Tensor:
        assert self.settings is not None
        layout = self.extractor.skeleton_layout
        generators = [torch.Generator().manual_seed(stable_seed(seed, "view")) for seed in seeds]
        plan = draw_views(self.settings, lengths, layout.num_joints, generators)
        views = plan.apply(clips, self.settings.num_frames)
        if not self.mirror:
            return views
        return mirror(views, layout, rand(len(views), generator=generators) < self.mirror)


class SkeletonData(ClassificationData):
    """Recordings of skeletons for a classifier; see `ClassificationData`."""

    data: SkeletonDataArguments

    @property
    def mixing(self) -> Mixing:
        """Mixup of training batches."""
        return Mixing(self.data.mixup, 0.0, self.data.mix_probability)

    def bind(self, config: PreTrainedConfig, processor: Any) -> None:
        """Fit the loaders to a model's clips and its processor."""
        self.input_name, spec = skeleton_input(config)
        self.specs, self.extractor = {self.input_name: spec}, processor
        self.settings = ViewSettings(
            spec.num_frames,
            ("temporal", *self.data.augmentations),
            self.data.crop_ratio,
            self.data.crop_frames,
            self.data.jitter_joints,
            self.data.shear_strength,
            spec.num_coordinates - processor.has_confidence,
        )

    @property
    def pipeline_tag(self) -> str:
        """The name of the task; the Hub's tag is `Task.hub_tag`, because it has none for skeletons."""
        return "skeleton-classification"

    def train_loader(self) -> ClipLoader:
        """This process's endless stream of training batches."""
        collate = self._collator(self.train_source, self.settings, self.data.mirror)
        return self._train_loader(ClipSpec.for_specs(self.specs or {}), None, collate)

    def test_loader(self, source: Source, final: bool) -> ClipLoader:
        """One pass over this process's share of a source; one view of each clip, the middle."""
        return self._test_loader(source, ClipSpec.for_specs(self.specs or {}), None, self._collator(source), views=1)

    def _collator(
        self, source: Source | None, settings: ViewSettings | None = None, mirror: float = 0.0
    ) -> SkeletonCollator:
        numbers, classes = self.label_numbers(source), len(self.class_names)
        return SkeletonCollator(self.extractor, classes, self.input_name, self.multi_label, settings, mirror, numbers)

    def prepare(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """A training batch on the device, mixed, with soft targets."""
        device, smoothing = self.args.device, self.args.label_smoothing_factor
        labels = batch["labels"].to(device, non_blocking=True)
        targets = labels if labels.ndim == 2 else smooth_one_hot(labels, len(self.class_names), smoothing)
        given = self.arguments(batch)
        if not self.mixing.active:
            return {**given, "labels": targets}
        mix = self.mixing.draw(1, 1, torch.Generator().manual_seed(stable_seed(*batch["seeds"], "mixing")))
        if mix is None:
            return {**given, "labels": targets}
        return {**{name: mix.clips(value) for name, value in given.items()}, "labels": mix.targets(targets)}

    def arguments(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The model's arguments of a test batch, on its device."""
        return {self.input_name: batch[self.input_name].to(self.args.device, non_blocking=True)}


SKELETON_CLASSIFICATION = Task(
    name="skeleton-classification",
    auto_class="AutoModelForSkeletonClassification",
    primary_metric="top_1",
    arguments=SkeletonDataArguments,
    data=SkeletonData,
    processor=task_processor,
    loss=soft_target_loss,
    protocol=lambda data: "one clip from the middle",
    metrics=METRICS,
    hub_tag="other",
)
