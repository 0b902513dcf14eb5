"""Video reader on torchcodec, for files that it reads exactly as PyAV does."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor

from tubelets.data.modalities.pyav_readers import IndexedPyAVReader, NoIndexError
from tubelets.data.modalities.video_readers import BadVideoError, VideoReader, first_line


class TorchcodecReader(VideoReader):
    """Reader with torchcodec and an exact scan of the file; returns the same pixels as `IndexedPyAVReader`.

    torchcodec trusts the packets: it returns other frames than asked for if their time stamps are wrong or the file
    does not start with a key frame, and does not mirror. Such files are rejected.

    Raises:
        BadVideoError: torchcodec cannot read the file, or not exactly.
    """

    def __init__(self, source: bytes | str, name: str, num_threads: int) -> None:
        from torchcodec.decoders import VideoDecoder

        self.name = name
        try:
            with closing(IndexedPyAVReader(source, name, num_threads)) as exact:
                self._height, self._width = exact.height, exact.width
                self.num_frames, self.fps, self.edges = exact.num_frames, exact.fps, exact.edges
                doubtful = exact.is_mirrored
        except NoIndexError:
            doubtful = True
        if doubtful:
            raise self._inexact()
        with self._bad_video():
            decoder = VideoDecoder(source, seek_mode="exact", num_ffmpeg_threads=num_threads, device="cpu")
        self._decoder: Any = decoder
        metadata: Any = decoder.metadata
        if (metadata.num_frames, metadata.height, metadata.width) != (self.num_frames, self._height, self._width):
            raise self._inexact()

    def _inexact(self) -> BadVideoError:
        return BadVideoError(
            f"{self.name}: torchcodec would return other frames than its time stamps, key frames or display matrix ask "
            "for; read it with backend='pyav'"
        )

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
            frames: Tensor = self._decoder.get_frames_at(wanted).data
        return frames.contiguous(memory_format=torch.channels_last)

    def close(self) -> None:
        """Release the decoder."""
        super().close()
        self._decoder = None
