"""Copy the audio track of a video into its re-encoded copy."""

import io
from fractions import Fraction
from types import TracebackType

import av

from tubelets.data.modalities.video_readers import SELF_CONTAINED

# Codecs that players support in MP4; others (PCM, Vorbis, WMA, ...) are re-encoded.
_KEPT = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp2", "mp3", "opus"})
_USUAL_RATE = 48000


class SoundTrack:
    """Context manager that copies the audio packets of one file into another, or re-encodes them as AAC.

    Copied packets are not decoded: a video with corrupt audio is still usable, and a run that needs the audio reports
    it.

    Args:
        data: The original file.
        wanted: Whether to write the audio.
    """

    def __init__(self, data: bytes, wanted: bool = True) -> None:
        self._source = av.open(io.BytesIO(data), "r", metadata_errors="ignore", options=SELF_CONTAINED)
        stream = self._source.streams.best("audio") if wanted else None
        # Without a decoder, FFmpeg cannot determine the length of a packet.
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
        """Whether packets are copied instead of re-encoded."""
        return self._stream is not None and self._stream.codec_context.codec.canonical_name in _KEPT

    def add_to(self, target: "av.container.OutputContainer") -> None:
        """Add an audio stream, if the source has one.

        Args:
            target: An MP4 file before its first packet is written.
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
        """Write the audio.

        Args:
            target: The container passed to `add_to`.
            earlier: Seconds by which the audio is shifted towards the start: the time of the start of its file.

        Raises:
            av.FFmpegError: The audio must be re-encoded but cannot be decoded.
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
    """Convert a time to units of a time base."""
    return 0 if time_base is None else round(seconds / time_base)
