"""Batches of audio with or without frames: spectrograms are computed in the workers and mixed on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig, ProcessorMixin

from tubelets.data.modalities.audio import AudioSpec
from tubelets.data.modalities.specs import SpectrogramSpec, VideoSpec, specs_of
from tubelets.data.seeds import stable_seed
from tubelets.data.transforms.mixing import Mixing, smooth_one_hot
from tubelets.data.transforms.sound import SoundAugmentation
from tubelets.data.transforms.spatial import normalize
from tubelets.models.common.inputs import model_inputs
from tubelets.tasks.classification.labels import label_tensor


@dataclass(frozen=True)
class Inputs:
    """The inputs of a classifier of audio, frames, or both.

    Attributes:
        sound: its spectrogram, None for video-only models.
        frames: its clip, None for audio-only models.
        extractor: the feature extractor of its spectrograms.
    """

    sound: SpectrogramSpec | None
    frames: VideoSpec | None = None
    extractor: Any = None

    @classmethod
    def of(cls, config: PreTrainedConfig, processor: Any) -> "Inputs":
        """Inputs declared by a configuration, computed as in the model's processor.

        Args:
            config: the model's configuration.
            processor: a feature extractor of spectrograms, or a processor of sound and frames.
        """
        specs = model_inputs(config)
        sound, frames = (next(iter(specs_of(specs, kind)), None) for kind in (SpectrogramSpec, VideoSpec))
        extractor = processor
        if isinstance(processor, ProcessorMixin):
            extractor, video = processor.feature_extractor, processor.video_processor
            frames = frames and replace(frames, mean=tuple(video.image_mean), std=tuple(video.image_std))
        return cls(sound, frames, None if sound is None else extractor)

    def audio(self, position: Literal["random", "centre"]) -> AudioSpec | None:
        """The audio excerpt that fills a spectrogram, None for video-only models.

        Args:
            position: where a longer sound is cut.
        """
        if self.sound is None:
            return None
        return AudioSpec(self.sound.waveform.sampling_rate, self.sound.waveform.seconds, position)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """The normalised spectrogram `(frames, bands)` of a sound `(samples,)`."""
        rate = None if self.sound is None else self.sound.sampling_rate
        return self.extractor(waveform.numpy(), sampling_rate=rate, return_tensors="pt")["input_values"][0]


@dataclass(frozen=True)
class SoundCollator:
    """Collates items of a clip stream into batches of spectrograms and frames, and checks labels.

    Random numbers come from the clip's own seed, so results do not depend on workers or batches.

    Args:
        inputs: the model's inputs.
        num_labels: classes of the model.
        multi_label: labels are lists of the classes that are present; otherwise one class number.
        augment: augmentation in training; None changes nothing.
        numbers: the model's number of each class of the data, see `labels.label_numbers`; None if they are the same.

    Example:
        >>> from transformers import ASTFeatureExtractor
        >>> inputs = Inputs(SpectrogramSpec(16000, 64, 128), extractor=ASTFeatureExtractor(max_length=64))
        >>> collate = SoundCollator(inputs, num_labels=3)
        >>> batch = collate([{"waveform": torch.zeros(8000), "label": 2, "clip_id": "a", "seed": 1}])
        >>> batch["input_values"].shape, batch["labels"]
        (torch.Size([1, 64, 128]), tensor([2]))
    """

    inputs: Inputs
    num_labels: int
    multi_label: bool = False
    augment: SoundAugmentation | None = None
    numbers: tuple[int, ...] | None = None

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make a batch.

        Args:
            items: mappings with the model's inputs: `waveform`, float `(samples,)`; `pixel_values`, uint8
                `(T, C, H, W)` or single views `(1, T, C, H, W)`; and with `label`, `clip_id` and `seed`.

        Returns:
            The model's inputs: `input_values` float32 `(B, frames, bands)`, `pixel_values` uint8 `(B, T, C, H, W)`; and
            `labels`, int64 `(B,)`, or float32 `(B, num_labels)` in {0, 1} with `multi_label`; `clip_ids` and `seeds`,
            lists.

        Raises:
            ValueError: if a label does not fit the model; the message names the clip.
        """
        batch: dict[str, Any] = {
            "labels": torch.stack(
                [label_tensor(item, self.num_labels, self.multi_label, self.numbers) for item in items]
            ),
            "clip_ids": [str(item["clip_id"]) for item in items],
            "seeds": [int(item["seed"]) for item in items],
        }
        if self.inputs.sound is not None:
            batch["input_values"] = torch.stack([self._spectrogram(item) for item in items])
        if self.inputs.frames is not None:
            clips = torch.stack([item["pixel_values"] for item in items])
            batch["pixel_values"] = clips.flatten(0, 1) if clips.ndim == 6 else clips
        return batch

    def _spectrogram(self, item: Mapping[str, Any]) -> Tensor:
        if self.augment is None:
            return self.inputs.spectrogram(item["waveform"])
        generator = torch.Generator().manual_seed(stable_seed(int(item["seed"]), "sound"))
        values = self.inputs.spectrogram(self.augment.waveform(item["waveform"], generator))
        return self.augment.spectrogram(values, generator)


@dataclass(frozen=True)
class SoundBatch:
    """Turns batches of `SoundCollator` into a model's arguments, on its device: frames normalised, training mixed.

    Args:
        inputs: the model's inputs.
        device: where the model is.
        num_labels: classes.
        mixing: mixup of training batches; sound and frames of a clip are mixed alike. None mixes nothing.
        smoothing: label smoothing of single labels, in [0, 1).

    Example:
        >>> prepare = SoundBatch(Inputs(SpectrogramSpec(16000, 4, 2)), torch.device("cpu"), num_labels=2, smoothing=0.2)
        >>> batch = {"labels": torch.tensor([1]), "input_values": torch.zeros(1, 4, 2), "seeds": [3]}
        >>> prepare(batch)["labels"], list(prepare.arguments(batch))
        (tensor([[0.1000, 0.9000]]), ['input_values'])
    """

    inputs: Inputs
    device: torch.device
    num_labels: int
    mixing: Mixing | None = None
    smoothing: float = 0.0

    def arguments(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The model's arguments of a test batch."""
        names = ("input_values", "pixel_values")
        given = {name: batch[name].to(self.device, non_blocking=True) for name in names if name in batch}
        if self.inputs.frames is not None:
            given["pixel_values"] = normalize(given["pixel_values"], self.inputs.frames.mean, self.inputs.frames.std)
        return given

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The model's arguments of a training batch, and soft targets `(B, num_labels)` as `labels`.

        Raises:
            ValueError: if a batch that is to be mixed has an odd number of clips.
        """
        given, labels = self.arguments(batch), batch["labels"].to(self.device, non_blocking=True)
        targets = labels if labels.ndim == 2 else smooth_one_hot(labels, self.num_labels, self.smoothing)
        if self.mixing is None:
            return {**given, "labels": targets}
        if len(targets) % 2:
            raise ValueError(f"mixing pairs the clips of a batch and needs an even number of them, got {len(targets)}")
        generator = torch.Generator().manual_seed(stable_seed(*batch["seeds"], "mixing"))
        mix = self.mixing.draw(1, 1, generator)
        if mix is None:
            return {**given, "labels": targets}
        return {**{name: mix.clips(value) for name, value in given.items()}, "labels": mix.targets(targets)}
