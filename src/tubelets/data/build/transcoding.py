"""Prepare a video file for a shard: verify it, or re-encode it smaller and easier to seek."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from tubelets.data.build.sound_tracks import SoundTrack
from tubelets.data.modalities.encoding import add_video_stream, fine_time_base, to_yuv
from tubelets.data.modalities.presentation import orientation_of, upright
from tubelets.data.modalities.pyav_readers import PyAVReader
from tubelets.data.modalities.video import BadVideoError, open_video

Frame = TypeVar("Frame")

# Tolerance for the rounding of container time stamps, which are exact to a few microseconds at best.
_TIME_TOLERANCE = 1e-4
# Time stamps of Matroska are rounded to milliseconds.
_GRID_TOLERANCE = 1e-3


@dataclass(frozen=True)
class TranscodeOptions:
    """How videos are re-encoded; the defaults store them unchanged.

    Attributes:
        short_side: Length in pixels of the shorter side, at least 2; larger videos are scaled down to it, keeping their
            aspect ratio (both sides rounded to even numbers); smaller ones are not enlarged.
        fps: Frames per second, above 0; frames are repeated or dropped on that time grid.
        keyframe_interval: Frames between key frames, at least 1. A value near the span of a clip (15-30) makes random
            clips cheaper to decode, at two to three times the bytes of the encoder's default (250).
        crf: x264 quality, 0 (lossless) to 51; 18 is hard to tell from the original. Only used when re-encoding.
        keep_audio: Keep the audio track when re-encoding.

    Raises:
        ValueError: A value is out of its range.

    Example:
        >>> TranscodeOptions().reencodes, TranscodeOptions(short_side=128).reencodes
        (False, True)
    """

    short_side: int | None = None
    fps: float | None = None
    keyframe_interval: int | None = None
    crf: int = 20
    keep_audio: bool = True

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 2:
            raise ValueError(f"short_side={self.short_side} must be at least 2 pixels, or None to keep the size")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"fps={self.fps} must be above 0, or None to keep the frame rate")
        if self.keyframe_interval is not None and self.keyframe_interval < 1:
            raise ValueError(f"keyframe_interval={self.keyframe_interval} must be at least 1 frame, or None")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf={self.crf} must be between 0 (lossless) and 51 (worst)")

    @property
    def reencodes(self) -> bool:
        """Whether any option requires re-encoding; otherwise the file's bytes are kept."""
        return not (self.short_side is None and self.fps is None and self.keyframe_interval is None)


@dataclass(frozen=True)
class EncodedVideo:
    """Encoded bytes for a shard and their decoded properties.

    Attributes:
        data: The encoded file.
        num_frames: Number of frames.
        fps: Average frames per second.
        height: Height in pixels as displayed.
        width: Width in pixels as displayed.
    """

    data: bytes
    num_frames: int
    fps: float
    height: int
    width: int


def prepare_video(data: bytes, options: TranscodeOptions, name: str = "video") -> EncodedVideo:
    """Re-encode a video file if the options require it, and check that its last frame can be decoded.

    Re-encoding writes H.264 (libx264, yuv420p) in MP4 and turns the pixels of phone videos upright. Frames are shown
    when they were in the original, unless `fps` sets another rate. The audio track is kept, see `reencode`.

    Args:
        data: The encoded file.
        options: How to re-encode; the defaults keep `data` unchanged.
        name: Name in error messages.

    Returns:
        The bytes to store and their frame count, rate and size.

    Raises:
        BadVideoError: The file cannot be decoded.

    Example:
        >>> try:
        ...     prepare_video(b"no video", TranscodeOptions(), "notes.mp4")
        ... except BadVideoError as error:
        ...     print(str(error).partition(":")[0])
        notes.mp4
    """
    # Check the original in both cases: a truncated file would be re-encoded without an error, but shorter.
    checked = _check_video(data, name)
    if not options.reencodes:
        return checked
    try:
        return _check_video(reencode(data, options, name), name)
    except BadVideoError:
        raise
    # PyAV raises ValueError for frames that change format midway; corrupt headers contain absurd numbers.
    except (av.FFmpegError, ValueError, ArithmeticError) as error:
        raise BadVideoError(f"{name}: cannot be re-encoded ({error})") from error


def _check_video(data: bytes, name: str) -> EncodedVideo:
    """Decode the last frame, always with PyAV, so that shards do not depend on other installed decoders."""
    with open_video(data, backend="pyav", name=name) as video:
        video.get_frames([video.num_frames - 1])
        return EncodedVideo(data, video.num_frames, video.fps, video.height, video.width)


def reencode(data: bytes, options: TranscodeOptions, name: str = "video") -> bytes:
    """Decode a whole video and encode it again as `prepare_video` describes.

    Args:
        data: The encoded file.
        options: Size, frame rate, key frames and quality of the result.
        name: Name in error messages.

    Returns:
        An MP4 file with one H.264 stream and, with `keep_audio`, one audio stream: copied packets if MP4 supports the
        codec, otherwise AAC. Encoding the same file again gives the same bytes, on any machine and in any number of
        processes.

    Raises:
        BadVideoError: The file has no video stream or frame, or a frame cannot be decoded.
        av.FFmpegError: FFmpeg cannot read the audio.
    """
    buffer = io.BytesIO()
    with open_video(data, backend="pyav", name=name) as reader, av.open(buffer, "w", format="mp4") as target:
        assert isinstance(reader, PyAVReader)
        rate = Fraction(options.fps).limit_denominator(1001) if options.fps else reader.rate
        with SoundTrack(data, options.keep_audio) as sound:
            _encode(_on_clock(reader, rate, bool(options.fps)), target, rate, options, sound)
            # Both count from the start of the file in the copy.
            sound.write(target, earlier=reader.origin)
    return buffer.getvalue()


def _on_clock(reader: PyAVReader, rate: Fraction, resampled: bool) -> Iterator[tuple[int, av.VideoFrame]]:
    """The frames of the copy with their times in ticks of `fine_time_base`, strictly rising."""
    tick = fine_time_base(rate)
    first, step = round(float(reader.edges[0]) / tick), round(1 / (rate * tick))
    if resampled:
        for count, frame in enumerate(on_time_grid(reader.timed_frames(), 1 / rate)):
            yield first + count * step, frame
        return
    # Rounded time stamps of a constant rate would vary from frame to frame.
    grid = reader.edges[0] + np.arange(reader.num_frames) / float(rate)
    is_constant = bool(np.abs(grid - reader.edges[:-1]).max() <= _GRID_TOLERANCE)
    before = first - 1
    for count, (start, _, frame) in enumerate(reader.timed_frames()):
        before = first + count * step if is_constant else max(before + 1, round(start / tick))
        yield before, frame


def on_time_grid(timed: Iterable[tuple[float, float, Frame]], step: float | Fraction) -> Iterator[Frame]:
    """Repeat or drop frames so that they are `step` seconds apart.

    The frame at grid time `t` is the one a player shows at `t` after the first frame.

    Args:
        timed: (start in seconds, duration in seconds, frame), starts ascending.
        step: Seconds between two frames of the result.

    Yields:
        The frames; at least one if the input has any.

    Example:
        >>> frames = [(0.0, 0.5, "a"), (0.5, 0.5, "b"), (1.0, 0.5, "c")]
        >>> list(on_time_grid(frames, 1.0)), list(on_time_grid(frames, 0.25))
        (['a', 'c'], ['a', 'a', 'b', 'b', 'c', 'c'])
    """
    step = float(step)
    origin, shown, end, count = 0.0, None, 0.0, 0
    for start, duration, frame in timed:
        if shown is None:
            origin = start
        while shown is not None and count * step < start - origin - _TIME_TOLERANCE:
            yield shown[0]
            count += 1
        shown, end = (frame,), start + duration - origin
    while shown is not None and (count == 0 or count * step < end - _TIME_TOLERANCE):
        yield shown[0]
        count += 1


def _encode(
    frames: Iterable[tuple[int, av.VideoFrame]],
    target: "av.container.OutputContainer",
    rate: Fraction,
    options: TranscodeOptions,
    sound: SoundTrack,
) -> None:
    """Encode frames into `target`; the first frame decides the size and the colours."""
    output: av.VideoStream | None = None
    scaler = VideoReformatter()
    for time, decoded in frames:
        frame = _upright(decoded)
        if output is None:
            size = _target_size(frame.height, frame.width, options.short_side)
            output = add_video_stream(
                target, "libx264", rate, size, crf=options.crf, keyframe_interval=options.keyframe_interval
            )
            context = output.codec_context
            context.time_base = fine_time_base(rate)
            # Copy the colour tags: an untagged copy of a BT.709 original would be decoded with the BT.601 matrix.
            context.colorspace, context.color_primaries = decoded.colorspace, decoded.color_primaries
            context.color_trc = decoded.color_trc
            # All streams must exist before the first packet is written.
            sound.add_to(target)
        frame = to_yuv(scaler, frame, (output.height, output.width))
        frame.pts, frame.time_base = time, fine_time_base(rate)
        # Otherwise the encoder would also copy the original's key frames.
        frame.pict_type = 0
        target.mux(output.encode(frame))
    if output is not None:
        target.mux(output.encode(None))


def _target_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Return the even (height, width) of the copy."""
    scale = 1.0 if short_side is None else min(1.0, short_side / min(height, width))
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


def _upright(frame: av.VideoFrame) -> av.VideoFrame:
    """Apply the file's display matrix to the pixels."""
    orientation = orientation_of(frame)
    if not any(orientation):
        return frame
    pixels = upright(frame.to_ndarray(format="rgb24"), orientation)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
