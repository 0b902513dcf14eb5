"""Classification of audio, and of videos with audio, from spectrograms and frames."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import transformers
from torch import Tensor
from transformers import AutoFeatureExtractor, PreTrainedConfig, TrainingArguments

from tubelets.data.modalities.specs import SpectrogramSpec, specs_of
from tubelets.data.sources.balanced import BalancedSource
from tubelets.data.sources.source import Source
from tubelets.data.stream.clip_stream import ClipSpec
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.mixing import Mixing
from tubelets.data.transforms.sound import SoundAugmentation
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize
from tubelets.models.common.auto import MODELS, inference_processor
from tubelets.models.common.inputs import model_inputs
from tubelets.tasks.classification.arguments import AudioDataArguments
from tubelets.tasks.classification.audio_batches import Inputs, SoundBatch, SoundCollator
from tubelets.tasks.classification.data import METRICS, ClassificationData, describe_views, soft_target_loss
from tubelets.tasks.classification.video_batches import ViewCrops
from tubelets.tasks.task import Task


def audio_processor(config: PreTrainedConfig, stored: Callable[[Any], Any]) -> Any:
    """Return the processor to save with an audio classifier.

    Args:
        config: the classifier's configuration.
        stored: loads the processor stored with the weights by an Auto class; returns None if absent.

    Returns:
        For our model types, a processor built from the configuration; for the Audio Spectrogram Transformer the stored
        one, or the default at the model's input size.

    Raises:
        ValueError: if the model does not accept spectrograms.
    """
    if config.model_type in MODELS:
        return inference_processor(config)
    processor = stored(AutoFeatureExtractor)
    if processor is not None:
        return processor
    try:
        (spec,) = specs_of(model_inputs(config), SpectrogramSpec)
    except ValueError as error:
        raise ValueError(
            f"model type {config.model_type!r} does not accept spectrograms; choose an audio model of this package or "
            "an Audio Spectrogram Transformer"
        ) from error
    return transformers.ASTFeatureExtractor(num_mel_bins=spec.num_mel_bins, max_length=spec.max_length)


class SoundData(ClassificationData):
    """Audio, or videos with audio, for a spectrogram classifier; see `ClassificationData`.

    With `class_balanced` the training clips of an epoch are a draw with replacement.
    """

    data: AudioDataArguments

    def __init__(
        self,
        data: AudioDataArguments,
        args: TrainingArguments,
        token: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(data, args, token, class_names)
        if self.train_source is not None and data.class_balanced:
            draws = max(1, round(args.num_train_epochs))
            self.train_source = BalancedSource(self.train_source, self.samples_per_epoch, draws, args.seed)

    @property
    def mixing(self) -> Mixing:
        """Mixup of training batches."""
        return Mixing(self.data.mixup, 0.0, self.data.mix_probability)

    def bind(self, config: PreTrainedConfig, processor: Any) -> None:
        """Fit the loaders to a model's spectrograms and frames."""
        self.inputs = Inputs.of(config, processor)
        mixing = self.mixing if self.mixing.active else None
        classes, smoothing = len(self.class_names), self.args.label_smoothing_factor
        self.batch = SoundBatch(self.inputs, self.args.device, classes, mixing, smoothing)

    @property
    def pipeline_tag(self) -> str:
        """Audio classification, or video classification if the model uses frames."""
        return "audio-classification" if self.inputs.frames is None else "video-classification"

    def train_loader(self) -> ClipLoader:
        """This process's endless stream of training batches."""
        data, frames = self.data, self.inputs.frames
        augment = SoundAugmentation(data.roll, data.gain, data.noise, data.time_mask, data.frequency_mask)
        return self._train_loader(
            None if frames is None else ClipSpec(frames.num_frames, data.stride, sampling="dense"),
            None if frames is None else Compose((ShortSideResize(frames.size[0]), CenterCrop(frames.size[0]))),
            self._collator(self.train_source, augment),
            self.inputs.audio("random"),
        )

    def test_loader(self, source: Source, final: bool) -> ClipLoader:
        """One pass over this process's share of a source; with all views in the final test, otherwise with one."""
        frames = self.inputs.frames
        clips = self.data.test_clips if final and frames is not None else 1
        return self._test_loader(
            source,
            None if frames is None else ClipSpec(frames.num_frames, self.data.stride, clips, "dense_test"),
            None if frames is None else ViewCrops(frames.size[0]),
            self._collator(source),
            views=clips,
            audio=self.inputs.audio("centre"),
        )

    def _collator(self, source: Source | None, augment: SoundAugmentation | None = None) -> SoundCollator:
        numbers = self.label_numbers(source)
        return SoundCollator(self.inputs, len(self.class_names), self.multi_label, augment, numbers)

    def prepare(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """A training batch on the device, mixed, with soft targets."""
        return self.batch(batch)

    def arguments(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The model's arguments of a test batch, on its device."""
        return self.batch.arguments(batch)


AUDIO_CLASSIFICATION = Task(
    name="audio-classification",
    auto_class="AutoModelForAudioClassification",
    primary_metric="top_1",
    arguments=AudioDataArguments,
    data=SoundData,
    processor=audio_processor,
    loss=soft_target_loss,
    protocol=describe_views,
    metrics=METRICS,
)
