"""Decode video frames with PyAV or torchcodec behind one interface.

Both backends return the same pixels for MP4, MOV, Matroska and WebM. PyAV ships FFmpeg and always works; torchcodec is
about 20 % faster on short clips but needs FFmpeg shared libraries. Other containers (MPEG program and transport
streams, AVI, Ogg, ...) lack a reliable index: torchcodec returns wrong frames or none, so PyAV decodes them from the
first frame.
"""

import contextlib
import functools
import importlib.metadata
import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import torch
from torch import Tensor

from tubelets.data.modalities.encoding import encode_video
from tubelets.data.modalities.frame_sampling import dense_clip
from tubelets.data.modalities.pyav_readers import IndexedPyAVReader, NoIndexError, SequentialPyAVReader
from tubelets.data.modalities.torchcodec_reader import TorchcodecReader
from tubelets.data.modalities.video_readers import BadVideoError, VideoReader, first_line, take_frames

__all__ = [
    "Backend",
    "BadVideoError",
    "VideoReader",
    "available_backends",
    "check_container",
    "encode_video",
    "open_video",
    "read_clip",
    "read_clips",
]

Backend = Literal["auto", "pyav", "torchcodec"]

_INSTALL = {
    "pyav": "pip install av",
    "torchcodec": "pip install 'tubelets[torchcodec]', and FFmpeg 4 to 9 shared libraries",
}
_MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")


@functools.cache
def _problem(backend: str) -> str | None:
    """Return why a backend cannot decode on this machine, or `None` if it can; cached."""
    try:
        if backend == "pyav":
            import av  # noqa: F401
        else:
            from torchcodec.decoders import VideoDecoder

            # The import succeeds without FFmpeg; only decoding shows whether its libraries are available.
            probe = encode_video(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), codec="mpeg4")
            VideoDecoder(probe, device="cpu").get_frame_at(0)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return first_line(error)
    return None


def available_backends() -> dict[str, str]:
    """Return the available decoders.

    Returns:
        For `"pyav"` and `"torchcodec"` the version, or `"unavailable: "` and the reason.

    Example:
        >>> sorted(available_backends())
        ['pyav', 'torchcodec']
    """
    found = {}
    for backend, package in (("pyav", "av"), ("torchcodec", "torchcodec")):
        problem = _problem(backend)
        found[backend] = importlib.metadata.version(package) if problem is None else f"unavailable: {problem}"
    return found


def check_container(source: bytes | str, name: str) -> bool:
    """Reject an empty file or a truncated MP4 file.

    Args:
        source: the bytes or the path of a file.
        name: name in error messages.

    Returns:
        Whether the container (MP4, MOV, Matroska or WebM) has an index that all decoders use.

    Raises:
        BadVideoError: if the file is empty or truncated.

    Example:
        >>> check_container(encode_video(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)), "clip")
        True
    """
    file: BinaryIO
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        head = file.read(8)
        if size == 0:
            raise BadVideoError(f"{name}: the file is empty")
        if head[4:8] in _MP4_FIRST_BOXES:
            _check_mp4_boxes(file, size, name)
            return True
    return head[:4] == b"\x1aE\xdf\xa3"


def _check_mp4_boxes(file: BinaryIO, size: int, name: str) -> None:
    """Check the top-level boxes; decoders accept a file that ends inside one and may fail much later."""
    position, kinds = 0, set()
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:
            length = size - position
        if length < 8:
            break
        kinds.add(kind)
        if position + length > size and kind in (b"mdat", b"moov", b"moof"):
            there = f"got {size - position} of {length} bytes of its {kind.decode()} box"
            raise BadVideoError(f"{name}: the file is truncated ({there}); download it again")
        position += length
    if b"moov" not in kinds:
        raise BadVideoError(f"{name}: the file has no moov box (its index), so it is truncated; download it again")


def open_video(
    source: bytes | str | Path, backend: Backend = "auto", num_threads: int = 1, name: str | None = None
) -> VideoReader:
    """Open a video from memory or from a local file.

    Args:
        source: the bytes or the path of a video file. URLs are not fetched.
        backend: `"auto"` uses torchcodec if it can decode on this machine and the container is MP4, MOV, Matroska or
            WebM, otherwise PyAV.
        num_threads: decoding threads; 0 lets FFmpeg choose. With more than one, frames past the requested ones may be
            decoded as well.
        name: name in error messages; the path by default.

    Returns:
        A reader; close it or use it in a `with` block.

    Raises:
        BadVideoError: if the video cannot be read, or the requested backend cannot read the container exactly.
        ImportError: if the requested backend is not available.
        ValueError: if the backend is unknown or `num_threads` negative.

    Example:
        >>> data = encode_video(torch.full((3, 3, 16, 16), 200, dtype=torch.uint8))
        >>> with open_video(data) as reader:
        ...     reader.get_frames([2, 1]).shape
        torch.Size([2, 3, 16, 16])
    """
    if backend not in ("auto", "pyav", "torchcodec"):
        raise ValueError(f"backend must be 'auto', 'pyav' or 'torchcodec', got {backend!r}")
    if num_threads < 0:
        raise ValueError(f"num_threads must be 0 (FFmpeg chooses) or more, got {num_threads}")
    if isinstance(source, (str, Path)):
        source = str(source)
        name = name or source
        if not Path(source).is_file():
            raise BadVideoError(f"{name}: file not found")
    elif not isinstance(source, bytes):
        raise TypeError(f"source must be bytes or a path, got {type(source).__name__}")
    name = name or f"video of {len(source)} bytes"
    if backend != "auto" and (problem := _problem(backend)) is not None:
        raise ImportError(f"{backend} cannot decode here ({problem}); install it with: {_INSTALL[backend]}")
    indexed = check_container(source, name)
    if backend == "torchcodec" and not indexed:
        raise BadVideoError(f"{name}: not an MP4, MOV, Matroska or WebM file; read it with backend='pyav'")
    if backend == "torchcodec":
        return TorchcodecReader(source, name, num_threads)
    if indexed:
        with contextlib.suppress(NoIndexError):
            return IndexedPyAVReader(source, name, num_threads)
    return SequentialPyAVReader(source, name, num_threads)


def read_clips(reader: VideoReader, clips: Sequence[Sequence[int]]) -> list[Tensor]:
    """Read several clips of one video; shared frames are decoded once.

    Args:
        reader: an open video.
        clips: for each clip its frame indices, in any order.

    Returns:
        One uint8 tensor `(len(clip), 3, height, width)` per clip, channels-last in memory.

    Raises:
        IndexError: if an index lies outside the video.
        BadVideoError: if a requested frame cannot be decoded.

    Example:
        >>> with open_video(encode_video(torch.zeros(9, 3, 16, 16, dtype=torch.uint8))) as reader:
        ...     [clip.shape[0] for clip in read_clips(reader, [[0, 2, 4], [4, 6]])]
        [3, 2]
    """
    wanted = sorted({index for clip in clips for index in clip})
    frames = reader.get_frames(wanted)
    slot = {index: position for position, index in enumerate(wanted)}
    return [take_frames(frames, [slot[index] for index in clip]) for clip in clips]


def read_clip(
    source: bytes | str | Path,
    num_frames: int = 16,
    stride: int = 4,
    start: int | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Read one dense clip: every `stride`-th frame from `start` (sigma.md, section 6).

    Args:
        source: the bytes or the path of a video file.
        num_frames: frames of the clip.
        stride: distance between frames, in frames.
        start: first frame; `None` centres the clip in the video.
        backend: see `open_video`.

    Returns:
        uint8 RGB tensor `(num_frames, 3, height, width)`; short videos repeat their last reachable frame.

    Raises:
        BadVideoError: if the video cannot be read.
        ValueError: if `start` lies outside the video.

    Example:
        >>> read_clip(encode_video(torch.zeros(30, 3, 16, 16, dtype=torch.uint8)), num_frames=8, stride=2).shape
        torch.Size([8, 3, 16, 16])
    """
    with open_video(source, backend) as reader:
        if start is None:
            start = max(reader.num_frames - num_frames * stride, 0) // 2
        return reader.get_frames(dense_clip(reader.num_frames, num_frames, stride, start))
