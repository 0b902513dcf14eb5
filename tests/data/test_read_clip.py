"""`read_clip`: seconds, frame rates, uniform clips, addresses and less common formats."""

import functools
import http.server
import threading
from pathlib import Path

import pytest
import torch

from tubelets.data.modalities.frame_sampling import uniform_clip
from tubelets.data.modalities.registry import modality_of_suffix
from tubelets.data.modalities.suffixes import VIDEO_SUFFIXES
from tubelets.data.modalities.video import BadVideoError, encode_video, open_video, read_clip
from tubelets.data.sources.file_folders import read_folder
from videos import frame_numbers, make_video, restamped

COUNT = 50
VIDEO = make_video(COUNT, fps=25)


def numbers(**options):
    return frame_numbers(read_clip(VIDEO, 4, **options))


def test_seconds_and_rates_name_the_frames_that_are_shown():
    assert numbers(stride=2, start_seconds=0.4) == [10, 12, 14, 16]
    assert numbers(stride=2, start_seconds=0.419) == [10, 12, 14, 16]
    assert numbers(fps=5, start_seconds=0.4) == [10, 15, 20, 25]
    assert numbers(fps=12.5, start=3) == [3, 5, 7, 9]
    assert numbers(fps=50, start=3) == [3, 3, 4, 4]
    assert numbers(fps=5) == [15, 20, 25, 30], "centred"
    assert numbers(fps=5, start_seconds=1.6) == [40, 45, 45, 45]
    assert numbers(stride=4, end_seconds=0.8) == [2, 6, 10, 14], "centred in the first 20 frames"
    assert numbers(stride=4, start_seconds=0.4, end_seconds=0.8) == [10, 14, 18, 18]
    assert numbers(sampling="uniform") == uniform_clip(COUNT, 4)
    assert numbers(sampling="uniform", start_seconds=1.2, end_seconds=1.52) == [31, 33, 35, 37]


def test_rates_of_a_varying_rate_follow_the_clock():
    slowing = restamped(make_video(20, options={"bf": "0"}), lambda pts, _: (pts * (1 if pts < 5120 else 5),) * 2)
    with open_video(slowing) as reader:
        shown = [max(i for i in range(20) if reader.edges[i] <= time + 1e-6) for time in (0.2, 0.7, 1.2, 1.7, 2.2)]
    assert frame_numbers(read_clip(slowing, 5, start_seconds=0.2, fps=2)) == shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_seconds": 2.0}, r"start_seconds must lie in \[0, 2.000\)"),
        ({"start_seconds": 1.0, "end_seconds": 1.0}, "end_seconds=1.0 must be above 1.000"),
        ({"start": 3, "start_seconds": 1.0}, "both given"),
        ({"start": 50}, r"start must lie in \[0, 50\)"),
        ({"fps": 0.0}, "fps=0.0 must be positive"),
        ({"fps": 5.0, "sampling": "uniform"}, "applies to sampling='dense' only"),
        ({"sampling": "random"}, "'dense' or 'uniform', got 'random'"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        read_clip(VIDEO, 4, **options)


def test_addresses_are_fetched(tmp_path: Path):
    (tmp_path / "clip.mp4").write_bytes(VIDEO)
    expected = read_clip(VIDEO, 4)
    assert torch.equal(read_clip(f"file://{tmp_path}/clip.mp4", 4), expected)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert torch.equal(read_clip(f"{address}/clip.mp4", 4), expected)
        with pytest.raises(BadVideoError, match=r"missing\.mp4: cannot be fetched"):
            read_clip(f"{address}/missing.mp4", 4)
        server.shutdown()
    with pytest.raises(BadVideoError, match=r"nowhere://clip\.mp4: cannot be fetched"):
        read_clip("nowhere://clip.mp4", 4)


@pytest.mark.parametrize(
    ("suffix", "container", "codec"),
    [
        ("gif", "gif", "gif"),
        ("mts", "mpegts", "libx264"),
        ("m2ts", "mpegts", "mpeg2video"),
        ("vob", "vob", "mpeg2video"),
        ("mxf", "mxf", "mpeg2video"),
        ("asf", "asf", "mpeg4"),
    ],
)
def test_less_common_formats_are_videos(tmp_path: Path, suffix, container, codec):
    pixel_format = "rgb8" if codec == "gif" else "yuv420p"
    path = tmp_path / "run" / f"clip.{suffix}"
    path.parent.mkdir()
    path.write_bytes(make_video(12, container=container, codec=codec, pixel_format=pixel_format))
    assert frame_numbers(read_clip(path, 12, 1)) == list(range(12))
    assert f".{suffix}" in VIDEO_SUFFIXES
    assert modality_of_suffix(suffix).name == "video"
    (record,) = read_folder(tmp_path)
    assert (record.path, record.label, record.main_name) == (path, "run", "video")


def test_a_clip_is_read_from_what_encode_video_writes():
    assert read_clip(encode_video(torch.zeros(5, 3, 16, 16, dtype=torch.uint8)), 4, 1).shape == (4, 3, 16, 16)
