"""What a frozen model is given of a file: frames, or the spectrogram of its sound."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tubelets.data.modalities.audio import AudioSpec
from tubelets.data.sources.source import Source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream, Sampling, Transform
from tubelets.data.stream.loader import collate_clips
from tubelets.data.transforms.spatial import CenterCrop, Compose, ShortSideResize, normalize


@dataclass(frozen=True)
class FrameInputs:
    """Clips of frames.

    Attributes:
        clips: which frames; with several clips a video, each clip gives a row.
        transform: uint8 clip to uint8 clip, e.g. a central crop; None keeps it.
        mean: of each colour channel, on the scale [0, 1].
        std: of each colour channel, on the scale [0, 1].

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

    def describe(self) -> dict[str, Any]:
        """Everything that decides the tensors, as plain values."""
        return {"clips": asdict(self.clips), "transform": [repr(self.transform), list(self.mean), list(self.std)]}

    def stream(self, source: Source, batch_size: int) -> ClipStream:
        """The clips of a source in their stored order."""
        return ClipStream(source, self.clips, self.transform, shuffle_window=0, split="samples", batch_size=batch_size)

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of items; runs in the workers."""
        return collate_clips(items)

    def tensor(self, batch: Mapping[str, Any], device: torch.device) -> Tensor:
        """What the model takes, float `(B, frames, channels, height, width)`."""
        return normalize(batch["pixel_values"].to(device, non_blocking=True), self.mean, self.std)


@dataclass(frozen=True)
class SoundInputs:
    """Spectrograms of the middle of each sound.

    Attributes:
        extractor: a feature extractor of transformers' kind, with `sampling_rate` and `max_length`.

    Example:
        >>> from transformers import ASTFeatureExtractor
        >>> inputs = SoundInputs(ASTFeatureExtractor(max_length=64))
        >>> batch = inputs.collate([{"waveform": torch.zeros(8000), "clip_id": "a"}])
        >>> inputs.tensor(batch, torch.device("cpu")).shape, batch["clip_id"]
        (torch.Size([1, 64, 128]), ['a'])
    """

    extractor: Any

    def describe(self) -> dict[str, Any]:
        """Everything that decides the tensors, as plain values."""
        return {"extractor": self.extractor.to_dict()}

    def stream(self, source: Source, batch_size: int) -> ClipStream:
        """The sounds of a source in their stored order."""
        audio = AudioSpec.filling(self.extractor.max_length, self.extractor.sampling_rate, "centre")
        return ClipStream(source, None, audio=audio, shuffle_window=0, split="samples", batch_size=batch_size)

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch of items with their `input_values`; runs in the workers."""
        waves = [item["waveform"].numpy() for item in items]
        found = self.extractor(waves, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        others = [{name: value for name, value in item.items() if name != "waveform"} for item in items]
        return {**collate_clips(others), "input_values": found["input_values"]}

    def tensor(self, batch: Mapping[str, Any], device: torch.device) -> Tensor:
        """What the model takes, float `(B, time frames, mel bands)`."""
        return batch["input_values"].to(device, non_blocking=True)


def processor_inputs(
    processor: Any, num_frames: int | None = None, *, sampling: Sampling = "dense_test", stride: int = 4
) -> FrameInputs | SoundInputs:
    """What a model's processor makes of a file.

    Args:
        processor: a video processor, with `crop_size`, `image_mean` and `image_std`, or a feature extractor of sounds,
            with `sampling_rate` and `max_length`.
        num_frames: frames that a model of videos takes.
        sampling: which frames, see `ClipSpec`.
        stride: distance between the frames of a dense clip.

    Returns:
        Frames or sounds.

    Raises:
        ValueError: if the processor is of neither kind, such as one of both.

    Example:
        >>> from transformers import ASTFeatureExtractor
        >>> type(processor_inputs(ASTFeatureExtractor())).__name__
        'SoundInputs'
    """
    if hasattr(processor, "sampling_rate") and hasattr(processor, "max_length"):
        return SoundInputs(processor)
    if not hasattr(processor, "crop_size") or num_frames is None:
        raise ValueError(
            f"frozen evaluation knows models of videos or of sounds, not what {type(processor).__name__} makes with "
            f"num_frames={num_frames}; fine-tune a model of both instead"
        )
    size = processor.crop_size["height"]
    crop = Compose((ShortSideResize(size), CenterCrop(size)))
    clips = ClipSpec(num_frames, stride, sampling=sampling)
    return FrameInputs(clips, crop, processor.image_mean, processor.image_std)
