import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tubelets.data.build.shards import build_shards
from tubelets.data.build.transcoding import TranscodeOptions, on_time_grid, prepare_video
from tubelets.data.modalities.video import BadVideoError, encode_video, open_video
from tubelets.data.sources.records import VideoRecord
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


def drifting_clip() -> torch.Tensor:
    """Texture that drifts, whose encoding uses everything that the encoder has."""
    picture = torch.randint(0, 256, (1, 3, 20, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    large = torch.nn.functional.interpolate(picture.float(), scale_factor=8, mode="bilinear").to(torch.uint8)[0]
    return torch.stack([large.roll((step, 2 * step), (1, 2)) for step in range(16)])


def encodings() -> list[bytes]:
    """The same clip, encoded, scaled and re-encoded."""
    made = encode_video(drifting_clip(), crf=12)
    options = TranscodeOptions(short_side=112, keyframe_interval=5)
    return [made, *(prepare_video(made, options).data for _ in range(3))]


def print_hashes() -> None:
    """Runs in a process of its own that sees one core, so that the encoder would choose other numbers of threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
    print(*(hashlib.sha256(data).hexdigest() for data in encodings()))


def test_the_same_frames_give_the_same_bytes_in_any_process():
    first = encodings()
    assert first[1] == first[2] == first[3]
    here = Path(__file__).parent
    modules = [str(here), str(here.parent), str(here.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    other = subprocess.run(
        [sys.executable, "-c", "import test_transcoding; test_transcoding.print_hashes()"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, modules))},
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert other.stdout.split() == [hashlib.sha256(data).hexdigest() for data in first]
    # What differs from run to run on processors with AVX-512, which a machine without it would not show.
    assert all(b"mbtree=0" in data for data in first)
    assert all(b" threads=1 " in data for data in first)


def test_shards_do_not_depend_on_the_number_of_workers(tmp_path):
    records = []
    for number in range(3):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(encode_video(drifting_clip().roll(number, 0)))
        records.append(VideoRecord(path, None, None, str(number)))
    contents = []
    for workers in (1, 2):
        folder = tmp_path / f"shards{workers}"
        options = {"transcode": TranscodeOptions(short_side=64), "num_workers": workers, "progress": False}
        assert not build_shards(records, folder, **options).bad_files
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
