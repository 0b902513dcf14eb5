"""Tiny videos made in memory, whose frames can be told apart, and files that no reader should accept."""

import io
import itertools
import struct
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

_BITS_ROWS, _BITS_COLUMNS = 2, 5
# Display matrices by the clockwise angle of a player, and mirrored ones by name.
_MATRICES: dict[int | str, tuple[int, ...]] = {
    "left and right": (-0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000),
    "up and down": (0x10000, 0, 0, 0, -0x10000, 0, 0, 0, 0x40000000),
    "rows and columns": (0, 0x10000, 0, 0x10000, 0, 0, 0, 0, 0x40000000),
    "both diagonals": (0, -0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000),
    0: (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000),
    90: (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000),
    180: (-0x10000, 0, 0, 0, -0x10000, 0, 0, 0, 0x40000000),
    270: (0, -0x10000, 0, 0x10000, 0, 0, 0, 0, 0x40000000),
}


def _image(number: int, height: int, width: int, seed: int) -> np.ndarray:
    """Ten blocks, bright or dark: the bits of the frame number; the colour of the dark ones comes from the seed."""
    bits = np.array([number >> bit & 1 for bit in range(_BITS_ROWS * _BITS_COLUMNS)]).reshape(_BITS_ROWS, _BITS_COLUMNS)
    rows = np.arange(height) * _BITS_ROWS // height
    columns = np.arange(width) * _BITS_COLUMNS // width
    dark = np.random.default_rng(seed).integers(10, 50, 3)
    return np.where(bits[rows][:, columns, None] == 1, 230, dark).astype(np.uint8)


def frame_numbers(clip: Tensor) -> list[int]:
    """The numbers that the frames of an upright uint8 clip `(T, 3, H, W)` carry."""
    _, _, height, width = clip.shape
    rows = (torch.arange(_BITS_ROWS) * 2 + 1) * height // (2 * _BITS_ROWS)
    columns = (torch.arange(_BITS_COLUMNS) * 2 + 1) * width // (2 * _BITS_COLUMNS)
    bits = (clip.float().mean(1)[:, rows][:, :, columns] > 128).flatten(1).long()
    return (bits * 2 ** torch.arange(bits.shape[1])).sum(1).tolist()


def make_video(
    num_frames: int,
    height: int = 32,
    width: int = 64,
    fps: int | Fraction = 25,
    codec: str = "libx264",
    gop: int = 12,
    seed: int = 0,
    container: str = "mp4",
    options: dict[str, str] | None = None,
    movflags: str = "",
    pixel_format: str = "yuv420p",
) -> bytes:
    """Encode up to 1024 numbered frames; `frame_numbers` reads the numbers back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        with av.open(str(path), "w", format=container, options={"movflags": movflags} if movflags else {}) as output:
            stream = output.add_stream(codec, rate=fps, options=options or {})
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width, stream.pix_fmt = height, width, pixel_format
            stream.codec_context.gop_size = gop
            for number in range(num_frames):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(_image(number, height, width, seed), "rgb24")))
            output.mux(stream.encode())
        return path.read_bytes()


def rotate(video: bytes, degrees: int | str) -> bytes:
    """Change the display matrix of an MP4: clockwise by 0, 90, 180 or 270 degrees, or mirrored, see `_MATRICES`."""
    upright = struct.pack(">9i", *_MATRICES[0])
    place = video.index(upright, video.index(b"tkhd"))
    return video[:place] + struct.pack(">9i", *_MATRICES[degrees]) + video[place + len(upright) :]


def start_later(video: bytes, first: int) -> bytes:
    """Copy an MP4 without re-encoding so that an edit list hides the frames before number `first`."""
    source = av.open(io.BytesIO(video), "r")
    stream = source.streams.video[0]
    packets = [packet for packet in source.demux(stream) if packet.size]
    shift = sorted(packet.pts for packet in packets if packet.pts is not None)[first]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"avoid_negative_ts": "disabled"}) as output:
        copy = output.add_stream_from_template(stream)
        for packet in packets:
            assert packet.pts is not None
            assert packet.dts is not None
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
            output.mux(packet)
    return file.getvalue()


def restamped(
    video: bytes,
    stamp: Callable[[int, int], tuple[int, int] | None],
    container: str = "mp4",
    time_base: Fraction | None = None,
) -> bytes:
    """Copy the packets of a video with other time stamps.

    Args:
        video: the file.
        stamp: from pts and dts in ticks to those of the copy; None leaves a packet out.
        container: format of the copy.
        time_base: seconds of a tick of the new stamps; that of the file by default.
    """
    source, file = av.open(io.BytesIO(video), "r"), io.BytesIO()
    options = {"avoid_negative_ts": "disabled"} if container == "mp4" else {}
    with av.open(file, "w", format=container, options=options) as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is None or packet.dts is None:
                continue
            found = stamp(packet.pts, packet.dts)
            if found is not None:
                packet.time_base = time_base or packet.time_base
                packet.pts, packet.dts, packet.stream = *found, copy
                output.mux(packet)
    return file.getvalue()


def stamped_by_decoding(video: bytes, container: str = "mp4") -> bytes:
    """A copy whose presentation times are the decoding times, as some widely used writers store them."""
    with av.open(io.BytesIO(video)) as source:
        first = next(source.demux(video=0)).dts
    assert first is not None
    return restamped(video, lambda pts, dts: (dts - first, dts - first), container)


def without_first_packets(video: bytes, count: int, container: str = "mp4") -> bytes:
    """A copy that lacks the first packets, among them the key frame, as recordings that start in mid-stream do."""
    numbers = itertools.count()
    return restamped(video, lambda pts, dts: (pts, dts) if next(numbers) >= count else None, container)


def _audio_only() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=16000)
        assert isinstance(stream, av.AudioStream)
        for _ in range(5):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def _ogg_page(packet: bytes, number: int, flags: int) -> bytes:
    lacing = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    head = b"OggS" + struct.pack("<BBqIII", 0, flags, 0, 1, number, 0) + bytes([len(lacing)]) + lacing
    checksum = 0
    for byte in head + packet:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum & 0x80000000 else 0)) & 0xFFFFFFFF
    return head[:22] + struct.pack("<I", checksum) + head[26:] + packet


def _theora() -> bytes:
    """An Ogg file that announces a Theora stream of 64x32 pixels whose decoder tables are damaged."""
    frame_size = struct.pack(">HH", 4, 2) + (64).to_bytes(3, "big") + (32).to_bytes(3, "big") + bytes(2)
    rates = struct.pack(">II", 25, 1) + (1).to_bytes(3, "big") * 2 + bytes(1) + bytes(3) + struct.pack(">H", 0x80C0)
    identification = b"\x80theora\x03\x02\x01" + frame_size + rates
    packets = [identification, b"\x81theora" + bytes(8), b"\x82theora" + bytes(200), bytes(100), bytes(100)]
    last = len(packets) - 1
    flags = {0: 2, last: 4}
    return b"".join(_ogg_page(packet, number, flags.get(number, 0)) for number, packet in enumerate(packets))


def bad_videos() -> dict[str, bytes]:
    """Files that must be refused, by name."""
    index_last = make_video(20)
    index_first = make_video(40, gop=10, movflags="faststart")
    ts = make_video(20, container="mpegts")
    damaged = bytearray(index_first)
    damaged[index_first.index(b"mdat") + 4 :] = bytes(len(index_first) - index_first.index(b"mdat") - 4)
    return {
        "theora": _theora(),
        "truncated_before_index": index_last[: len(index_last) * 3 // 5],
        "truncated_after_index": index_first[:-100],
        "damaged_frames": bytes(damaged),
        "audio_only": _audio_only(),
        "zero_bytes": b"",
        "text": b"This is not a video, whatever its name says.\n" * 20,
        "transport_stream_without_video": ts[:188],
    }
