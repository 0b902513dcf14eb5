"""Decode audio files and audio tracks of videos into mono waveforms at a given sampling rate.

PyAV decodes and resamples, so only its wheel is needed. A decoded excerpt equals the same samples of the fully decoded
file, up to the noise of a decoder that starts midway.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
import torch
from torch import Tensor

from tubelets.data.modalities.specs import HOP_SECONDS, WINDOW_SECONDS
from tubelets.data.modalities.video import check_container
from tubelets.data.modalities.video_readers import SELF_CONTAINED, BadVideoError, first_line

Position = Literal["random", "centre"]

_SOUND_FORMATS = "wav,w64,flac,mp3,aac,ac3,eac3,aiff,caf,au,amr"
_SELF_CONTAINED = {"format_whitelist": f"{SELF_CONTAINED['format_whitelist']},{_SOUND_FORMATS}"}
# FFmpeg probes five megabytes of a WAV file for embedded codecs, which takes longer than decoding it.
_WAVE_PROBE = {"probesize": "65536"}
# Containers with correct time stamps after a seek; others are decoded from the start.
_SEEKABLE = frozenset({"wav", "flac", "ogg", "mp3", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
# Up to this position, decoding from the start costs less than a seek.
_SEEK_AFTER_SECONDS = 20.0
# Lead-in that a decoder that starts midway, and then the resampler, need before samples are correct.
_WARM_UP_SECONDS = 0.5
# Longer gaps between time stamps are lost packets, shorter ones rounding; still longer ones are corrupt time stamps.
_GAP_SECONDS, _LONGEST_GAP_SECONDS = 0.1, 60.0
# Containers whose header states the number of samples; fewer samples mean a truncated file.
_COUNTED = frozenset({"w64", "flac", "aiff", "au"})
_CODECS = {"wav": "pcm_s16le", "flac": "flac", "ogg": "libopus", "mp3": "libmp3lame", "mp4": "aac"}


class BadAudioError(BadVideoError):
    """Audio that cannot be read; the message gives the reason and, if known, the file or name.

    Example:
        >>> try:
        ...     decode_audio(b"hello", 16000, name="clip 7")
        ... except BadAudioError as error:
        ...     print(str(error).split(":")[0])
        clip 7
    """


@dataclass(frozen=True)
class AudioSpec:
    """The audio excerpt of a clip; plain values, as in a `ClipSpec`.

    Attributes:
        sampling_rate: Samples per second of the waveform.
        seconds: Length of the excerpt; shorter sounds are returned whole, without padding.
        position: Where longer sounds are cut: `random` (training) or `centre` (evaluation). With frames, the excerpt is
            centred on them instead, and shifted to stay inside the sound.

    Raises:
        ValueError: A number is not positive, or the position is unknown.

    Example:
        >>> spec = AudioSpec(16000, seconds=2.0, position="centre")
        >>> spec.start(10.0, torch.Generator()), spec.start(10.0, torch.Generator(), around=0.5), spec.num_samples
        (4.0, 0.0, 32000)
    """

    sampling_rate: int
    seconds: float
    position: Position = "random"

    def __post_init__(self) -> None:
        if not 1 <= self.sampling_rate < math.inf or not 0 < self.seconds < math.inf:
            raise ValueError(
                f"sampling_rate={self.sampling_rate} must be at least 1 and seconds={self.seconds} positive and finite"
            )
        if self.position not in ("random", "centre"):
            raise ValueError(f"position={self.position!r} must be 'random' or 'centre'")

    @classmethod
    def filling(cls, num_frames: int, sampling_rate: int, position: Position = "random") -> "AudioSpec":
        """The excerpt that fills a spectrogram with windows of 25 ms, 10 ms apart.

        Args:
            num_frames: Time frames of the spectrogram.
            sampling_rate: Samples per second of the waveform.
            position: See the attribute.

        Example:
            >>> AudioSpec.filling(1024, 16000).num_samples
            164080
        """
        return cls(sampling_rate, (num_frames - 1) * HOP_SECONDS + WINDOW_SECONDS, position)

    @property
    def num_samples(self) -> int:
        """Samples of a full-length excerpt."""
        return round(self.seconds * self.sampling_rate)

    def start(self, duration: float, generator: torch.Generator, around: float | None = None) -> float:
        """Choose the start of the excerpt.

        Args:
            duration: Length of the sound in seconds.
            generator: Random draws.
            around: Time in seconds, such as the middle of the frames, on which to centre the excerpt; then nothing is
                drawn.

        Returns:
            Seconds from the start of the sound; 0 if the sound is not longer than the excerpt.
        """
        room = max(duration - self.seconds, 0.0)
        if around is not None:
            return min(max(around - self.seconds / 2, 0.0), room)
        share = 0.5 if self.position == "centre" else torch.rand((), generator=generator, dtype=torch.float64).item()
        return room * share


@dataclass(frozen=True)
class AudioFacts:
    """Properties of a verified sound.

    Attributes:
        duration: Length in seconds.
        sampling_rate: Stored samples per second.
    """

    duration: float
    sampling_rate: int


def decode_audio(
    source: bytes | str | Path,
    sampling_rate: int,
    start: float = 0.0,
    seconds: float | None = None,
    name: str | None = None,
) -> Tensor:
    """Decode an excerpt of an audio file, or of the audio track of a video.

    Args:
        source: The bytes or the path of a file. URLs are not fetched.
        sampling_rate: Samples per second of the result; sounds with other rates are resampled.
        start: Seconds from the start of the sound, its first sample. Where packets were lost, there is silence.
        seconds: Length; the result is shorter if the sound ends earlier. None reads to the end.
        name: Name in error messages; the path by default.

    Returns:
        float32 `(samples,)` in [-1, 1]; channels are averaged.

    Raises:
        BadAudioError: The file has no audio, cannot be decoded, or ends before `start`.
        ValueError: `sampling_rate`, `start` or `seconds` is out of range.

    Example:
        >>> data = encode_audio(torch.linspace(-0.5, 0.5, 8000), 8000)
        >>> decode_audio(data, 16000, start=0.25, seconds=0.5).shape
        torch.Size([8000])
    """
    if not 1 <= sampling_rate < math.inf or not 0 <= start < math.inf or not (seconds is None or seconds > 0):
        raise ValueError(
            f"sampling_rate={sampling_rate} must be at least 1, start={start} not negative and finite, and "
            f"seconds={seconds} positive or None"
        )
    end = math.inf if seconds is None else start + seconds
    with _open_sound(source, name) as (container, stream, name):
        first, samples = _read_mono(container, stream, start - _WARM_UP_SECONDS, end + _WARM_UP_SECONDS)
        rate = stream.rate
    # Start at a sample that coincides with one of the result: then resampling the excerpt equals resampling the whole.
    step = rate // math.gcd(rate, sampling_rate)
    skipped = -first % step
    waveform = _resample(samples[skipped:], rate, sampling_rate)
    offset = (first + skipped) * sampling_rate // rate
    begin = round(start * sampling_rate) - offset
    stretch = waveform[begin:] if seconds is None else waveform[begin : begin + round(seconds * sampling_rate)]
    if not stretch.size:
        raise BadAudioError(f"{name}: its sound ends before {start:.3g} s")
    if not np.isfinite(stretch).all():
        raise BadAudioError(f"{name}: its sound has samples that are not finite")
    # Lossy codecs overshoot slightly, and float files can have any range.
    return torch.from_numpy(stretch.clip(-1, 1))


def audio_duration(source: bytes | str | Path, name: str | None = None) -> float:
    """Return the stated length of a sound, or count its samples by decoding if the file states none.

    Args:
        source: The bytes or the path of a file.
        name: Name in error messages; the path by default.

    Returns:
        Seconds. For formats without an index (variable-rate MP3) the stated length is an estimate.

    Raises:
        BadAudioError: The file has no audio, or cannot be decoded.

    Example:
        >>> audio_duration(encode_audio(torch.zeros(4000), 8000))
        0.5
    """
    return audio_span(source, name)[1]


def audio_span(source: bytes | str | Path, name: str | None = None) -> tuple[float, float]:
    """When a sound starts in its file, and how long it is.

    Args:
        source: The bytes or the path of a file.
        name: Name in error messages; the path by default.

    Returns:
        Seconds from the start of the file, which is that of the picture if the picture starts earlier, to the first
        sample; and the length, see `audio_duration`.

    Raises:
        BadAudioError: The file has no audio, or cannot be decoded.

    Example:
        >>> audio_span(encode_audio(torch.zeros(4000), 8000))
        (0.0, 0.5)
    """
    with _open_sound(source, name) as (container, stream, _):
        late = 0.0
        if stream.start_time is not None and stream.time_base is not None and container.start_time is not None:
            late = max(float(stream.start_time * stream.time_base) - container.start_time / av.time_base, 0.0)
        stated = _stated_duration(container, stream)
        return late, _count_samples(container, stream) / stream.rate if stated is None else stated


def check_audio(data: bytes, name: str | None = None) -> AudioFacts:
    """Decode a whole audio file to verify that a training run can read it.

    Args:
        data: The bytes of the file.
        name: Name in error messages.

    Returns:
        Its length and sampling rate.

    Raises:
        BadAudioError: The file has no audio, cannot be decoded, or is truncated.

    Example:
        >>> check_audio(encode_audio(torch.zeros(4000), 8000, "flac"))
        AudioFacts(duration=0.5, sampling_rate=8000)
    """
    with _open_sound(data, name) as (container, stream, name):
        _check_riff(data, name)
        stated = _stated_duration(container, stream) if container.format.name in _COUNTED else None
        duration = _count_samples(container, stream) / stream.rate
        if duration == 0:
            raise BadAudioError(f"{name}: its sound has no samples")
        if stated is not None and stated - duration > 1 / stream.rate:
            raise BadAudioError(
                f"{name}: the file is truncated (got {duration:.3f} of {stated:.3f} s); download it again"
            )
        return AudioFacts(duration, stream.rate)


def encode_audio(
    waveform: Tensor, sampling_rate: int, container: Literal["wav", "flac", "ogg", "mp3", "mp4"] = "wav"
) -> bytes:
    """Encode a waveform in memory; for examples, tests and synthetic data.

    Args:
        waveform: Float `(samples,)`, or `(2, samples)` for stereo, in [-1, 1].
        sampling_rate: Samples per second. Lossy codecs support few rates; all support 48000.
        container: `wav` and `flac` store 16 bits per sample; `ogg` (Opus), `mp3` and `mp4` (AAC) are lossy.

    Returns:
        The bytes of an audio file.

    Raises:
        ValueError: The waveform has another type or shape, or the container is unknown.

    Example:
        >>> encode_audio(torch.zeros(100), 8000)[:4]
        b'RIFF'
    """
    if not waveform.is_floating_point() or waveform.dim() not in (1, 2) or (waveform.dim() == 2 and len(waveform) != 2):
        raise ValueError(f"waveform must be float (samples,) or (2, samples), got {waveform.dtype} {waveform.shape}")
    if container not in _CODECS:
        raise ValueError(f"container={container!r} must be one of {sorted(_CODECS)}")
    samples = waveform.clamp(-1, 1).float().reshape(-1, waveform.shape[-1]).contiguous().numpy()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        layout = "mono" if len(samples) == 1 else "stereo"
        stream = output.add_stream(_CODECS[container], rate=sampling_rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = sampling_rate
        frame.pts, frame.time_base = 0, Fraction(1, sampling_rate)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


@contextmanager
def _open_sound(
    source: bytes | str | Path, name: str | None
) -> Iterator[tuple["av.container.InputContainer", "av.AudioStream", str]]:
    """Open the best audio stream of a file; errors inside the block become a `BadAudioError`."""
    if not isinstance(source, (bytes, str, Path)):
        raise TypeError(f"source must be bytes or a path, got {type(source).__name__}")
    if isinstance(source, (str, Path)):
        name = name or str(source)
        if not Path(source).is_file():
            raise BadAudioError(f"{name}: file not found")
        source = str(source)
    name = name or f"sound of {len(source)} bytes"
    try:
        check_container(source, name)
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        is_wave = isinstance(source, bytes) and source[8:12] == b"WAVE"
        options = {**_SELF_CONTAINED, **(_WAVE_PROBE if is_wave else {})}
        # Old files have tags in encodings other than UTF-8.
        with av.open(opened, "r", metadata_errors="ignore", options=options) as file:
            stream = file.streams.best("audio")
            if not isinstance(stream, av.AudioStream):
                raise BadAudioError(f"{name}: no audio")
            if stream.codec_context is None or not stream.rate:
                raise BadAudioError(f"{name}: no decoder for its audio codec")
            yield file, stream, name
    except BadAudioError:
        raise
    except BadVideoError as error:
        raise BadAudioError(str(error)) from error
    # PyAV raises ValueError for frames that change format midway; corrupt headers contain absurd numbers.
    except (av.FFmpegError, ValueError, ArithmeticError) as error:
        raise BadAudioError(f"{name}: its sound cannot be decoded ({first_line(error)})") from error


def _stated_duration(container: "av.container.InputContainer", stream: "av.AudioStream") -> float | None:
    """Length in seconds stated for the audio stream, otherwise for the whole file."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def _count_samples(container: "av.container.InputContainer", stream: "av.AudioStream") -> int:
    """Count the samples of a sound by decoding it."""
    return sum(frame.samples for frame in container.decode(stream))


def _check_riff(data: bytes, name: str) -> None:
    """Reject a WAV file that is shorter than its header states, which FFmpeg accepts."""
    stated = int.from_bytes(data[4:8], "little") + 8
    # Recorders that cannot seek back to write the length leave the maximum value.
    if data[:4] == b"RIFF" and len(data) < stated < 2**32 + 7:
        raise BadAudioError(f"{name}: the file is truncated (got {len(data)} of {stated} bytes); download it again")


def _read_mono(
    container: "av.container.InputContainer", stream: "av.AudioStream", start: float, end: float
) -> tuple[int, np.ndarray]:
    """Decode audio frames between two times: index of the first sample, and float32 mono at the stored rate."""
    rate = stream.rate
    seeking = start > _SEEK_AFTER_SECONDS and container.format.name in _SEEKABLE
    if seeking and stream.time_base is not None:
        container.seek(int(start / stream.time_base) + (stream.start_time or 0), stream=stream)
    to_float = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
    blocks: list[np.ndarray] = []
    first, place = 0, None if seeking else 0
    for frame in container.decode(stream):
        stamp = _sample_of(frame, stream)
        if place is None:
            # After a seek, some containers give the first frames no time stamp, so their position is unknown.
            if stamp is None:
                continue
            place = stamp
        if place >= end * rate:
            break
        lost = 0 if stamp is None else stamp - place
        if _GAP_SECONDS * rate < lost <= _LONGEST_GAP_SECONDS * rate:
            # Packets are missing. Silence in their place keeps what follows at its time.
            if place + lost > start * rate:
                first = first if blocks else place
                blocks.append(np.zeros(lost, np.float32))
            place += lost
        if place + frame.samples > start * rate:
            first = first if blocks else place
            # Average the channels; FFmpeg's own mix can leave [-1, 1].
            blocks += [block.to_ndarray().mean(0) for block in to_float.resample(frame)]
        place += frame.samples
    blocks += [block.to_ndarray().mean(0) for block in to_float.resample(None)] if blocks else []
    return first, np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _sample_of(frame: "av.AudioFrame", stream: "av.AudioStream") -> int | None:
    """Index of the first sample of a frame by its time stamp, None without one."""
    if frame.pts is None or frame.time_base is None:
        return None
    return round((frame.pts - (stream.start_time or 0)) * frame.time_base * stream.rate)


def _resample(samples: np.ndarray, rate: int, sampling_rate: int) -> np.ndarray:
    """Resample mono audio."""
    if rate == sampling_rate or not samples.size:
        return samples
    resampler = av.AudioResampler(format="flt", layout="mono", rate=sampling_rate)
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray().reshape(-1) for part in parts] or [samples[:0]])
