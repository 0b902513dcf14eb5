"""When frames are shown, and files whose time stamps, key frames or display matrices are unusual."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from tubelets.data.build.transcoding import TranscodeOptions, prepare_video
from tubelets.data.modalities.audio import AudioSpec, audio_span, decode_audio
from tubelets.data.modalities.clips import ClipDecoder, ClipSpec
from tubelets.data.modalities.modality import Clip
from tubelets.data.modalities.pyav_readers import IndexedPyAVReader, SequentialPyAVReader
from tubelets.data.modalities.video import BadVideoError, open_video
from videos import frame_numbers, make_video, restamped, rotate, stamped_by_decoding, without_first_packets

COUNT, RATE = 40, 8000
# The first half at 25 frames a second, the second at 2.5.
SLOWING = [0.04 * number if number < 20 else 0.8 + 0.4 * (number - 20) for number in range(COUNT)]


def slowing_video() -> bytes:
    return restamped(make_video(COUNT, options={"bf": "0"}), lambda pts, _: (round(SLOWING[pts // 512] * 12800),) * 2)


def with_clock(video: bytes, seconds: float, picture_starts: float = 0.0, lost: tuple[float, float] = (0, 0)) -> bytes:
    """A Matroska file of a video and a sound of value t / 20 at t seconds, of which a stretch can be lost."""
    source, file = av.open(io.BytesIO(video)), io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        audio = output.add_stream("pcm_s16le", rate=RATE, layout="mono")
        assert isinstance(audio, av.AudioStream)
        for packet in source.demux(video=0):
            if packet.pts is not None and packet.dts is not None:
                late = round(picture_starts / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + late, packet.dts + late, copy
                output.mux(packet)
        clock = (np.arange(round(seconds * RATE), dtype=np.float32) / RATE / 20)[None]
        for start in range(0, clock.shape[1], RATE // 10):
            if not lost[0] <= start / RATE < lost[1]:
                frame = av.AudioFrame.from_ndarray(clock[:, start : start + RATE // 10], "fltp", "mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
                output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    return file.getvalue()


def heard_and_shown(video: bytes, start: int, stride: int = 1) -> tuple[float, float]:
    """The time that the middle of a clip's sound encodes, and the middle of the time that its frames cover."""
    decode = ClipDecoder(ClipSpec(2, stride), AudioSpec(RATE, 0.2))
    with open_video(video) as reader:
        edges = reader.edges
    for seed in range(1000):
        (clip,) = decode({"video": video}, "clip", {0: torch.Generator().manual_seed(seed)}, seed)
        first, last = frame_numbers(clip["pixel_values"])
        if first == start:
            return clip["waveform"].mean().item() * 20, (edges[first] + edges[last + 1]) / 2
    raise AssertionError(f"no clip starts at {start}")


def test_edges_are_presentation_times_and_the_rate_is_their_own():
    with open_video(slowing_video()) as reader:
        assert np.allclose(reader.edges[:-1], SLOWING)
        assert reader.fps == pytest.approx(COUNT / reader.edges[-1])
    for container in ("mp4", "matroska", "mpegts", "avi"):
        with open_video(make_video(COUNT, fps=30, container=container)) as reader:
            # AVI has decoding times only: its frames appear as late as its decoder needs.
            start = reader.edges[0] if container == "avi" else 0.0
            assert np.allclose(reader.edges - start, np.arange(COUNT + 1) / 30, atol=1.1e-3), container
            assert reader.fps == 30.0


@pytest.mark.parametrize("start", [2, 19, 29])
def test_frames_of_a_varying_rate_get_their_sound(start):
    heard, shown = heard_and_shown(with_clock(slowing_video(), 9.0), start)
    assert heard == pytest.approx(shown, abs=2e-3)


@pytest.mark.parametrize("picture_starts", [0.0, 3.0])
def test_a_picture_that_starts_late_gets_its_sound(picture_starts):
    film = with_clock(make_video(COUNT), 6.0, picture_starts)
    heard, shown = heard_and_shown(film, 20)
    assert heard == pytest.approx(shown, abs=2e-3)
    assert shown == pytest.approx(picture_starts + 0.84, abs=2e-3)


def test_lost_sound_is_silence_and_what_follows_keeps_its_time():
    film = with_clock(make_video(COUNT), 4.0, lost=(1.0, 2.0))
    heard = decode_audio(film, RATE) * 20
    assert heard[[RATE // 2, RATE * 3 // 2, RATE * 5 // 2, RATE * 7 // 2]].tolist() == pytest.approx(
        [0.5, 0.0, 2.5, 3.5], abs=2e-3
    )
    part = decode_audio(film, RATE, 1.5, 1.0) * 20
    assert torch.equal(part, heard[RATE * 3 // 2 : RATE * 5 // 2])


@pytest.mark.parametrize("options", [TranscodeOptions(short_side=16, crf=5), TranscodeOptions(fps=20, crf=5)])
def test_reencoding_keeps_picture_and_sound_together(options):
    film = with_clock(slowing_video(), 9.0, picture_starts=0.5)
    copy = prepare_video(film, options)
    with open_video(film) as before, open_video(copy.data) as after:
        for time in (0.6, 1.25, 2.0, 5.1, 8.4):
            shown = [int(np.searchsorted(reader.edges, time, "right")) - 1 for reader in (before, after)]
            assert frame_numbers(before.get_frames(shown[:1])) == frame_numbers(after.get_frames(shown[1:])), time
        assert after.edges[0] == pytest.approx(0.5, abs=1e-3)
        if options.fps is None:
            assert np.allclose(before.edges[:-1], after.edges[:-1], atol=1e-3)
    start, length = audio_span(copy.data)
    assert (start, length) == pytest.approx((0.0, 9.0), abs=0.15)
    heard = decode_audio(copy.data, RATE, 4.0, 0.5) * 20
    assert heard.mean().item() == pytest.approx(4.25, abs=0.02)


def test_other_media_follow_times_when_both_have_them():
    times = np.array([0.0, 0.1, 0.2, 1.0, 1.1])
    clip = Clip(torch.Generator(), (1, 2, 3), 4, 4 / 1.1, edges=times)
    # Both media start with their first frame, wherever it is in its file.
    assert clip.frames_of(3, 4, edges=times + 7.0) == [1, 2, 3]
    assert clip.frames_of(3, 11, edges=np.arange(12) / 10) == [1, 6, 10]
    assert clip.frames_of(3, 11, fps=10.0) == [1, 6, 10]
    assert clip.middle_of(100.0) == pytest.approx(0.6)


# --- files that state something wrong or unusual -----------------------------------------------------------------


def test_presentation_times_that_are_decoding_times():
    for container in ("mp4", "matroska"):
        video = stamped_by_decoding(make_video(COUNT), container)
        with open_video(video) as reader:
            assert isinstance(reader, SequentialPyAVReader)
            assert reader.num_frames == COUNT
            assert np.allclose(reader.edges, np.arange(COUNT + 1) / 25, atol=1.1e-3)
            for order in (list(range(COUNT)), [3], [1, 2, 30]):
                assert frame_numbers(reader.get_frames(order)) == order
        copy = prepare_video(video, TranscodeOptions(keyframe_interval=10, crf=5))
        with open_video(copy.data) as reader:
            assert frame_numbers(reader.get_frames(range(COUNT))) == list(range(COUNT))


def test_wrong_times_that_only_decoding_reveals(monkeypatch):
    video = stamped_by_decoding(make_video(COUNT))
    monkeypatch.setattr(IndexedPyAVReader, "_is_exact", lambda self, shown: True)
    with open_video(video) as reader:
        assert isinstance(reader, IndexedPyAVReader)
        assert frame_numbers(reader.get_frames(range(COUNT))) == list(range(COUNT))
        assert frame_numbers(reader.get_frames([17])) == [17]


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_a_recording_without_its_first_key_frame_has_the_frames_that_can_be_decoded(container):
    video = without_first_packets(make_video(COUNT, gop=12), 4, container)
    with av.open(io.BytesIO(video)) as file:
        expected = [frame.pts for frame in file.decode(video=0)]
    assert 0 < len(expected) < COUNT - 4
    with open_video(video) as reader:
        assert reader.num_frames == len(expected)
        numbers = frame_numbers(reader.get_frames(range(reader.num_frames)))
        assert numbers == list(range(COUNT - len(expected), COUNT))
        assert frame_numbers(reader.get_frames([0])) == numbers[:1]
    assert prepare_video(video, TranscodeOptions()).num_frames == len(expected)


MIRRORED = {
    "left and right": lambda frames: frames.flip(3),
    "up and down": lambda frames: frames.flip(2),
    "rows and columns": lambda frames: frames.transpose(2, 3),
    "both diagonals": lambda frames: frames.transpose(2, 3).flip(2, 3),
}


@pytest.mark.parametrize("kind", MIRRORED)
def test_display_matrices_that_mirror(kind):
    video = rotate(make_video(6, 32, 64), kind)
    with open_video(make_video(6, 32, 64)) as plain, open_video(video) as mirrored:
        expected = MIRRORED[kind](plain.get_frames([1, 5]))
        assert (mirrored.height, mirrored.width) == expected.shape[2:]
        assert torch.equal(mirrored.get_frames([1, 5]), expected)
        assert mirrored.is_mirrored
    with open_video(prepare_video(video, TranscodeOptions(keyframe_interval=6, crf=1)).data) as copy:
        assert (copy.get_frames([1, 5]).float() - expected.float()).abs().mean() < 4


def unusual_files() -> dict[str, bytes]:
    """Files that torchcodec reads differently, or not at all."""
    video = make_video(COUNT)
    return {
        "decoding times": stamped_by_decoding(video),
        "no key frame": without_first_packets(video, 4),
        "no key frame in Matroska": without_first_packets(video, 4, "matroska"),
        **{f"mirrored {kind}": rotate(video, kind) for kind in MIRRORED},
        "before zero": restamped(video, lambda pts, dts: (pts - 700, dts - 700)),
    }


def compare_unusual_files() -> None:
    """Runs in a process of its own, in which torchcodec finds FFmpeg libraries: it agrees, or the file is rejected."""
    for kind, video in unusual_files().items():
        with open_video(video) as ours:
            everything = ours.get_frames(range(ours.num_frames))
        if kind != "before zero":
            with pytest.raises(BadVideoError, match="torchcodec would return other frames"):
                open_video(video, "torchcodec")
            continue
        with open_video(video, "torchcodec") as theirs:
            assert torch.equal(theirs.get_frames(range(theirs.num_frames)), everything), kind
