"""The video reader interface and its PyAV and torchcodec implementations; `video` opens them."""

import io
import math
import operator
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tubelets.data.modalities.modality import BadMediumError

if TYPE_CHECKING:
    import av

# Self-contained formats. Playlists, concatenation scripts and session descriptions are excluded, because FFmpeg would
# follow them to other files and to the network. A still image is a video of one frame.
SELF_CONTAINED = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,mpegts,mpeg,mpegvideo,flv,live_flv,asf,rm,mxf,"
    "nut,dv,wtv,swf,h263,h264,hevc,m4v,av1,obu,ivf,vc1,mjpeg,yuv4mpegpipe,gif,apng,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe"
}


class BadVideoError(BadMediumError):
    """A video cannot be read; the message gives the reason and, if known, the file or name.

    Example:
        >>> from tubelets.data.modalities.video import open_video
        >>> try:
        ...     open_video(b"hello", backend="pyav", name="clip 7")
        ... except BadVideoError as error:
        ...     print(str(error).split(":")[0])
        clip 7
    """


class NoIndexError(Exception):
    """The packets have no presentation times."""


class VideoReader(ABC):
    """An open video. Use it as a context manager or call `close`.

    Attributes:
        name: name in error messages.
        num_frames: number of displayed frames.
        fps: average frames per second; 0.0 if the container does not state it.

    Example:
        >>> from tubelets.data.modalities.video import encode_video, open_video
        >>> clip = torch.zeros(5, 3, 16, 32, dtype=torch.uint8)
        >>> with open_video(encode_video(clip)) as reader:
        ...     print(reader.num_frames, reader.height, reader.width, reader.get_frames([4, 0, 0]).shape)
        5 16 32 torch.Size([3, 3, 16, 32])
    """

    name: str
    num_frames: int
    fps: float
    _closed: bool = False

    @property
    @abstractmethod
    def height(self) -> int:
        """Rows of a returned frame in pixels, after applying the container's rotation flag."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Columns of a returned frame in pixels, after applying the container's rotation flag."""

    def get_frames(self, indices: Sequence[int]) -> Tensor:
        """Decode frames by index; repeated indices are decoded once.

        Args:
            indices: frame indices in [0, num_frames), at least one, in any order.

        Returns:
            uint8 RGB tensor `(len(indices), 3, height, width)`, contiguous, in the order of `indices`.

        Raises:
            IndexError: if an index is negative or not below `num_frames`.
            ValueError: if `indices` is empty.
            RuntimeError: if the reader is closed.
            BadVideoError: if a requested frame cannot be decoded.
        """
        if self._closed:
            raise RuntimeError(f"{self.name}: the reader is closed; open the video again")
        order = [operator.index(index) for index in indices]
        if not order:
            raise ValueError(f"{self.name}: indices is empty; give at least one frame")
        for index in order:
            if not 0 <= index < self.num_frames:
                raise IndexError(f"{self.name}: frame {index} was requested, frames 0 to {self.num_frames - 1} exist")
        distinct = sorted(set(order))
        frames = self._decode(distinct)
        if order == distinct:
            return frames
        slot = {index: position for position, index in enumerate(distinct)}
        return frames[[slot[index] for index in order]]

    @abstractmethod
    def _decode(self, wanted: list[int]) -> Tensor:
        """Frames of a sorted list of distinct valid indices, uint8 `(T, C, H, W)`."""

    def close(self) -> None:
        """Release the decoder; frames cannot be read afterwards."""
        self._closed = True

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _PyAVReader(VideoReader):
    """Base of both PyAV readers: opening, conversion to RGB, rotation, counting of decoded frames."""

    def __init__(self, source: bytes | str, name: str, num_threads: int) -> None:
        self.name = name
        self.frames_decoded = 0
        self._source, self._num_threads = source, num_threads
        self._size: tuple[int, int] | None = None
        with self._bad_video():
            self._open()
        try:
            with self._bad_video():
                self.num_frames = self._count()
            if self.num_frames == 0:
                raise BadVideoError(f"{name}: the video stream has no frame")
        except (BadVideoError, NoIndexError):
            self.close()
            raise
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate else 0.0

    def _open(self) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        file = io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        self._container = av.open(file, "r", metadata_errors="ignore", options=SELF_CONTAINED)
        stream = self._container.streams.best("video")
        if not isinstance(stream, av.VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
            self._container.close()
            raise BadVideoError(f"{self.name}: no video stream")
        if stream.codec_context is None:
            self._container.close()
            raise BadVideoError(f"{self.name}: this FFmpeg has no decoder for its video stream")
        self._stream = stream
        stream.codec_context.thread_count = self._num_threads
        stream.thread_type = "SLICE" if self._num_threads == 1 else "AUTO"
        self._reformatter: Any = VideoReformatter()
        self._running: Iterator[av.VideoFrame] = iter(())

    @abstractmethod
    def _count(self) -> int:
        """Number of frames."""

    @contextmanager
    def _bad_video(self) -> Iterator[None]:
        import av

        try:
            yield
        except av.FFmpegError as error:
            raise BadVideoError(f"{self.name}: FFmpeg cannot read it ({error})") from error

    def _frames(self) -> Iterator["av.VideoFrame"]:
        for frame in self._container.decode(self._stream):
            self.frames_decoded += 1
            yield frame

    def _rgb(self, frame: "av.VideoFrame") -> Tensor:
        """uint8 `(C, H, W)`, turned upright."""
        pixels = torch.from_numpy(self._reformatter.reformat(frame, format="rgb24").to_ndarray()).permute(2, 0, 1)
        quarter_turns = int(math.copysign(math.floor(abs(frame.rotation) / 90 + 0.5), frame.rotation))
        upright = torch.rot90(pixels, quarter_turns, (1, 2))
        size = (upright.shape[1], upright.shape[2])
        if self._size is not None and size != self._size:
            raise BadVideoError(f"{self.name}: frames change from {self._size} to {size} (height, width)")
        self._size = size
        return upright

    def _decode(self, wanted: list[int]) -> Tensor:
        clip: Tensor | None = None
        with self._bad_video():
            for slot, frame in enumerate(self._frames_at(wanted)):
                image = self._rgb(frame)
                if clip is None:
                    clip = torch.empty((len(wanted), *image.shape), dtype=torch.uint8)
                clip[slot] = image
        if clip is None:
            raise BadVideoError(f"{self.name}: frame {wanted[0]} cannot be decoded")
        return clip

    @abstractmethod
    def _frames_at(self, wanted: list[int]) -> Iterator["av.VideoFrame"]:
        """The frames of sorted distinct indices, one by one."""

    @property
    def height(self) -> int:
        return self._upright_size()[0]

    @property
    def width(self) -> int:
        return self._upright_size()[1]

    def _upright_size(self) -> tuple[int, int]:
        # Only decoded frames have the rotation, so decode the first one if none was read before.
        if self._size is None:
            self._decode([0])
        assert self._size is not None
        return self._size

    def close(self) -> None:
        super().close()
        # Break the reference cycle with the generator. Otherwise garbage collection would wait for FFmpeg's threads,
        # and a forked worker would wait forever for threads it did not inherit.
        self._running = iter(())
        self._reformatter = None
        self._container.close()


class IndexedPyAVReader(_PyAVReader):
    """Reader for MP4 and Matroska: a scan of the packets gives presentation times and key frames."""

    def _count(self) -> int:
        shown, keys = [], []
        for packet in self._container.demux(self._stream):
            if packet.size == 0:
                continue
            if packet.pts is None:
                raise NoIndexError
            if packet.is_keyframe:
                keys.append(packet.pts)
            # Packets before the start of an edit list are needed for decoding but never displayed.
            if not packet.is_discard:
                shown.append(packet.pts)
        if len(set(shown)) != len(shown) or (shown and not keys):
            raise NoIndexError
        self._shown, self._keys = sorted(shown), sorted(keys)
        self._last: int | None = None
        return len(shown)

    def _frames_at(self, wanted: list[int]) -> Iterator["av.VideoFrame"]:
        for index in wanted:
            yield self._frame_at(index)

    def _frame_at(self, index: int) -> "av.VideoFrame":
        target = self._shown[index]
        key = max(bisect_right(self._keys, target) - 1, 0)
        # Cleared until the frame is found, so that the call after a failure seeks again.
        last, self._last = self._last, None
        if last is not None and last < target and self._keys[key] <= last:
            frame = self._forward_to(target)
        else:
            frame = self._seek_to(target, self._keys[key])
        if frame is None:
            # Some files seek past the requested time; decoding from the first key frame reaches every frame.
            frame = self._seek_to(target, self._keys[0])
        if frame is None:
            raise BadVideoError(
                f"{self.name}: frame {index} of {self.num_frames} is in the index but cannot be decoded"
            )
        self._last = target
        return frame

    def _seek_to(self, target: int, key: int) -> "av.VideoFrame | None":
        self._container.seek(key, stream=self._stream, backward=True)
        self._running = self._frames()
        return self._forward_to(target)

    def _forward_to(self, target: int) -> "av.VideoFrame | None":
        for frame in self._running:
            if frame.pts is not None and frame.pts >= target:
                return frame if frame.pts == target else None
        return None


class SequentialPyAVReader(_PyAVReader):
    """Reader for containers without a reliable index: frames are numbered in decoding order."""

    def _count(self) -> int:
        count = 0
        for _ in self._container.decode(self._stream):
            count += 1
        self._restart()
        return count

    def _restart(self) -> None:
        self._container.close()
        self._open()
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


class TorchcodecReader(VideoReader):
    """Reader with torchcodec and an exact scan of the file; returns the same pixels as `IndexedPyAVReader`."""

    def __init__(self, source: bytes | str, name: str, num_threads: int) -> None:
        from torchcodec.decoders import VideoDecoder

        self.name = name
        with self._bad_video():
            decoder = VideoDecoder(source, seek_mode="exact", num_ffmpeg_threads=num_threads, device="cpu")
        self._decoder: Any = decoder
        metadata: Any = decoder.metadata
        self.num_frames = metadata.num_frames or 0
        if self.num_frames == 0:
            raise BadVideoError(f"{name}: the video stream has no frame")
        self.fps = float(metadata.average_fps or 0.0)
        self._height, self._width = metadata.height, metadata.width

    @contextmanager
    def _bad_video(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, IndexError) as error:
            raise BadVideoError(f"{self.name}: torchcodec cannot read it ({first_line(error)})") from error

    @property
    def height(self) -> int:
        """Height of the frames in pixels."""
        return self._height

    @property
    def width(self) -> int:
        """Width of the frames in pixels."""
        return self._width

    def _decode(self, wanted: list[int]) -> Tensor:
        with self._bad_video():
            return self._decoder.get_frames_at(wanted).data.contiguous()

    def close(self) -> None:
        """Release the decoder."""
        super().close()
        self._decoder = None


def first_line(error: BaseException) -> str:
    """First line of an error message; torchcodec adds pages of library paths."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
