"""What a clip is made of, and how it is decoded: frames of a video, a stretch of its sound, or both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tubelets.data.modalities.audio import AudioSpec, audio_duration, decode_audio
from tubelets.data.modalities.frame_sampling import (
    dense_test_clips,
    random_dense_clip,
    random_finetune_clip,
    random_jittered_clip,
    random_segment_clip,
    segment_test_clips,
    uniform_clip,
)
from tubelets.data.modalities.video import Backend, open_video, read_clips

Sampling = Literal["dense", "jittered", "finetune", "segment", "dense_test", "segment_test", "uniform"]


@dataclass(frozen=True)
class ClipSpec:
    """Which frames of a video make a clip; plain values, so that a recipe file can state them.

    Attributes:
        num_frames: Frames of a clip, at least 1.
        stride: Distance between two of them in video frames, at least 1; the segment and uniform samplings, which
            always span the whole video, do not use it.
        clips_per_video: Clips taken from each video, at least 1; the video is decoded once for all of them.
        sampling: The function of `frame_sampling` that chooses frames. Drawn for each clip: "dense" (pretraining),
            "jittered" (`stride` is the largest one), "finetune", "segment". Fixed: "dense_test" and
            "segment_test" (clip k of `clips_per_video`) and "uniform" (one clip only).
        same_frames: All clips of a video show the frames of its first one, only augmented differently: the repeated
            augmentation of fine-tuning. False draws frames for each clip.

    Raises:
        ValueError: A number is below 1, or the sampling is unknown or gives a single clip while more are asked for.

    Example:
        >>> ClipSpec(num_frames=4, stride=4, clips_per_video=2, sampling="dense_test").indices(24, 1, torch.Generator())
        [8, 12, 16, 20]
    """

    num_frames: int = 16
    stride: int = 4
    clips_per_video: int = 1
    sampling: Sampling = "dense"
    same_frames: bool = False

    def __post_init__(self) -> None:
        check_least(1, num_frames=self.num_frames, stride=self.stride, clips_per_video=self.clips_per_video)
        check_choice("sampling", self.sampling, get_args(Sampling))
        if self.sampling == "uniform" and self.clips_per_video > 1:
            raise ValueError(f"sampling='uniform' gives one clip, but clips_per_video={self.clips_per_video}")

    def indices(self, num_video_frames: int, clip_index: int, generator: torch.Generator) -> list[int]:
        """Choose the frames of one clip.

        Args:
            num_video_frames: Frames of the video, at least 1; a short video repeats frames.
            clip_index: Which clip of the video, 0 to `clips_per_video - 1`.
            generator: What random samplings draw from.

        Returns:
            `num_frames` frame numbers, never decreasing.
        """
        frames = (num_video_frames, self.num_frames)
        if self.sampling == "dense":
            return random_dense_clip(*frames, self.stride, generator=generator)
        if self.sampling == "jittered":
            return random_jittered_clip(*frames, self.stride, generator=generator)
        if self.sampling == "finetune":
            return random_finetune_clip(*frames, self.stride, generator=generator)
        if self.sampling == "segment":
            return random_segment_clip(*frames, generator=generator)
        if self.sampling == "dense_test":
            return dense_test_clips(*frames, self.stride, self.clips_per_video)[clip_index]
        if self.sampling == "segment_test":
            return segment_test_clips(*frames, self.clips_per_video)[clip_index]
        return uniform_clip(*frames)


@dataclass(frozen=True)
class ClipDecoder:
    """Takes frames, sound, or both out of an encoded file.

    Attributes:
        clips: Which frames; None for sound alone.
        audio: Which stretch of the sound; None for frames alone. With frames it is laid around those of its clip.
        backend: Decoder of frames, see `open_video`.

    Raises:
        ValueError: Neither frames nor sound are asked for.

    Example:
        >>> from tubelets.data.modalities.audio import encode_audio
        >>> decode = ClipDecoder(None, AudioSpec(8000, seconds=0.25))
        >>> (clip,) = decode(encode_audio(torch.zeros(8000), 8000), "dog barking", {0: torch.Generator()}, first_seed=0)
        >>> clip["waveform"].shape
        torch.Size([2000])
    """

    clips: ClipSpec | None
    audio: AudioSpec | None = None
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        if self.clips is None and self.audio is None:
            raise ValueError("clips and audio are both None; say which frames, which stretch of sound, or both")

    @property
    def clips_per_video(self) -> int:
        """Clips taken from each file."""
        return 1 if self.clips is None else self.clips.clips_per_video

    def __call__(
        self, data: bytes, name: str, generators: Mapping[int, torch.Generator], first_seed: int
    ) -> list[dict[str, Tensor]]:
        """Decode clips of a file.

        Args:
            data: The encoded file.
            name: What error messages call it.
            generators: What each wanted clip draws from, by its number.
            first_seed: Seed of clip 0, which all clips draw their frames with if they show the same ones.

        Returns:
            For each wanted clip `pixel_values` uint8 (T, C, H, W) and `waveform` float32 (samples,), as asked for.

        Raises:
            BadVideoError: The file cannot be decoded or lacks what is asked for.
        """
        if self.clips is None:
            return [
                {"waveform": stretch}
                for stretch in self._listen(data, name, [(each, None) for each in generators.values()])
            ]
        frames, middles = self._watch(data, name, generators, first_seed)
        items = [{"pixel_values": clip} for clip in frames]
        if self.audio is not None:
            heard = self._listen(data, name, list(zip(generators.values(), middles, strict=True)))
            items = [{**item, "waveform": stretch} for item, stretch in zip(items, heard, strict=True)]
        return items

    def _watch(
        self, data: bytes, name: str, generators: Mapping[int, torch.Generator], first_seed: int
    ) -> tuple[list[Tensor], list[float | None]]:
        """The frames of the clips, and the time in the middle of each, None where the file states no rate."""
        assert self.clips is not None
        with open_video(data, backend=self.backend, name=name) as video:
            indices = [
                self.clips.indices(video.num_frames, 0, torch.Generator().manual_seed(first_seed))
                if self.clips.same_frames
                else self.clips.indices(video.num_frames, index, generator)
                for index, generator in generators.items()
            ]
            middles = [(clip[0] + clip[-1] + 1) / 2 / video.fps if video.fps else None for clip in indices]
            return read_clips(video, indices), middles

    def _listen(self, data: bytes, name: str, places: Sequence[tuple[torch.Generator, float | None]]) -> list[Tensor]:
        """A stretch of the sound for each generator and the time to lay it around, if there is one."""
        assert self.audio is not None
        duration = audio_duration(data, name)
        starts = [self.audio.start(duration, generator, around) for generator, around in places]
        return [decode_audio(data, self.audio.sampling_rate, start, self.audio.seconds, name) for start in starts]


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse an unknown word.

    Args:
        name: What the value is called.
        value: The word.
        allowed: The words that there are.

    Raises:
        ValueError: It is none of them.
    """
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {allowed}")


def check_least(least: int, **numbers: int) -> None:
    """Refuse numbers that are too small.

    Args:
        least: The smallest one allowed.
        numbers: The numbers by their names.

    Raises:
        ValueError: One is smaller.
    """
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name}={number} must be at least {least}")
