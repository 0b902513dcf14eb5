"""Decode video frames with PyAV or torchcodec behind one interface.

PyAV ships FFmpeg, reads every file exactly and is the default. torchcodec is no faster and needs FFmpeg shared
libraries. It returns the same pixels for most MP4, MOV, Matroska and WebM files; where its index would give other
frames, for example if the file does not start with a key frame, it is refused. Other containers (MPEG program and
transport streams, AVI, Ogg, ...) lack a reliable index, so PyAV decodes them from the first frame.
"""

import contextlib
import functools
import importlib.metadata
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor

from tubelets.data.modalities.encoding import encode_video
from tubelets.data.modalities.frame_sampling import dense_clip, uniform_clip
from tubelets.data.modalities.pyav_readers import IndexedPyAVReader, NoIndexError, SequentialPyAVReader
from tubelets.data.modalities.remote import is_address, read_address
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
        source: the bytes or the path of a video file. URLs are not fetched, see `read_clip`.
        backend: `"auto"` is PyAV, so that frames do not depend on what else is installed.
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
        # It rejects files that it would not read exactly.
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
    *,
    sampling: Literal["dense", "uniform"] = "dense",
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    fps: float | None = None,
) -> Tensor:
    """Read one clip: every `stride`-th frame from a start (sigma.md, section 6), or frames spread over the video.

    Args:
        source: the bytes or the path of a video file, or its address, such as `https://...` or
            `hf://datasets/user/name/clip.mp4`, which is fetched.
        num_frames: frames of the clip.
        stride: distance between frames of a dense clip, in frames.
        start: first frame; `None` centres a dense clip, if `start_seconds` is `None` as well.
        backend: see `open_video`.
        sampling: "dense", or "uniform": the middle frame of each of `num_frames` equal parts.
        start_seconds: time of the first frame, from the start of the file, instead of `start`. A uniform clip lies
            after it.
        end_seconds: end of the part of the video that is used; `None` uses it to the end.
        fps: frames per second of a dense clip, instead of `stride`: the frames shown at these times, whatever the
            video's own rate.

    Returns:
        uint8 RGB tensor `(num_frames, 3, height, width)`, channels-last in memory; short videos repeat their last
        reachable frame.

    Raises:
        BadVideoError: if the video cannot be fetched or read.
        ValueError: if the start or the end lies outside the video, or two arguments exclude each other.

    Example:
        >>> video = encode_video(torch.zeros(30, 3, 16, 16, dtype=torch.uint8))
        >>> read_clip(video, num_frames=8, stride=2).shape
        torch.Size([8, 3, 16, 16])
        >>> read_clip(video, num_frames=4, start_seconds=0.2, end_seconds=1.0, fps=5).shape
        torch.Size([4, 3, 16, 16])
    """
    if sampling not in ("dense", "uniform"):
        raise ValueError(f"sampling must be 'dense' or 'uniform', got {sampling!r}")
    if start is not None and start_seconds is not None:
        raise ValueError(f"start={start} and start_seconds={start_seconds} are both given; give one of them")
    if fps is not None and (sampling == "uniform" or not 0 < fps < math.inf):
        raise ValueError(f"fps={fps} must be positive, and applies to sampling='dense' only, got {sampling!r}")
    if isinstance(source, str) and is_address(source):
        name, source = source, read_address(source)
    else:
        name = None
    with open_video(source, backend, name=name) as reader:
        first, last = _part(reader, start, start_seconds, end_seconds)
        if sampling == "uniform":
            return reader.get_frames([first + index for index in uniform_clip(last - first, num_frames)])
        is_centred = start is None and start_seconds is None
        if fps is not None:
            return reader.get_frames(_at_rate(reader.edges[first : last + 1], first, num_frames, fps, is_centred))
        skipped = max(last - first - num_frames * stride, 0) // 2 if is_centred else 0
        return reader.get_frames([first + index for index in dense_clip(last - first, num_frames, stride, skipped)])


def _part(reader: VideoReader, start: int | None, start_seconds: float | None, end: float | None) -> tuple[int, int]:
    """First frame, and the one behind the last, of the part of a video that a clip is read from."""
    length = float(reader.edges[-1])
    first, last = start or 0, reader.num_frames
    if start_seconds is not None:
        if not 0 <= start_seconds < length:
            raise ValueError(f"{reader.name}: start_seconds must lie in [0, {length:.3f}), got {start_seconds}")
        first = max(int(np.searchsorted(reader.edges, start_seconds, "right")) - 1, 0)
    elif not 0 <= first < last:
        raise ValueError(f"{reader.name}: start must lie in [0, {last}), the frames of the video, got {start}")
    if end is not None:
        last = int(np.searchsorted(reader.edges[:-1], end, "left"))
        if not first < last:
            raise ValueError(
                f"{reader.name}: end_seconds={end} must be above {reader.edges[first]:.3f}, the time of the first frame"
            )
    return first, last


def _at_rate(edges: np.ndarray, first: int, num_frames: int, fps: float, is_centred: bool) -> list[int]:
    """The frames shown at regular times; `edges` are those of the part that starts with frame `first`."""
    spare = max(edges[-1] - edges[0] - num_frames / fps, 0.0) / 2 if is_centred else 0.0
    # A time on the edge between two frames belongs to the later one, also after rounding.
    times = edges[0] + spare + np.arange(num_frames) / fps + 1e-6
    reachable = times[times < edges[-1]]
    shown = np.searchsorted(edges, reachable, "right") - 1 + first
    return np.pad(shown, (0, num_frames - len(shown)), "edge").tolist()
