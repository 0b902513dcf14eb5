"""The video reader interface; `pyav_readers` and `torchcodec_reader` implement it, `video` opens them."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from torch import Tensor

from tubelets.data.modalities.modality import BadMediumError

# Self-contained formats. Playlists, concatenation scripts and session descriptions are excluded, because FFmpeg would
# follow them to other files and to the network. A still image is a video of one frame.
SELF_CONTAINED = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,mpegts,mpeg,mpegvideo,flv,live_flv,asf,rm,mxf,"
    "nut,dv,wtv,swf,h263,h264,hevc,m4v,av1,obu,ivf,vc1,mjpeg,yuv4mpegpipe,gif,apng,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe"
}


MAX_PIXELS = 2**26
"""Most pixels of a frame, those of 8192 x 8192; a file of some hundred kilobytes can state more than memory holds."""


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


class VideoReader(ABC):
    """An open video. Use it as a context manager or call `close`.

    Attributes:
        name: name in error messages.
        num_frames: number of displayed frames.
        fps: frames per second: the stated rate if the frames keep it, otherwise their average.
        edges: float64 `(num_frames + 1,)`, rising: frame i is shown from `edges[i]` to `edges[i + 1]`, in seconds from
            the start of the file, which is that of its sound if the sound starts earlier.

    Example:
        >>> import torch
        >>> from tubelets.data.modalities.video import encode_video, open_video
        >>> clip = torch.zeros(5, 3, 16, 32, dtype=torch.uint8)
        >>> with open_video(encode_video(clip)) as reader:
        ...     print(reader.num_frames, reader.height, reader.width, reader.get_frames([4, 0, 0]).shape)
        ...     print(reader.fps, reader.edges.round(2).tolist())
        5 16 32 torch.Size([3, 3, 16, 32])
        25.0 [0.0, 0.04, 0.08, 0.12, 0.16, 0.2]
    """

    name: str
    num_frames: int
    fps: float
    edges: np.ndarray
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
            uint8 RGB tensor `(len(indices), 3, height, width)` in the order of `indices`. Its memory is channels-last,
            as decoders write it: resizing reads that several times faster, and no copy is made.

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
        return take_frames(frames, [slot[index] for index in order])

    @abstractmethod
    def _decode(self, wanted: list[int]) -> Tensor:
        """Channels-last frames of a sorted list of distinct valid indices, uint8 `(T, C, H, W)`."""

    def close(self) -> None:
        """Release the decoder; frames cannot be read afterwards."""
        self._closed = True

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def take_frames(frames: Tensor, places: Sequence[int]) -> Tensor:
    """Select frames without leaving the channels-last memory format.

    Args:
        frames: uint8 `(T, C, H, W)`.
        places: indices of frames, in any order, possibly repeated.

    Returns:
        uint8 `(len(places), C, H, W)`; `frames` itself if all of them are asked for in order.
    """
    if list(places) == list(range(len(frames))):
        return frames
    return frames.permute(0, 2, 3, 1)[list(places)].permute(0, 3, 1, 2)


def check_num_pixels(width: int, height: int, name: str) -> None:
    """Reject frames that take gigabytes to decode, whatever the size of their file.

    Args:
        width: columns of a frame, 0 if unknown.
        height: its rows.
        name: the video's name.

    Raises:
        BadVideoError: if a frame has more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise BadVideoError(
            f"{name}: its frames have {width} x {height} pixels, more than {MAX_PIXELS} in all; make it smaller"
        )


def first_line(error: BaseException) -> str:
    """First line of an error message; torchcodec adds pages of library paths."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
