"""The data of a fine-tuning run that hears: sounds to spectrograms in the workers, frames beside them, soft targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from tubelets.data.modalities.audio import AudioSpec
from tubelets.data.seeds import stable_seed
from tubelets.data.sources.balanced import BalancedSource
from tubelets.data.sources.folders import FolderSource
from tubelets.data.sources.source import Source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.mixing import Mixing, smooth_one_hot
from tubelets.data.transforms.sound import SoundAugmentation
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize, normalize
from tubelets.tasks.classification.batches import ViewCrops, label_tensor
from tubelets.training.classifiers import ClipShape, clip_shape
from tubelets.training.finetuning_arguments import AudioDataArguments, FinetuningArguments
from tubelets.training.finetuning_data import split_by, videos_per_epoch


@dataclass(frozen=True)
class Inputs:
    """What a classifier of sounds takes.

    Attributes:
        extractor: the feature extractor of its spectrograms, None if it only sees.
        frames: frames and pixels, None if it only hears.
        mean: of the colour channels, on the scale [0, 1].
        std: of the colour channels, on the scale [0, 1].
    """

    extractor: Any
    frames: ClipShape | None = None
    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    @classmethod
    def of(cls, config: PreTrainedConfig, processor: Any) -> "Inputs":
        """What a model takes, as its processor makes it.

        Args:
            config: the model's configuration; its `modality`, where it has one, says what the classifier uses.
            processor: a feature extractor of spectrograms, or a processor of sound and frames.

        Returns:
            Its inputs.
        """
        modality = config.to_dict().get("modality")
        if modality is None:
            return cls(processor)
        extractor, video = processor.feature_extractor, processor.video_processor
        if modality == "audio":
            return cls(extractor)
        seen = clip_shape(config), tuple(video.image_mean), tuple(video.image_std)
        return cls(None if modality == "video" else extractor, *seen)

    def audio(self, position: Literal["random", "centre"]) -> AudioSpec | None:
        """Which stretch of a sound fills a spectrogram, None if the model does not hear.

        Args:
            position: where a longer sound is cut.
        """
        if self.extractor is None:
            return None
        return AudioSpec.filling(self.extractor.max_length, self.extractor.sampling_rate, position)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """The normalised spectrogram `(frames, bands)` of a sound `(samples,)`."""
        values = self.extractor(waveform.numpy(), sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        return values["input_values"][0]


@dataclass(frozen=True)
class SoundCollator:
    """Makes batches of spectrograms and frames from the items of a clip stream, and checks labels.

    What training draws comes from the clip's own seed, so that workers and batches change nothing.

    Args:
        inputs: what the model takes.
        num_labels: classes of the model.
        multi_label: labels are lists of the classes that are present; otherwise one class number.
        augment: what is changed in training; None changes nothing.

    Example:
        >>> from transformers import ASTFeatureExtractor
        >>> collate = SoundCollator(Inputs(ASTFeatureExtractor(max_length=64)), num_labels=3)
        >>> batch = collate([{"waveform": torch.zeros(8000), "label": 2, "clip_id": "a", "seed": 1}])
        >>> batch["input_values"].shape, batch["labels"]
        (torch.Size([1, 64, 128]), tensor([2]))
    """

    inputs: Inputs
    num_labels: int
    multi_label: bool = False
    augment: SoundAugmentation | None = None

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make a batch.

        Args:
            items: mappings with `waveform`, float `(samples,)`, `pixel_values`, uint8 `(T, C, H, W)` or single views
                `(1, T, C, H, W)`, as far as the model takes them; `label`, `clip_id` and `seed`.

        Returns:
            `input_values` float32 `(B, frames, bands)` and `pixel_values` uint8 `(B, T, C, H, W)`, as far as the model
            takes them; `labels`, int64 `(B,)`, or float32 `(B, num_labels)` in {0, 1} with `multi_label`; `clip_ids`
            and `seeds`, lists.

        Raises:
            ValueError: if a label does not fit the model; the message names the clip.
        """
        batch: dict[str, Any] = {
            "labels": torch.stack([label_tensor(item, self.num_labels, self.multi_label) for item in items]),
            "clip_ids": [str(item["clip_id"]) for item in items],
            "seeds": [int(item["seed"]) for item in items],
        }
        if self.inputs.extractor is not None:
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
    """Makes the model's arguments of a batch: on the device, frames normalised, for training mixed with soft targets.

    Args:
        inputs: what the model takes.
        device: where the model is.
        num_labels: classes.
        mixing: mixup of training batches; sound and frames of a clip are mixed alike. None mixes nothing.
        smoothing: label smoothing of single labels, in [0, 1).

    Example:
        >>> prepare = SoundBatch(Inputs(None), torch.device("cpu"), num_labels=2, smoothing=0.2)
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
        """What the model takes, without labels, as a test uses it."""
        names = ("input_values", "pixel_values")
        given = {name: batch[name].to(self.device, non_blocking=True) for name in names if name in batch}
        if "pixel_values" in given:
            given["pixel_values"] = normalize(given["pixel_values"], self.inputs.mean, self.inputs.std)
        return given

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the model takes in training, with targets `(B, num_labels)` as `labels`.

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


@dataclass(frozen=True)
class SoundData:
    """The loaders of a run, and what happens to their batches.

    Args:
        data: which clips, and how they are augmented.
        args: batch sizes, workers, seed, rank.
        inputs: what the model takes.
        num_labels: classes of the model.
        multi_label: clips have any number of classes.

    Raises:
        ValueError: if batches that are to be mixed have an odd number of clips, or labels of a multi-label problem are
            to be smoothed.
    """

    data: AudioDataArguments
    args: FinetuningArguments
    inputs: Inputs
    num_labels: int
    multi_label: bool = False

    def __post_init__(self) -> None:
        clips = self.args.per_device_train_batch_size
        if self.args.do_train and self.mixing.active and clips % 2:
            raise ValueError(
                f"mixup pairs the clips of a batch, and it has {clips}; choose an even per_device_train_batch_size, or "
                "turn it off (mixup=0)"
            )
        if self.args.do_train and self.multi_label and self.args.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor={self.args.label_smoothing_factor} does not fit several labels a clip; set it "
                "to 0"
            )

    @cached_property
    def mixing(self) -> Mixing:
        """Mixup of training batches."""
        return Mixing(self.data.mixup, 0.0, self.data.mix_probability)

    @property
    def batch(self) -> SoundBatch:
        """What happens to a batch on the device."""
        mixing = self.mixing if self.mixing.active else None
        return SoundBatch(self.inputs, self.args.device, self.num_labels, mixing, self.args.label_smoothing_factor)

    def balanced(self, source: Source) -> Source:
        """The training clips as an epoch takes them: class-balanced draws, if they are asked for.

        Args:
            source: the training clips.

        Returns:
            The source, or draws from it, one an epoch.
        """
        if not self.data.class_balanced:
            return source
        draws = max(1, round(self.args.num_train_epochs))
        return BalancedSource(source, videos_per_epoch(self.data, source), draws, self.args.seed)

    def train_loader(self, source: Source) -> ClipLoader:
        """This process's endless stream of training batches.

        Args:
            source: the training clips, as `balanced` gives them.

        Returns:
            A loader of batches as `SoundCollator` makes them.
        """
        args, whole = self.args, source.num_samples or 1
        shape = self.inputs.frames
        # Balanced draws are in random order already, and one after the other.
        window = 0 if isinstance(source, BalancedSource) else self.data.shuffle_window
        stream = ClipStream(
            source,
            None if shape is None else ClipSpec(shape.num_frames, self.data.stride, sampling="dense"),
            None if shape is None else Compose((ShortSideResize(shape.size), CenterCrop(shape.size))),
            audio=self.inputs.audio("random"),
            seed=args.seed if args.data_seed is None else args.data_seed,
            shuffle_window=whole if isinstance(source, FolderSource) else window,
            rank=args.process_index,
            world_size=args.world_size,
            split="samples" if isinstance(source, BalancedSource) else split_by(self.data, source),
            batch_size=args.per_device_train_batch_size,
            repeat=True,
            on_bad_sample=self.data.on_bad_sample,
            backend=self.data.backend,
        )
        data = self.data
        augment = SoundAugmentation(data.roll, data.gain, data.noise, data.time_mask, data.frequency_mask)
        collate = SoundCollator(self.inputs, self.num_labels, self.multi_label, augment)
        return ClipLoader(
            stream,
            args.dataloader_num_workers,
            collate,
            pin_memory=args.device.type == "cuda",
            prefetch_factor=args.dataloader_prefetch_factor or 2,
        )

    def test_loader(self, source: Source, clips: int = 1) -> ClipLoader:
        """One pass over this process's share of the test clips.

        Args:
            source: the clips.
            clips: stretches of each video, for models that see; a sound alone has one.

        Returns:
            A loader of batches as `SoundCollator` makes them.
        """
        args, shape = self.args, self.inputs.frames
        clips = 1 if shape is None else clips
        stream = ClipStream(
            source,
            None if shape is None else ClipSpec(shape.num_frames, self.data.stride, clips, "dense_test"),
            None if shape is None else ViewCrops(shape.size),
            audio=self.inputs.audio("centre"),
            shuffle_window=0,
            rank=args.process_index,
            world_size=args.world_size,
            split=split_by(self.data, source),
            batch_size=max(1, args.per_device_eval_batch_size // clips) * clips,
            on_bad_sample=self.data.on_bad_sample,
            backend=self.data.backend,
        )
        collate = SoundCollator(self.inputs, self.num_labels, self.multi_label)
        return ClipLoader(stream, args.dataloader_num_workers, collate, pin_memory=args.device.type == "cuda")
