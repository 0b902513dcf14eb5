"""Copies the sound of a video into its re-encoded copy."""

import io
from fractions import Fraction
from types import TracebackType

import av

from tubelets.data.modalities.video_readers import SELF_CONTAINED

# Codecs whose packets players expect in an MP4 file; others (PCM, Vorbis, WMA, ...) are re-encoded.
_KEPT = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp2", "mp3", "opus"})
_USUAL_RATE = 48000


class SoundTrack:
    """Context manager that writes the sound of one file into another: the packets as they are, otherwise as AAC.

    Packets that are copied are not decoded: a video with bad sound is still a video, and a run that needs the sound
    reports it.

    Args:
        data: The original file.
        wanted: False writes nothing.
    """

    def __init__(self, data: bytes, wanted: bool = True) -> None:
        self._source = av.open(io.BytesIO(data), "r", metadata_errors="ignore", options=SELF_CONTAINED)
        stream = self._source.streams.best("audio") if wanted else None
        # Without a decoder FFmpeg cannot determine the length of a packet.
        self._stream = stream if isinstance(stream, av.AudioStream) and stream.codec_context is not None else None
        self._output: av.AudioStream | None = None

    def __enter__(self) -> "SoundTrack":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()

    @property
    def is_kept(self) -> bool:
        """Whether the packets are copied."""
        return self._stream is not None and self._stream.codec_context.codec.canonical_name in _KEPT

    def add_to(self, target: "av.container.OutputContainer") -> None:
        """Add a stream for the sound, if there is any.

        Args:
            target: An MP4 file to which nothing was written yet.
        """
        if self._stream is None:
            return
        if self.is_kept:
            self._output = target.add_stream_from_template(self._stream)
        else:
            rates = av.Codec("aac", "w").audio_rates or []
            rate = self._stream.rate if self._stream.rate in rates else _USUAL_RATE
            layout = "mono" if self._stream.channels == 1 else "stereo"
            output = target.add_stream("aac", rate=rate, layout=layout)
            assert isinstance(output, av.AudioStream)
            self._output = output

    def write(self, target: "av.container.OutputContainer", earlier: float) -> None:
        """Write the sound.

        Args:
            target: What `add_to` was given.
            earlier: Seconds that the sound is moved to the front, as the frames were.

        Raises:
            av.FFmpegError: The sound must be re-encoded and cannot be decoded.
        """
        if self._stream is None or self._output is None:
            return
        if self.is_kept:
            for packet in self._source.demux(self._stream):
                # The last packet is empty and only marks the end.
                if packet.dts is None or packet.pts is None:
                    continue
                shift = _ticks(earlier, packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, self._output
                target.mux(packet)
            return
        for frame in self._source.decode(self._stream):
            if frame.pts is not None:
                frame.pts -= _ticks(earlier, frame.time_base)
            target.mux(self._output.encode(frame))
        target.mux(self._output.encode(None))


def _ticks(seconds: float, time_base: Fraction | None) -> int:
    """A time in units of a time base."""
    return 0 if time_base is None else round(seconds / time_base)
