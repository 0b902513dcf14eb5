import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tubelets.data.modalities import video as decoding
from tubelets.data.modalities.frame_sampling import dense_clip
from tubelets.data.modalities.pyav_readers import IndexedPyAVReader, SequentialPyAVReader
from tubelets.data.modalities.video import (
    BadVideoError,
    available_backends,
    encode_video,
    open_video,
    read_clip,
    read_clips,
)
from videos import bad_videos, frame_numbers, make_video, rotate, start_later

BAD = bad_videos()
# Containers that say when each frame is shown, and ones that do not.
INDEXED = {
    "b_frames": {"gop": 12},
    "one_key_frame": {"gop": 250},
    "open_gop": {"options": {"x264-params": "open-gop=1:bframes=3:keyint=12"}},
    "no_b_frames": {"options": {"bf": "0"}},
    "mpeg4": {"codec": "mpeg4"},
    "vp9": {"codec": "libvpx-vp9", "container": "webm", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}},
    "matroska": {"container": "matroska"},
    "fragmented": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
}
SEQUENTIAL = {
    "transport_stream": {"container": "mpegts"},
    "program_stream": {"container": "mpeg", "codec": "mpeg2video", "options": {"bf": "2"}},
    "avi": {"container": "avi"},
}
COUNT = 40


@pytest.mark.parametrize("kind", [*INDEXED, *SEQUENTIAL])
def test_every_frame_is_the_one_asked_for(kind):
    with open_video(make_video(COUNT, **{**INDEXED, **SEQUENTIAL}[kind]), "pyav") as reader:
        assert isinstance(reader, IndexedPyAVReader if kind in INDEXED else SequentialPyAVReader)
        assert (reader.num_frames, reader.height, reader.width) == (COUNT, 32, 64)
        assert frame_numbers(reader.get_frames(range(COUNT))) == list(range(COUNT))
        for order in ([25], [39, 0, 13, 13, 2], [11, 12], [38, 39], [0]):
            assert frame_numbers(reader.get_frames(order)) == order


def test_shape_type_and_rate():
    with open_video(make_video(7, 48, 80, fps=30), "pyav") as reader:
        clip = reader.get_frames([0, 3])
        assert (reader.fps, reader.height, reader.width) == (30.0, 48, 80)
    assert clip.shape == (2, 3, 48, 80)
    assert clip.dtype == torch.uint8
    assert clip.is_contiguous(memory_format=torch.channels_last)


def test_size_is_known_before_any_frame_is_read():
    with open_video(rotate(make_video(5), 90), "pyav") as reader:
        assert (reader.height, reader.width) == (64, 32)


# Without B-frames every frame is referred to, so that none can be left out.
@pytest.mark.parametrize(("gop", "wanted", "most"), [(12, [26], 3), (12, [30, 31, 35], 12), (250, [26], 27)])
def test_decoding_starts_at_the_key_frame_and_stops_at_the_last_wanted_frame(gop, wanted, most):
    video = make_video(COUNT, gop=gop, options={"x264-params": f"keyint={gop}:scenecut=0:bframes=0"})
    with open_video(video, "pyav") as reader:
        assert reader.frames_decoded == 0, "opening must not decode"
        assert frame_numbers(reader.get_frames(wanted)) == wanted
        assert reader.frames_decoded == most


def test_jumps_over_groups_without_wanted_frames():
    video = make_video(120, gop=12, options={"x264-params": "keyint=12:scenecut=0"})
    with open_video(video, "pyav") as reader:
        assert frame_numbers(reader.get_frames([1, 2, 97, 109])) == [1, 2, 97, 109]
        assert reader.frames_decoded == 3 + 2 + 2


def test_no_seek_within_a_group():
    with open_video(make_video(COUNT, gop=250, options={"bf": "0"}), "pyav") as reader:
        reader.get_frames(range(0, COUNT, 4))
        reader.get_frames([37, 38, 39])
        assert reader.frames_decoded <= COUNT


@pytest.mark.parametrize("kind", [kind for kind in INDEXED if kind not in ("vp9", "no_b_frames")])
def test_frames_that_nothing_refers_to_are_not_decoded(kind):
    video = make_video(COUNT, **INDEXED[kind])
    with open_video(video, "pyav") as reader:
        everything = reader.get_frames(range(COUNT))
        reader.frames_decoded = 0
        for order in ([7, 15, 23, 31, 39], [8, 9, 33], [32], [31, 34], list(range(0, COUNT, 4)), [38]):
            assert torch.equal(reader.get_frames(order), everything[order]), order
        few = reader.frames_decoded
    with open_video(video, "pyav") as reader:
        reader.get_frames([20, 39])
        assert reader.frames_decoded < COUNT or kind == "mpeg4"
    assert few < 6 * COUNT


def test_repeated_frames_are_decoded_once_and_clips_share_one_decode():
    video = make_video(COUNT, gop=250, options={"bf": "0"})
    with open_video(video, "pyav") as reader:
        assert frame_numbers(reader.get_frames([5, 5, 0, 5])) == [5, 5, 0, 5]
        assert reader.frames_decoded == 6
    with open_video(video, "pyav") as reader:
        first, second = read_clips(reader, [[0, 8, 16], [16, 4, 16]])
        assert frame_numbers(first) == [0, 8, 16]
        assert frame_numbers(second) == [16, 4, 16]
        assert reader.frames_decoded == 17


def test_frames_hidden_by_an_edit_list_are_not_counted():
    with open_video(start_later(make_video(COUNT), first=17), "pyav") as reader:
        assert reader.num_frames == COUNT - 17
        assert frame_numbers(reader.get_frames([0, 5, 22])) == [17, 22, 39]


def test_falls_back_when_seeking_goes_too_far(monkeypatch):
    with open_video(make_video(COUNT), "pyav") as reader:
        wrong = reader._keys[-1]
        original = reader._seek_to
        monkeypatch.setattr(reader, "_seek_to", lambda target, key: original(target, wrong if key else key))
        assert frame_numbers(reader.get_frames([14])) == [14]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(degrees):
    upright, turned = make_video(6, 32, 64), rotate(make_video(6, 32, 64), degrees)
    expected = torch.rot90(read_clip(upright, 2, 2, backend="pyav"), -degrees // 90, (2, 3))
    assert torch.equal(read_clip(turned, 2, 2, backend="pyav"), expected)


def test_one_frame_video():
    with open_video(make_video(1), "pyav") as reader:
        assert reader.num_frames == 1
        assert frame_numbers(reader.get_frames([0, 0])) == [0, 0]


def _read_everything(video, backend):
    with open_video(video, backend, name="clip 7") as reader:
        return reader.get_frames(range(reader.num_frames))


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_bad_videos_are_refused_by_name(kind, backend):
    with pytest.raises(BadVideoError, match="clip 7: "):
        _read_everything(BAD[kind], backend)


def test_theora_file_is_a_real_theora_stream_to_ffmpeg():
    with av.open(io.BytesIO(BAD["theora"])) as container:
        assert container.streams.video[0].codec_context.name == "theora"


@pytest.mark.parametrize("kind", ["truncated_before_index", "truncated_after_index"])
def test_truncation_is_noticed_when_opening(kind):
    with pytest.raises(BadVideoError, match="truncated"):
        open_video(BAD[kind], "pyav")


def test_a_failed_frame_does_not_spoil_the_reader():
    video = bytearray(make_video(36, gop=12, movflags="faststart", options={"x264-params": "keyint=12:scenecut=0"}))
    with av.open(io.BytesIO(bytes(video))) as container:
        keys = [packet for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
        second = keys[1].pos
    video[second : second + 40] = bytes(40)
    with open_video(bytes(video), "pyav") as reader:
        with pytest.raises(BadVideoError):
            reader.get_frames([13])
        assert frame_numbers(reader.get_frames([3])) == [3]


@pytest.mark.parametrize("index", [-1, 10])
def test_index_out_of_range_names_index_and_count(index):
    with open_video(make_video(10), "pyav") as reader, pytest.raises(IndexError, match=rf"frame {index} .* 0 to 9"):
        reader.get_frames([0, index])


def test_wrong_use_is_refused(tmp_path):
    with open_video(make_video(2), "pyav") as reader, pytest.raises(ValueError, match="empty"):
        reader.get_frames([])
    with pytest.raises(RuntimeError, match="closed"):
        reader.get_frames([0])
    with pytest.raises(ValueError, match="'decord'"):
        open_video(b"", "decord")
    with pytest.raises(ValueError, match="-1"):
        open_video(b"", "pyav", num_threads=-1)
    with pytest.raises(TypeError, match="bytearray"):
        open_video(bytearray(b""), "pyav")
    with pytest.raises(BadVideoError, match=r"file not found"):
        open_video(tmp_path / "missing.mp4")


def test_files_and_bytes_give_the_same_frames(tmp_path):
    video = make_video(9)
    (tmp_path / "clip.mp4").write_bytes(video)
    with open_video(tmp_path / "clip.mp4", "pyav") as file, open_video(video, "pyav", num_threads=2) as memory:
        assert file.name.endswith("clip.mp4")
        assert torch.equal(file.get_frames(range(9)), memory.get_frames(range(9)))


def test_read_clip_takes_the_middle_by_default():
    video = make_video(COUNT)
    assert frame_numbers(read_clip(video, 8, 2, backend="pyav")) == dense_clip(COUNT, 8, 2, start=12)
    assert frame_numbers(read_clip(video, 8, 2, start=30, backend="pyav")) == [30, 32, 34, 36, 38, 38, 38, 38]
    with pytest.raises(ValueError, match="start"):
        read_clip(video, 8, 2, start=COUNT, backend="pyav")


def test_encode_video_keeps_grey_levels_and_refuses_odd_sides():
    clip = torch.tensor([40, 120, 200], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 3, 16, 16)
    decoded = read_clip(encode_video(clip), 3, 1, start=0, backend="pyav")
    assert (decoded.int() - clip.int()).abs().max() <= 4
    with pytest.raises(ValueError, match="even"):
        encode_video(torch.zeros(2, 3, 15, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="video encoder"):
        encode_video(clip, codec="aac")


def test_unavailable_backend(monkeypatch):
    monkeypatch.setattr(decoding, "_problem", lambda backend: "no FFmpeg" if backend == "torchcodec" else None)
    assert available_backends()["torchcodec"] == "unavailable: no FFmpeg"
    assert available_backends()["pyav"] == av.__version__
    assert isinstance(open_video(make_video(2), "auto"), IndexedPyAVReader)
    with pytest.raises(ImportError, match=r"pip install 'tubelets\[torchcodec\]'"):
        open_video(make_video(2), "torchcodec")


def test_importing_the_module_loads_no_decoder():
    check = "any(name in sys.modules for name in ('av', 'torchcodec'))"
    code = f"import sys, tubelets.data.modalities.video; sys.exit({check})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def compare_backends():
    """Runs in a process of its own, in which torchcodec finds FFmpeg libraries."""
    assert not available_backends()["torchcodec"].startswith("unavailable"), available_backends()
    videos = {kind: make_video(COUNT, **settings) for kind, settings in INDEXED.items()}
    videos |= {f"rotated by {degrees}": rotate(make_video(6), degrees) for degrees in (90, 180, 270)}
    videos |= {"one frame": make_video(1), "edit list": start_later(make_video(COUNT), first=17)}
    videos |= {"sides that are not multiples of 16": make_video(5, 46, 62, codec="mpeg4")}
    for kind, video in videos.items():
        with open_video(video, "pyav") as ours, open_video(video, "torchcodec") as theirs:
            for field in ("num_frames", "height", "width"):
                assert getattr(ours, field) == getattr(theirs, field), (kind, field)
            assert abs(ours.fps - theirs.fps) < 0.01, (kind, ours.fps, theirs.fps)
            last = ours.num_frames - 1
            for order in (range(last + 1), [last, 0, last // 2, 0]):
                actual = theirs.get_frames(order)
                assert actual.is_contiguous(memory_format=torch.channels_last), kind
                assert np.allclose(ours.edges, theirs.edges), kind
                assert torch.equal(ours.get_frames(order), actual), kind
    for video in BAD.values():
        with pytest.raises(BadVideoError, match="clip 7: "):
            _read_everything(video, "torchcodec")
    # Equally fast, and exact in every container: the default does not depend on what else is installed.
    assert isinstance(open_video(make_video(2)), IndexedPyAVReader)
    for kind, settings in SEQUENTIAL.items():
        video = make_video(COUNT, **settings)
        assert isinstance(open_video(video), SequentialPyAVReader), kind
        with pytest.raises(BadVideoError, match="pyav"):
            open_video(video, "torchcodec")
    print("compared", len(videos))


@pytest.mark.skipif(importlib.util.find_spec("torchcodec") is None, reason="torchcodec is not installed")
def test_both_backends_return_identical_frames(tmp_path):
    bundled = Path(av.__file__).parent.parent / "av.libs"
    for library in bundled.glob("lib*.so*"):
        if match := re.fullmatch(r"(lib(?:av|sw)\w+)-[0-9a-f]+\.so\.(\d+)[\d.]*", library.name):
            (tmp_path / f"{match[1]}.so.{match[2]}").symlink_to(library)
    here = Path(__file__).parent
    paths = [str(tmp_path), str(bundled), os.environ.get("LD_LIBRARY_PATH", "")]
    modules = [str(here), str(here.parent), str(here.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths)),
        "PYTHONPATH": os.pathsep.join(filter(None, modules)),
    }
    code = "import test_decoding, test_presentation as unusual; unusual.compare_unusual_files(); "
    code += "test_decoding.compare_backends()"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "compared 14" in result.stdout
