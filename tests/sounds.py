"""Tiny sounds made in memory, and videos with sound."""

import io
from fractions import Fraction

import av
import numpy as np
import torch
from torch import Tensor


def sweep(seconds: float, rate: int, low: float = 200.0, rise: float = 300.0) -> Tensor:
    """A tone that rises, so that every moment can be told from every other."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (0.4 * torch.sin(2 * torch.pi * (low + rise * time) * time)).float()


def tone(seconds: float, rate: int, frequency: float) -> Tensor:
    """A steady tone."""
    return sweep(seconds, rate, frequency, 0.0)


def make_sounding_video(
    seconds: float = 1.0,
    codec: str = "aac",
    rate: int = 16000,
    container: str = "mp4",
    fps: int = 25,
    size: tuple[int, int] = (32, 48),
    sound: Tensor | None = None,
) -> bytes:
    """A video whose frames brighten with time, beside a `sweep` or another sound."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        video = output.add_stream("mpeg4" if container == "avi" else "libx264", rate=fps)
        assert isinstance(video, av.VideoStream)
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        audio = output.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(audio, av.AudioStream)
        for number in range(round(seconds * fps)):
            image = np.full((*size, 3), 20 + 200 * number / (seconds * fps), np.uint8)
            output.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(video.encode(None))
        samples = (sweep(seconds, rate) if sound is None else sound)[None].numpy()
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    return buffer.getvalue()
