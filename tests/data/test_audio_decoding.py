import io

import av
import numpy as np
import pytest
import torch

from sounds import make_sounding_video, sweep, tone
from tubelets.data.modalities.audio import (
    AudioSpec,
    BadAudioError,
    audio_duration,
    check_audio,
    decode_audio,
    encode_audio,
)
from tubelets.data.modalities.video import BadVideoError
from videos import make_video

CONTAINERS = ["wav", "flac", "ogg", "mp3", "mp4"]
# What a codec may change of a sample on average; half a millisecond too late would change it by 0.2.
NOISE = {"wav": 1e-4, "flac": 1e-4, "ogg": 0.01, "mp3": 0.03, "mp4": 0.04}


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_sound_comes_back_in_time_and_at_another_rate(container):
    data = encode_audio(sweep(2.0, 48000), 48000, container)
    for rate in (48000, 16000):
        waveform = decode_audio(data, rate)
        assert waveform.dtype == torch.float32
        assert 2.0 * rate <= len(waveform) <= 2.03 * rate
        # Ends are left out: filters and lossy codecs know nothing of what lies beyond them.
        inner = slice(rate // 10, 19 * rate // 10)
        assert (waveform[: 2 * rate] - sweep(2.0, rate))[inner].abs().mean() < NOISE[container] + 1e-3 * (rate < 48000)
    assert audio_duration(data) == pytest.approx(2.0, abs=0.03)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("rate", [48000, 16000, 22050])
def test_a_stretch_is_a_part_of_the_whole(container, rate):
    data = encode_audio(sweep(26.0, 48000, rise=30.0), 48000, container)
    whole = decode_audio(data, rate)
    # Far in, the file is not read from its beginning.
    for start, seconds in ((0.0, 0.5), (0.3001, 1.0), (24.77, 0.6), (25.5, None)):
        stretch = decode_audio(data, rate, start, seconds)
        begin = round(start * rate)
        expected = whole[begin:] if seconds is None else whole[begin : begin + round(seconds * rate)]
        assert stretch.shape == expected.shape
        assert (stretch - expected).abs().max() < 1e-3


def test_a_jump_does_not_decode_the_beginning(monkeypatch):
    data = encode_audio(sweep(60.0, 8000, rise=10.0), 8000, "flac")
    monkeypatch.setattr("tubelets.data.modalities.audio._SEEK_AFTER_SECONDS", 1e9)
    slow = decode_audio(data, 8000, 50.0, 1.0)
    monkeypatch.undo()
    damaged = bytearray(data)
    # Without a jump the decoder would fall over this.
    damaged[len(data) // 4 : len(data) // 4 + 2000] = bytes(2000)
    assert torch.equal(decode_audio(bytes(damaged), 8000, 50.0, 1.0), slow)


def test_channels_are_mixed_and_values_kept_in_range():
    left, right = tone(0.5, 8000, 300.0), tone(0.5, 8000, 700.0)
    mixed = decode_audio(encode_audio(torch.stack([left, right]), 8000), 8000)
    assert torch.allclose(mixed, (left + right) / 2, atol=1e-4)
    loud = torch.sign(tone(0.5, 48000, 220.0))
    waveform = decode_audio(encode_audio(loud, 48000, "mp3"), 48000)
    assert waveform.abs().max() <= 1


def test_sounds_are_read_from_paths_and_videos(tmp_path):
    (tmp_path / "a.wav").write_bytes(encode_audio(torch.zeros(800), 8000))
    assert decode_audio(tmp_path / "a.wav", 8000).shape == decode_audio(str(tmp_path / "a.wav"), 8000).shape == (800,)
    waveform = decode_audio(make_sounding_video(1.0), 16000)
    assert (waveform[1600:14400] - sweep(1.0, 16000)[1600:14400]).abs().mean() < 0.04


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"no sound, whatever its name says" * 20, "cannot be decoded"),
        (make_video(5), "no audio"),
        (encode_audio(sweep(1.0, 48000), 48000, "mp4")[:-200], "truncated"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "cannot be decoded"),
    ],
)
def test_what_is_no_sound_is_refused_with_its_name(data, reason):
    for function in (lambda: decode_audio(data, 16000, name="clip 7"), lambda: audio_duration(data, "clip 7")):
        with pytest.raises(BadAudioError, match=f"^clip 7: .*{reason}"):
            function()
    # A stream that skips bad videos skips bad sounds.
    assert issubclass(BadAudioError, BadVideoError)


def test_a_missing_file_and_a_start_behind_the_end_are_refused(tmp_path):
    with pytest.raises(BadAudioError, match="file not found"):
        decode_audio(tmp_path / "gone.wav", 8000)
    with pytest.raises(BadAudioError, match="x: its sound ends before 2 s"):
        decode_audio(encode_audio(torch.zeros(8000), 8000), 8000, start=2.0, name="x")


def test_sounds_of_no_finite_numbers_are_refused():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as output:
        stream = output.add_stream("pcm_f32le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 800), np.nan, np.float32), format="flt", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(BadAudioError, match="samples that are not finite"):
        decode_audio(buffer.getvalue(), 8000)


def test_tags_that_are_no_utf8_do_no_harm():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as output:
        output.metadata["title"] = "Sound"
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.ones((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    data = buffer.getvalue()
    assert data.count(b"Sound") == 1
    latin = data.replace(b"Sound", "Sönd?".encode("latin-1"))
    assert decode_audio(latin, 8000).shape == (800,)


@pytest.mark.parametrize("container", ["wav", "flac", "mp4"])
def test_a_file_that_was_cut_off_is_noticed(container):
    data = encode_audio(sweep(4.0, 48000), 48000, container)
    facts = check_audio(data)
    assert facts.sampling_rate == 48000
    assert facts.duration == pytest.approx(4.0, abs=0.03)
    with pytest.raises(BadAudioError, match="clip"):
        check_audio(data[: len(data) * 2 // 3], "clip")


def test_a_sound_without_samples_is_bad():
    with pytest.raises(BadAudioError, match="no samples"):
        check_audio(_empty_wav(), "empty")


def _empty_wav() -> bytes:
    data = bytearray(encode_audio(torch.zeros(8), 8000))
    place = data.index(b"data")
    data[place + 4 : place + 8] = bytes(4)
    del data[place + 8 :]
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize("values", [{"sampling_rate": 0}, {"start": -1.0}, {"seconds": 0.0}, {"start": float("nan")}])
def test_impossible_stretches_are_refused(values):
    arguments = {"sampling_rate": 8000, **values}
    with pytest.raises(ValueError, match=f"{next(iter(values))}="):
        decode_audio(encode_audio(torch.zeros(800), 8000), **arguments)


def test_the_stretch_of_a_spec():
    spec = AudioSpec(8000, seconds=2.0)
    starts = [spec.start(10.0, torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert 0 <= min(starts) < 0.5
    assert 7.5 < max(starts) <= 8.0
    assert starts[3] == spec.start(10.0, torch.Generator().manual_seed(3))
    generator = torch.Generator()
    assert AudioSpec(8000, 2.0, "centre").start(10.0, generator) == 4.0
    # A short sound is taken from its beginning.
    assert spec.start(1.5, generator) == 0.0
    assert [spec.start(10.0, generator, around) for around in (0.2, 5.0, 9.9)] == [0.0, 4.0, 8.0]


@pytest.mark.parametrize(
    "values", [{"sampling_rate": 0}, {"seconds": 0.0}, {"seconds": float("inf")}, {"position": "end"}]
)
def test_specs_are_checked(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))}="):
        AudioSpec(**{"sampling_rate": 8000, "seconds": 1.0, **values})


def test_encoding_refuses_what_is_no_waveform():
    with pytest.raises(ValueError, match=r"torch\.int16"):
        encode_audio(torch.zeros(8, dtype=torch.int16), 8000)
    with pytest.raises(ValueError, match=r"\[3, 8\]"):
        encode_audio(torch.zeros(3, 8), 8000)
    with pytest.raises(ValueError, match="container='aiff'"):
        encode_audio(torch.zeros(8), 8000, "aiff")
