"""Input specs: the inputs that a model declares, one spec per argument of `forward`.

A configuration declares its inputs once, as `input_specs`. Columns to read, decoding, transforms, collation, inference
processors and example inputs are derived from them. To add a modality, subclass `InputSpec` and
`tubelets.data.modalities.modality.Modality`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tubelets.ranges import Count, Finite, Positive, check_ranges

# Windows of 25 ms, 10 ms apart: the filter banks of AudioMAE, CAV-MAE and the Audio Spectrogram Transformer.
HOP_SECONDS = 0.01
WINDOW_SECONDS = 0.025

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class InputSpec(ABC):
    """One argument of a model, for one clip.

    Attributes:
        modality: "video", "audio", "text", "skeleton", or the name of a new modality.

    Raises:
        RangeError: A number of the subclass is out of the range that its annotation states.
    """

    modality: ClassVar[str]

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor of one clip, without the batch dimension."""

    def example(self, batch_size: int = 1, generator: Any = None) -> Any:
        """Draw a batch of random valid inputs, for tests, exports and cards.

        Args:
            batch_size: clips.
            generator: a `torch.Generator`; None draws from the global one.

        Returns:
            float32 `(batch_size, *shape)`, standard normal.
        """
        # Configurations import this module; torch is only needed to create tensors.
        import torch

        return torch.randn(batch_size, *self.shape, generator=generator)


@dataclass(frozen=True)
class VideoSpec(InputSpec):
    """Frames of a clip: `pixel_values` of shape `(frames, channels, height, width)`.

    Attributes:
        num_frames: frames of a clip.
        size: height and width in pixels.
        num_channels: 3 for RGB and colour-mapped depth, 2 for optical flow.
        mean: mean of each channel on the scale [0, 1].
        std: standard deviation of each channel on the scale [0, 1].
        media: the medium to decode: "video", "flow" or "depth".
        clips_per_sample: clips of one video that the model compares; they are adjacent in a batch.

    Example:
        >>> VideoSpec(16, (224, 224)).shape
        (16, 3, 224, 224)
    """

    modality: ClassVar[str] = "video"

    num_frames: Count
    size: tuple[Count, Count]
    num_channels: Count = 3
    mean: tuple[Finite, ...] = IMAGENET_MEAN
    std: tuple[Positive, ...] = IMAGENET_STD
    media: str = "video"
    clips_per_sample: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.size) != 2:
            raise ValueError(f"size must be height and width, got {self.size}")

    @property
    def shape(self) -> tuple[int, ...]:
        """`(frames, channels, height, width)`."""
        return (self.num_frames, self.num_channels, *self.size)


@dataclass(frozen=True)
class WaveformSpec(InputSpec):
    """A mono audio excerpt: `waveform` of shape `(samples,)`, from the medium "audio", otherwise from "video".

    Attributes:
        sampling_rate: samples per second.
        seconds: length of the excerpt; shorter sounds are not padded.

    Example:
        >>> WaveformSpec(16000, 2.0).shape
        (32000,)
    """

    modality: ClassVar[str] = "audio"

    sampling_rate: Count
    seconds: Positive

    @property
    def shape(self) -> tuple[int, ...]:
        """`(samples,)`."""
        return (round(self.seconds * self.sampling_rate),)


@dataclass(frozen=True)
class SpectrogramSpec(InputSpec):
    """A log-mel spectrogram: `input_values` of shape `(time frames, mel bands)`.

    Attributes:
        sampling_rate: samples per second of the waveform.
        max_length: time frames.
        num_mel_bins: mel bands.

    Example:
        >>> spec = SpectrogramSpec(16000, 1024, 128)
        >>> spec.shape, spec.waveform.shape
        ((1024, 128), (164080,))
    """

    modality: ClassVar[str] = "audio"

    sampling_rate: Count
    max_length: Count
    num_mel_bins: Count

    @property
    def shape(self) -> tuple[int, ...]:
        """`(time frames, mel bands)`."""
        return (self.max_length, self.num_mel_bins)

    @property
    def waveform(self) -> WaveformSpec:
        """The audio excerpt that fills the spectrogram."""
        return WaveformSpec(self.sampling_rate, (self.max_length - 1) * HOP_SECONDS + WINDOW_SECONDS)


@dataclass(frozen=True)
class TextSpec(InputSpec):
    """Token ids of a text: `input_ids` of shape `(tokens,)`.

    Attributes:
        max_length: tokens; longer texts are truncated, shorter ones padded.
        vocab_size: ids lie in [0, vocab_size).
        media: the annotation with the text, such as "caption".

    Example:
        >>> TextSpec(8, vocab_size=100).example(2).shape
        torch.Size([2, 8])
    """

    modality: ClassVar[str] = "text"

    max_length: Count
    vocab_size: Count
    media: str = "caption"

    @property
    def shape(self) -> tuple[int, ...]:
        """`(tokens,)`."""
        return (self.max_length,)

    def example(self, batch_size: int = 1, generator: Any = None) -> Any:
        """Random ids, int64 `(batch_size, max_length)`; see `InputSpec.example`."""
        import torch

        return torch.randint(self.vocab_size, (batch_size, self.max_length), generator=generator)


@dataclass(frozen=True)
class SkeletonSpec(InputSpec):
    """Joints of bodies over time: `skeletons` of shape `(bodies, frames, joints, coordinates)`.

    Attributes:
        layout: name of the joints and their order, such as "kinect-25" or "coco-17".
        num_frames: frames.
        num_joints: joints of a body.
        num_bodies: bodies; missing ones are zero.
        num_coordinates: 2 or 3, plus one for confidence.
        media: the medium to read.
        sampling: "clip" reads the frames that the clip shows, as for a video; "whole" reads the whole recording, of any
            length, which a processor or collator crops and resizes to `num_frames`.
        max_frames: with "whole", frames of a longer recording beyond these are left out.

    Raises:
        ValueError: if `sampling` is another one.

    Example:
        >>> SkeletonSpec("kinect-25", 64, 25, num_bodies=2).shape
        (2, 64, 25, 3)
    """

    modality: ClassVar[str] = "skeleton"

    layout: str
    num_frames: Count
    num_joints: Count
    num_bodies: Count = 1
    num_coordinates: Count = 3
    media: str = "skeleton"
    sampling: str = "clip"
    max_frames: Count = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampling not in ("clip", "whole"):
            raise ValueError(f"sampling must be 'clip' or 'whole', got {self.sampling!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """`(bodies, frames, joints, coordinates)`."""
        return (self.num_bodies, self.num_frames, self.num_joints, self.num_coordinates)


def specs_of(specs: Mapping[str, InputSpec], kind: type) -> list[Any]:
    """Return the specs of one class, in the order of the arguments.

    Args:
        specs: argument of `forward` to spec.
        kind: spec class.

    Example:
        >>> specs_of({"pixel_values": VideoSpec(8, (32, 32))}, WaveformSpec)
        []
    """
    return [spec for spec in specs.values() if isinstance(spec, kind)]


def clips_per_sample(specs: Mapping[str, InputSpec]) -> int:
    """Number of clips of one sample that the model compares.

    Example:
        >>> clips_per_sample({"pixel_values": VideoSpec(8, (32, 32), clips_per_sample=2)}), clips_per_sample({})
        (2, 1)
    """
    return max((spec.clips_per_sample for spec in specs_of(specs, VideoSpec)), default=1)
