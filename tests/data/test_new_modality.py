"""A modality that is added from outside, beside video: no file of the package is edited."""

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from clip_shards import write_tar
from media_shards import CROP_SIZE, NUM_FRAMES, clock_video

from tubelets.data.build.shards import build_shards
from tubelets.data.modalities.arrays import read_array
from tubelets.data.modalities.modality import BadMediumError, Clip, Medium, Modality
from tubelets.data.modalities.registry import modalities, modality_named, register_modality, unregister_modality
from tubelets.data.modalities.specs import InputSpec, VideoSpec
from tubelets.data.sources.annotations import read_records
from tubelets.data.sources.opening import open_source
from tubelets.data.stream.clip_stream import ClipSpec, ClipStream
from tubelets.data.stream.loader import ClipLoader
from tubelets.data.transforms.spatial import MultiScaleCrop


@dataclass(frozen=True)
class HeartRateSpec(InputSpec):
    """Beats a minute over a clip: `heart_rate` of shape `(values,)`."""

    modality: ClassVar[str] = "heart rate"

    length: int
    media: str = "heart_rate"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)


class HeartRates(Medium):
    def __init__(self, values: np.ndarray, name: str) -> None:
        if values.ndim != 1 or not len(values):
            raise BadMediumError(f"{name}: heart rates must be a list of numbers, got shape {values.shape}")
        self.values = torch.from_numpy(values)

    def read(self, spec: HeartRateSpec, clips: Sequence[Clip]) -> list[torch.Tensor]:
        return [self.values[clip.frames_of(spec.length, len(self.values))].float() for clip in clips]


class HeartRateModality(Modality):
    name = "heart rate"
    media = ("heart_rate",)

    def open(self, data: bytes, name: str, backend: Any = "auto") -> Medium:
        return HeartRates(read_array(data, name), name)


@pytest.fixture
def registered() -> Iterator[None]:
    register_modality(HeartRateModality())
    yield
    unregister_modality("heart rate")


def rates() -> bytes:
    """Two values for each frame: twice the number of the frame, and one more."""
    file = io.BytesIO()
    np.save(file, np.arange(2 * NUM_FRAMES))
    return file.getvalue()


SPECS = {"pixel_values": VideoSpec(4, CROP_SIZE), "heart_rate": HeartRateSpec(4)}


def check(items: Sequence[dict[str, Any]]) -> None:
    for item in items:
        frames = (item["pixel_values"][:, 0].float().mean(dim=(1, 2)) - 20) / 5
        # The middle of a frame lies between its two values.
        assert torch.equal(item["heart_rate"], 2 * frames.round() + 1)


def test_streamed_beside_video_from_files_shards_and_tars(registered: None, tmp_path: Path) -> None:
    lines = ["video,heart_rate,label"]
    members = []
    for number in range(4):
        (tmp_path / f"{number}.mp4").write_bytes(clock_video())
        (tmp_path / f"{number}.npy").write_bytes(rates())
        lines.append(f"{number}.mp4,{number}.npy,a")
        members += [(f"{number}.mp4", clock_video()), (f"{number}.heart_rate.npy", rates())]
    (tmp_path / "all.csv").write_text("\n".join(lines))
    build_shards(read_records(tmp_path / "all.csv"), tmp_path / "shards", class_names=["a"], progress=False)
    (tmp_path / "tars").mkdir()
    write_tar(tmp_path / "tars/clips.tar", members)
    for folder in ("shards", "tars"):
        source = open_source(tmp_path / folder)
        assert dict(source.media) == {"video": "video", "heart_rate": "heart rate"}
        stream = ClipStream(source, ClipSpec(4, 3), MultiScaleCrop(16), specs=SPECS, batch_size=2)
        items = list(stream)
        assert len(items) == 4
        check(items)
        batches = list(ClipLoader(stream, 1))
        assert [batch["heart_rate"].shape for batch in batches] == [(2, 4), (2, 4)]
        # A worker that was not forked decodes with what it was sent, without a registration of its own.
        sent = pickle.dumps(stream)
        unregister_modality("heart rate")
        check(list(pickle.loads(sent)))
        register_modality(HeartRateModality())


def test_damage_is_reported_like_that_of_any_medium(registered: None, tmp_path: Path) -> None:
    members = [("0.mp4", clock_video()), ("0.heart_rate.npy", b"?"), ("1.mp4", clock_video())]
    write_tar(tmp_path / "clips.tar", [*members, ("1.heart_rate.npy", rates())])
    stream = ClipStream(open_source(tmp_path), ClipSpec(4, 3), MultiScaleCrop(16), specs=SPECS, shuffle_window=0)
    (item,) = stream
    assert item["clip_id"] == "1"
    assert "0, heart_rate: cannot be read" in item["bad_samples"][0]["reason"]


def test_names_of_modalities_are_unique(registered: None) -> None:
    class Other(HeartRateModality):
        name = "pulse"

    with pytest.raises(ValueError, match="clashes with 'heart rate'"):
        register_modality(Other())
    register_modality(HeartRateModality())
    assert [each.name for each in modalities()].count("heart rate") == 1


def test_an_unknown_modality_says_what_to_do() -> None:
    with pytest.raises(KeyError, match=r"'heart rate' is not registered.*call register_modality"):
        modality_named("heart rate")
