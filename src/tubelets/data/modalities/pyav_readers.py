"""Video readers on PyAV: by presentation time where the packets state it, otherwise by counting decoded frames."""

import io
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tubelets.data.modalities.presentation import edges_of, orientation_of, rate_of, upright
from tubelets.data.modalities.video_readers import (
    MAX_PIXELS,
    SELF_CONTAINED,
    BadVideoError,
    VideoReader,
    check_num_pixels,
)

if TYPE_CHECKING:
    import av

# Codecs in which a frame that no other frame refers to can be left out without a trace. In HEVC it cannot: frames of a
# higher temporal layer may refer to it.
_SKIPPABLE = frozenset({"h264", "mpeg4"})


class NoIndexError(Exception):
    """The time stamps of the packets do not tell the order in which frames are shown."""


class NotRisingError(NoIndexError):
    """Decoded frames have time stamps that do not rise."""


class PyAVReader(VideoReader):
    """Base of both PyAV readers: opening, conversion to RGB, orientation, counting of decoded frames.

    Attributes:
        frames_decoded: frames that the decoder returned so far, a measure of work.
        rate: `fps` as a fraction.
        origin: time stamp in seconds of the start of the file, from which `edges` count.
    """

    def __init__(self, source: bytes | str, name: str, num_threads: int) -> None:
        self.name = name
        self.frames_decoded = 0
        self._source, self._num_threads = source, num_threads
        self._size: tuple[int, int] | None = None
        self._start: float | None = None
        self._mirrored = False
        with self._bad_video():
            self._open()
        try:
            with self._bad_video():
                stamps, last = self._index()
            if not stamps:
                raise BadVideoError(f"{name}: the video stream has no frame")
        except (BadVideoError, NoIndexError):
            self.close()
            raise
        self.num_frames = len(stamps)
        stated = self._stream.average_rate or self._stream.guessed_rate or Fraction(0)
        tick = float(self._stream.time_base or 0)
        if self._start is None:
            self._start = (stamps[0] or 0) * tick
        self.origin = self._start
        self.edges = edges_of(stamps, last, tick, self.origin, float(stated))
        self.fps = rate_of(self.edges, float(stated))
        self.rate = stated if self.fps == float(stated) else Fraction(self.fps).limit_denominator(1001)

    def _open(self) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        file = io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        # The limit holds for the frames that FFmpeg decodes to find out what a stream is.
        options = {**SELF_CONTAINED, "max_pixels": str(MAX_PIXELS)}
        self._container = av.open(file, "r", metadata_errors="ignore", options=options)
        stream = self._container.streams.best("video")
        if not isinstance(stream, av.VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
            self._container.close()
            raise BadVideoError(f"{self.name}: no video stream")
        if stream.codec_context is None:
            self._container.close()
            raise BadVideoError(f"{self.name}: this FFmpeg has no decoder for its video stream")
        self._stream = stream
        try:
            check_num_pixels(stream.codec_context.width, stream.codec_context.height, self.name)
        except BadVideoError:
            self._container.close()
            raise
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.codec_context.thread_count = self._num_threads
        stream.thread_type = "SLICE" if self._num_threads == 1 else "AUTO"
        # Sound and picture count from the start of the file, which is the earlier of the two.
        start = self._container.start_time
        self._start = None if start is None else start / av.time_base
        self._reformatter: Any = VideoReformatter()
        self._running: Iterator[av.VideoFrame] = iter(())

    def _reopen(self) -> None:
        """Go back to the start, also in files that cannot seek."""
        self._container.close()
        self._open()

    @abstractmethod
    def _index(self) -> tuple[Sequence[int | None], int]:
        """Time stamps of all frames in ticks, None where unknown, and the ticks that the last one stays, or 0."""

    @contextmanager
    def _bad_video(self) -> Iterator[None]:
        import av

        try:
            yield
        except av.FFmpegError as error:
            raise BadVideoError(
                f"{self.name}: FFmpeg cannot read it, or its frames have more than {MAX_PIXELS} pixels ({error})"
            ) from error

    def _frames(self) -> Iterator["av.VideoFrame"]:
        """Decode from the current position."""
        for frame in self._container.decode(self._stream):
            self.frames_decoded += 1
            yield frame

    def _rgb(self, frame: "av.VideoFrame") -> np.ndarray:
        """uint8 `(H, W, C)`, upright: a view of memory that belongs to the frame."""
        orientation = orientation_of(frame)
        self._mirrored = sum(orientation) % 2 == 1
        plane = self._reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
        shape, strides = (plane.height, plane.width, 3), (plane.line_size, 3, 1)
        pixels = upright(np.ndarray(shape, np.uint8, plane, strides=strides), orientation)
        size = pixels.shape[:2]
        if self._size is not None and size != self._size:
            raise BadVideoError(f"{self.name}: frames change from {self._size} to {size} (height, width)")
        self._size = size
        return pixels

    def _decode(self, wanted: list[int]) -> Tensor:
        clip: np.ndarray | None = None
        with self._bad_video():
            for slot, frame in enumerate(self._frames_at(wanted)):
                image = self._rgb(frame)
                if clip is None:
                    clip = np.empty((len(wanted), *image.shape), np.uint8)
                clip[slot] = image
        if clip is None:
            raise BadVideoError(f"{self.name}: frame {wanted[0]} cannot be decoded")
        return torch.from_numpy(clip).permute(0, 3, 1, 2)

    @abstractmethod
    def _frames_at(self, wanted: list[int]) -> Iterator["av.VideoFrame"]:
        """The frames of sorted distinct indices, one by one."""

    def timed_frames(self) -> Iterator[tuple[float, float, "av.VideoFrame"]]:
        """Decode the whole video in the order of its frames.

        Yields:
            Seconds at which a frame is shown, seconds that it stays, and the frame as decoded, not turned upright.

        Raises:
            BadVideoError: if a frame cannot be decoded.
        """
        starts, stays = self.edges[:-1].tolist(), np.diff(self.edges).tolist()
        with self._bad_video():
            yield from zip(starts, stays, self._frames_at(list(range(self.num_frames))), strict=True)

    @property
    def height(self) -> int:
        """Rows of an upright frame in pixels."""
        return self._upright_size()[0]

    @property
    def width(self) -> int:
        """Columns of an upright frame in pixels."""
        return self._upright_size()[1]

    @property
    def is_mirrored(self) -> bool:
        """Whether the display matrix mirrors frames, beside turning them."""
        self._upright_size()
        return self._mirrored

    def _upright_size(self) -> tuple[int, int]:
        # Only decoded frames have the orientation, so decode the first one if none was read before.
        if self._size is None:
            self._decode([0])
        assert self._size is not None
        return self._size

    def close(self) -> None:
        """Release the decoder."""
        super().close()
        # Break the reference cycle with the generator. Otherwise garbage collection would wait for FFmpeg's threads,
        # and a forked worker would wait forever for threads it did not inherit.
        self._running = iter(())
        self._reformatter = None
        self._container.close()


@dataclass
class _Packets:
    """What a scan of the packets says.

    Attributes:
        shown: time stamps of the displayed frames, in ticks, in file order.
        stays: ticks that the frame with the last time stamp is shown, 0 if unknown.
        keys: time stamps of key frames, ascending.
        key_first: whether the first packet is a key frame.
    """

    shown: list[int]
    stays: int
    keys: list[int]
    key_first: bool


class IndexedPyAVReader(PyAVReader):
    """Reader for MP4 and Matroska: a scan of the packets gives presentation times and key frames.

    Raises:
        NoIndexError: the packets lack time stamps, or the decoder returns other frames than they list.
    """

    _sequential: "SequentialPyAVReader | None" = None

    def _index(self) -> tuple[Sequence[int | None], int]:
        packets = self._scan()
        shown = sorted(packets.shown)
        if len(set(shown)) != len(shown) or (shown and not packets.keys):
            raise NoIndexError
        # Frames before the first key frame cannot be decoded. Time stamps in file order are wrong if the decoder
        # reorders frames: some writers store decoding times as presentation times.
        in_file_order = len(shown) > 1 and packets.shown == shown and self._stream.codec_context.has_b_frames
        if (in_file_order or not packets.key_first) and not self._is_exact(shown):
            raise NoIndexError
        self._shown, self._keys = shown, packets.keys
        self._last: int | None = None
        self._needed: frozenset[int] | None = None
        self._skipped: set[int] = set()
        return shown, packets.stays

    def _scan(self) -> _Packets:
        shown, keys, stays, key_first = [], [], {}, True
        for packet in self._container.demux(self._stream):
            if packet.size == 0:
                continue
            if packet.pts is None:
                raise NoIndexError
            if packet.is_keyframe:
                keys.append(packet.pts)
            elif not keys:
                key_first = False
            # Packets before the start of an edit list are needed for decoding but never displayed.
            if not packet.is_discard:
                shown.append(packet.pts)
                stays[packet.pts] = packet.duration or 0
        return _Packets(shown, stays[max(shown)] if shown else 0, sorted(keys), key_first)

    def _is_exact(self, shown: list[int]) -> bool:
        """Whether the decoder returns exactly these time stamps, in this order; decodes everything."""
        return self._decoded_stamps() == shown

    def _decoded_stamps(self) -> list[int]:
        self._reopen()
        found = [-1 if frame.pts is None else frame.pts for frame in self._container.decode(self._stream)]
        self._reopen()
        return found

    def _decode(self, wanted: list[int]) -> Tensor:
        if self._sequential is None:
            try:
                return super()._decode(wanted)
            except NotRisingError:
                self._count_instead()
        assert self._sequential is not None
        return self._sequential._decode(wanted)

    def _count_instead(self) -> None:
        """Number frames in decoding order from now on: their time stamps turned out to be wrong."""
        self._running = iter(())
        other = SequentialPyAVReader(self._source, self.name, self._num_threads)
        if other.num_frames != self.num_frames:
            other.close()
            raise BadVideoError(
                f"{self.name}: {self.num_frames} frames are listed, {other.num_frames} can be decoded, and their time "
                "stamps do not rise; re-encode the file"
            )
        self._sequential = other

    def _frames(self) -> Iterator["av.VideoFrame"]:
        """Decode from the current position; frames that are neither needed nor referred to are left out."""
        context = self._stream.codec_context
        can_skip, skips = context.name in _SKIPPABLE, None
        for packet in self._container.demux(self._stream):
            before, skips = skips, can_skip and self._needed is not None and packet.pts not in self._needed
            if skips != before:
                context.skip_frame = "NONREF" if skips else "DEFAULT"
            if skips and packet.pts is not None:
                self._skipped.add(packet.pts)
            for frame in packet.decode():
                self.frames_decoded += 1
                yield frame

    def _frames_at(self, wanted: list[int]) -> Iterator["av.VideoFrame"]:
        self._needed = frozenset(self._shown[index] for index in wanted)
        for index in wanted:
            yield self._frame_at(index)

    def _frame_at(self, index: int) -> "av.VideoFrame":
        target = self._shown[index]
        key = max(bisect_right(self._keys, target) - 1, 0)
        # Cleared until the frame is found, so that the call after a failure seeks again.
        last, self._last = self._last, None
        if last is not None and last < target and self._keys[key] <= last and target not in self._skipped:
            frame = self._forward_to(target, last)
        else:
            frame = self._seek_to(target, self._keys[key])
        if frame is None:
            # Some files seek past the requested time, and some decoders need all frames to learn how many they have to
            # hold back; decoding everything from the first key frame reaches every frame.
            self._needed = None
            frame = self._seek_to(target, self._keys[0])
        if frame is None:
            found = self._decoded_stamps()
            if found != sorted(found):
                raise NotRisingError
            raise BadVideoError(
                f"{self.name}: frame {index} of {self.num_frames} is in the index but cannot be decoded"
            )
        self._last = target
        return frame

    def _seek_to(self, target: int, key: int) -> "av.VideoFrame | None":
        self._container.seek(key, stream=self._stream, backward=True)
        self._skipped.clear()
        self._running = self._frames()
        return self._forward_to(target, None)

    def _forward_to(self, target: int, last: int | None) -> "av.VideoFrame | None":
        for frame in self._running:
            if frame.pts is None:
                continue
            if last is not None and frame.pts <= last:
                raise NotRisingError
            last = frame.pts
            if last >= target:
                return frame if last == target else None
        return None

    def close(self) -> None:
        """Release the decoder, and the one that counts instead."""
        super().close()
        if self._sequential is not None:
            self._sequential.close()


class SequentialPyAVReader(PyAVReader):
    """Reader for videos without reliable time stamps: frames are numbered in the order in which they are decoded."""

    def _index(self) -> tuple[Sequence[int | None], int]:
        stamps: list[int | None] = []
        stays = 0
        for frame in self._container.decode(self._stream):
            stamps.append(frame.pts)
            stays = frame.duration or 0
        self._restart()
        return stamps, stays

    def _restart(self) -> None:
        self._reopen()
        self._running, self._next = self._frames(), 0

    def _frames_at(self, wanted: list[int]) -> Iterator["av.VideoFrame"]:
        if wanted[0] < self._next:
            self._restart()
        remaining = iter(wanted)
        index = next(remaining, None)
        while index is not None:
            frame = next(self._running, None)
            if frame is None:
                raise BadVideoError(f"{self.name}: frame {index} of {self.num_frames} could be decoded only once")
            self._next += 1
            if self._next == index + 1:
                yield frame
                index = next(remaining, None)
