"""Encode videos so that the same frames give the same bytes, whatever the machine and however many run at once."""

import io
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

# Ticks of a second, at least: the clock of broadcasts and of most containers.
_TICKS = 90_000


def to_yuv(scaler: "VideoReformatter", frame: "av.VideoFrame", size: tuple[int, int]) -> "av.VideoFrame":
    """Scale a frame and convert it to limited-range yuv420p, to the same values on every processor.

    Args:
        scaler: keeps its tables from frame to frame.
        frame: a decoded frame, or one made from an array.
        size: height and width in pixels.

    Returns:
        A new frame.
    """
    from av.video.reformatter import Interpolation

    # Without these flags the result depends on the vector instructions that FFmpeg finds.
    exact = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    return scaler.reformat(
        frame, size[1], size[0], format="yuv420p", dst_color_range="MPEG", interpolation=exact, threads=1
    )


def add_video_stream(
    container: "av.container.OutputContainer",
    codec: str,
    rate: Fraction,
    size: tuple[int, int],
    *,
    crf: int | None = None,
    keyframe_interval: int | None = None,
) -> "av.VideoStream":
    """Add a yuv420p video stream whose encoder is reproducible.

    x264's macroblock trees are switched off: with AVX-512 their sums differ from run to run. One thread encodes,
    because the result would otherwise depend on the number of cores.

    Args:
        container: an open output container.
        codec: name of an encoder available in PyAV.
        rate: frames per second.
        size: height and width in pixels, even.
        crf: quality, if the encoder supports it, 0 (best) to 51 (libx264); None uses the encoder's default.
        keyframe_interval: frames between key frames of libx264, exactly; None lets the encoder choose.

    Returns:
        The stream.

    Raises:
        ValueError: if the codec is not a video encoder.
    """
    import av

    if av.Codec(codec, "w").type != "video":
        raise ValueError(f"codec must be a video encoder, got {codec!r}")
    stream = container.add_stream(codec, rate=rate)
    assert isinstance(stream, av.VideoStream)
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    options: dict[str, object] = {} if crf is None else {"crf": str(crf)}
    if codec == "libx264":
        parameters = ["mbtree=0"]
        if keyframe_interval is not None:
            # Without scene cuts the interval is exact, so no clip start is further than that from its key frame.
            parameters += [f"keyint={keyframe_interval}", f"min-keyint={keyframe_interval}", "scenecut=0"]
        options["x264-params"] = ":".join(parameters)
    stream.options = options
    stream.codec_context.thread_count = 1
    return stream


def fine_time_base(rate: Fraction) -> Fraction:
    """Seconds of a tick: a frame at `rate` lasts a whole number of them.

    Example:
        >>> fine_time_base(Fraction(30000, 1001)), fine_time_base(Fraction(25))
        (Fraction(1, 90000), Fraction(1, 90000))
    """
    return Fraction(1, rate.numerator * -(-_TICKS // rate.numerator))


def encode_video(clip: Tensor, fps: int = 25, codec: str = "libx264", crf: int | None = None) -> bytes:
    """Encode a clip as an MP4 in memory; for examples, tests and synthetic data.

    The same clip gives the same bytes on every machine with the same version of FFmpeg, see `add_video_stream`.

    Args:
        clip: uint8 RGB `(T, 3, H, W)` with even height and width. Encoding is lossy.
        fps: frames per second.
        codec: an encoder available in PyAV.
        crf: quality, if the encoder supports it, 0 (best) to 51 (libx264); None uses the encoder's default.

    Returns:
        The bytes of an MP4 file.

    Raises:
        ValueError: if the clip has another type or shape, or an odd side, the rate is not positive, or the codec is not
            a video encoder.

    Example:
        >>> from tubelets.data.modalities.video import open_video
        >>> data = encode_video(torch.zeros(4, 3, 16, 16, dtype=torch.uint8))
        >>> open_video(data).num_frames
        4
    """
    import av
    from av.video.reformatter import VideoReformatter

    if clip.dtype != torch.uint8 or clip.dim() != 4 or clip.shape[1] != 3 or clip.shape[2] % 2 or clip.shape[3] % 2:
        raise ValueError(f"clip must be uint8 (T, 3, even H, even W), got {clip.dtype} {tuple(clip.shape)}")
    if not len(clip) or not clip.numel() or not 0 < fps < math.inf:
        raise ValueError(f"the clip must not be empty and fps be positive, got {tuple(clip.shape)} and fps={fps}")
    file = io.BytesIO()
    scaler, size = VideoReformatter(), (clip.shape[2], clip.shape[3])
    with av.open(file, "w", format="mp4") as container:
        stream = add_video_stream(container, codec, Fraction(fps), size, crf=crf)
        for number, image in enumerate(clip.permute(0, 2, 3, 1).contiguous().numpy()):
            frame = to_yuv(scaler, av.VideoFrame.from_ndarray(image, format="rgb24"), size)
            frame.pts, frame.time_base = number, 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
