"""Inputs of a frozen model: frames, spectrograms or skeletons of a file."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import BaseVideoProcessor, PreTrainedConfig
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.processing_utils import ProcessorMixin

from tubelets.data.modalities.audio import AudioSpec
from tubelets.data.modalities.specs import InputSpec, SkeletonSpec, SpectrogramSpec, TextSpec, VideoSpec
from tubelets.data.sources.source import Source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream, Sampling, Transform
from tubelets.data.stream.loader import collate_clips
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize, normalize
from tubelets.models.common.inputs import model_inputs


@dataclass(frozen=True)
class FrameInputs:
    """Clips of frames.

    Attributes:
        clips: which frames; with several clips per video, each clip gives a row.
        transform: uint8 clip to uint8 clip, e.g. a central crop; None keeps it.
        mean: of each colour channel, on the scale [0, 1].
        std: of each colour channel, on the scale [0, 1].
        name: argument of the model's `forward`.

    Example:
        >>> inputs = FrameInputs(ClipSpec(4), None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        >>> clip = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
        >>> inputs.tensor(inputs.collate([{"pixel_values": clip}]), torch.device("cpu")).mean().item()
        -1.0
    """

    clips: ClipSpec
    transform: Transform | None
    mean: Sequence[float]
    std: Sequence[float]
    name: str = "pixel_values"

    def describe(self) -> dict[str, Any]:
        """Everything that determines the tensors, as plain values."""
        return {"clips": asdict(self.clips), "transform": [repr(self.transform), list(self.mean), list(self.std)]}

    def stream(self, source: Source, batch_size: int, times: bool = False) -> ClipStream:
        """The clips of a source in their stored order, with `times` also their place in the file.

        A batch has at most `batch_size` clips, and at least those of one video.
        """
        per_video = self.clips.clips_per_video
        whole = max(per_video, batch_size - batch_size % per_video)
        stream = functools.partial(ClipStream, source, shuffle_window=0, split="samples", batch_size=whole)
        return stream(clips=self.clips, transform=self.transform, times=times)

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of items; runs in the workers."""
        return collate_clips(items)

    def tensor(self, batch: Mapping[str, Any], device: torch.device) -> Tensor:
        """The model's input, float `(B, frames, channels, height, width)`."""
        return normalize(batch["pixel_values"].to(device, non_blocking=True), self.mean, self.std)


@dataclass(frozen=True)
class SoundInputs:
    """Spectrograms of the middle of each sound.

    Attributes:
        extractor: a feature extractor from waveforms to `input_values`.
        spec: the spectrogram that the model expects.
        name: argument of the model's `forward`.

    Example:
        >>> from transformers import ASTFeatureExtractor
        >>> inputs = SoundInputs(ASTFeatureExtractor(max_length=64), SpectrogramSpec(16000, 64, 128))
        >>> batch = inputs.collate([{"waveform": torch.zeros(8000), "clip_id": "a"}])
        >>> inputs.tensor(batch, torch.device("cpu")).shape, batch["clip_id"]
        (torch.Size([1, 64, 128]), ['a'])
    """

    extractor: Any
    spec: SpectrogramSpec
    name: str = "input_values"

    def describe(self) -> dict[str, Any]:
        """Everything that determines the tensors, as plain values."""
        return {"extractor": self.extractor.to_dict()}

    def stream(self, source: Source, batch_size: int, times: bool = False) -> ClipStream:
        """The sounds of a source in their stored order; see `FrameInputs.stream`."""
        audio = AudioSpec.filling(self.spec.max_length, self.spec.sampling_rate, "centre")
        stream = functools.partial(ClipStream, source, shuffle_window=0, split="samples", batch_size=batch_size)
        return stream(clips=None, audio=audio, times=times)

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of items with their `input_values`; runs in the workers."""
        waves = [item["waveform"].numpy() for item in items]
        found = self.extractor(waves, sampling_rate=self.spec.sampling_rate, return_tensors="pt")
        others = [{name: value for name, value in item.items() if name != "waveform"} for item in items]
        return {**collate_clips(others), "input_values": found["input_values"]}

    def tensor(self, batch: Mapping[str, Any], device: torch.device) -> Tensor:
        """The model's input, float `(B, time frames, mel bands)`."""
        return batch["input_values"].to(device, non_blocking=True)


@dataclass(frozen=True)
class SkeletonInputs:
    """The middle of each recording of skeletons, resized to the frames of the model.

    Attributes:
        extractor: prepares recordings, see `SkeletonFeatureExtractor`.
        spec: the recordings that are read.
        name: argument of the model's `forward`.

    Example:
        >>> from tubelets.models.backbones.skeleton_networks.processing_skeleton import SkeletonFeatureExtractor
        >>> inputs = SkeletonInputs(SkeletonFeatureExtractor(), SkeletonSpec("kinect-25", 64, 25, 2, sampling="whole"))
        >>> batch = inputs.collate([{"skeletons": torch.rand(2, 90, 25, 3), "clip_id": "a"}])
        >>> inputs.tensor(batch, torch.device("cpu")).shape
        torch.Size([1, 2, 64, 25, 3])
    """

    extractor: Any
    spec: SkeletonSpec
    name: str = "skeletons"

    def describe(self) -> dict[str, Any]:
        """Everything that determines the tensors, as plain values."""
        return {"extractor": self.extractor.to_dict(), "spec": asdict(self.spec)}

    def stream(self, source: Source, batch_size: int, times: bool = False) -> ClipStream:
        """The recordings of a source in their stored order; see `FrameInputs.stream`."""
        specs = {self.name: self.spec}
        stream = functools.partial(ClipStream, source, shuffle_window=0, split="samples", batch_size=batch_size)
        return stream(clips=ClipSpec.for_specs(specs), specs=specs, times=times)

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of items with their prepared recordings; runs in the workers."""
        found = self.extractor([item[self.name] for item in items], return_tensors="pt")
        others = [{name: value for name, value in item.items() if name != self.name} for item in items]
        return {**collate_clips(others), self.name: found["skeletons"]}

    def tensor(self, batch: Mapping[str, Any], device: torch.device) -> Tensor:
        """The model's input, float `(B, bodies, frames, joints, coordinates)`."""
        return batch[self.name].to(device, non_blocking=True)


Inputs = FrameInputs | SoundInputs | SkeletonInputs
"""Inputs of a frozen model of any modality."""


def processor_inputs(
    processor: Any, config: PreTrainedConfig, *, sampling: Sampling = "dense_test", stride: int = 4, windows: int = 1
) -> Inputs:
    """Inputs that a model's configuration declares, preprocessed as its processor does.

    Args:
        processor: the model's video processor, the feature extractor of an audio model, or a processor of several
            inputs that holds either.
        config: the model's configuration, see `tubelets.models.common.inputs.model_inputs`.
        sampling: which frames, see `ClipSpec`.
        stride: distance between the frames of a dense clip.
        windows: clips of a video, spread evenly; a sound and a recording of skeletons have one.

    Returns:
        Frames, spectrograms or skeletons.

    Raises:
        ValueError: if the model has several inputs beside texts, or its processor or frame size is not supported, or
            several windows of a sound or a recording are requested.

    Example:
        >>> from transformers import ASTConfig, ASTFeatureExtractor
        >>> type(processor_inputs(ASTFeatureExtractor(), ASTConfig())).__name__
        'SoundInputs'
    """
    # A model of videos and texts is given its videos alone.
    specs = [(name, spec) for name, spec in model_inputs(config).items() if not isinstance(spec, TextSpec)]
    (name, spec), kind = specs[0], type(processor).__name__
    if len(specs) == 1:
        processor = _part(processor, spec)
    if len(specs) == 1 and isinstance(processor, FeatureExtractionMixin):
        if windows != 1:
            raise ValueError(f"windows={windows}, but a sound is read once, at its middle; leave it at 1")
        if isinstance(spec, SpectrogramSpec):
            return SoundInputs(processor, spec, name)
        if isinstance(spec, SkeletonSpec):
            return SkeletonInputs(processor, spec, name)
    if len(specs) > 1 or not isinstance(spec, VideoSpec) or not isinstance(processor, BaseVideoProcessor):
        raise ValueError(
            f"{config.model_type} expects {' and '.join(name for name, _ in specs)}, preprocessed by {kind}; frozen "
            "evaluation supports video, audio or skeleton models, not audio-visual ones: fine-tune such a model instead"
        )
    if spec.size[0] != spec.size[1]:
        raise ValueError(f"frames of {spec.size[0]} x {spec.size[1]} pixels are not square; choose a square model")
    # A processor may resize to more pixels than it crops to.
    short_side = (processor.to_dict()["size"] or {}).get("shortest_edge", spec.size[0])
    crop = Compose((ShortSideResize(short_side), CenterCrop(spec.size[0])))
    return FrameInputs(ClipSpec(spec.num_frames, stride, windows, sampling), crop, *_statistics(processor), name)


def _part(processor: Any, spec: InputSpec) -> Any:
    """The part of a processor of several inputs that prepares one of them."""
    if not isinstance(processor, ProcessorMixin):
        return processor
    return vars(processor).get("video_processor" if isinstance(spec, VideoSpec) else "feature_extractor", processor)


def _statistics(processor: Any) -> tuple[list[float], list[float]]:
    """Mean and deviation, on the scale [0, 1], that give the same pixels as a processor's rescaling and normalising."""
    channels = len(processor.image_mean)
    extremes = torch.tensor([0.0, 255.0]).view(2, 1, 1, 1).expand(2, channels, 1, 1)
    mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    black, white = processor.rescale_and_normalize(
        extremes, processor.do_rescale, processor.rescale_factor, processor.do_normalize, mean, std
    ).flatten(1)
    scale = (white - black).double()
    return [round(value, 6) for value in (-black / scale).tolist()], [round(value, 6) for value in (1 / scale).tolist()]
