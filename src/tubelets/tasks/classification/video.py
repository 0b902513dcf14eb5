"""Classification of videos: clips of frames, multi-view tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from transformers import AutoVideoProcessor, PreTrainedConfig, TrainingArguments
from transformers.models.auto.video_processing_auto import (
    VIDEO_PROCESSOR_MAPPING_NAMES,
    video_processor_class_from_name,
)
from transformers.processing_utils import ProcessorMixin

from tubelets.data.modalities.specs import VideoSpec, specs_of
from tubelets.data.sources.source import Source
from tubelets.data.stream.clip_stream import ClipSpec
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.augmentations import ColorJitter, RandAugment, RandomErasing
from tubelets.data.transforms.mixing import Mixing
from tubelets.data.transforms.spatial import ClipTransform, Compose, HorizontalFlip, RandomResizedCrop
from tubelets.models.common.auto import MODELS, inference_processor
from tubelets.models.common.inputs import model_inputs
from tubelets.tasks.classification.arguments import VideoDataArguments
from tubelets.tasks.classification.data import METRICS, ClassificationData, describe_views, soft_target_loss
from tubelets.tasks.classification.video_batches import BatchAugmentation, ClassificationCollator, VideoBatch, ViewCrops
from tubelets.tasks.task import Task


def video_input(config: PreTrainedConfig) -> tuple[str, VideoSpec]:
    """The argument of a video classifier and its clip.

    Args:
        config: the configuration of a video model of this package or of transformers.

    Raises:
        ValueError: if the model has other inputs, or its frames are not square.

    Example:
        >>> from transformers import VJEPA2Config
        >>> name, spec = video_input(VJEPA2Config())
        >>> name, spec.num_frames, spec.size
        ('pixel_values_videos', 64, (256, 256))
    """
    inputs = model_inputs(config)
    clips = specs_of(inputs, VideoSpec)
    if not len(inputs) == len(clips) == 1:
        raise ValueError(
            f"model type {config.model_type!r} expects {', '.join(inputs)}, and video classification provides one "
            "clip of frames; use --task audio-classification for audio models"
        )
    (name,), (spec,) = inputs, clips
    if spec.size[0] != spec.size[1]:
        raise ValueError(
            f"the model expects {spec.size[0]} x {spec.size[1]} pixels, and fine-tuning crops squares; choose a model "
            "with square frames"
        )
    return name, spec


def video_processor(config: PreTrainedConfig, stored: Callable[[Any], Any]) -> Any:
    """Return the processor to save with a video classifier.

    Args:
        config: the classifier's configuration.
        stored: loads the processor stored with the weights by an Auto class; returns None if absent.

    Returns:
        For our model types, a processor built from the configuration; otherwise the stored one, or the model type's
        default at the model's input size. It has `image_mean` and `image_std`.

    Raises:
        ValueError: if the model type does not have a video processor.
    """
    if config.model_type in MODELS:
        return inference_processor(config)
    processor = stored(AutoVideoProcessor)
    if processor is not None:
        return processor
    # Some versions of transformers map a type to a name, others to a name for each backend.
    found: Any = VIDEO_PROCESSOR_MAPPING_NAMES.get(config.model_type)
    name: str | None = found.get("torchvision") if isinstance(found, Mapping) else found
    if name is None:
        raise ValueError(f"model type {config.model_type!r} does not have a video processor; save one with the model")
    (size, _) = video_input(config)[1].size
    square = {"height": size, "width": size}
    return video_processor_class_from_name(name)(size={"shortest_edge": size}, crop_size=square)


def train_transform(data: VideoDataArguments, size: int) -> ClipTransform:
    """Augmentation of a training clip in the workers: RandAugment, random resized crop, flip, colour jitter."""
    randomly = () if data.random_augment is None else (RandAugment.parse(data.random_augment),)
    crop = RandomResizedCrop(size, (data.crop_scale[0], data.crop_scale[1]))
    colours = () if data.color_jitter is None else (ColorJitter(*data.color_jitter),)
    return Compose((*randomly, crop, HorizontalFlip(data.horizontal_flip), *colours))


class VideoData(ClassificationData):
    """Videos for a classifier of frames; see `ClassificationData`."""

    data: VideoDataArguments

    def __init__(
        self,
        data: VideoDataArguments,
        args: TrainingArguments,
        token: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.repeats = data.repeated_augmentation
        super().__init__(data, args, token, class_names)
        # Charades: a video shows a class if any of its views does.
        self.merge = "max" if self.multi_label else "mean"

    @property
    def mixing(self) -> Mixing:
        """Mixup and cutmix of training batches."""
        return Mixing(self.data.mixup, self.data.cutmix, self.data.mix_probability, self.data.cutmix_share)

    def bind(self, config: PreTrainedConfig, processor: Any) -> None:
        """Fit the loaders to a model's clips; the processor's mean and deviation are those of its weights."""
        name, spec = video_input(config)
        data, classes = self.data, len(self.class_names)
        # A model that also reads texts has a processor of both.
        processor = processor.video_processor if isinstance(processor, ProcessorMixin) else processor
        self.frames = replace(spec, mean=tuple(processor.image_mean), std=tuple(processor.image_std))
        augment = BatchAugmentation(
            self.frames.mean,
            self.frames.std,
            classes,
            RandomErasing(data.random_erasing) if data.random_erasing else None,
            self.mixing if self.mixing.active else None,
            self.args.label_smoothing_factor,
        )
        self.batch = VideoBatch(name, self.frames, self.args.device, augment)

    @property
    def pipeline_tag(self) -> str:
        """Video classification."""
        return "video-classification"

    def train_loader(self) -> ClipLoader:
        """This process's endless stream of training batches."""
        data, spec = self.data, self.frames
        clips = ClipSpec(spec.num_frames, data.stride, self.repeats, data.train_sampling, same_frames=True)
        return self._train_loader(clips, train_transform(data, spec.size[0]), self._collator(self.train_source))

    def test_loader(self, source: Source, final: bool) -> ClipLoader:
        """One pass over this process's share of a source; with all views in the final test, otherwise with one."""
        data, spec = self.data, self.frames
        clips, crops = (data.test_clips, data.test_crops) if final else (1, 1)
        return self._test_loader(
            source,
            ClipSpec(spec.num_frames, data.stride, clips, data.test_sampling),
            ViewCrops(spec.size[0], crops, data.test_short_side),
            self._collator(source),
            views=clips * crops,
        )

    def _collator(self, source: Source | None) -> ClassificationCollator:
        return ClassificationCollator(self.frames, len(self.class_names), self.multi_label, self.label_numbers(source))

    def prepare(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """A training batch on the device, augmented, with soft targets."""
        return self.batch(batch)

    def arguments(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The model's arguments of a test batch, on its device."""
        return self.batch.arguments(batch)


VIDEO_CLASSIFICATION = Task(
    name="video-classification",
    auto_class="AutoModelForVideoClassification",
    primary_metric="top_1",
    arguments=VideoDataArguments,
    data=VideoData,
    processor=video_processor,
    loss=soft_target_loss,
    protocol=describe_views,
    metrics=METRICS,
)
