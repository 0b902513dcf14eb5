"""The built-in modalities: video frames, audio of audio files and videos, and text."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from tubelets.data.modalities.audio import AudioSpec, audio_span, check_audio, decode_audio
from tubelets.data.modalities.modality import BadMediumError, Clip, Medium, Modality
from tubelets.data.modalities.specs import InputSpec, SpectrogramSpec, VideoSpec, WaveformSpec
from tubelets.data.modalities.video import Backend, open_video, read_clips


class VideoModality(Modality):
    """RGB frames, and optical flow and depth that are stored as videos (or single images).

    Flow has its horizontal component in the red channel and its vertical one in the green channel; 128 is zero
    motion. A spec with fewer than three channels reads the first ones.
    """

    name = "video"
    media = ("video", "flow", "depth")
    # Formats that PyAV's wheels read without a system FFmpeg.
    suffixes = (
        *("mp4", "webm", "avi", "mkv", "mov", "3gp", "asf", "flv", "gif", "m2ts", "m4v", "mpeg", "mpg"),
        *("mts", "mxf", "ogv", "ts", "vob", "wmv"),
    )
    feature = "Video"
    leads = True
    is_spatial = True

    def open(self, data: bytes, name: str, backend: Backend = "auto") -> Medium:
        """Open a video; see `Modality.open`."""
        return _Frames(data, name, backend)

    def move(self, value: Tensor, spec: VideoSpec, geometry: Callable[[Any], Any], mirrored: bool) -> Tensor:
        """Crop, resize and flip frames; mirroring negates horizontal flow, as `255 - value`."""
        moved = geometry(value)
        if spec.media == "flow" and mirrored:
            moved = moved.clone()
            moved[:, 0] = 255 - moved[:, 0]
        return moved


class _Frames(Medium):
    def __init__(self, data: bytes, name: str, backend: Backend) -> None:
        self._reader = open_video(data, backend=backend, name=name)
        self.num_frames, self.fps, self.edges = self._reader.num_frames, self._reader.fps, self._reader.edges

    def read(self, spec: VideoSpec, clips: Sequence[Clip]) -> list[Tensor]:
        """Uint8 `(T, C, H, W)` of each clip, channels-last in memory; shared frames are decoded once."""
        wanted = [clip.frames_of(spec.num_frames, self._reader.num_frames, self.fps, self.edges) for clip in clips]
        return [frames[:, : spec.num_channels] for frames in read_clips(self._reader, wanted)]

    def close(self) -> None:
        self._reader.close()


class AudioModality(Modality):
    """Mono waveforms from audio files, or from the video's audio track if a sample has no audio file."""

    name = "audio"
    media = ("audio",)
    suffixes = ("aac", "aif", "aiff", "flac", "m4a", "mp3", "oga", "ogg", "opus", "wav")
    feature = "Audio"

    def sources(self, spec: Any) -> tuple[str, ...]:
        """The audio file first, then the video."""
        return ("audio", "video")

    def requested(self, argument: str, spec: InputSpec) -> tuple[str, InputSpec]:
        """Request the `waveform`, from which a processor or collator computes spectrograms."""
        return ("waveform", spec.waveform) if isinstance(spec, SpectrogramSpec) else (argument, spec)

    def open(self, data: bytes, name: str, backend: Any = "auto") -> Medium:
        """Open audio; see `Modality.open`."""
        return _Sound(data, name)

    def check(self, data: bytes, name: str) -> None:
        """Decode all audio; see `Modality.check`."""
        check_audio(data, name)


class _Sound(Medium):
    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name = data, name

    @functools.cached_property
    def _span(self) -> tuple[float, float]:
        return audio_span(self._data, self._name)

    def read(self, spec: WaveformSpec, clips: Sequence[Clip]) -> list[Tensor]:
        """Float32 `(samples,)` around the middle of each clip; without frames at a random or central position."""
        values = []
        # A sound may start later in its file than the picture, or the picture later than the sound.
        late, duration = self._span
        for clip in clips:
            stretch = AudioSpec(spec.sampling_rate, spec.seconds, clip.position)
            middle = clip.middle_of(duration)
            if middle is not None and clip.edges is not None:
                middle -= late
            start = stretch.start(duration, clip.generator, middle)
            values.append(decode_audio(self._data, spec.sampling_rate, start, spec.seconds, self._name))
        return values


class TextModality(Modality):
    """Annotations such as captions, which a collator tokenises."""

    name = "text"
    in_annotations = True

    def open(self, data: bytes, name: str, backend: Any = "auto") -> Medium:
        """Raise an error: text is an annotation, not a file."""
        raise BadMediumError(f"{name}: text is an annotation of a sample; store it in a column such as `caption`")
