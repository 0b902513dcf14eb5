import io

import av
import numpy as np
import pytest

from tubelets.data.build.transcoding import TranscodeOptions, on_time_grid, prepare_video
from tubelets.data.modalities.video import BadVideoError, open_video
from videos import bad_videos, frame_numbers, make_video, rotate


def key_frames(data: bytes) -> list[int]:
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    return [place for place, packet in enumerate(sorted(packets, key=lambda p: p.pts)) if packet.is_keyframe]


def test_size_rate_and_key_frames_are_honoured():
    original = make_video(30, 64, 98, fps=30, seed=1)
    result = prepare_video(original, TranscodeOptions(short_side=32, fps=15, keyframe_interval=4))
    assert (result.height, result.width, result.num_frames, result.fps) == (32, 48, 15, 15.0)
    assert key_frames(result.data) == [0, 4, 8, 12]
    with open_video(result.data) as reader:
        assert frame_numbers(reader.get_frames(range(15))) == list(range(0, 30, 2))
    with av.open(io.BytesIO(result.data)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
    assert key_frames(prepare_video(original, TranscodeOptions(short_side=32)).data) == [0]


def test_smaller_videos_are_not_enlarged_and_stay_alike():
    original = make_video(8, 32, 48, seed=2)
    result = prepare_video(original, TranscodeOptions(short_side=64, crf=10))
    assert (result.height, result.width, result.num_frames) == (32, 48, 8)
    with open_video(original) as before, open_video(result.data) as after:
        difference = before.get_frames(range(8)).float() - after.get_frames(range(8)).float()
    assert difference.abs().mean() < 4
    assert abs(difference.mean()) < 0.5
    rough = prepare_video(original, TranscodeOptions(short_side=64, crf=45))
    assert len(rough.data) < len(result.data)


def colour_bars(codec: str, pixel_format: str, **context: int) -> bytes:
    """A matroska file of red and green; `context` are fields of the encoder, such as its colour tags."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, :16], image[:, 16:] = (230, 20, 60), (10, 200, 90)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, pixel_format
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pixel_format, dst_colorspace=context.get("colorspace"))))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("codec", "pixel_format", "context"),
    [
        ("libx264", "yuv420p", {}),
        ("libx264", "yuv420p", {"colorspace": 1, "color_primaries": 1, "color_trc": 1}),
        ("mjpeg", "yuvj420p", {}),
    ],
)
def test_colours_survive(codec, pixel_format, context):
    original = colour_bars(codec, pixel_format, **context)
    copy = prepare_video(original, TranscodeOptions(keyframe_interval=2)).data
    with open_video(original) as before, open_video(copy) as after:
        difference = before.get_frames([1])[0, :, 16, [4, 28]].int() - after.get_frames([1])[0, :, 16, [4, 28]].int()
    assert difference.abs().max() <= 3


def test_rotation_is_baked_in():
    plain = make_video(4, 32, 48, seed=3)
    rotated = rotate(plain, 90)
    result = prepare_video(rotated, TranscodeOptions(keyframe_interval=2, crf=5))
    assert (result.height, result.width) == (48, 32)
    with av.open(io.BytesIO(result.data)) as container:
        assert next(container.decode(video=0)).rotation == 0
    with open_video(plain) as before, open_video(result.data) as after:
        # A quarter turn clockwise.
        difference = before.get_frames([2]).rot90(-1, (2, 3)).float() - after.get_frames([2]).float()
    assert difference.abs().mean() < 6


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0.04, "abcde"), (0.08, "ace"), (0.02, "aabbccddee"), (0.05, "abcd"), (1.0, "a")],
)
def test_time_grid(step, expected):
    frames = [(5 + number * 0.04, 0.04, letter) for number, letter in enumerate("abcde")]
    assert "".join(on_time_grid(frames, step)) == expected


def test_time_grid_of_uneven_frames():
    frames = [(0.0, 0.1, "a"), (0.1, 0.5, "b"), (0.6, 0.1, "c")]
    assert "".join(on_time_grid(frames, 0.1)) == "abbbbbc"
    assert list(on_time_grid([], 0.1)) == []


@pytest.mark.parametrize(
    "values", [{"short_side": 1}, {"fps": 0.0}, {"fps": float("nan")}, {"keyframe_interval": 0}, {"crf": 52}]
)
def test_options_are_checked(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))}="):
        TranscodeOptions(**values)


def test_every_kind_of_bad_video_is_refused():
    for name, data in bad_videos().items():
        for options in (TranscodeOptions(), TranscodeOptions(short_side=8)):
            with pytest.raises(BadVideoError):
                prepare_video(data, options, name)
